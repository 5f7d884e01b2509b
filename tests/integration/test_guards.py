"""Every guard broken on purpose, as the role that would break it: the database itself refuses."""

from __future__ import annotations

from itertools import product
from typing import Any

import psycopg
import pytest

STATES = [
    "pending", "held", "sending", "in_doubt", "accepted", "delivered", "undelivered",
    "failed", "unknown", "expired", "superseded", "cancelled", "suppressed",
]  # fmt: skip
ENDED = {"delivered", "undelivered", "failed", "unknown", "expired", "superseded", "cancelled", "suppressed"}
ROLES = ("planner", "dispatcher", "operator", "webhook", "analyst")
ENDINGS = ("expired", "superseded", "cancelled", "suppressed")

# (from, to) -> the roles that may: the state machine, written out a second time and independently of the ledger's own.
ALLOWED: dict[tuple[str, str], set[str]] = {
    **{(a, b): {"planner", "dispatcher", "operator"} for a in ("pending", "held") for b in ENDINGS},
    ("pending", "held"): {"planner", "dispatcher", "operator"},
    ("held", "pending"): {"planner", "operator"},
    ("pending", "sending"): {"dispatcher"},
    **{("sending", b): {"dispatcher"} for b in ("pending", "held", "failed", "delivered", "in_doubt")},
    ("sending", "accepted"): {"dispatcher", "webhook"},
    **{("in_doubt", b): {"dispatcher", "webhook"} for b in ("accepted", "delivered", "undelivered")},
    ("in_doubt", "unknown"): {"dispatcher"},
    **{("accepted", b): {"dispatcher", "webhook"} for b in ("delivered", "undelivered", "cancelled")},
    ("accepted", "unknown"): {"dispatcher"},
    **{("unknown", b): {"dispatcher", "webhook"} for b in ("accepted", "delivered", "undelivered")},
}

INSERT = """
INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at,
                                expires_at)
VALUES ('clinic', %(name)s, '2030-01-01 12:00Z', 1, 'email', '2029-12-30Z', '2029-12-30Z', '2029-12-30Z', '2029-12-31Z')
"""
FACTS = {
    "sent_at": "now()",
    "delivered_at": "now()",
    "delivery_evidence": "'test'",
    "contact_id": "1",
    "address_hash": "'\\x00'",
}


def reminder_in(owner: Any, state: str, name: str = "a") -> None:
    """A reminder placed in `state` by the owner with its triggers off: how a state looks, not how it is reached."""
    owner.execute(INSERT, {"name": name})
    owner.execute("ALTER TABLE reminders.reminder DISABLE TRIGGER transition_allowed")
    owner.execute(
        """UPDATE reminders.reminder SET state = %(state)s, sent_at = now(), delivered_at = now(), contact_id = 1,
           delivery_evidence = 'test', address_hash = '\\x00',
           ended_at = CASE WHEN %(has_ended)s THEN now() END, reason = CASE WHEN %(has_ended)s THEN 'test' END
           WHERE appointment_id = %(name)s""",
        {"state": state, "has_ended": state in ENDED, "name": name},
    )
    owner.execute("ALTER TABLE reminders.reminder ENABLE TRIGGER transition_allowed")


def move(connection: Any, role: str, to_state: str) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL ROLE reminders_{role}")
        connection.execute(
            """UPDATE reminders.reminder SET state = %(state)s, ended_at = CASE WHEN %(has_ended)s THEN now() END,
               reason = CASE WHEN %(has_ended)s THEN 'test' END""",
            {"state": to_state, "has_ended": to_state in ENDED},
        )


@pytest.mark.parametrize("from_state", STATES)
def test_every_transition_as_every_role(owner: Any, from_state: str) -> None:
    reminder_in(owner, from_state)
    wrong = []
    for to_state, role in product(STATES, ROLES):
        if to_state == from_state:
            continue
        try:
            move(owner, role, to_state)
            went = True
        except psycopg.errors.CheckViolation as error:
            went = False
            assert error.diag.constraint_name == "transition_allowed"
            assert from_state in str(error) and to_state in str(error)
        except psycopg.errors.InsufficientPrivilege:
            went = False
        # The webhook has no right on the table yet: its callbacks wait in the inbox, where the dispatcher applies them.
        allowed = role in ALLOWED.get((from_state, to_state), set()) - {"webhook"}
        if went != allowed:
            wrong.append((role, to_state, went))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "table", ["reminder", "attempt", "contact_guard", "contact", "contact_member", "hold", "cycle"]
)
def test_no_role_deletes_from_the_ledger(owner: Any, role: str, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
        owner.execute(f"SET LOCAL ROLE reminders_{role}")
        owner.execute(f"DELETE FROM reminders.{table}")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE reminders.reminder DISABLE TRIGGER ALL",
        "SET LOCAL session_replication_role = replica",
        "ALTER TABLE reminders.reminder DROP CONSTRAINT reminder_once",
        "DROP INDEX reminders.contacted_once",
        "INSERT INTO reminders.clock (shift) VALUES ('1 hour')",
        "UPDATE reminders.transition SET to_state = 'pending'",
        "INSERT INTO reminders.transition VALUES ('delivered', 'pending', 'reminders_dispatcher')",
    ],
)
def test_no_role_takes_a_guard_away(owner: Any, role: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
        owner.execute(f"SET LOCAL ROLE reminders_{role}")
        owner.execute(statement)


def test_even_the_owner_does_not_delete_by_accident(owner: Any) -> None:
    reminder_in(owner, "pending")
    for statement in ("DELETE FROM reminders.reminder", "TRUNCATE reminders.reminder CASCADE"):
        with pytest.raises(psycopg.errors.CheckViolation, match="never deleted"):
            owner.execute(statement)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("ended_at = now(), reason = 'x'", "ended_has_time_and_reason"),
        ("state = 'expired', ended_at = now()", "ended_has_time_and_reason"),
        ("state = 'expired', reason = 'x'", "ended_has_time_and_reason"),
        ("reason = 'x'", "ended_has_time_and_reason"),
        ("expires_at = due_at", "window_runs_forward"),
        ("expires_at = slot_at + interval '1 minute'", "window_runs_forward"),
        ("slot_at = slot_at + interval '1 second'", "slot_is_a_minute"),
    ],
)
def test_impossible_rows_are_refused(owner: Any, change: str, constraint: str) -> None:
    reminder_in(owner, "pending")
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        owner.execute(f"UPDATE reminders.reminder SET {change}")
    assert caught.value.diag.constraint_name == constraint


def test_a_reminder_exists_once(owner: Any) -> None:
    reminder_in(owner, "pending")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        owner.execute(INSERT, {"name": "a"})
    assert caught.value.diag.constraint_name == "reminder_once"


def test_the_analyst_sees_the_view_and_nothing_else(owner: Any) -> None:
    with owner.transaction():
        owner.execute("SET LOCAL ROLE reminders_analyst")
        assert owner.execute("SELECT count(*) FROM analytics.delivery_ledger").fetchone() == (0,)
    for table in ("reminder", "attempt", "staged_appointment"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
            owner.execute("SET LOCAL ROLE reminders_analyst")
            owner.execute(f"SELECT FROM reminders.{table}")


def test_a_hold_is_released_once(owner: Any) -> None:
    owner.execute("INSERT INTO reminders.hold (scope, placed_by, why, review_at) VALUES ('all', 'a', 'b', now())")
    owner.execute("UPDATE reminders.hold SET released_at = now(), released_by = 'first'")
    with pytest.raises(psycopg.errors.CheckViolation, match="released by first"):
        owner.execute("UPDATE reminders.hold SET released_at = now(), released_by = 'second'")
