"""Ways past the gate, and alarms that it raises for nothing: each test shows one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reminders.channels.twilio_codes import final_status
from reminders.cycle.extract import extract
from reminders.cycle.reconcile import closing, poll
from reminders.model import Acceptance
from reminders.store.ledger import Ledger
from reminders.store.migrate import migrate
from tests.databases import TestDatabase, fill_ledger
from tests.integration.conftest import Operate
from tests.integration.scene import EMAIL_IS_DUE, HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene, channels, clients
from tests.integration.test_volume import usual

DAY = 24 * HOUR
OVERDUE = EMAIL_IS_DUE - 2 * HOUR
FRESH = EMAIL_IS_DUE - 5 * MINUTE
MIGRATIONS = Path(__file__).parents[2] / "include/sql/migrations"


def phone(number: int) -> str:
    return f"+4420794600{number:02}"


def each_with_a_phone(rows: list[Booked]) -> list[Booked]:
    return [Booked(**{**vars(row), "client_phone": phone(number)}) for number, row in enumerate(rows)]


# Past the gate: contacts that a person should have seen first


def test_a_call_that_came_due_in_the_gap_rings_nobody_unseen(scene: Scene) -> None:
    """The text was accepted before the night; its report comes two minutes after the first cycle of the morning."""
    visit = WEDNESDAY_2PM + DAY
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, client_email=None)).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.answer = None
    scene.has_gap = True
    scene.at(visit - 3.5 * HOUR).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = False
    scene.at(scene.now + 2 * MINUTE)
    scene.ledger.record([closing(scene.last_attempt(), "delivered", "delivered")], scene.now)
    scene.cycles(20)
    assert not scene.reached


def test_a_rung_that_came_due_in_the_gap_is_held_also_when_the_one_below_is_dropped(
    scene: Scene, operate: Operate
) -> None:
    """Email and text both came due in the gap. The email is held and dropped; the text, hours late, just goes."""
    scene.owner.execute("UPDATE reminders.cadence_step SET useful_until = '12 hours' WHERE step = 1")
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 22 * HOUR, booked_before=27 * HOUR)).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = False
    operate("drop", scene.hold_in_force("group clinic 1 %"), "--by", "Ana")
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert not scene.reached


def test_a_text_that_a_gap_held_and_nobody_released_turns_into_no_call(scene: Scene) -> None:
    """The email went before the gap. The text is held for a person, expires, and hands over to the telephone."""
    visit = WEDNESDAY_2PM + DAY
    scene.at(visit - 72 * HOUR).booked(Booked(visit)).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM + 2 * HOUR).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = False
    assert scene.states()["appointment-1", 2] == ("held", "on_hold")
    scene.at(visit - 5 * HOUR).cycles(20, 15 * MINUTE)
    assert channels(scene.reached) == ["email"]


def new_account_at_night(scene: Scene) -> None:
    """At two in the morning the account is seen for the first time; nothing but one email could go at that hour."""
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM + 12 * HOUR)
    scene.booked(Booked(scene.now + 72 * HOUR, "other", "clinic-2", client_email="other@example.com")).cycle()
    scene.at(scene.now + 7 * HOUR + 5 * MINUTE).cycle()


def test_a_new_accounts_past_is_held_also_when_it_is_seen_at_night(scene: Scene) -> None:
    scene.booked(Booked(WEDNESDAY_2PM + 22 * HOUR, account_id="clinic-2", client_email=None))
    new_account_at_night(scene)
    assert channels(scene.reached) == ["email"]


def test_an_account_that_is_renamed_at_night_texts_nobody_twice(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 22 * HOUR, client_email=None)).cycle()
    assert channels(scene.reached) == ["sms"]
    scene.changed(account_id="clinic-2")
    new_account_at_night(scene)
    assert channels(scene.reached) == ["email", "sms"]


def test_what_was_released_after_the_last_good_cycle_is_held_after_the_gap(scene: Scene) -> None:
    """Ana releases two minutes after what nobody knew would be the last cycle of the day."""
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH))
    scene.hold()
    scene.cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.at(WEDNESDAY_2PM + 2 * MINUTE)
    scene.release()
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM + 13 * HOUR).cycle()
    assert not scene.reached


def test_clearing_the_runs_that_failed_does_not_make_the_gap_unseen(scene: Scene) -> None:
    """Triage was broken for 13 hours and the runs are red; mended, the last two are cleared, as is always safe."""
    scene.at(WEDNESDAY_2PM - 13 * HOUR).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.booked(Booked(OVERDUE))
    red = [WEDNESDAY_2PM - 10 * MINUTE, WEDNESDAY_2PM - 5 * MINUTE]
    for date in red:
        scene.at(date)
        extract(scene.ledger, scene.read, date, date, SECRET)
        scene.ledger.merge(date, "scheduled", True, date)
        scene.ledger.close(date, False, date)
    scene.at(WEDNESDAY_2PM)
    for date in red:
        scene.cycle(date)
        scene.ledger.close(date, True, scene.now)
    assert not scene.reached


# Roles


def test_the_planner_cannot_say_that_a_person_released_it(scene: Scene, ledger: TestDatabase) -> None:
    """The gate passes over whatever names a released hold; any of them will do."""
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH)).prepare()
    (hold_id,) = scene.owner.execute(
        "INSERT INTO reminders.hold (scope, placed_by, why, review_at, released_at, released_by)"
        " VALUES ('all', 'Ana', 'a look', now(), now(), 'Ana') RETURNING hold_id"
    ).fetchone()
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.connect("reminders_planner").execute("UPDATE reminders.reminder SET hold_id = %s", (hold_id,))


def handed_to_the_gate(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, dict[str, Any]], Any]) -> None:
    """A release whose triage calls the gate otherwise than this one's."""
    asked = Ledger.rows

    def rows(ledger: Ledger, name: str, **values: Any) -> Any:
        if name != "judge":
            return asked(ledger, name, **values)
        return change(lambda **said: asked(ledger, name, **said), values)

    monkeypatch.setattr(Ledger, "rows", rows)


def test_the_gate_judges_by_the_databases_clock(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that hands an older time to the gate, as the logical date is: hours late, and nothing is overdue."""
    handed_to_the_gate(monkeypatch, lambda judge, said: judge(**{**said, "now": said["now"] - 13 * HOUR}))
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE))
    with suppress(psycopg.errors.CheckViolation):
        scene.cycle()
    assert not scene.reached


def test_a_date_that_runs_again_is_judged_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that leaves the gate out sends nothing, they say; a date that was cleared was judged once already."""
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE + 6 * HOUR)).cycle()
    handed_to_the_gate(monkeypatch, lambda _judge, _said: [])
    scene.has_gap = True
    scene.booked(Booked(OVERDUE, "late", client_email="late@example.com"))
    scene.at(WEDNESDAY_2PM + 13 * HOUR).cycle(WEDNESDAY_2PM)
    assert not scene.reached


def test_the_planner_cannot_hold_a_reminder_by_a_hold_that_nobody_can_release(
    scene: Scene, ledger: TestDatabase
) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH)).prepare()
    with pytest.raises(psycopg.errors.IntegrityError):
        ledger.connect("reminders_planner").execute("UPDATE reminders.reminder SET hold_id = 999")


def test_a_cycle_that_the_gate_has_not_judged_is_not_good(scene: Scene, ledger: TestDatabase) -> None:
    """What a release that closes every run as good needs to hide a gap of 13 hours."""
    scene.at(WEDNESDAY_2PM).prepare()
    scene.owner.execute("UPDATE reminders.cycle SET judged_at = NULL")
    with pytest.raises(psycopg.errors.CheckViolation):
        ledger.connect("reminders_planner").execute("UPDATE reminders.cycle SET is_good = true, closed_at = now()")


# Alarms for nothing


def test_the_flood_of_one_account_leaves_the_others_alone_whatever_its_size(scene: Scene) -> None:
    """Sixty are over the bound of all accounts too, so the vet's one email is held for the clinic's sake."""
    scene.at(WEDNESDAY_2PM).booked(*clients(60, FRESH), Booked(FRESH, "calm", "vet", client_email="calm@example.com"))
    usual(scene, 5)
    scene.cycle()
    assert scene.addresses() == ["calm@example.com"]


def test_what_is_fresh_after_a_gap_goes_however_long_the_backlog_is(scene: Scene) -> None:
    """The backlog is held, and counts all the same as what is about to go this hour."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(*clients(40, EMAIL_IS_DUE - 10 * HOUR, "late"), *clients(3, FRESH)).cycle()
    assert len(scene.reached) == 3


def test_the_backlog_of_last_weeks_gap_is_not_usual_this_week(scene: Scene) -> None:
    """In an account's third week the median is of two weeks, which is their mean."""
    scene.at(WEDNESDAY_2PM - 7 * DAY)
    scene.has_gap = True
    scene.booked(*clients(90, OVERDUE - 7 * DAY, "last-week")).cycle()
    assert not scene.reached
    scene.has_gap = False
    scene.owner.execute("UPDATE reminders.account_seen SET first_seen_at = %s", (WEDNESDAY_2PM - 15 * DAY,))
    scene.at(WEDNESDAY_2PM).booked(*clients(60, OVERDUE, "late")).cycle()
    assert not scene.reached


def test_a_new_account_of_any_size_goes_by_its_book_beside_old_ones_too(scene: Scene) -> None:
    scene.has_new_accounts = True
    scene.at(WEDNESDAY_2PM).booked(*clients(60, FRESH))
    scene.booked(*clients(3, FRESH, "old", account_id="vet"))
    usual(scene, 5, account="vet")
    scene.cycle()
    assert len(scene.reached) == 63


def test_the_texts_of_a_days_late_bookings_wait_for_their_answer_and_go(scene: Scene) -> None:
    """Booked at two for tomorrow at four: the email goes at once, and the text when four hours brought no answer."""
    batch = each_with_a_phone(clients(25, WEDNESDAY_2PM + 24.5 * HOUR, booked_before=24.5 * HOUR))
    scene.at(WEDNESDAY_2PM).booked(*batch).cycle()
    scene.at(WEDNESDAY_2PM + 2 * HOUR).cycle()
    scene.at(WEDNESDAY_2PM + 4 * HOUR).cycle()
    assert channels(scene.reached) == 25 * ["email"] + 25 * ["sms"]


def test_a_book_that_is_brought_once_a_day_is_no_backlog(scene: Scene) -> None:
    """Booked in the morning, in the book at two: nothing waited for us."""
    batch = clients(25, WEDNESDAY_2PM + 40 * HOUR, booked_before=44 * HOUR)
    scene.at(WEDNESDAY_2PM).booked(*batch).cycle()
    assert len(scene.reached) == 25


def test_a_refusal_of_before_the_release_does_not_hold_the_channel_again(scene: Scene) -> None:
    """Two texts were taken before the sender was registered. Each report of it stops the channel anew."""
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.at(WEDNESDAY_2PM)
    scene.booked(
        *[Booked(WEDNESDAY_2PM + 22 * HOUR, f"text-{i}", client_email=None, client_phone=phone(i)) for i in range(2)]
    ).cycle()
    scene.at(WEDNESDAY_2PM + MINUTE)
    scene.ledger.record([closing(1, "undelivered", "misconfigured", code="30034")], scene.now)
    assert [value for value, _ in scene.holds()] == ["sms"]
    scene.at(WEDNESDAY_2PM + HOUR)
    scene.release()
    scene.at(WEDNESDAY_2PM + HOUR + MINUTE)
    scene.ledger.record([closing(2, "undelivered", "misconfigured", code="30034")], scene.now)
    assert scene.holds() == []


def test_one_clients_number_that_blocks_texts_stops_nobody_elses(scene: Scene) -> None:
    """30004: the destination number is blocked from receiving this message. It is one person's, not our sender's."""
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 22 * HOUR, client_email=None)).cycle()
    poll(scene.ledger, lambda *_: ("undelivered", "30004"), final_status, scene.now)
    assert scene.holds() == []


def test_the_shortest_gap_that_can_be_set_is_longer_than_the_way_from_cycle_to_cycle(scene: Scene) -> None:
    """Triage runs some seconds after its tick, so the good cycle before it is always over five minutes ago."""
    scene.owner.execute("UPDATE reminders.gate_bound SET longest_gap = interval '15 minutes'")
    scene.at(WEDNESDAY_2PM).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM + 5 * MINUTE + MINUTE / 3).booked(Booked(EMAIL_IS_DUE - 20 * MINUTE))
    scene.cycle(WEDNESDAY_2PM + 5 * MINUTE)
    assert len(scene.reached) == 1


def test_an_upgrade_takes_no_busy_practice_for_one_that_was_quiet_for_weeks(
    blank_database: TestDatabase, tmp_path: Path
) -> None:
    """The migration knows since when each account is known, and has no volume of those weeks: usual is nothing."""
    owner = blank_database.connect()
    for number, sql in enumerate(sorted(MIGRATIONS.glob("*.sql"))):
        if number < 9:
            (tmp_path / sql.name).write_text(sql.read_text())
    migrate(owner, tmp_path)
    owner.execute(
        "INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by,"
        " due_at, expires_at, created_at) SELECT 'clinic', 'old', t, 1, 'email', t, t, t - interval '2 days',"
        " t - interval '1 day', t - interval '2 days' FROM (SELECT %s::timestamptz AS t) old",
        (WEDNESDAY_2PM - 60 * DAY,),
    )
    fill_ledger(owner)
    app = blank_database.connect("reminders_app"), blank_database.connect("reminders_app")
    scene = Scene(owner, Ledger(app[0]), Ledger(app[1]))
    scene.at(WEDNESDAY_2PM).booked(*clients(40, FRESH)).cycle()
    assert len(scene.reached) == 40
