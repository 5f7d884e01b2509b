"""What a recovery puts back, clause by clause: whom a found contact or a lost email may have been for, and whom not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.losses import (
    BEGUN_AT,
    CONTACTED_AT,
    DUE_AT,
    EXPIRES_AT,
    FORGOTTEN_FROM,
    FORGOTTEN_UNTIL,
    LISTED_AT,
    found,
    lost,
)
from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE
from tests.integration.sent import guards_on

ADD = "SELECT reminders.add_called_off(%(date)s, %(now)s)"
ADDED = "SELECT reminder_id, step, address_hash, address_masked FROM reminders.reminder WHERE created_at = %(now)s"

Changes = dict[str, Any]


# Visits that are off by now

RUNGS = {"email": 1, "sms": 2}
NEW = {
    "as it is": ({}, {1, 2}),
    "a confirmed visit": ({"visit": {"status": "confirmed"}}, {1, 2}),
    "a visit that is on": ({"visit": {"status": "booked"}}, set()),
    "another reading": ({"visit": {"logical_date": NOW - MINUTE}, "rung": {"logical_date": NOW - MINUTE}}, set()),
    "a cycle has gone by the list": ({"recovery": {"taken_at": NOW}}, set()),
    "no contact was found": ({"found": None}, {1}),
    "a call was found": ({"found": {"channel": "call"}}, {1}),
    "another address's": ({"found": {"address_hash": ELSEWHERE}}, {1}),
    "another recovery's": ({"found": {"recovery_id": 99}}, {1}),
    "put back before": ({"found": {"is_rebuilt": True}}, {1}),
    "before it is due by now": ({"found": {"contacted_at": DUE_AT - 6 * MINUTE}}, {1, 2}),
    "before it can have been due": ({"found": {"contacted_at": VISIT - 72 * HOUR - 6 * MINUTE}}, {1}),
    "as it began": ({"found": {"contacted_at": VISIT}}, {1}),
    "no mailbox": ({"visit": {"email_hash": None}}, {2}),
    "an email that is due later by now": ({"email": {"due_at": FORGOTTEN_UNTIL + MINUTE}}, {1, 2}),
    "an email that cannot have been due": ({"email": {"slot_at": FORGOTTEN_UNTIL + 72 * HOUR + MINUTE}}, {2}),
    "an email of no use before": ({"email": {"expires_at": FORGOTTEN_FROM}}, {2}),
    "the provider only knows more": ({"recovery": {"forgotten_until": None}}, {2}),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "added"), NEW.values(), ids=NEW)
def test_of_a_visit_that_is_off_what_may_have_been_told_is_put_back(
    rows: Rows, changed: dict[str, Changes | None], added: set[int]
) -> None:
    recovery_id = lost(rows, **(changed.get("recovery") or {}))
    if changed.get("found", {}) is not None:
        found(rows, **{"recovery_id": recovery_id, **(changed.get("found") or {})})
    called_off(rows, changed)
    [(returned,)] = rows.ask(ADD, date=NOW, now=NOW)
    there = rows.ask(ADDED, now=NOW)
    assert sorted(returned) == sorted(number for number, *_ in there)
    addresses = {1: (1, MAILBOX, "a***@e"), 2: (2, HERE, "+44***")}
    assert {tuple(row) for _, *row in there} == {addresses[step] for step in added}


@pytest.mark.parametrize(
    ("is_wanted", "visit", "now", "has_notice"),
    [
        (True, {}, NOW, True),
        (False, {}, NOW, False),
        (True, {"status": "confirmed"}, NOW, False),
        (True, {"email_hash": None}, NOW, False),
        (True, {}, VISIT, False),
    ],
    ids=["wanted", "not wanted", "confirmed", "a text only", "over"],
)
def test_the_notice_of_a_visit_that_is_off_is_put_back_with_its_email(
    rows: Rows, is_wanted: bool, visit: Changes, now: datetime, has_notice: bool
) -> None:
    rows.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = %s", [is_wanted])
    found(rows, lost(rows))
    called_off(rows, {"visit": visit})
    rows.ask(ADD, date=NOW, now=now)
    notices = [row[1:] for row in rows.ask(ADDED, now=now) if row[1] == 0]
    assert notices == ([(0, MAILBOX, "a***@e")] if has_notice else [])


def called_off(rows: Rows, changed: dict[str, Changes | None]) -> None:
    """A visit with an email and a text, cancelled in the book."""
    masked = {"email_masked": "a***@e", "phone_masked": "+44***"}
    rows.staged(**{"status": "cancelled", **masked, **(changed.get("visit") or {})})
    for channel, step in RUNGS.items():
        rung = {"due_at": DUE_AT, "expires_at": EXPIRES_AT, "wait": HOUR, "has_lower_rung": step > 1}
        of = {"logical_date": NOW, "account_id": "clinic", "appointment_id": "visit", "slot_at": VISIT}
        changes = {**(changed.get("rung") or {}), **(changed.get(channel) or {})}
        rows.put("staged_rung", **{**of, "step": step, "channel": channel, **rung, **changes})


@pytest.mark.parametrize(
    "other", [{"logical_date": NOW - MINUTE}, {"account_id": "vet"}, {"appointment_id": "another"}], ids=str
)
def test_a_visit_that_is_on_is_not_taken_for_one_that_is_off(rows: Rows, other: Changes) -> None:
    found(rows, lost(rows))
    called_off(rows, {"visit": {"status": "booked"}})
    rows.staged(**{"status": "cancelled", **other})
    assert rows.ask(ADD, date=NOW, now=NOW) == [([],)]


def test_a_reminder_that_the_ledger_has_is_not_added_again(rows: Rows) -> None:
    found(rows, lost(rows))
    called_off(rows, {})
    rows.reminder(state="cancelled")
    [(returned,)] = rows.ask(ADD, date=NOW, now=NOW)
    assert [step for _, step, _, _ in rows.ask(ADDED, now=NOW)] == [1]
    assert len(returned) == 1


# The attempt that is put back

PUT_BACK = """
SELECT reminders.rebuild_attempt('clinic', %(channel)s, %(address)s, %(ids)s, %(at)s, %(provider_id)s, %(status)s)
"""
ATTEMPT = """
SELECT a.account_id, a.channel, a.address_hash, a.address, a.address_country, a.address_type, a.zone, a.local_day,
       a.state, a.reason, a.provider_id, a.provider_status, a.status_since_at, a.ended_at IS NULL, c.zone, b.channel
FROM reminders.attempt a JOIN reminders.contact c USING (contact_id) JOIN reminders.batch b USING (batch_id)
"""
REMINDERS = """
SELECT r.appointment_id, r.state, r.reason, r.sent_at, r.attempt_count, r.deferred_for, r.not_before_at,
       r.ended_at IS NULL, r.contact_id = (SELECT a.contact_id FROM reminders.attempt a)
FROM reminders.reminder r ORDER BY 1
"""
KEYS = "SELECT account_id, address_hash, slot_at, step FROM reminders.contact_guard ORDER BY slot_at"
LATE_AT = NOW.replace(hour=3) - HOUR


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("channel", ["sms", "email"])
def test_an_attempt_is_put_back_whole(rows: Rows, channel: str, is_known: bool) -> None:
    address = MAILBOX if channel == "email" else HERE
    for other in ({"logical_date": NOW - MINUTE}, {"account_id": "vet"}, {"appointment_id": "another"}):
        rows.staged(**{"zone": "Asia/Tokyo", "phone": "+81", "email": "another", "phone_country": "JP", **other})
    rows.staged(zone="America/New_York", phone_country="FR")
    waits = {"channel": channel, "deferred_for": "wait_for_gap", "not_before_at": NOW + HOUR, "address_hash": address}
    rows.reminder(appointment_id="third", slot_at=VISIT + 2 * HOUR, **waits)
    rows.staged(appointment_id="third", zone="Asia/Tokyo")
    ids = [rows.reminder(**waits), rows.reminder(appointment_id="second", slot_at=VISIT + HOUR, **waits)]
    provider_id, status = ("SM1", "sent") if is_known else (None, None)
    rows.ask(PUT_BACK, channel=channel, address=address, ids=ids, at=LATE_AT, provider_id=provider_id, status=status)

    [(*of, since, is_open, contact_zone, batch_channel)] = rows.ask(ATTEMPT)
    reached = {"sms": ("+442079460018", "FR", "other"), "email": ("ada@example.com", None, None)}[channel]
    ends = ("accepted", None, "SM1", "sent") if is_known else ("unknown", "forgotten", None, None)
    day_in_new_york = LATE_AT.date() - timedelta(days=1)
    assert of == ["clinic", channel, address, *reached, "America/New_York", day_in_new_york, *ends]
    assert (since, is_open) == ((LATE_AT, True) if is_known else (None, False))
    assert (contact_zone, batch_channel) == ("America/New_York", channel)
    told = (*ends[:2], LATE_AT, 1, None, None, is_known, True)
    waiting = ("third", "pending", None, None, 0, "wait_for_gap", NOW + HOUR, True, None)
    assert rows.ask(REMINDERS) == [("second", *told), waiting, ("visit", *told)]
    assert rows.ask(KEYS) == [("clinic", address, VISIT, 2), ("clinic", address, VISIT + HOUR, 2)]
    assert rows.ask(COUNTED) == [(address,)]


def test_an_attempt_is_put_back_without_a_reading_and_beside_an_earlier_contact(rows: Rows) -> None:
    reminder_id = rows.reminder()
    rows.guard(contact_id=9)
    values = {"channel": "sms", "address": HERE, "ids": [reminder_id], "at": CONTACTED_AT}
    rows.ask(PUT_BACK, provider_id="SM1", status="sent", **values)
    [(_, _, _, address, country, kind, zone, *_)] = rows.ask(ATTEMPT)
    assert (address, country, kind, zone) == (None, "ZZ", "other", "UTC")
    assert rows.ask("SELECT contact_id FROM reminders.contact_guard") == [(9,)]


# The recovery's own rows

REBUILD = "SELECT reminders.rebuild(%(date)s, %(now)s)"
TAKEN = "SELECT taken_at IS NOT NULL FROM reminders.recovery ORDER BY recovery_id"
COUNTED = "SELECT address_hash FROM reminders.address_gap"


@pytest.mark.parametrize(("listed_at", "is_taken"), [(NOW, True), (NOW + timedelta(seconds=1), False), (None, False)])
def test_a_cycle_takes_over_a_list_that_was_read_before_its_date(
    rows: Rows, listed_at: datetime | None, is_taken: bool
) -> None:
    found(rows, lost(rows, listed_at=listed_at), address_hash=ELSEWHERE)
    assert rows.ask(REBUILD, date=NOW, now=NOW) == [(0,)]
    assert rows.ask(TAKEN) == [(is_taken,)]
    assert rows.ask(COUNTED) == ([(ELSEWHERE,)] if is_taken else [])


def test_a_found_contact_is_counted_once(rows: Rows) -> None:
    """Neither what is an attempt's now, nor what an earlier recovery has counted."""
    earlier = lost(rows, taken_at=LISTED_AT + MINUTE)
    found(rows, earlier, address_hash=ELSEWHERE)
    found(rows, lost(rows), provider_id="SM2", is_rebuilt=True)
    assert rows.ask(REBUILD, date=NOW, now=NOW) == [(0,)]
    assert rows.ask(COUNTED) == []
    [(taken_at,)] = rows.ask("SELECT taken_at FROM reminders.recovery WHERE recovery_id = %(id)s", id=earlier)
    assert taken_at == LISTED_AT + MINUTE


def test_reading_a_list_is_noted_once_and_for_its_own_recovery(rows: Rows) -> None:
    first, second = lost(rows), lost(rows, listed_at=None)
    note = "SELECT reminders.note_listed(%(id)s, %(begun_at)s)"
    for recovery_id, begun_at in ((first, BEGUN_AT), (99, BEGUN_AT), (second, BEGUN_AT - MINUTE)):
        assert rows.ask(note, id=recovery_id, begun_at=begun_at) == [(False,)]
    times = "SELECT listed_at FROM reminders.recovery ORDER BY recovery_id"
    assert rows.ask(times) == [(LISTED_AT,), (None,)]
    assert rows.ask(note, id=second, begun_at=BEGUN_AT) == [(True,)]
    [(_,), (listed_at,)] = rows.ask(times)
    assert listed_at >= NOW


@pytest.mark.parametrize(
    ("is_known", "begun_at", "proves"),
    [
        (True, None, True),
        (True, NOW - MINUTE, True),
        (True, NOW, False),
        (True, NOW + MINUTE, False),
        (False, None, False),
        (None, None, None),
    ],
)
def test_the_list_proves_what_was_intended_in_this_database_after_the_last_loss(
    rows: Rows, is_known: bool | None, begun_at: datetime | None, proves: bool | None
) -> None:
    identity = {True: "reminders.ledger_identity()", False: "'another'", None: "NULL"}[is_known]
    rows.owner.execute(f"UPDATE reminders.ledger_mark SET checked_identity = {identity}")
    if begun_at is not None:
        lost(rows, begun_at=begun_at, listed_at=begun_at + HOUR)
    assert rows.ask("SELECT reminders.list_proves(%(now)s)", now=NOW) == [(proves,)]


@pytest.mark.parametrize(
    ("recovery", "is_refused"),
    [({}, True), ({"hold_id": 99}, False), ({"taken_at": LISTED_AT}, False)],
    ids=["not taken over", "another hold's", "taken over"],
)
def test_a_recovery_keeps_its_own_hold(rows: Rows, recovery: Changes, is_refused: bool) -> None:
    hold_id = rows.hold("all")
    lost(rows, **{"hold_id": hold_id, **recovery})
    guards_on(rows)
    release = "UPDATE reminders.hold SET released_at = reminders.ledger_clock(), released_by = 'Ana'"
    try:
        with rows.owner.transaction():
            rows.owner.execute("SET LOCAL ROLE reminders_operator")
            rows.owner.execute(release.encode())
    except Exception as error:
        assert is_refused, error
        assert "until a cycle has gone by" in str(error)
    else:
        assert not is_refused
