"""A backlog is not freshness: after a gap, and of a new account, what is overdue waits for a person."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain

import psycopg
import pytest

from reminders.model import Acceptance, Contact
from tests.databases import TestDatabase
from tests.integration.scene import EMAIL_IS_DUE, HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, clients

DAY = timedelta(days=1)
OVERDUE = EMAIL_IS_DUE - 2 * HOUR
FRESH = EMAIL_IS_DUE - 5 * MINUTE


# After a gap


def test_after_a_gap_what_is_overdue_is_held_and_what_is_fresh_goes(scene: Scene) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE, "late"), Booked(FRESH, "fresh", client_email="fresh@example.com"))
    scene.cycle()
    assert scene.addresses() == ["fresh@example.com"]
    ((group, why),) = scene.holds()
    assert group == "clinic 1 to 6 hours"
    assert why.startswith("no good cycle before this one; by email 1 overdue, 2 to contact this hour")


@pytest.mark.parametrize(("minutes", "is_gap"), [(5, False), (59, False), (61, True), (13 * 60, True)])
def test_a_gap_is_an_hour_without_a_good_cycle(scene: Scene, minutes: int, is_gap: bool) -> None:
    scene.at(WEDNESDAY_2PM - minutes * MINUTE).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).cycle()
    assert bool(scene.reached) is not is_gap


def test_a_tick_of_the_gap_that_is_run_late_covers_nothing_after_it(scene: Scene) -> None:
    """After a pause Airflow may run the tick that it had stored before the one that is now."""
    scene.at(WEDNESDAY_2PM - 90 * MINUTE).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(EMAIL_IS_DUE - 80 * MINUTE))
    stored = WEDNESDAY_2PM - 85 * MINUTE
    scene.cycle(stored)
    scene.ledger.close(stored, True, scene.now)
    scene.at(WEDNESDAY_2PM + MINUTE).cycle()
    assert not scene.reached
    assert [group for group, _ in scene.holds()] == ["clinic 1 to 6 hours"]


def test_what_waits_for_the_morning_when_the_cycles_come_back_is_held_too(scene: Scene) -> None:
    """Back at two in the morning, after a day: the text that was due at noon would go at nine, as if it were fresh."""
    scene.has_gap = True
    night = WEDNESDAY_2PM + 12 * HOUR
    scene.at(night).booked(Booked(WEDNESDAY_2PM + 22 * HOUR, client_email=None)).cycle()
    scene.has_gap = False
    scene.at(night + 7 * HOUR + 5 * MINUTE).cycle()
    assert not scene.reached
    assert [group for group, _ in scene.holds()] == ["clinic 2 to 1 day"]


def test_cycles_that_fail_are_a_gap(scene: Scene) -> None:
    """As when dispatch breaks for 13 hours, while the cycles go on filling the ledger."""
    scene.has_gap = True
    scene.owner.execute("UPDATE reminders.cycle SET is_good = false")
    for minutes in range(-120, 0, 5):
        scene.at(WEDNESDAY_2PM + minutes * MINUTE)
        scene.prepare()
        scene.ledger.close(scene.now, False, scene.now)
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).cycle()
    assert not scene.reached


def test_a_held_backlog_that_nobody_releases_expires_and_gets_no_louder(scene: Scene) -> None:
    """Email, text and call all missed: the person hears nothing of them, and each says why it did not go."""
    visit = WEDNESDAY_2PM + 3 * HOUR
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(visit))
    for minutes in range(0, 180, 15):
        scene.at(WEDNESDAY_2PM + minutes * MINUTE).cycle()
        scene.ledger.close(scene.now, True, scene.now)
    assert not scene.reached
    assert scene.states() == {
        ("appointment-1", 1): ("expired", "too_late"),
        ("appointment-1", 2): ("expired", "held_too_long"),
        ("appointment-1", 3): ("expired", "missed_by_us"),
    }


# Released


def test_a_released_backlog_goes_nearest_first_at_the_accounts_pace_after_a_canary(scene: Scene) -> None:
    scene.has_gap = True
    late = [Booked(OVERDUE - (20 - i) * MINUTE, f"late-{i}", client_email=f"late{i:02}@example.com") for i in range(20)]
    scene.at(WEDNESDAY_2PM).booked(*late).cycle()
    assert not scene.reached
    scene.has_gap = False
    scene.release()
    waves = [sorted(c.address for c in scene.at(scene.now + 5 * MINUTE).cycle()) for _ in range(5)]
    assert [len(wave) for wave in waves] == [5, 6, 6, 3, 0]
    assert list(chain(*waves)) == [f"late{i:02}@example.com" for i in range(20)]


def test_the_rest_of_a_released_backlog_waits_until_its_canary_is_delivered(scene: Scene) -> None:
    """A provider that takes the canary and says nothing more: no more than the canary ever goes."""
    scene.has_gap = True
    texts = [
        Booked(WEDNESDAY_2PM + 22 * HOUR, f"late-{i}", client_email=None, client_phone=f"+4420794600{i:02}")
        for i in range(20)
    ]
    scene.at(WEDNESDAY_2PM).booked(*texts).cycle()
    scene.has_gap = False
    scene.release()
    asked: list[Contact] = []

    def takes_it(contact: Contact) -> Acceptance:
        asked.append(contact)
        return Acceptance(f"provider-{contact.attempt_id}", "queued")

    scene.answer = takes_it
    for _ in range(4):
        scene.at(scene.now + 5 * MINUTE).cycle()
    assert len(asked) == 5


def test_what_a_person_has_released_is_not_held_again(scene: Scene) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).cycle()
    scene.release()
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert scene.addresses() == ["ada@example.com"]


def test_what_was_released_before_a_gap_is_held_again_after_it(scene: Scene) -> None:
    """A short hold in the morning is released, and then nothing runs for a day: nobody has judged that backlog."""
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH))
    scene.hold()
    scene.cycle()
    scene.release()
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).prepare()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM + 8 * HOUR).cycle()
    assert not scene.reached
    assert [why[:13] for _, why in scene.holds()] == ["no good cycle"]
    scene.release()
    assert len(scene.at(scene.now + 5 * MINUTE).cycle()) == 1


def test_a_backlog_that_waits_for_its_canary_keeps_no_fresh_reminder_of_its_number_back(scene: Scene) -> None:
    """The vet's released text to a number has its turn later; the clinic's fresh one is due now."""
    scene.has_gap = True
    visit = WEDNESDAY_2PM + 22 * HOUR
    for place in range(8):
        number = f"+4420794600{place:02}"
        scene.booked(Booked(visit + place * MINUTE, f"v{place}", "vet", client_email=None, client_phone=number))
    scene.at(WEDNESDAY_2PM).cycle()
    scene.has_gap = False
    scene.release()
    last = "+442079460007"
    scene.at(WEDNESDAY_2PM + 5 * MINUTE)
    scene.booked(Booked(WEDNESDAY_2PM + DAY, "c", client_email=None, client_phone=last)).cycle()
    assert [c.account_id for c in scene.reached if c.address == last] == ["clinic"]


def test_who_books_late_is_no_backlog(scene: Scene) -> None:
    """Booked five minutes ago for tomorrow: the email is due since then, not since the day before yesterday."""
    scene.has_gap = True
    late = WEDNESDAY_2PM + 40 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(late, booked_before=40 * HOUR + 5 * MINUTE)).cycle()
    assert scene.addresses() == ["ada@example.com"]


def test_many_who_book_late_are_what_the_book_implies(scene: Scene) -> None:
    late = WEDNESDAY_2PM + 40 * HOUR
    scene.at(WEDNESDAY_2PM).booked(*clients(25, late, booked_before=40 * HOUR + 5 * MINUTE)).cycle()
    assert len(scene.reached) == 25


# An account seen for the first time


def test_a_new_accounts_past_is_held_and_what_is_fresh_goes(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE, "late"), Booked(FRESH, "fresh", client_email="fresh@example.com"))
    scene.cycle()
    assert scene.addresses() == ["fresh@example.com"]
    ((group, why),) = scene.holds()
    assert group == "clinic 1 to 6 hours"
    assert why.startswith("the account is seen for the first time; by email 1 overdue")


def test_a_new_account_of_any_size_goes_by_its_book(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(*clients(40, FRESH)).cycle()
    assert len(scene.reached) == 40


def test_an_account_is_new_once(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH, "fresh")).cycle()
    scene.booked(Booked(OVERDUE, "late", client_email="late@example.com"))
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert scene.addresses() == ["ada@example.com", "late@example.com"]


# What no role of the running system can do


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("reminders_planner", "UPDATE reminders.cycle SET judged_at = now()"),
        ("reminders_dispatcher", "UPDATE reminders.cycle SET judged_at = now()"),
        ("reminders_planner", "UPDATE reminders.hold SET released_at = now(), released_by = 'planner'"),
        ("reminders_dispatcher", "UPDATE reminders.hold SET released_at = now(), released_by = 'dispatcher'"),
        ("reminders_planner", "UPDATE reminders.gate_bound SET times_usual = 10"),
        ("reminders_planner", "UPDATE reminders.volume SET contacts = 1000"),
        ("reminders_planner", "INSERT INTO reminders.account_seen VALUES ('new', '2000-01-01')"),
        ("reminders_planner", "UPDATE reminders.reminder SET channel = 'call'"),
    ],
)
def test_no_role_passes_the_gate_by_saying_so(ledger: TestDatabase, role: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ledger.connect(role).execute(statement)


def test_the_planner_cannot_take_a_reminder_out_of_its_hold(scene: Scene, ledger: TestDatabase) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).cycle()
    with pytest.raises(psycopg.errors.CheckViolation, match="only a person releases"):
        ledger.connect("reminders_planner").execute("UPDATE reminders.reminder SET hold_id = NULL")


def test_nothing_goes_in_a_cycle_that_the_gate_has_not_judged(scene: Scene) -> None:
    """A release that leaves the gate out of its triage sends nothing."""
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH))
    batches = scene.prepare()
    scene.owner.execute("UPDATE reminders.cycle SET judged_at = NULL")
    scene.send(batches)
    assert not scene.reached


def test_a_group_that_is_held_while_it_is_sent_stops(scene: Scene) -> None:
    """The fence: a reminder that joined a held group after the plan has no attempt."""
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH))
    batches = scene.prepare()
    (hold_id,) = scene.owner.execute(
        "INSERT INTO reminders.hold (scope, scope_value, account_id, step, age, placed_by, why, review_at)"
        " VALUES ('group', 'clinic 1 fresh', 'clinic', 1, 'fresh', 'test', 'test', now()) RETURNING hold_id"
    ).fetchone()
    scene.owner.execute("UPDATE reminders.reminder SET hold_id = %s", (hold_id,))
    scene.send(batches)
    assert not scene.reached
    assert scene.states() == {("appointment-1", 1): ("held", "on_hold")}


def test_the_log_tells_what_was_held_in_figures_and_ids(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE, "late"))
    scene.prepare()
    assert [record.message for record in caplog.records if "held" in record.message] == [
        "held for a person: 1 reminders of clinic 1 to 6 hours: the account is seen for the first time; "
        "by email 1 overdue, 1 to contact this hour, usual 1"
    ]


@pytest.mark.parametrize(
    ("column", "value", "bound"),
    [
        ("longest_gap", "'5 minutes'", "longest_gap_is_15_minutes_to_a_day"),
        ("longest_gap", "'2 days'", "longest_gap_is_15_minutes_to_a_day"),
        ("overdue_after", "'1 minute'", "overdue_after_is_10_minutes_to_6_hours"),
        ("times_usual", "0", "times_usual_is_1_to_10"),
        ("times_usual", "1000", "times_usual_is_1_to_10"),
        ("least_of_account", "0", "least_of_account_is_1_to_1000"),
        ("least_in_all", "1000000", "least_in_all_is_1_to_10000"),
        ("canary", "0", "canary_is_1_to_50"),
    ],
)
def test_a_bound_that_lets_everything_pass_or_nothing_is_refused(
    ledger: TestDatabase, column: str, value: str, bound: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=bound):
        ledger.connect("reminders_operator").execute(f"UPDATE reminders.gate_bound SET {column} = {value}")
