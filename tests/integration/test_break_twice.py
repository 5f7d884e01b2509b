# ruff: noqa: E501
"""Attempts at a breach; a docstring tells what went wrong once: somebody is contacted twice, or at an address that the guards did not check."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from reminders.addresses import key, normalise_phone
from reminders.cycle.extract import extract
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene, channels

TEXT_IS_DUE = WEDNESDAY_2PM + 20 * HOUR
OLD, NEW = "+442079460018", "+442079460099"
LADDER = "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait) VALUES "


def opt_out(scene: Scene, number: str) -> None:
    scene.owner.execute(
        "INSERT INTO reminders.suppression (address_hash, channel, reason) VALUES (%s, '*', 'opted_out')",
        (key(normalise_phone(number, None), SECRET),),
    )


def test_a_number_that_changed_in_the_stage_after_the_plan_is_checked_for_an_opt_out(scene: Scene) -> None:
    """extract_due cleared (or retried) beside a dispatch: the text goes to the new number under the old number's hash."""
    opt_out(scene, NEW)
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None, client_phone=OLD))
    batches = scene.prepare()
    scene.changed(client_phone=NEW)
    extract(scene.ledger, scene.read, WEDNESDAY_2PM, scene.now, SECRET)
    scene.send(batches)
    assert [c.address for c in scene.reached] == []


def test_a_number_that_changed_in_the_stage_after_the_plan_is_not_texted_twice(scene: Scene) -> None:
    """The guard is written for the old number, the new one is reached: a re-import texts it once more."""
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 3")
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None, client_phone=OLD))
    batches = scene.prepare()
    scene.changed(client_phone=NEW)
    extract(scene.ledger, scene.read, WEDNESDAY_2PM, scene.now, SECRET)
    scene.send(batches)
    scene.book.clear()
    scene.booked(Booked(TEXT_IS_DUE, "imported-again", client_email=None, client_phone=NEW))
    scene.at(WEDNESDAY_2PM + 3 * HOUR).cycle()
    assert [c.address for c in scene.reached].count(NEW) <= 1


def test_a_backfill_beside_a_cycle_never_mixes_one_number_with_another_s_hash(scene: Scene) -> None:
    """A backfill merges an older date between a cycle's merge and plan: hash of one number, text to the other."""
    opt_out(scene, OLD)
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None, client_phone=NEW))
    scene.prepare(WEDNESDAY_2PM - 10 * MINUTE, kind="backfill")
    scene.changed(client_phone=OLD)
    date = WEDNESDAY_2PM
    extract(scene.ledger, scene.read, date, scene.now, SECRET)
    scene.ledger.merge(date, "scheduled", True, scene.now)
    scene.changed(client_phone=NEW)
    scene.prepare(WEDNESDAY_2PM - 5 * MINUTE, kind="backfill")
    scene.ledger.triage(date, "scheduled", scene.now)
    most, batches = {"email": 1000, "sms": 1000, "call": 1000}, {"email": 2, "sms": 2, "call": 1}
    scene.send(scene.ledger.plan(date, scene.now, most, batches))
    assert [c.address for c in scene.reached] != [OLD]


@pytest.mark.parametrize("jitter", [timedelta(milliseconds=-1), timedelta(seconds=-1)])
def test_a_slot_that_a_feed_rounds_otherwise_is_the_same_slot(scene: Scene, jitter: timedelta) -> None:
    """9:59:59.999 for 10:00 is another minute, so a re-import that rounds otherwise emails the client again."""
    visit = WEDNESDAY_2PM + 48 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit))
    assert channels(scene.cycle()) == ["email"]
    scene.changed(starts_at=visit + jitter).at(WEDNESDAY_2PM + HOUR)
    assert scene.cycle() == []


def test_a_rung_put_into_the_ladder_does_not_repeat_the_text(scene: Scene) -> None:
    """Step numbers shift when a rung is inserted: the text that went as step 2 would go again as step 3."""
    visit = WEDNESDAY_2PM + 22 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit))
    assert channels(scene.cycle()) == ["sms"]
    with pytest.raises(psycopg.errors.CheckViolation, match="appointments still ahead"), scene.owner.transaction():
        scene.owner.execute(
            LADDER + "('clinic', 1, 'email', '72 hours', '24 hours', '0'),"
            " ('clinic', 2, 'email', '48 hours', '24 hours', '0'),"
            " ('clinic', 3, 'sms', '24 hours', '2 hours', '0'), ('clinic', 4, 'call', '4 hours', '1 hour', '1 hour')"
        )
    scene.at(WEDNESDAY_2PM + 19.5 * HOUR).cycle()
    assert channels(scene.reached) == ["call", "sms"]


def test_a_number_written_in_two_ways_is_one_number(scene: Scene) -> None:
    """Held: spellings of a number share one key."""
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 3")
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None, client_phone="+44 (0)20 7946 0018"))
    scene.cycle()
    scene.book.clear()
    scene.booked(
        Booked(TEXT_IS_DUE, "again", client_email=None, client_phone="020 7946 0018", client_zone="Europe/London")
    )
    scene.at(WEDNESDAY_2PM + 3 * HOUR).cycle()
    assert len(scene.reached) == 1


def test_a_cancelled_and_reinstated_appointment_under_another_id_gets_no_second_email(scene: Scene) -> None:
    """Held: the notice (step 0) and the reinstated appointment's ladder never repeat a step."""
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    visit = WEDNESDAY_2PM + 48 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit)).cycle()
    scene.changed(status="cancelled").at(WEDNESDAY_2PM + HOUR).cycle()
    scene.changed(status="booked").at(WEDNESDAY_2PM + 2 * HOUR).cycle()
    scene.changed(status="cancelled").at(WEDNESDAY_2PM + 3 * HOUR).cycle()
    scene.book.clear()
    scene.booked(Booked(visit, "again")).at(WEDNESDAY_2PM + 4 * HOUR).cycle()
    scene.changed("again", status="cancelled").at(WEDNESDAY_2PM + 5 * HOUR).cycle()
    assert [c.is_cancellation for c in scene.reached] == [False, True]


def test_a_zone_that_the_database_reads_as_an_abbreviation_keeps_quiet_hours(scene: Scene) -> None:
    """CET, MET, EET, WET: PostgreSQL takes the abbreviation (no summer time), so a text goes at 20:30 local time."""
    evening = WEDNESDAY_2PM.replace(month=7, day=15, hour=18, minute=30)  # 20:30 in CEST
    scene.at(evening).booked(Booked(evening + 20 * HOUR, client_email=None, client_zone="CET"))
    assert scene.cycle() == []


def test_a_mapping_that_calls_every_appointment_cancelled_writes_to_nobody(scene: Scene) -> None:
    """A book whose view says cancelled for all: every client is told that the visit is off, and nothing holds it."""
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    visit = WEDNESDAY_2PM + 48 * HOUR
    rows = [Booked(visit + i * MINUTE, f"a{i}", client_email=f"client{i}@example.com") for i in range(20)]
    scene.at(WEDNESDAY_2PM).booked(*rows).cycle()
    for name in list(scene.book):
        scene.changed(name, status="cancelled")
    assert len(scene.at(WEDNESDAY_2PM + HOUR).cycle()) < 20


def test_a_book_whose_times_all_shift_by_an_hour_writes_to_nobody(scene: Scene) -> None:
    """A time-zone slip in the view: every client is emailed anew with a wrong time; put right, moved_back silences all."""
    visit = WEDNESDAY_2PM + 48 * HOUR
    rows = [Booked(visit + i * MINUTE, f"a{i}", client_email=f"client{i}@example.com") for i in range(20)]
    scene.at(WEDNESDAY_2PM).booked(*rows).cycle()
    for row in rows:
        scene.changed(row.appointment_id, starts_at=row.starts_at + HOUR)
    assert len(scene.at(WEDNESDAY_2PM + HOUR).cycle()) < 20


def test_a_notice_that_the_account_no_longer_wants_does_not_go(scene: Scene) -> None:
    """has_cancellation_notice switched off while a notice waits: it goes all the same."""
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    visit = WEDNESDAY_2PM + 48 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit)).cycle()
    scene.changed(status="cancelled").at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = false")
    assert scene.at(WEDNESDAY_2PM + HOUR).cycle() == []


def test_the_batch_of_a_cycle_run_again_after_a_give_back_sends_once(scene: Scene) -> None:
    """Held: a date cleared and rerun after NeverContacted, old and new batches sent."""
    from reminders.errors import NeverContacted
    from reminders.model import Acceptance, Contact

    def decline(_contact: Contact) -> Acceptance:
        raise NeverContacted("not_connected", retry_after=0)

    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    first = scene.prepare()
    scene.answer = decline
    scene.send(first)
    scene.answer = None
    scene.at(WEDNESDAY_2PM + MINUTE)
    second = scene.prepare(WEDNESDAY_2PM)
    scene.send(first)
    scene.send(second)
    scene.send(first)
    assert len(scene.reached) == 1


@pytest.mark.parametrize(
    ("number", "zone", "home"),
    [
        ("06 12 34 56 78", "Europe/Berlin", "Europe/Paris"),
        ("07400 123456", "Europe/Berlin", "Europe/London"),
        ("(212) 555-0123", "Pacific/Auckland", "America/New_York"),
        ("612 345 678", "Europe/Paris", "Europe/Madrid"),
    ],
)
def test_a_number_that_the_office_wrote_its_own_way_reaches_no_stranger_abroad(
    scene: Scene, number: str, zone: str, home: str
) -> None:
    """A number without a country code is read in the country of the client's zone: a stranger there gets the text."""
    own = normalise_phone(number, {"Europe/Paris": "FR", "Europe/London": "GB", "Europe/Madrid": "ES"}.get(home, "US"))
    morning = WEDNESDAY_2PM if zone.startswith("Europe") else WEDNESDAY_2PM + 8 * HOUR
    scene.at(morning).booked(
        Booked(morning + 20 * HOUR, client_email=None, client_phone=number, client_zone=zone, account_zone=home)
    )
    scene.cycle()
    assert {c.address for c in scene.reached} == {own.value}
