"""When an email, a text and a call reach a client who stays silent, by the day and hour at which the visit is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tests.integration.scene import HOUR, MINUTE, Booked, Scene

HALF_AN_HOUR = 30 * MINUTE


def at(day: int, clock: str) -> datetime:
    """A moment of February 2026, in which the 9th is a Monday; UTC is the zone of everybody here."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 2, day, hour, minute, tzinfo=UTC)


MONDAY_8AM, MONDAY_9AM, MONDAY_1030AM, MONDAY_2PM, MONDAY_730PM = (
    at(9, clock) for clock in ("8:00", "9:00", "10:30", "14:00", "19:30")
)
WEDNESDAY_9AM, WEDNESDAY_1030AM, WEDNESDAY_2PM, WEDNESDAY_7PM, WEDNESDAY_730PM = (
    at(11, clock) for clock in ("9:00", "10:30", "14:00", "19:00", "19:30")
)
THURSDAY_8AM, THURSDAY_9AM, THURSDAY_10AM, THURSDAY_1030AM, THURSDAY_2PM, THURSDAY_330PM, THURSDAY_730PM = (
    at(12, clock) for clock in ("8:00", "9:00", "10:00", "10:30", "14:00", "15:30", "19:30")
)
FRIDAY_9AM, FRIDAY_4PM = at(13, "9:00"), at(13, "16:00")
SUNDAY_9AM, SUNDAY_7PM = at(15, "9:00"), at(15, "19:00")
NEXT_MONDAY_9AM = at(16, "9:00")

# One text or call a day, as the house has it; two; and one, of an office that is closed at weekends.
HOUSE, TWO_A_DAY, WEEKDAYS = "house", "two a day", "weekdays"
POLICIES = f"""
INSERT INTO reminders.account_policy (account_id, phone_daily_cap, office_closes, office_days)
VALUES ('{TWO_A_DAY}', 2, '20:00', '{{1,2,3,4,5,6,7}}'), ('{WEEKDAYS}', 1, '17:00', '{{1,2,3,4,5}}')
"""
# Why there was no call.
DAILY_CAP = "daily_cap"

# (the visit, its account): when the email, the text and the call came.
TABLE = {
    (THURSDAY_8AM, HOUSE): (MONDAY_8AM, WEDNESDAY_9AM, DAILY_CAP),
    (THURSDAY_9AM, HOUSE): (MONDAY_9AM, WEDNESDAY_9AM, DAILY_CAP),
    (THURSDAY_1030AM, HOUSE): (MONDAY_1030AM, WEDNESDAY_1030AM, THURSDAY_9AM),
    (THURSDAY_2PM, HOUSE): (MONDAY_2PM, WEDNESDAY_2PM, THURSDAY_10AM),
    (THURSDAY_730PM, HOUSE): (MONDAY_730PM, WEDNESDAY_730PM, THURSDAY_330PM),
    (NEXT_MONDAY_9AM, HOUSE): (FRIDAY_9AM, SUNDAY_9AM, DAILY_CAP),
    # The calls of the evening before go where two of a day are allowed.
    (THURSDAY_8AM, TWO_A_DAY): (MONDAY_8AM, WEDNESDAY_9AM, WEDNESDAY_7PM),
    (THURSDAY_9AM, TWO_A_DAY): (MONDAY_9AM, WEDNESDAY_9AM, WEDNESDAY_7PM),
    (THURSDAY_1030AM, TWO_A_DAY): (MONDAY_1030AM, WEDNESDAY_1030AM, THURSDAY_9AM),
    (THURSDAY_2PM, TWO_A_DAY): (MONDAY_2PM, WEDNESDAY_2PM, THURSDAY_10AM),
    (THURSDAY_730PM, TWO_A_DAY): (MONDAY_730PM, WEDNESDAY_730PM, THURSDAY_330PM),
    (NEXT_MONDAY_9AM, TWO_A_DAY): (FRIDAY_9AM, SUNDAY_9AM, SUNDAY_7PM),
    # An office that is closed on Sunday calls on Friday; nobody could call it back after the text.
    (THURSDAY_8AM, WEEKDAYS): (MONDAY_8AM, WEDNESDAY_9AM, DAILY_CAP),
    (THURSDAY_730PM, WEEKDAYS): (MONDAY_730PM, WEDNESDAY_730PM, THURSDAY_330PM),
    (NEXT_MONDAY_9AM, WEEKDAYS): (FRIDAY_9AM, SUNDAY_9AM, FRIDAY_4PM),
}


def half_hours(first: datetime, last: datetime) -> Iterator[datetime]:
    now = first
    while now <= last:
        yield now
        now += HALF_AN_HOUR


def booked(scene: Scene) -> Scene:
    """Each visit of the table, of a client of its own, in the book for a month."""
    for number, (visit, account) in enumerate(TABLE):
        scene.booked(
            Booked(
                visit,
                f"{number}",
                account,
                client_email=f"client{number}@example.com",
                client_phone=f"+4420794600{number:02d}",
            )
        )
    return scene


def reached_when(scene: Scene, moments: Iterator[datetime]) -> dict[str, dict[str, datetime]]:
    """By appointment and channel, when a cycle's contact reached its client; nobody twice."""
    found: dict[str, dict[str, datetime]] = {name: {} for name in scene.book}
    for now in moments:
        for contact in scene.at(now).cycle():
            [visit] = contact.visits
            assert contact.channel.value not in found[visit.appointment_id]
            found[visit.appointment_id][contact.channel.value] = now
    return found


def test_when_each_step_reaches_the_client(scene: Scene) -> None:
    scene.owner.execute(POLICIES)
    reached = reached_when(booked(scene), half_hours(MONDAY_8AM, NEXT_MONDAY_9AM + HOUR))
    states = scene.states()
    found = {
        (visit, account): tuple(
            reached[f"{number}"].get(channel) or states[f"{number}", step][1]
            for step, channel in enumerate(("email", "sms", "call"), start=1)
        )
        for number, (visit, account) in enumerate(TABLE)
    }
    assert found == TABLE
