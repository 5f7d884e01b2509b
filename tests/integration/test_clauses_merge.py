"""What the book asks of the ledger, and what becomes of it there, clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)
BEFORE = NOW - 5 * MINUTE
KEY = "account_id, appointment_id, slot_at, step"
SOURCE = f"appointment_id, step, fate, channel, address_hash FROM merge_source ORDER BY {KEY}"

Columns = dict[str, Any]
Act = Callable[[Rows], Any]


def asked(rows: Rows, *acts: Act, ends_nothing: bool = False, changed: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """(appointment, step, fate, channel, address) of what the merge will read."""
    for act in acts:
        act(rows)
    rows.run("make_merge_source")
    rows.run("stage_merge", logical_date=NOW, now=NOW, ends_nothing=ends_nothing, changed=list(changed))
    return rows.ask(f"SELECT {SOURCE}")


def waits(**changed: Any) -> Act:
    """A text that this cycle finds waiting, adopted by the cycle before."""
    return lambda rows: rows.reminder(**({"adopted_by": BEFORE} | changed))


def booked(**changed: Any) -> Act:
    return lambda rows: rows.staged(**changed)


RUNG: Columns = {
    "logical_date": NOW, "account_id": "clinic", "appointment_id": "visit", "slot_at": VISIT, "step": 2,
    "channel": "sms", "due_at": NOW - HOUR, "expires_at": VISIT - HOUR, "wait": HOUR, "has_lower_rung": True,
}  # fmt: skip


def due(**changed: Any) -> Act:
    return lambda rows: rows.put("staged_rung", **(RUNG | changed))


def wants_notices(account: str = "clinic") -> Act:
    return lambda rows: rows.put("account_policy", account_id=account, has_cancellation_notice=True)


MAILED: Columns = {"step": 1, "channel": "email", "state": "delivered", "address_hash": MAILBOX}


@pytest.mark.parametrize(
    ("fate", "reminder", "staged"),
    [
        (None, {}, {}),
        ("not_in_book", {}, None),
        ("not_in_book", {}, {"logical_date": BEFORE}),
        ("not_in_book", {}, {"account_id": "vet"}),
        ("not_in_book", {}, {"appointment_id": "another"}),
        ("moved", {}, {"slot_at": VISIT + HOUR}),
        ("cancelled_in_book", {}, {"status": "cancelled"}),
        ("confirmed", {}, {"status": "confirmed"}),
        (None, {}, {"status": "completed"}),
        ("reinstated", {"step": 0, "channel": "email"}, {}),
        (None, {"step": 0, "channel": "email"}, {"status": "cancelled"}),
        ("moved", {"step": 0, "channel": "email"}, {"status": "cancelled", "slot_at": VISIT + HOUR}),
    ],
)
def test_the_fate_of_what_waits(rows: Rows, fate: str | None, reminder: Columns, staged: Columns | None) -> None:
    acts = [waits(**reminder), *([booked(**staged)] if staged is not None else [])]
    found = asked(rows, *acts)
    assert [row[2] for row in found] == [fate]


@pytest.mark.parametrize("book", [{"ends_nothing": True}, {"changed": ("clinic",)}])
def test_a_book_that_is_not_believed_decides_no_fate(rows: Rows, book: Columns) -> None:
    assert [row[2] for row in asked(rows, waits(), **book)] == [None]


def test_another_s_book_that_is_not_believed_changes_nothing(rows: Rows) -> None:
    assert [row[2] for row in asked(rows, waits(), changed=("vet",))] == ["not_in_book"]


@pytest.mark.parametrize(
    ("reminder", "is_asked"),
    [
        ({}, True), ({"state": "held"}, True), ({"adopted_by": NOW}, True),
        ({"state": "expired"}, False), ({"state": "sending"}, False), ({"state": "delivered"}, False),
        ({"adopted_by": NOW + MINUTE}, False),
    ],
)  # fmt: skip
def test_what_can_still_go_and_no_later_cycle_has(rows: Rows, reminder: Columns, is_asked: bool) -> None:
    assert bool(asked(rows, waits(**reminder))) == is_asked


@pytest.mark.parametrize(("channel", "address"), [("sms", HERE), ("call", HERE), ("email", MAILBOX)])
def test_it_has_the_address_that_the_book_has_now(rows: Rows, channel: str, address: bytes) -> None:
    found = asked(rows, waits(channel=channel, step=1, address_hash=ELSEWHERE), booked())
    assert found == [("visit", 1, None, channel, address)]


@pytest.mark.parametrize(
    ("is_new", "acts"),
    [
        (True, (booked(), due())),
        (False, (due(),)),
        (False, (booked(), due(logical_date=BEFORE))),
        (False, (booked(logical_date=BEFORE), due(logical_date=BEFORE))),
        (False, (booked(account_id="vet"), due())),
        (False, (booked(appointment_id="another"), due())),
        (False, (booked(status="cancelled"), due())),
        (False, (booked(status="confirmed"), due())),
        (True, (booked(status="completed"), due())),
        # What waits already is asked for once
        (True, (booked(), due(), waits())),
        (True, (booked(), due(), waits(step=1, channel="email"))),
        (True, (booked(), due(), waits(account_id="vet"))),
        (True, (booked(), due(), waits(appointment_id="another"))),
        (True, (booked(), due(), waits(slot_at=VISIT + HOUR))),
        # What does not wait is asked for too, and found by its key
        (True, (booked(), due(), waits(state="delivered"))),
    ],
)
def test_what_the_book_says_is_due(rows: Rows, is_new: bool, acts: tuple[Act, ...]) -> None:
    new = [row for row in asked(rows, *acts) if row[:2] == ("visit", 2) and row[2] is None]
    assert len(new) == is_new


@pytest.mark.parametrize(("channel", "address"), [("sms", HERE), ("call", HERE), ("email", MAILBOX)])
def test_a_new_rung_has_the_address_of_its_channel(rows: Rows, channel: str, address: bytes) -> None:
    assert asked(rows, booked(), due(channel=channel)) == [("visit", 2, None, channel, address)]


def other(**changed: Any) -> Act:
    return lambda rows: rows.reminder(**changed)


CANCELLED: Columns = {"status": "cancelled"}


@pytest.mark.parametrize(
    ("is_told", "acts", "book"),
    [
        (True, (booked(**CANCELLED), wants_notices(), other(**MAILED)), {}),
        (True, (booked(**CANCELLED), wants_notices(), other(**MAILED | {"state": "unknown"})), {}),
        (False, (booked(**CANCELLED), other(**MAILED)), {}),
        (False, (booked(**CANCELLED), wants_notices("vet"), other(**MAILED)), {}),
        (False, (booked(), wants_notices(), other(**MAILED)), {}),
        (False, (booked(**CANCELLED, logical_date=BEFORE), wants_notices(), other(**MAILED)), {}),
        (False, (booked(**CANCELLED), wants_notices(), other(**MAILED)), {"ends_nothing": True}),
        (False, (booked(**CANCELLED), wants_notices(), other(**MAILED)), {"changed": ("clinic",)}),
        (True, (booked(**CANCELLED), wants_notices(), other(**MAILED)), {"changed": ("vet",)}),
        # Who had no email about the slot is told nothing
        (False, (booked(**CANCELLED), wants_notices()), {}),
        *(
            (False, (booked(**CANCELLED), wants_notices(), other(**MAILED | no)), {})
            for no in (
                {"state": "failed"}, {"state": "expired"}, {"channel": "sms"}, {"address_hash": ELSEWHERE},
                {"account_id": "vet"}, {"appointment_id": "another"}, {"slot_at": VISIT + HOUR}, {"step": 0},
            )
        ),
        # Once
        (False, (booked(**CANCELLED), wants_notices(), other(**MAILED),
                 other(**MAILED | {"step": 0, "state": "expired"})), {}),
        *(
            (True, (booked(**CANCELLED), wants_notices(), other(**MAILED),
                    other(**MAILED | {"step": 0, "state": "expired"} | no)), {})
            for no in ({"account_id": "vet"}, {"appointment_id": "another"}, {"slot_at": VISIT + HOUR})
        ),
        # Before the start
        (False, (booked(**CANCELLED, slot_at=NOW), wants_notices(),
                 other(**MAILED | {"slot_at": NOW, "due_at": NOW - DAY, "expires_at": NOW - HOUR})), {}),
        (True, (booked(**CANCELLED, slot_at=NOW + MINUTE), wants_notices(),
                other(**MAILED | {"slot_at": NOW + MINUTE, "due_at": NOW - DAY, "expires_at": NOW - HOUR})), {}),
    ],
)  # fmt: skip
def test_who_is_told_of_a_cancellation(rows: Rows, is_told: bool, acts: tuple[Act, ...], book: Columns) -> None:
    notices = [row for row in asked(rows, *acts, **book) if row[1] == 0 and row[2] is None]
    assert notices == ([("visit", 0, None, "email", MAILBOX)] if is_told else [])


@pytest.mark.parametrize(("logical_date", "now"), [(NOW, NOW + 30 * HOUR), (NOW + 30 * HOUR, NOW)])
def test_a_start_is_past_by_either_clock(rows: Rows, logical_date: Any, now: Any) -> None:
    for act in (booked(**CANCELLED, logical_date=logical_date), wants_notices(), other(**MAILED)):
        act(rows)
    rows.run("make_merge_source")
    rows.run("stage_merge", logical_date=logical_date, now=now, ends_nothing=False, changed=[])
    assert rows.ask("SELECT count(*) FROM merge_source WHERE step = 0") == [(0,)]


SOURCE_ROW: Columns = {
    "account_id": "clinic", "appointment_id": "visit", "slot_at": VISIT, "step": 2, "fate": None, "channel": "sms",
    "due_at": NOW - HOUR, "expires_at": VISIT - HOUR, "wait": HOUR, "has_lower_rung": True, "address_hash": b"\x09",
    "address_masked": "new",
}  # fmt: skip
STANDS = "SELECT state, reason, ended_at, adopted_by, address_hash, address_masked FROM reminders.reminder ORDER BY 1"


def merged(rows: Rows, reminder: Columns | None, **source: Any) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """The counts of the merge, and how the ledger's reminders stand then."""
    rows.run("make_merge_source")
    columns = SOURCE_ROW | source
    rows.owner.execute(
        f"INSERT INTO merge_source ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})".encode(),
        list(columns.values()),
    )
    if reminder is not None:
        rows.reminder(**({"adopted_by": BEFORE, "address_masked": "old"} | reminder))
    [counts] = rows.run("merge_ledger", logical_date=NOW, now=NOW)
    return counts, rows.ask(STANDS)


def test_what_is_not_in_the_ledger_begins_there(rows: Rows) -> None:
    counts, _ = merged(rows, None)
    assert counts == {"created": 1, "adopted": 0, "ended": 0}
    assert rows.ask(
        f"SELECT {KEY}, channel, state, logical_date, adopted_by, due_at, expires_at, wait, has_lower_rung,"
        " address_hash, address_masked, created_at FROM reminders.reminder"
    ) == [
        ("clinic", "visit", VISIT, 2, "sms", "pending", NOW, NOW, NOW - HOUR, VISIT - HOUR, HOUR, True, b"\x09", "new",
         NOW),
    ]  # fmt: skip


@pytest.mark.parametrize("another", [
    {"account_id": "vet"}, {"appointment_id": "another"}, {"slot_at": VISIT + HOUR}, {"step": 3},
])  # fmt: skip
def test_a_reminder_is_found_by_its_whole_key(rows: Rows, another: Columns) -> None:
    counts, stands = merged(rows, another)
    assert (counts["created"], len(stands)) == (1, 2)


@pytest.mark.parametrize("state", ["pending", "held"])
@pytest.mark.parametrize(
    ("fate", "ending"),
    [
        ("moved", "superseded"), ("confirmed", "superseded"), ("reinstated", "superseded"),
        ("not_in_book", "cancelled"), ("cancelled_in_book", "cancelled"),
    ],
)  # fmt: skip
def test_the_book_ends_what_waits(rows: Rows, state: str, fate: str, ending: str) -> None:
    counts, stands = merged(rows, {"state": state, "deferred_for": "on_hold", "not_before_at": NOW}, fate=fate)
    assert counts == {"created": 0, "adopted": 0, "ended": 1}
    assert stands == [(ending, fate, NOW, BEFORE, HERE, "old")]
    assert rows.ask("SELECT deferred_for, not_before_at FROM reminders.reminder") == [(None, None)]


@pytest.mark.parametrize("state", ["pending", "held"])
def test_what_waits_is_adopted_with_the_book_s_address(rows: Rows, state: str) -> None:
    counts, stands = merged(rows, {"state": state})
    assert counts == {"created": 0, "adopted": 1, "ended": 0}
    assert stands == [(state, None, None, NOW, b"\x09", "new")]


def test_without_an_address_in_the_book_it_keeps_its_own(rows: Rows) -> None:
    _, stands = merged(rows, {}, address_hash=None, address_masked=None)
    assert stands == [("pending", None, None, NOW, HERE, "old")]


@pytest.mark.parametrize("fate", [None, "moved"])
@pytest.mark.parametrize("state", ["sending", "in_doubt", "accepted", "delivered", "failed", "expired", "suppressed"])
def test_what_has_begun_or_ended_is_left_alone(rows: Rows, state: str, fate: str | None) -> None:
    counts, stands = merged(rows, {"state": state}, fate=fate)
    assert counts == {"created": 0, "adopted": 0, "ended": 0}
    assert stands[0][0] == state


def test_what_a_later_cycle_has_is_left_to_it(rows: Rows) -> None:
    counts, stands = merged(rows, {"adopted_by": NOW + MINUTE})
    assert (counts["adopted"], stands[0][3]) == (0, NOW + MINUTE)


SLIP: Columns = {"state": "cancelled", "reason": "not_in_book"}


@pytest.mark.parametrize(
    ("reminder", "source", "is_open"),
    [
        (SLIP, {}, True),
        *(({"state": state, "reason": reason}, {}, True)
          for state in ("cancelled", "superseded")
          for reason in ("not_in_book", "moved", "cancelled_in_book", "confirmed")),
        ({"state": "cancelled", "reason": "dropped"}, {}, False),
        ({"state": "suppressed", "reason": "moved"}, {}, False),
        ({"state": "expired", "reason": "moved"}, {}, False),
        (SLIP | {"contact_id": 1}, {}, False),
        (SLIP, {"fate": "moved"}, False),
        (SLIP | {"step": 0, "channel": "email"}, {"step": 0}, False),
        (SLIP | {"expires_at": NOW, "due_at": NOW - DAY}, {}, False),
        (SLIP | {"adopted_by": NOW}, {}, True),
        (SLIP | {"adopted_by": NOW + MINUTE}, {}, False),
    ],
)  # fmt: skip
def test_a_slip_of_the_book_that_is_taken_back(rows: Rows, reminder: Columns, source: Columns, is_open: bool) -> None:
    counts, stands = merged(rows, reminder, **source)
    if is_open:
        assert stands == [("pending", None, None, NOW, b"\x09", "new")]
        assert counts == {"created": 0, "adopted": 1, "ended": 0}
    else:
        assert stands[0][0] == reminder["state"]
        assert counts == {"created": 0, "adopted": 0, "ended": 0}


def test_what_comes_back_without_an_address_has_the_one_that_it_had(rows: Rows) -> None:
    _, stands = merged(rows, SLIP, address_hash=None, address_masked=None)
    assert stands == [("pending", None, None, NOW, HERE, "old")]
