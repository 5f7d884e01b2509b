"""An account's calls go at its pace, however many cycles follow each other."""

from __future__ import annotations

import pytest

from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels

PACE = 6


@pytest.fixture
def waiting_room(scene: Scene) -> Scene:
    """Twenty calls of one account are due at once, as after a long pause."""
    scene.owner.execute(
        "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)"
        " VALUES ('vet', 1, 'call', '4 hours', '1 hour', '0')"
    )
    calls = [
        Booked(
            WEDNESDAY_2PM + 3 * HOUR + number * MINUTE,
            appointment_id=f"appointment-{number}",
            account_id="vet",
            client_phone=f"+4420794600{number:02d}",
        )
        for number in range(20)
    ]
    return scene.at(WEDNESDAY_2PM).booked(*calls)


def test_a_cycle_calls_at_the_account_s_pace(waiting_room: Scene) -> None:
    assert channels(waiting_room.cycle()) == ["call"] * PACE
    assert channels(waiting_room.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()) == ["call"] * PACE


@pytest.mark.parametrize("seconds", [0, 20, 200])
def test_cycles_that_follow_close_share_the_pace(waiting_room: Scene, seconds: int) -> None:
    """A resumed DAG can fire the last tick and the one before it, and a person can trigger one after the other."""
    first, last = WEDNESDAY_2PM - 40 * MINUTE, WEDNESDAY_2PM
    assert len(waiting_room.cycle(first)) == PACE
    assert waiting_room.at(last + seconds / 60 * MINUTE).cycle(last) == []
    assert len(waiting_room.at(last + 5 * MINUTE).cycle()) == PACE


def test_a_cycle_that_starts_some_seconds_early_keeps_its_pace(waiting_room: Scene) -> None:
    assert len(waiting_room.at(WEDNESDAY_2PM + MINUTE / 2).cycle(WEDNESDAY_2PM)) == PACE
    tick = WEDNESDAY_2PM + 5 * MINUTE
    assert len(waiting_room.at(tick + MINUTE / 12).cycle(tick)) == PACE


def test_the_first_of_two_cycles_that_called_fewer_leaves_the_rest_to_the_second(waiting_room: Scene) -> None:
    later = {name: row for number, (name, row) in enumerate(waiting_room.book.items()) if number >= 2}
    for name in later:
        del waiting_room.book[name]
    assert len(waiting_room.cycle(WEDNESDAY_2PM - 5 * MINUTE)) == 2
    waiting_room.booked(*later.values())
    assert len(waiting_room.cycle()) == PACE - 2
