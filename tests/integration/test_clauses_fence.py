"""The fence before an attempt, clause by clause: what stops the planned text, and what does not concern it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.integration.careless import NOW, PLANNED, PLANNED_ADDRESS, Statements, attempt, call, lock
from tests.integration.scene import HOUR, WEDNESDAY_2PM
from tests.integration.test_row_guards import DISPATCHER, refusal

Connection = psycopg.Connection[Any]

UNGUARDED = ("SET LOCAL session_replication_role = replica",)
GUARDED = ("SET LOCAL session_replication_role = origin",)
PLANNED_TEXT = "appointment_id = 'planned' AND step = 2"
TOMORROW = f"'{WEDNESDAY_2PM + 24 * HOUR}'"


def as_it_looks(*statements: str) -> Statements:
    """What the owner changes with every trigger switched off."""
    return (*UNGUARDED, *statements, *GUARDED)


def refused_by(practice: Connection, before: Statements, tried: Statements) -> str | None:
    with practice.transaction(force_rollback=True):
        for statement in before:
            practice.execute(statement)
        return refusal(practice, DISPATCHER, tried)


def hold(scope: str, value: str = "''") -> str:
    group = ", account_id, step, age" if scope == "group" else ""
    of_group = ", 'vet', 1, 'older'" if group else ""
    return (
        f"INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at{group})"
        f" VALUES ('{scope}', {value}, 'Ana', 'a look', {NOW}{of_group})"
    )


def silence(address: str, channel: str = "*", reason: str = "opted_out") -> str:
    return (
        "INSERT INTO reminders.suppression (address_hash, channel, reason)"
        f" SELECT {address}, '{channel}', '{reason}' FROM reminders.contact WHERE {PLANNED}"
    )


def planned(change: str) -> str:
    """The planned text is another."""
    return f"UPDATE reminders.reminder SET {change} WHERE {PLANNED_TEXT}"


def guarded(**changed: str) -> str:
    """A guard beside the contact's own, with something else in it."""
    columns = {
        "contact_id": "contact_id", "account_id": "account_id", "address_hash": "address_hash",
        "slot_at": f"(SELECT slot_at FROM reminders.reminder WHERE {PLANNED_TEXT})",
        "step": "2", "is_uncontacted": "false",
    } | changed  # fmt: skip
    return (
        f"INSERT INTO reminders.contact_guard ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
        f" FROM reminders.contact WHERE {PLANNED}"
    )


def attempt_with(*guards: str, sending: str = "") -> Statements:
    """As `attempt`, but with other guards, or another change of the reminder."""
    claimed, locked, own_guard, own_sending, inserted = attempt()
    return (claimed, locked, *(guards or (own_guard,)), sending or own_sending, inserted)


SENDING_ELSEWHERE = "UPDATE reminders.reminder SET state = 'sending' WHERE appointment_id = 'open-0' AND step = 2"
NOT_SENT = planned(f"contact_id = (SELECT contact_id FROM reminders.contact WHERE {PLANNED})")
OWN_GUARD = attempt()[2]
NO_HOLD, SILENT = "no_hold_in_force", "address_not_suppressed"
HOURS, TOO_LATE, UNGUARDED_CONTACT = "not_in_quiet_hours", "not_too_late", "contact_is_guarded"
TEXT, FIRST_CALL = attempt(), attempt()

CASES: list[tuple[str | None, Statements, Statements]] = [
    (None, (), TEXT),
    # Holds: of all, of its channel, account, book and cycle, and of no other
    (NO_HOLD, (hold("all"),), TEXT),
    (NO_HOLD, (hold("channel", "'sms'"),), TEXT),
    (NO_HOLD, (hold("account", "'clinic'"),), TEXT),
    (NO_HOLD, (hold("book", "'clinic'"),), TEXT),
    (NO_HOLD, (hold("book", "'*'"),), TEXT),
    (NO_HOLD, (hold("cycle", "(SELECT max(logical_date)::text FROM reminders.reminder)"),), TEXT),
    (None, (hold("channel", "'call'"), hold("account", "'vet'"), hold("book", "'vet'")), TEXT),
    (None, (hold("cycle", f"({TOMORROW})::text"),), TEXT),
    # The cycle of a text that is on its way, whose contact is another
    (None, (*as_it_looks(f"UPDATE reminders.reminder SET logical_date = {TOMORROW} WHERE appointment_id = 'open-0'"),
            hold("cycle", f"({TOMORROW})::text")), TEXT),
    (None, (hold("account", "'sms'"), hold("book", "'sms'"), hold("account", "'*'")), TEXT),
    (None, (hold("group", "'sms'"), hold("group", "'clinic'"), hold("group", "'*'"),
            hold("group", "(SELECT max(logical_date)::text FROM reminders.reminder)")), TEXT),
    # Silence
    (SILENT, (silence("address_hash"),), TEXT),
    (SILENT, (silence("address_hash", "sms"),), TEXT),
    (SILENT, (silence("address_hash", reason="bad_address"),), TEXT),
    (None, (silence("address_hash", "email"), silence("'\\x02'")), TEXT),
    # Countries and hours
    ("country_permitted", (), attempt(address_country="'KP'")),
    (HOURS, ("UPDATE reminders.account_policy SET opens = '14:30'",), TEXT),
    (HOURS, ("UPDATE reminders.account_policy SET closes = '14:10', office_opens = '9:00'",), TEXT),
    (None, ("INSERT INTO reminders.account_policy (account_id, opens) VALUES ('vet', '14:30')",), TEXT),
    (HOURS, ("INSERT INTO reminders.account_policy (account_id, opens) VALUES ('clinic', '14:30')",), TEXT),
    # Guarded: the contact's reminders are on their way, they are the contact's, and each has its key
    (UNGUARDED_CONTACT, (), attempt_with(sending="SELECT")),
    (UNGUARDED_CONTACT, as_it_looks(SENDING_ELSEWHERE), attempt_with(sending="SELECT")),
    (UNGUARDED_CONTACT, (), attempt_with(sending=NOT_SENT)),
    (None, as_it_looks(SENDING_ELSEWHERE, "UPDATE reminders.reminder SET account_id = 'vet' WHERE state = 'sending'"),
     TEXT),
    (UNGUARDED_CONTACT, as_it_looks(planned("channel = 'email'")), TEXT),
    (UNGUARDED_CONTACT, as_it_looks(planned("account_id = 'vet'")),
     attempt_with(OWN_GUARD, guarded(account_id="'vet'"))),
    (UNGUARDED_CONTACT, as_it_looks(planned("address_hash = '\\x02'")),
     attempt_with(OWN_GUARD, guarded(address_hash="'\\x02'"))),
    (UNGUARDED_CONTACT, (), attempt_with("SELECT")),
    (UNGUARDED_CONTACT, (), attempt_with(guarded(contact_id="contact_id - 1"))),
    (UNGUARDED_CONTACT, (), attempt_with(guarded(is_uncontacted="true"))),
    (UNGUARDED_CONTACT, (), attempt_with(guarded(account_id="'vet'"))),
    (UNGUARDED_CONTACT, (), attempt_with(guarded(address_hash="'\\x02'"))),
    (UNGUARDED_CONTACT, (), attempt_with(guarded(slot_at=f"'{WEDNESDAY_2PM}'"))),
    (UNGUARDED_CONTACT, (), attempt_with(guarded(step="1"))),
    # Too late is what the contact is about, and nothing else
    (TOO_LATE, as_it_looks(planned(f"expires_at = {NOW} - interval '1 second'")), TEXT),
    (None, as_it_looks(
        f"UPDATE reminders.reminder SET expires_at = {NOW} - interval '1 second' WHERE appointment_id <> 'planned'"),
     TEXT),
    # A call, without a rung below and with one; the office is open where the call's own appointment is
    (None, call(3), FIRST_CALL),
    ("call_has_proof", (*call(3), *as_it_looks(
        "UPDATE reminders.reminder SET has_lower_rung = true WHERE channel = 'call'")), FIRST_CALL),
    (None, (*call(3), *as_it_looks("UPDATE reminders.reminder SET has_lower_rung = true WHERE channel <> 'call'")),
     FIRST_CALL),
    (None, as_it_looks(planned("has_lower_rung = true")), TEXT),
    ("office_is_open", (*call(3), *as_it_looks(
        "UPDATE reminders.staged_appointment SET account_zone = 'Asia/Tokyo' WHERE appointment_id = 'planned'")),
     FIRST_CALL),
    (None, as_it_looks("UPDATE reminders.staged_appointment SET account_zone = 'Asia/Tokyo'"), TEXT),
    # Not of another cycle's reading, another account's, or another appointment
    *(("office_is_open", (*call(3), *as_it_looks(
        f"UPDATE reminders.staged_appointment SET {change} WHERE appointment_id = 'planned'")), FIRST_CALL)
      for change in ("logical_date = logical_date - interval '1 second'", "account_id = 'vet'",
                     "appointment_id = 'another'")),
    # Counted
    ("contact_is_counted", (), attempt("SELECT")),
    ("contact_is_counted", (f"DELETE FROM reminders.address_gap WHERE {PLANNED_ADDRESS}",), attempt("SELECT")),
    ("contact_is_counted", (lock(), f"DELETE FROM reminders.address_gap WHERE {PLANNED_ADDRESS}"), attempt("SELECT")),
    ("contact_is_counted", (lock(), f"DELETE FROM reminders.address_cap WHERE {PLANNED_ADDRESS} AND period = 'day'"),
     attempt("SELECT")),
    ("contact_is_counted", (lock(), f"DELETE FROM reminders.address_cap WHERE {PLANNED_ADDRESS} AND period = 'week'"),
     attempt("SELECT")),
    *(("contact_is_counted", (lock(), f"UPDATE reminders.daily_ceiling SET {change} WHERE {row}"), attempt("SELECT"))
      for row in ("account_id = 'clinic' AND channel = 'sms'", "account_id = '*' AND channel = 'sms'")
      for change in ("account_id = 'vet'", "channel = 'call'", "day = day - 1")),
    # Judged, and in no group that is held
    ("cycle_was_judged", ("UPDATE reminders.cycle SET judged_at = NULL",), TEXT),
    ("cycle_was_judged", as_it_looks(planned(f"adopted_by = {TOMORROW}")), TEXT),
    (None, as_it_looks(f"UPDATE reminders.reminder SET adopted_by = {TOMORROW} WHERE appointment_id <> 'planned'"),
     TEXT),
    (NO_HOLD, as_it_looks(planned("hold_id = 999")), TEXT),
    (NO_HOLD, as_it_looks(planned("hold_id = (SELECT max(hold_id) FROM reminders.hold WHERE scope = 'group')")), TEXT),
    (None, (*as_it_looks(planned("hold_id = (SELECT max(hold_id) FROM reminders.hold WHERE scope = 'group')")),
            f"UPDATE reminders.hold SET released_at = {NOW}, released_by = 'Ana'"), TEXT),
    (None, (hold("channel", "'call'"), *as_it_looks(planned(
        "hold_id = (SELECT max(hold_id) FROM reminders.hold WHERE scope = 'channel')"))), TEXT),
    (None, as_it_looks("UPDATE reminders.reminder SET hold_id = 999 WHERE appointment_id <> 'planned'"), TEXT),
]  # fmt: skip


@pytest.mark.parametrize(("guard", "before", "tried"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_what_the_fence_says(practice: Connection, guard: str | None, before: Statements, tried: Statements) -> None:
    assert refused_by(practice, before, tried) == guard
