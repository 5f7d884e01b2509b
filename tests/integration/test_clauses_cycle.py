"""What a cycle reads, closes and reconciles, clause by clause."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.databases import TestDatabase
from tests.integration.rows import NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)

Columns = dict[str, Any]


@pytest.mark.parametrize(
    ("changed", "is_open"),
    [
        ({}, True), ({"state": "held"}, True), ({"state": "accepted"}, True), ({"state": "sending"}, False),
        ({"state": "expired"}, False), ({"adopted_by": NOW + MINUTE}, False),
    ],
)  # fmt: skip
def test_an_appointment_with_a_reminder_that_can_still_go_is_read_by_its_id(
    rows: Rows, changed: Columns, is_open: bool
) -> None:
    rows.reminder(**changed)
    rows.reminder(step=3, **changed)
    found = rows.run("open_appointments", logical_date=NOW)
    assert found == ([{"appointment_id": "visit"}] if is_open else [])


@pytest.mark.parametrize(
    ("at", "kind", "is_last"),
    [
        (NOW - 5 * MINUTE, "scheduled", True), (NOW - 5 * MINUTE, "manual", True), (NOW, "scheduled", False),
        (NOW - 5 * MINUTE, "backfill", False), (NOW - 3 * DAY, "scheduled", False),
        (NOW - 3 * DAY + MINUTE, "scheduled", True),
    ],
)  # fmt: skip
def test_the_cycle_before_this_one(rows: Rows, at: Any, kind: str, is_last: bool) -> None:
    rows.put("cycle", logical_date=at, run_kind=kind, has_own_date=True, started_at=at)
    assert rows.run("last_cycle", logical_date=NOW) == [{"logical_date": at if is_last else None}]


def test_a_date_that_is_staged_again_and_what_was_read_over_a_day_ago_go(rows: Rows) -> None:
    for at, read_at in (
        (NOW, NOW), (NOW - MINUTE, NOW - DAY), (NOW - 2 * MINUTE, NOW - DAY - MINUTE), (NOW + MINUTE, NOW),
    ):  # fmt: skip
        for name in ("one", "two"):
            rows.staged(logical_date=at, read_at=read_at, appointment_id=name)
    found = [row["logical_date"] for row in rows.run("readings_to_unstage", logical_date=NOW, now=NOW)]
    assert found == [NOW - 2 * MINUTE, NOW]


def test_without_a_reading_nothing_goes(rows: Rows) -> None:
    assert rows.run("readings_to_unstage", logical_date=NOW, now=NOW) == []


def test_only_the_named_dates_are_unstaged(rows: Rows) -> None:
    for at in (NOW, NOW - MINUTE):
        rows.staged(logical_date=at)
        rows.put(
            "staged_rung", logical_date=at, account_id="clinic", appointment_id="visit", slot_at=VISIT, step=2,
            channel="sms", due_at=NOW, expires_at=VISIT, wait=HOUR, has_lower_rung=True,
        )  # fmt: skip
    for name in ("unstage_rungs", "unstage_appointments"):
        rows.run(name, logical_dates=[NOW])
    for table in ("staged_rung", "staged_appointment"):
        assert rows.ask(f"SELECT logical_date FROM reminders.{table}") == [(NOW - MINUTE,)]


CLOSE: Columns = {"logical_date": NOW, "now": NOW + MINUTE, "is_good": True}


def test_a_cycle_is_closed_with_what_its_reminders_and_those_it_adopted_have_come_to(rows: Rows) -> None:
    for at in (NOW, NOW - MINUTE):
        rows.put("cycle", logical_date=at, run_kind="scheduled", has_own_date=True, started_at=at, judged_at=at)
    rows.reminder(state="delivered", step=1, channel="email")
    rows.reminder(step=2, logical_date=NOW - MINUTE)
    rows.reminder(step=3, logical_date=NOW - MINUTE, state="expired")
    rows.reminder(step=4, logical_date=NOW - MINUTE, adopted_by=NOW - MINUTE)
    assert rows.run("close_cycle", **CLOSE) == [{"counts": {"email delivered": 1, "sms pending": 1}}]
    closed = "SELECT logical_date, closed_at, is_good FROM reminders.cycle ORDER BY 1"
    assert rows.ask(closed) == [(NOW - MINUTE, None, False), (NOW, NOW + MINUTE, True)]


def test_a_cycle_without_reminders_counts_none(rows: Rows) -> None:
    rows.put("cycle", logical_date=NOW, run_kind="scheduled", has_own_date=True, started_at=NOW, judged_at=NOW)
    assert rows.run("close_cycle", **CLOSE) == [{"counts": {}}]


def breaches(rows: Rows) -> dict[str, int]:
    return {row["breach"]: row["cases"] for row in rows.run("broken_invariants", now=NOW)}


TWICE, LOST = "two contacts of a slot and step", "a reminder in flight without an open attempt"
HANGING = "an attempt in flight past its deadline by ten minutes"


def test_a_sound_ledger_breaks_no_promise(rows: Rows) -> None:
    rows.reminder()
    rows.guard()
    assert breaches(rows) == {}


@pytest.mark.parametrize(
    ("other", "is_broken"),
    [
        ({}, True), ({"account_id": "vet"}, False), ({"address_hash": b"\x09"}, False),
        ({"slot_at": VISIT + HOUR}, False), ({"step": 3}, False), ({"is_uncontacted": True}, False),
    ],
)  # fmt: skip
def test_two_contacts_are_found_also_where_nothing_refused_them(rows: Rows, other: Columns, is_broken: bool) -> None:
    rows.owner.execute("DROP INDEX reminders.contacted_once")
    rows.guard()
    rows.guard(contact_id=2, **other)
    assert breaches(rows) == ({TWICE: 1} if is_broken else {})


@pytest.mark.parametrize("state", ["sending", "in_doubt", "accepted"])
@pytest.mark.parametrize(
    ("attempt", "is_broken"), [({}, False), ({"contact_id": 2}, True), ({"state": "delivered"}, True)]
)
def test_what_is_in_flight_has_its_attempt(rows: Rows, state: str, attempt: Columns, is_broken: bool) -> None:
    rows.reminder(state=state)
    rows.attempt(**({"state": state} | attempt))
    assert breaches(rows) == ({LOST: 1} if is_broken else {})


@pytest.mark.parametrize("state", ["pending", "held", "delivered", "expired"])
def test_what_is_not_in_flight_needs_none(rows: Rows, state: str) -> None:
    rows.reminder(state=state)
    assert breaches(rows) == {}


@pytest.mark.parametrize(
    ("attempt", "is_broken"),
    [
        ({"intended_at": NOW - 12 * MINUTE}, True),
        ({"intended_at": NOW - 11 * MINUTE}, False),
        ({"intended_at": NOW - HOUR, "state": "accepted"}, False),
        ({"intended_at": NOW - HOUR, "state": "delivered"}, False),
    ],
)
def test_an_attempt_does_not_hang_for_ever(rows: Rows, attempt: Columns, is_broken: bool) -> None:
    rows.attempt(**attempt)
    assert breaches(rows) == ({HANGING: 1} if is_broken else {})


LATE: Columns = {"due_at": NOW - 16 * MINUTE}


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        (LATE, 1), ({"due_at": NOW - 15 * MINUTE}, 0), (LATE | {"state": "held"}, 0), (LATE | {"state": "expired"}, 0),
        (LATE | {"deferred_for": "wait_for_gap"}, 0), (LATE | {"created_at": NOW - MINUTE}, 0),
        (LATE | {"not_before_at": NOW - MINUTE}, 0), (LATE | {"not_before_at": NOW - HOUR}, 1),
    ],
)  # fmt: skip
def test_what_is_ready_and_overdue_is_counted(rows: Rows, changed: Columns, count: int) -> None:
    rows.reminder(**changed)
    assert rows.run("overdue", now=NOW) == [{"overdue": count}]


@pytest.mark.parametrize(
    ("hold", "value"),
    [
        ({"scope": "channel", "value": "sms"}, "sms"), ({"scope": "account", "value": "vet"}, "vet"),
        ({"scope": "book", "value": "vet"}, "vet"),
        ({"scope": "cycle", "value": "2026-02-11 14:00Z"}, "2026-02-11 14:00Z"),
        ({"scope": "group", "value": "clinic 2 older"}, ""), ({"scope": "all"}, ""),
    ],
)  # fmt: skip
def test_a_hold_is_to_be_reviewed_in_time(rows: Rows, hold: Columns, value: str) -> None:
    number = rows.hold(**hold)
    assert rows.run("holds_to_review", now=NOW) == []
    assert rows.run("holds_to_review", now=NOW + HOUR) == [
        {"hold_id": number, "scope": hold["scope"], "scope_value": value, "overdue": timedelta(0)}
    ]
    rows.owner.execute("UPDATE reminders.hold SET released_at = now(), released_by = 'Ana'")
    assert rows.run("holds_to_review", now=NOW + HOUR) == []


def test_the_longest_due_for_review_comes_first(rows: Rows) -> None:
    later, first = rows.hold("all"), rows.hold("channel", "sms", review_at=NOW)
    assert [row["hold_id"] for row in rows.run("holds_to_review", now=NOW + HOUR)] == [first, later]


POLLED: Columns = {"state": "accepted", "provider_id": "SM1"}


@pytest.mark.parametrize(
    ("changed", "is_polled"),
    [
        ({}, True), ({"channel": "call"}, True), ({"channel": "email"}, False), ({"provider_id": None}, False),
        ({"state": "in_doubt"}, False), ({"state": "delivered"}, False),
    ],
)  # fmt: skip
def test_who_is_asked_about(rows: Rows, changed: Columns, is_polled: bool) -> None:
    number = rows.attempt(**(POLLED | changed))
    found = [row["attempt_id"] for row in rows.run("attempts_to_poll", now=NOW, most=9)]
    assert found == ([number] if is_polled else [])
    assert rows.ask("SELECT polled_at FROM reminders.attempt") == [(NOW if is_polled else None,)]


def test_the_longest_not_asked_about_comes_first(rows: Rows) -> None:
    numbers = [
        rows.attempt(**POLLED | {"provider_id": f"SM{number}", "contact_id": number, "polled_at": at})
        for number, at in enumerate((NOW - MINUTE, NOW - HOUR, None))
    ]
    found = {row["attempt_id"] for row in rows.run("attempts_to_poll", now=NOW, most=2)}
    assert found == set(numbers[1:])


def test_a_status_that_is_new_is_noted_and_one_that_is_not_keeps_its_time(rows: Rows) -> None:
    seen = "SELECT provider_status, status_since_at FROM reminders.attempt ORDER BY 1 DESC"
    number = rows.attempt(**POLLED)
    rows.attempt(**POLLED | {"provider_id": "SM2", "contact_id": 2, "provider_status": "queued"})
    rows.run("note_status", attempt_id=number, provider_status="sent", now=NOW)
    rows.run("note_status", attempt_id=number, provider_status="sent", now=NOW + MINUTE)
    assert rows.ask(seen) == [("sent", NOW), ("queued", None)]


def test_the_status_of_what_has_ended_is_not_noted(rows: Rows) -> None:
    number = rows.attempt(**POLLED | {"state": "delivered"})
    rows.run("note_status", attempt_id=number, provider_status="sent", now=NOW)
    assert rows.ask("SELECT provider_status FROM reminders.attempt") == [(None,)]


@pytest.mark.parametrize(
    ("name", "attempt", "is_found"),
    [
        ("attempts_past_deadline", {"intended_at": NOW - 2 * MINUTE}, True),
        ("attempts_past_deadline", {"intended_at": NOW - MINUTE}, False),
        ("attempts_past_deadline", {"intended_at": NOW - HOUR, "state": "accepted"}, False),
        ("attempts_past_deadline", {"intended_at": NOW - HOUR, "state": "failed"}, False),
        ("attempts_without_proof", {"intended_at": NOW - 2 * HOUR - MINUTE, "state": "in_doubt"}, True),
        ("attempts_without_proof", {"intended_at": NOW - 2 * HOUR, "state": "in_doubt"}, False),
        ("attempts_without_proof", {"intended_at": NOW - DAY, "state": "accepted"}, False),
        ("attempts_without_proof", {"intended_at": NOW - DAY, "state": "unknown"}, False),
        ("attempts_without_final_status", {"intended_at": NOW - 48 * HOUR - MINUTE, "state": "accepted"}, True),
        ("attempts_without_final_status", {"intended_at": NOW - 48 * HOUR, "state": "accepted"}, False),
        ("attempts_without_final_status", {"intended_at": NOW - 9 * DAY, "state": "in_doubt"}, False),
        ("attempts_without_final_status", {"intended_at": NOW - 9 * DAY, "state": "unknown"}, False),
    ],
)
def test_whose_time_is_over(rows: Rows, name: str, attempt: Columns, is_found: bool) -> None:
    number = rows.attempt(**attempt)
    rows.reminder(state="in_doubt")
    found = [row["attempt_id"] for row in rows.run(name, now=NOW)]
    assert found == ([number] if is_found else [])


QUARTER_OF_AN_HOUR_AGO = NOW - 15 * MINUTE


@pytest.mark.parametrize(
    ("reminder", "intended_at", "is_over"),
    [
        ({"expires_at": NOW + MINUTE}, QUARTER_OF_AN_HOUR_AGO, False),
        ({"expires_at": NOW}, QUARTER_OF_AN_HOUR_AGO, True),
        ({"contact_id": 2}, QUARTER_OF_AN_HOUR_AGO, True),
        # Until the list of its time is settled it may ring
        ({"expires_at": NOW}, NOW - 13 * MINUTE, False),
    ],
)
def test_doubt_is_over_when_nothing_of_the_contact_is_useful(
    rows: Rows, reminder: Columns, intended_at: Any, is_over: bool
) -> None:
    number = rows.attempt(state="in_doubt", intended_at=intended_at)
    rows.reminder(**({"state": "in_doubt", "due_at": NOW - DAY} | reminder))
    found = [row["attempt_id"] for row in rows.run("attempts_without_proof", now=NOW)]
    assert found == ([number] if is_over else [])


def test_numbers_are_reserved_above_all_that_were_used(rows: Rows) -> None:
    rows.owner.execute("UPDATE reminders.ledger_mark SET reserved_to = 10")
    values: Columns = {"most": 5, "secret_fingerprint": "the key", "identity": "this one"}
    assert rows.run("reserve_attempts", **values) == [{"reserved_to": 15}]
    rows.attempt(attempt_id=100)
    assert rows.run("reserve_attempts", **values) == [{"reserved_to": 105}]
    assert rows.run("reserve_attempts", **values | {"secret_fingerprint": "another"}) == [{"reserved_to": 110}]
    assert rows.ask("SELECT secret_fingerprint, checked_identity FROM reminders.ledger_mark") == [
        ("the key", "this one")
    ]


def test_it_is_noted_when_this_database_was_looked_at_and_not_another(rows: Rows) -> None:
    """The ledger was restored between the comparison and the reservation: nobody has looked at what is there now."""
    before = NOW - DAY
    rows.owner.execute("UPDATE reminders.ledger_mark SET checked_at = %s", [before])
    values: Columns = {"most": 5, "secret_fingerprint": "the key"}
    [(identity,)] = rows.ask("SELECT reminders.ledger_identity()")
    asked = "SELECT checked_at, reminders.ledger_clock() FROM reminders.ledger_mark"
    rows.run("reserve_attempts", **values, identity="another")
    assert rows.ask(asked)[0][0] == before
    rows.run("reserve_attempts", **values, identity=identity)
    [(checked_at, clock)] = rows.ask(asked)
    assert clock - MINUTE < checked_at <= clock


# As the agreement has it, which asks for no key and no constraint.
BOOK = """
CREATE SCHEMA booking;
CREATE TABLE booking.account (account_id text, name text, timezone text, phone text, email text, locale text);
CREATE TABLE booking.client (
    client_id text, account_id text, name text, email text, phone text, timezone text, locale text);
CREATE TABLE booking.appointment (
    appointment_id text, account_id text, client_id text, starts_at timestamptz, ends_at timestamptz, status text,
    service text, location text, created_at timestamptz, updated_at timestamptz)
"""


def in_book(book: TestDatabase, **changed: Any) -> list[dict[str, Any]]:
    """What is read of a book with one appointment, from NOW for a day."""
    owner = book.connect()
    owner.execute(BOOK)
    columns: Columns = {
        "appointment_id": "visit", "account_id": "clinic", "client_id": "ada", "starts_at": NOW, "status": "booked",
    } | changed  # fmt: skip
    asked = columns.pop("asked", [])
    for table, row in (
        ("account", {"account_id": "clinic", "name": "Clinic"}),
        ("client", {"client_id": "ada", "account_id": "clinic", "name": "Ada"}),
        ("client", {"client_id": "bo", "account_id": "vet", "name": "Bo"}),
        ("appointment", columns),
    ):
        names, places = ", ".join(row), ", ".join(["%s"] * len(row))
        owner.execute(f"INSERT INTO booking.{table} ({names}) VALUES ({places})".encode(), list(row.values()))
    rows = Rows(owner)
    return rows.run("read_book", from_at=NOW, until_at=NOW + DAY, appointment_ids=asked)


@pytest.mark.parametrize(
    ("changed", "is_read"),
    [
        ({}, True), ({"starts_at": NOW - MINUTE}, False), ({"starts_at": NOW + DAY}, False),
        ({"starts_at": NOW + 9 * DAY, "asked": ["visit"]}, True),
        ({"starts_at": NOW + 9 * DAY, "asked": ["another"]}, False),
    ],
)  # fmt: skip
def test_what_is_read_of_the_book(blank_database: TestDatabase, changed: Columns, is_read: bool) -> None:
    assert bool(in_book(blank_database, **changed)) == is_read


@pytest.mark.parametrize("column", ["starts_at", "ends_at", "created_at"])
@pytest.mark.parametrize(
    ("time", "is_read"),
    [
        ("infinity", False), ("-infinity", False), ("1969-12-31 23:59Z", False), ("2200-01-01 00:01Z", False),
        ("1970-01-01Z", True), ("2200-01-01Z", True),
    ],
)  # fmt: skip
def test_no_time_is_infinite(blank_database: TestDatabase, column: str, time: str, is_read: bool) -> None:
    [found] = in_book(blank_database, **{"asked": ["visit"], column: time})
    assert (found[column] is not None) == is_read


@pytest.mark.parametrize(
    ("changed", "client", "account"),
    [
        ({}, "Ada", "Clinic"), ({"client_id": "nobody"}, None, "Clinic"), ({"client_id": "bo"}, None, "Clinic"),
        ({"account_id": "zoo"}, None, None),
    ],
)  # fmt: skip
def test_who_comes_and_to_whom(blank_database: TestDatabase, changed: Columns, client: Any, account: Any) -> None:
    [found] = in_book(blank_database, **changed)
    assert (found["client_name"], found["account_name"]) == (client, account)
