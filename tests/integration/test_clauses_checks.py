"""What a row may say, term by term: every value that is meant is taken, and the first beyond is refused by name."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.integration.checked_rows import DAY, KEYS, ONLY_ONE, REFUSED, ROWS, SECOND, SETTLED, TAKEN, Columns
from tests.integration.rows import NOW, Rows
from tests.integration.scene import HOUR, MINUTE


@pytest.fixture(autouse=True)
def no_clock(rows: Rows) -> None:
    """As in production."""
    rows.owner.execute("DELETE FROM reminders.clock")


def refusal(rows: Rows, table: str, columns: Columns) -> str | None:
    """The constraint that refuses the row. None: it is taken."""
    try:
        with rows.owner.transaction():
            rows.put(table, **columns)
    except psycopg.errors.IntegrityError as error:
        return error.diag.constraint_name
    return None


@pytest.mark.parametrize(("table", "constraint", "changed"), REFUSED, ids=lambda part: str(part)[:40])
def test_a_row_that_no_release_should_write(rows: Rows, table: str, constraint: str, changed: Columns) -> None:
    assert refusal(rows, table, ROWS[table] | changed) == constraint


def test_rows_that_mean_something(rows: Rows) -> None:
    for table, changed in TAKEN:
        with rows.owner.transaction(force_rollback=True):
            assert (table, changed, refusal(rows, table, ROWS[table] | changed)) == (table, changed, None)


@pytest.mark.parametrize(("table", "constraint", "another"), KEYS, ids=[key[1] for key in KEYS])
def test_a_key_is_there_once_and_a_row_that_differs_in_any_column_is_another(
    rows: Rows, table: str, constraint: str, another: Columns
) -> None:
    row = ROWS[table] | OF_KEY.get(constraint, {})
    assert refusal(rows, table, row) is None
    assert refusal(rows, table, row | APART.get(constraint, {})) == constraint
    for name, value in another.items():
        with rows.owner.transaction(force_rollback=True):
            columns = row | APART.get(constraint, {}) | {name: value} | WITH.get((constraint, name), {})
            assert (name, refusal(rows, table, columns)) == (name, None)


# What makes a row subject to the key; in what the second differs, so that no other key refuses it; and what else
# follows from the value of a column.
OF_KEY: dict[str, Columns] = {
    "one_hold_for_a_scope": {"scope": "channel", "scope_value": "sms"},
    "provider_id_once": {"provider_id": "SM1"},
    "one_open_call": {"channel": "call"},
}
APART: dict[str, Columns] = {
    "provider_id_once": {"contact_id": 9},
    "one_open_call": {"contact_id": 9},
    "contact_made_once": {"address_hash": b"\x08"},
}
WITH: dict[tuple[str, str], Columns] = {
    ("one_hold_for_a_scope", "released_at"): {"released_by": "Ana"},
    ("contact_made_once", "state"): {"ended_at": NOW},
    ("one_open_call", "state"): {"ended_at": NOW},
}


@pytest.mark.parametrize("table", ONLY_ONE)
def test_there_is_one_row_and_no_other(rows: Rows, table: str) -> None:
    if table == "clock":
        assert refusal(rows, table, ROWS[table]) is None
    assert refusal(rows, table, ROWS[table]) == f"{table}_pkey"


BOUNDS: dict[str, tuple[str, Any, Any, Any, Any]] = {
    "canary": ("canary_is_1_to_50", 0, 1, 50, 51),
    "least_in_all": ("least_in_all_is_1_to_10000", 0, 1, 10_000, 10_001),
    "least_of_account": ("least_of_account_is_1_to_1000", 0, 1, 1_000, 1_001),
    "longest_gap": (
        "longest_gap_is_15_minutes_to_a_day", 15 * MINUTE - SECOND, 15 * MINUTE, DAY, DAY + SECOND,
    ),
    "overdue_after": (
        "overdue_after_is_10_minutes_to_6_hours", 10 * MINUTE - SECOND, 10 * MINUTE, 6 * HOUR, 6 * HOUR + SECOND,
    ),
    "times_usual": ("times_usual_is_1_to_10", 0.9, 1, 10, 10.1),
}  # fmt: skip


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_gates_bounds_have_bounds(rows: Rows, bound: str) -> None:
    constraint, *values = BOUNDS[bound]
    refused = []
    for value in values:
        try:
            with rows.owner.transaction():
                rows.owner.execute(f"UPDATE reminders.gate_bound SET {bound} = %s".encode(), [value])
            refused.append(None)
        except psycopg.errors.CheckViolation as error:
            refused.append(error.diag.constraint_name)
    assert refused == [constraint, None, None, constraint]


NUMBERED = ("attempt", "batch", "contact", "contact_guard", "hold", "recovery", "reminder")
NUMBER = {table: f"{table.removeprefix('contact_')}_id" for table in NUMBERED}


@pytest.mark.parametrize("table", NUMBERED)
def test_a_number_is_given_once(rows: Rows, table: str) -> None:
    apart: dict[str, Columns] = {
        "attempt": {"contact_id": 9}, "contact_guard": {"step": 9}, "hold": {"scope": "account", "scope_value": "x"},
        "recovery": SETTLED, "reminder": {"step": 9},
    }  # fmt: skip
    number = {NUMBER[table]: 77}
    assert refusal(rows, table, ROWS[table] | number) is None
    assert refusal(rows, table, ROWS[table] | number | apart.get(table, {})) == f"{table}_pkey"


@pytest.mark.parametrize(
    ("table", "changed", "constraint"),
    [
        ("contact", {"batch_id": 9}, "contact_batch_id_fkey"),
        ("contact_member", {"contact_id": 9}, "contact_member_contact_id_fkey"),
        ("contact_member", {"reminder_id": 9}, "contact_member_reminder_id_fkey"),
        ("contact_guard", {"contact_id": 9, "step": 9}, "contact_guard_contact_id_fkey"),
        ("recovery", {"hold_id": 9} | SETTLED, "recovery_hold_id_fkey"),
        ("found_contact", {"recovery_id": 9, "provider_id": "SM9"}, "found_contact_recovery_id_fkey"),
        ("account_wording", {"line": "nothing"}, "line_exists"),
        ("account_wording", {"channel": "call"}, "line_exists"),
    ],
)
def test_what_a_row_refers_to_is_there(rows: Rows, table: str, changed: Columns, constraint: str) -> None:
    rows.put("batch", batch_id=1, **ROWS["batch"])
    rows.put("contact", contact_id=1, **ROWS["contact"])
    rows.put("reminder", reminder_id=1, **ROWS["reminder"])
    rows.put("hold", hold_id=1, **ROWS["hold"])
    rows.put("recovery", recovery_id=1, **ROWS["recovery"] | SETTLED)
    rows.owner.execute("SET LOCAL session_replication_role = origin")
    assert refusal(rows, table, ROWS[table]) is None
    assert refusal(rows, table, ROWS[table] | changed) == constraint


def test_two_contacts_have_two_references(rows: Rows) -> None:
    reference = {"reference": "00000000-0000-0000-0000-000000000001"}
    assert refusal(rows, "contact", ROWS["contact"] | reference) is None
    assert refusal(rows, "contact", ROWS["contact"] | reference) == "contact_reference_key"
