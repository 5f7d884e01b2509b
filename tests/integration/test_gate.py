"""A backlog is not freshness, and an abnormal volume is not sent: both are held, in groups, with the figures."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import psycopg
import pytest

from reminders.model import Acceptance, Contact
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

DAY = timedelta(days=1)
# When an email is due for it at Wednesday, 14:00.
SATURDAY_2PM = WEDNESDAY_2PM + 72 * HOUR
OVERDUE = SATURDAY_2PM - 2 * HOUR
FRESH = SATURDAY_2PM - 5 * MINUTE


def clients(count: int, starts_at: datetime = FRESH, prefix: str = "fresh", **changes: Any) -> list[Booked]:
    return [
        Booked(starts_at, f"{prefix}-{i}", client_email=f"{prefix}{i}@example.com", **changes) for i in range(count)
    ]


def holds(scene: Scene) -> list[tuple[str, str]]:
    """(what is stopped, why) of every hold in force, in order."""
    return scene.owner.execute(
        "SELECT scope_value, why FROM reminders.hold WHERE released_at IS NULL ORDER BY 1"
    ).fetchall()


def usual(scene: Scene, contacts: int, account: str = "clinic", channel: str = "email", **other: int) -> None:
    """Four weeks in which the account, and all, had so many contacts in this hour of the week."""
    figures = {"contacts": contacts, "overdue": 0, "repeated": 0, **other}
    for name in (account, "*"):
        scene.owner.execute(
            "INSERT INTO reminders.volume (account_id, channel, hour_at, contacts, overdue, repeated)"
            " SELECT %(account)s, %(channel)s,"
            " date_trunc('hour', %(now)s::timestamptz, 'UTC') - week * interval '168 hours',"
            " %(contacts)s, %(overdue)s, %(repeated)s FROM generate_series(1, 4) week",
            {"account": name, "channel": channel, "now": scene.now, **figures},
        )
    scene.owner.execute(
        "INSERT INTO reminders.account_seen VALUES (%s, %s) ON CONFLICT (account_id) DO UPDATE"
        " SET first_seen_at = EXCLUDED.first_seen_at",
        (account, scene.now - timedelta(days=29)),
    )


def addresses(scene: Scene) -> list[str]:
    return sorted(contact.address for contact in scene.reached)


# After a gap


def test_after_a_gap_what_is_overdue_is_held_and_what_is_fresh_goes(scene: Scene) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE, "late"), Booked(FRESH, "fresh", client_email="fresh@example.com"))
    scene.cycle()
    assert addresses(scene) == ["fresh@example.com"]
    ((group, why),) = holds(scene)
    assert group == "clinic 1 to 6 hours"
    assert why.startswith("no good cycle before this one; by email 1 overdue, 2 to contact this hour")


@pytest.mark.parametrize(("minutes", "is_gap"), [(5, False), (59, False), (61, True), (13 * 60, True)])
def test_a_gap_is_an_hour_without_a_good_cycle(scene: Scene, minutes: int, is_gap: bool) -> None:
    scene.at(WEDNESDAY_2PM - minutes * MINUTE).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).cycle()
    assert bool(scene.reached) is not is_gap


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
    release(scene)
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
    release(scene)
    asked: list[Contact] = []

    def takes_it(contact: Contact) -> Acceptance:
        asked.append(contact)
        return Acceptance(f"provider-{contact.attempt_id}", "queued")

    scene.answer = takes_it
    for _ in range(4):
        scene.at(scene.now + 5 * MINUTE).cycle()
    assert len(asked) == 5


def release(scene: Scene, who: str = "Ana") -> None:
    scene.owner.execute(
        "UPDATE reminders.hold SET released_at = %s, released_by = %s WHERE released_at IS NULL", (scene.now, who)
    )


def test_what_a_person_has_released_is_not_held_again(scene: Scene) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).cycle()
    release(scene)
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert addresses(scene) == ["ada@example.com"]


# More overdue than usual


@pytest.mark.parametrize(
    ("late", "usually", "is_held"), [(20, 0, False), (21, 0, True), (30, 10, False), (31, 10, True)]
)
def test_more_overdue_than_three_times_the_usual_is_held(scene: Scene, late: int, usually: int, is_held: bool) -> None:
    scene.at(WEDNESDAY_2PM).booked(*clients(late, OVERDUE, "late"))
    usual(scene, 100, overdue=usually)
    scene.cycle()
    assert len(scene.reached) == (0 if is_held else late)
    if is_held:
        ((group, why),) = holds(scene)
        assert group == "clinic 1 to 6 hours"
        assert why.startswith(f"{late} overdue, usual {usually}; by email")


# Volume


@pytest.mark.parametrize(
    ("planned", "usually", "is_held"), [(20, 0, False), (21, 0, True), (24, 8, False), (25, 8, True)]
)
def test_more_contacts_than_three_times_the_usual_are_held(
    scene: Scene, planned: int, usually: int, is_held: bool
) -> None:
    scene.at(WEDNESDAY_2PM).booked(*clients(planned))
    usual(scene, usually)
    scene.cycle()
    assert len(scene.reached) == (0 if is_held else planned)
    if is_held:
        assert holds(scene) == [("clinic 1 fresh", f"{planned} to contact by email this hour, usual {usually}")]


def test_the_volume_of_an_hour_is_judged_and_not_only_that_of_a_cycle(scene: Scene) -> None:
    """Fifteen every five minutes where four are usual: the second cycle is one too many."""
    scene.at(WEDNESDAY_2PM)
    usual(scene, 4)
    for wave in range(4):
        scene.at(WEDNESDAY_2PM + 5 * wave * MINUTE)
        scene.booked(*clients(15, FRESH + 5 * wave * MINUTE, f"wave{wave}-")).cycle()
    assert len(scene.reached) == 15


def test_with_little_history_usual_is_what_the_book_implies(scene: Scene) -> None:
    """Forty appointments of one hour in the book are forty contacts: nothing is held."""
    scene.at(WEDNESDAY_2PM).booked(*clients(40)).cycle()
    assert len(scene.reached) == 40


def test_contacts_that_the_book_does_not_explain_are_held(scene: Scene) -> None:
    """A release that numbers steps anew makes every old reminder a new one: the book has no such rungs due."""
    scene.at(WEDNESDAY_2PM).booked(*clients(25, SATURDAY_2PM + DAY, "ahead")).prepare()
    scene.owner.execute(
        "INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by,"
        " due_at, expires_at, address_hash, address_masked) SELECT account_id, appointment_id, slot_at, 9, 'email',"
        " logical_date, logical_date, %s, slot_at - interval '1 hour', email_hash, email_masked"
        " FROM reminders.staged_appointment",
        (WEDNESDAY_2PM,),
    )
    scene.cycle()
    assert not scene.reached
    assert holds(scene) == [("clinic 9 fresh", "25 to contact by email this hour, usual 0")]


def test_one_accounts_flood_does_not_hold_anothers_reminders(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(*clients(30), Booked(FRESH, "calm", "vet", client_email="calm@example.com"))
    usual(scene, 5)
    scene.cycle()
    assert addresses(scene) == ["calm@example.com"]


def test_many_small_floods_are_one_flood(scene: Scene) -> None:
    """Ten accounts with six contacts each where six in all are usual: no account stands out, together they do."""
    scene.at(WEDNESDAY_2PM)
    for name in (f"account-{i}" for i in range(10)):
        scene.booked(*clients(6, prefix=name, account_id=name))
        usual(scene, 0, account=name) if name == "account-0" else None
    scene.cycle()
    assert not scene.reached
    assert {why for _, why in holds(scene)} == {"60 to contact by email this hour, usual 0"}


# Repetition


def test_people_who_were_texted_yesterday_are_not_texted_again_in_a_mass(scene: Scene) -> None:
    """The same people for another slot each day, and the book has only one appointment ahead for each of them."""

    def book(starts_at: datetime, name: str) -> None:
        scene.booked(
            *[Booked(starts_at, f"{name}-{i}", client_email=None, client_phone=f"+4420794600{i:02}") for i in range(25)]
        )

    book(WEDNESDAY_2PM + 5 * MINUTE, "wednesday")
    scene.at(WEDNESDAY_2PM - DAY + 18 * MINUTE).cycle()
    assert len(scene.reached) == 25
    scene.at(WEDNESDAY_2PM + 6 * MINUTE).cycle()
    book(WEDNESDAY_2PM + DAY + 10 * MINUTE, "thursday")
    scene.at(WEDNESDAY_2PM + 10 * MINUTE).cycle()
    assert len(scene.reached) == 25
    assert holds(scene) == [
        ("clinic 2 fresh", "25 of 25 to contact by sms were so contacted in the last day, usual 0"),
    ]


def test_clients_who_come_every_day_are_contacted_every_day(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM - 20 * HOUR)
    for day in range(2):
        scene.booked(
            *[
                Booked(FRESH - 20 * HOUR + 20 * day * HOUR, f"day{day}-{i}", client_email=f"daily{i}@example.com")
                for i in range(25)
            ]
        )
    scene.cycle()
    scene.at(WEDNESDAY_2PM).cycle()
    assert len(scene.reached) == 50


# An account seen for the first time


def test_a_new_accounts_past_is_held_and_what_is_fresh_goes(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE, "late"), Booked(FRESH, "fresh", client_email="fresh@example.com"))
    scene.cycle()
    assert addresses(scene) == ["fresh@example.com"]
    ((group, why),) = holds(scene)
    assert group == "clinic 1 to 6 hours"
    assert why.startswith("the account is seen for the first time; by email 1 overdue")


def test_a_new_account_of_any_size_goes_by_its_book(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(*clients(40)).cycle()
    assert len(scene.reached) == 40


def test_an_account_is_new_once(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH, "fresh")).cycle()
    scene.booked(Booked(OVERDUE, "late", client_email="late@example.com"))
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert addresses(scene) == ["ada@example.com", "late@example.com"]


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
        ("longest_gap", "'0'", "longest_gap_is_5_minutes_to_a_day"),
        ("longest_gap", "'2 days'", "longest_gap_is_5_minutes_to_a_day"),
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
