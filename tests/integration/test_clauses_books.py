"""Books that changed too much, the cycles that read them, and what triage goes through, clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rows import NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)
BEFORE = NOW - 5 * MINUTE

Columns = dict[str, Any]
Act = Callable[[Rows], Any]


def read(count: int, first: int = 0, at: Any = BEFORE, **changed: Any) -> Act:
    """So many appointments of a reading, each of them another."""

    def act(rows: Rows) -> None:
        for number in range(first, first + count):
            rows.staged(**({"logical_date": at, "appointment_id": f"visit {number}"} | changed))

    return act


def books(rows: Rows, *acts: Act) -> list[tuple[Any, ...]]:
    """(account, expected, lost, cancelled, moved, without address) of the books that changed too much."""
    for act in acts:
        act(rows)
    found = rows.run("changed_books", logical_date=NOW)
    return sorted(tuple(row.values()) for row in found)


def both(*counts: int) -> list[tuple[Any, ...]]:
    """Of the one account, and so in all."""
    return [("*", *counts), ("clinic", *counts)]


@pytest.mark.parametrize(
    ("found", "acts"),
    [
        # Over a fifth, and at least five
        ([], (read(5), read(1, at=NOW))),
        (both(5, 5, 0, 0, 0), (read(5),)),
        ([], (read(25), read(20, at=NOW))),
        (both(25, 6, 0, 0, 0), (read(25), read(19, at=NOW))),
        # Lost, cancelled, moved, or without an address
        (both(5, 0, 5, 0, 0), (read(5), read(5, at=NOW, status="cancelled"))),
        (both(5, 0, 0, 5, 0), (read(5), read(5, at=NOW, slot_at=VISIT + HOUR))),
        (both(5, 0, 0, 0, 5), (read(5), read(5, at=NOW, phone_hash=None))),
        (both(5, 0, 0, 0, 5), (read(5), read(5, at=NOW, email_hash=None))),
        (both(5, 1, 1, 1, 2), (
            read(5), read(1, 1, at=NOW, status="cancelled"), read(1, 2, at=NOW, slot_at=VISIT + HOUR),
            read(1, 3, at=NOW, phone_hash=None), read(1, 4, at=NOW, email_hash=None),
        )),
        ([], (read(5), read(5, at=NOW))),
        ([], (read(5, email_hash=None), read(5, at=NOW, email_hash=None))),
        ([], (read(5, phone_hash=None), read(5, at=NOW, phone_hash=None))),
        ([], (read(5, phone_hash=None, email_hash=None), read(5, at=NOW))),
        # Of those that lay ahead and were on
        ([], (read(5, slot_at=NOW),)),
        ([], (read(5, status="cancelled"),)),
        ([], (read(5, status="completed"),)),
        (both(5, 5, 0, 0, 0), (read(5, status="confirmed"),)),
        # Of the last reading
        (both(5, 5, 0, 0, 0), (read(5), read(9, first=20, at=BEFORE - MINUTE))),
        ([], (read(5, at=BEFORE - MINUTE), read(1, at=BEFORE), read(1, at=NOW))),
        ([], (read(9, at=NOW + MINUTE),)),
        # Each account by itself, and all together
        ([("*", 8, 5, 0, 0, 0), ("clinic", 5, 5, 0, 0, 0)], (
            read(5), read(3, account_id="vet"), read(3, at=NOW, account_id="vet"),
        )),
        ([("*", 6, 6, 0, 0, 0)], (read(3), read(3, account_id="vet"))),
        (both(5, 5, 0, 0, 0), (read(5), read(5, at=NOW, account_id="vet"))),
    ],
)  # fmt: skip
def test_a_book_that_changed_too_much(rows: Rows, found: list[tuple[Any, ...]], acts: tuple[Act, ...]) -> None:
    assert books(rows, *acts) == found


def waiting(count: int, **changed: Any) -> Act:
    def act(rows: Rows) -> None:
        for number in range(count):
            rows.reminder(**({"appointment_id": f"visit {number}"} | changed))

    return act


@pytest.mark.parametrize(
    ("found", "acts"),
    [
        (both(5, 5, 0, 0, 0), (waiting(5),)),
        (both(5, 5, 0, 0, 0), (waiting(5, state="held"),)),
        (both(5, 5, 0, 0, 0), (waiting(5), waiting(5, step=3, channel="call"))),
        (both(5, 0, 5, 0, 0), (waiting(5), read(5, at=NOW, status="cancelled"))),
        ([], (waiting(5), read(5, at=NOW))),
        ([], (waiting(5, state="expired"),)),
        ([], (waiting(5, state="sending"),)),
        ([], (waiting(5, step=0, channel="email"),)),
        ([], (waiting(5, slot_at=NOW, due_at=NOW - DAY, expires_at=NOW - HOUR),)),
        # With a last reading the ledger is not asked
        ([], (waiting(5), read(1), read(1, at=NOW))),
    ],
)
def test_without_a_last_reading_the_ledger_says_what_is_expected(
    rows: Rows, found: list[tuple[Any, ...]], acts: tuple[Act, ...]
) -> None:
    assert books(rows, *acts) == found


def test_a_date_that_runs_again_keeps_its_first_start_and_is_open_again(rows: Rows) -> None:
    values = {"logical_date": NOW, "run_kind": "scheduled", "has_own_date": True}
    rows.run("open_cycle", now=NOW, **values)
    rows.owner.execute("UPDATE reminders.cycle SET closed_at = now()")
    rows.run("open_cycle", now=NOW + MINUTE, **values)
    assert rows.ask("SELECT started_at, closed_at FROM reminders.cycle") == [(NOW, None)]


def test_the_books_that_are_on_hold(rows: Rows) -> None:
    rows.hold("book", "clinic")
    rows.hold("account", "vet")
    rows.hold("book", "zoo", released_at=NOW)
    assert rows.run("books_on_hold") == [{"account_id": "clinic"}]


def test_a_hold_that_stands_is_kept_as_it_is(rows: Rows) -> None:
    values = {"scope": "book", "scope_value": "clinic", "placed_by": "merge", "now": NOW, "review_at": NOW}
    assert len(rows.run("place_hold", why="first", **values)) == 1
    assert rows.run("place_hold", why="second", **values) == []
    assert rows.ask("SELECT why FROM reminders.hold") == [("first",)]


def test_the_reminders_that_can_still_go_out(rows: Rows) -> None:
    kept = [rows.reminder(), rows.reminder(step=3, state="held")]
    for step, changed in enumerate(({"state": "sending"}, {"state": "expired"}, {"adopted_by": NOW + MINUTE}), start=4):
        rows.reminder(step=step, **changed)
    [found] = rows.run("waiting_reminders", logical_date=NOW)
    assert sorted(found["reminder_ids"]) == kept


@pytest.mark.parametrize(
    ("upper", "is_freed"),
    [
        ({}, True), ({"state": "held"}, True),
        ({"step": 1, "channel": "email"}, False), ({"account_id": "vet"}, False),
        ({"appointment_id": "another"}, False), ({"slot_at": VISIT + HOUR}, False), ({"state": "expired"}, False),
        ({"state": "sending"}, False),
    ],
)  # fmt: skip
def test_what_stood_above_a_rung_that_ended_is_judged_again(rows: Rows, upper: Columns, is_freed: bool) -> None:
    ended = rows.reminder(expires_at=NOW, due_at=NOW - DAY)
    above = rows.reminder(**({"step": 3, "channel": "call"} | upper))
    [found] = rows.run("triage", now=NOW, reminder_ids=[ended])
    assert (found["settled"], found["freed_ids"]) == (1, [above] if is_freed else None)


@pytest.mark.parametrize("state", ["ready", "deferred", "held", "unchanged"])
def test_what_has_not_ended_frees_nothing(rows: Rows, state: str) -> None:
    reminder: Columns = {"ready": {"state": "held"}, "unchanged": {}}.get(state, {})
    asked_for = rows.reminder(**reminder)
    rows.reminder(step=3, channel="call")
    rows.staged(**({"zone": "Asia/Tokyo"} if state == "deferred" else {}))
    if state == "held":
        rows.hold("all")
    [found] = rows.run("triage", now=NOW, reminder_ids=[asked_for])
    assert (found["settled"], found["freed_ids"]) == (int(state != "unchanged"), None)
