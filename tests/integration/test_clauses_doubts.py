"""Doubt and its proof, clause by clause: what a report is about, what is looked up, what ends, what is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

SECOND = timedelta(seconds=1)
OURS, ANOTHERS = UUID(int=1), UUID(int=2)

Act = Callable[[Rows], Any]
Changes = dict[str, Any]


def contact(rows: Rows, contact_id: int = 1, reference: UUID = OURS) -> None:
    of = {"batch_id": 1, "account_id": "clinic", "channel": "sms", "address_hash": HERE, "zone": "UTC", "place": 1}
    rows.put("contact", contact_id=contact_id, reference=reference, **of)


def report(rows: Rows, provider_id: str = "SM1", **changed: Any) -> None:
    columns = {"provider_status": "sent", "reference": OURS, "received_at": NOW, **changed}
    rows.put("provider_event", provider_id=provider_id, **columns)


def found(rows: Rows, **changed: Any) -> None:
    columns = {"channel": "sms", "provider_id": "SM1", "recovery_id": 1, "address_hash": HERE, "address_masked": ""}
    rows.put("found_contact", **{**columns, "contacted_at": NOW, "provider_status": "sent", **changed})


# The inbox


@pytest.mark.parametrize(
    ("attempt", "event", "about"),
    [
        ({}, {}, ("sms", None)),
        ({"provider_id": "SM1"}, {}, ("sms", "SM1")),
        ({"state": "not_contacted"}, {}, (None, None)),
        ({}, {"reference": ANOTHERS}, (None, None)),
        ({"contact_id": 9}, {}, (None, None)),
        ({"provider_id": "SM1", "contact_id": 9}, {"reference": None}, ("sms", "SM1")),
        ({"provider_id": "SM1", "contact_id": 9, "channel": "call"}, {"reference": None}, ("call", "SM1")),
        ({"provider_id": "SM2", "contact_id": 9}, {"reference": None}, (None, None)),
        ({"provider_id": "SM1", "contact_id": 9, "channel": "email", "address_hash": MAILBOX}, {}, (None, None)),
    ],
)
def test_a_report_is_about_the_attempt_of_its_reference_or_of_its_id(
    rows: Rows, attempt: Changes, event: Changes, about: tuple[str | None, str | None]
) -> None:
    contact(rows)
    number = rows.attempt(**{"contact_id": 1, "state": "in_doubt", **attempt})
    report(rows, **event)
    [told] = rows.run("events_to_apply", most=9)
    assert (told["channel"], told["known_id"]) == about
    assert told["attempt_id"] == (number if about[0] else None)


def test_a_report_is_about_one_attempt(rows: Rows) -> None:
    """Its reference and its id are two attempts'."""
    contact(rows)
    rows.attempt(contact_id=1, state="in_doubt")
    rows.attempt(contact_id=9, state="delivered", provider_id="SM1")
    report(rows)
    assert [row["known_id"] for row in rows.run("events_to_apply", most=9)] == [None]


@pytest.mark.parametrize(
    ("changed", "is_found"),
    [({}, True), ({"channel": "call"}, True), ({"provider_id": "SM2"}, False)],
)
def test_a_report_may_be_of_what_a_recovery_found(rows: Rows, changed: Changes, is_found: bool) -> None:
    found(rows, **changed)
    report(rows)
    assert [row["is_found"] for row in rows.run("events_to_apply", most=9)] == [is_found]


def test_the_oldest_reports_that_nobody_has_applied_come_first(rows: Rows) -> None:
    report(rows, "SM1", received_at=NOW - MINUTE, applied_at=NOW)
    report(rows, "SM2", received_at=NOW, provider_code="30006")
    report(rows, "SM3", received_at=NOW - MINUTE)
    report(rows, "SM4", received_at=NOW)
    told = rows.run("events_to_apply", most=2)
    assert [(row["provider_id"], row["provider_code"]) for row in told] == [("SM3", ""), ("SM2", "30006")]


def test_only_what_was_applied_is_noted_as_applied(rows: Rows) -> None:
    for provider_id in ("SM1", "SM2"):
        for status in ("sent", "delivered"):
            report(rows, provider_id, provider_status=status)
    rows.run("note_applied", provider_ids=["SM1"], provider_statuses=["sent"], now=NOW)
    applied = "SELECT provider_id, provider_status FROM reminders.provider_event WHERE applied_at IS NOT NULL"
    assert rows.ask(applied) == [("SM1", "sent")]


# The provider's list


@pytest.mark.parametrize(
    ("changed", "is_doubtful"),
    [
        ({}, True),
        ({"state": "sending"}, True),
        ({"state": "unknown"}, True),
        ({"state": "accepted"}, False),
        ({"intended_at": NOW - HOUR}, True),
        # Doubt that has not ended is looked up however old it is
        ({"intended_at": NOW - HOUR - SECOND}, True),
        ({"intended_at": NOW - HOUR - SECOND, "state": "unknown"}, False),
        ({"provider_id": "SM1"}, False),
        ({"address": None}, False),
        ({"channel": "email", "address_hash": MAILBOX}, False),
    ],
)
def test_which_attempts_a_list_may_have(rows: Rows, changed: Changes, is_doubtful: bool) -> None:
    doubt = {"state": "in_doubt", "intended_at": NOW - 30 * MINUTE, "address": "+442079460018"}
    number = rows.attempt(**{**doubt, **changed})
    found_ids = [row["attempt_id"] for row in rows.run("doubtful_attempts", since=NOW - HOUR)]
    assert found_ids == ([number] if is_doubtful else [])


def test_the_longest_not_looked_up_comes_first(rows: Rows) -> None:
    doubts = [
        rows.attempt(contact_id=number, state="in_doubt", intended_at=NOW, address="+1", polled_at=at)
        for number, at in enumerate((NOW, NOW - MINUTE, None, None))
    ]
    rows.run("note_looked_up", attempt_ids=[doubts[2]], now=NOW + MINUTE)
    order = [row["attempt_id"] for row in rows.run("doubtful_attempts", since=NOW)]
    assert order == [doubts[3], doubts[1], doubts[0], doubts[2]]


@pytest.mark.parametrize(
    ("act", "missing"),
    [
        (lambda _rows: None, {"SM1", "SM2"}),
        (lambda rows: rows.attempt(provider_id="SM1", state="accepted"), {"SM2"}),
        (lambda rows: rows.attempt(provider_id="SM1", state="accepted", channel="call"), {"SM1", "SM2"}),
        (lambda rows: found(rows), {"SM2"}),
        (lambda rows: found(rows, channel="call"), {"SM1", "SM2"}),
    ],
    ids=["nothing is known", "a text", "a call of that id", "a found text", "a found call of that id"],
)
def test_what_the_ledger_lacks_of_a_list(rows: Rows, act: Act, missing: set[str]) -> None:
    act(rows)
    told = rows.run("missing_contacts", channel="sms", provider_ids=["SM1", "SM2"])
    assert {row["provider_id"] for row in told} == missing


def test_only_a_recovery_whose_list_was_not_read_is_open(rows: Rows) -> None:
    of = {"hold_id": 1, "why": "a loss", "missing_from": NOW - HOUR, "begun_at": NOW - HOUR}
    rows.put("recovery", **of, listed_at=NOW)
    assert rows.run("open_recovery") == []
    number = rows.put("recovery", **of)
    assert [row["recovery_id"] for row in rows.run("open_recovery")] == [number]


def test_what_was_found_before_is_kept_as_it_was(rows: Rows) -> None:
    found(rows, recovery_id=1)
    again = {"address_hash": HERE, "address_masked": "", "contacted_at": NOW, "provider_status": "sent"}
    rows.run("note_found", channel="sms", provider_id="SM1", recovery_id=2, **again)
    assert rows.ask("SELECT recovery_id FROM reminders.found_contact") == [(1,)]


# What ends

LONG_AGO: Changes = {"intended_at": NOW - 2 * HOUR - SECOND}


@pytest.mark.parametrize(
    ("attempt", "reminder", "ends"),
    [
        ({}, {}, False),
        ({"intended_at": NOW - 2 * HOUR}, {}, False),
        ({"intended_at": NOW - 2 * HOUR - SECOND}, {}, True),
        ({"intended_at": NOW - 2 * HOUR - SECOND, "state": "accepted"}, {}, False),
        ({"intended_at": NOW - 2 * HOUR - SECOND, "state": "unknown"}, {}, False),
        ({"intended_at": NOW - 13 * MINUTE}, {"expires_at": NOW}, False),
        ({"intended_at": NOW - 13 * MINUTE - SECOND}, {"expires_at": NOW}, True),
        ({"intended_at": NOW - 13 * MINUTE - SECOND}, {"expires_at": NOW + SECOND}, False),
        ({"intended_at": NOW - 13 * MINUTE - SECOND, "state": "sending"}, {"expires_at": NOW}, False),
        ({"intended_at": NOW - 13 * MINUTE - SECOND}, {"contact_id": 9}, True),
        # Where there is a list, not before it was asked
        ({**LONG_AGO, "address": "+442079460018"}, {}, False),
        ({**LONG_AGO, "address": "+442079460018", "polled_at": NOW}, {}, True),
        ({**LONG_AGO, "address": "+442079460018", "provider_id": "SM1"}, {}, True),
        ({**LONG_AGO, "address": "ada@example.com", "channel": "email"}, {}, True),
    ],
)
def test_doubt_ends_after_two_hours_or_with_the_use_of_its_reminders(
    rows: Rows, attempt: Changes, reminder: Changes, ends: bool
) -> None:
    rows.reminder(**{"state": "in_doubt", "contact_id": 1, **reminder})
    number = rows.attempt(**{"state": "in_doubt", "intended_at": NOW - HOUR, "contact_id": 1, **attempt})
    found_ids = [row["attempt_id"] for row in rows.run("attempts_without_proof", now=NOW)]
    assert found_ids == ([number] if ends else [])


# What nobody needs any more

QUEUED: Changes = {"contact_id": 1, "state": "accepted", "provider_id": "SM1", "provider_status": "queued"}
EARLIER = NOW - 5 * MINUTE


def cycle(rows: Rows, **changed: Any) -> None:
    at = changed.get("logical_date", NOW)
    judged = {"logical_date": NOW, "run_kind": "scheduled", "has_own_date": True, "started_at": at, "judged_at": at}
    rows.put("cycle", **{**judged, **changed})


def booked(**changed: Any) -> Act:
    return lambda rows: rows.staged(**changed)


def reminder(**changed: Any) -> Act:
    return lambda rows: rows.reminder(**{"state": "accepted", "contact_id": 1, "appointment_id": "second", **changed})


TO_CANCEL: dict[str, tuple[Changes, Changes | None, Sequence[Act], bool]] = {
    "cancelled": ({}, {"status": "cancelled"}, [], True),
    "moved": ({}, {"slot_at": VISIT + HOUR, "ends_at": VISIT + 2 * HOUR}, [], True),
    "as it was booked": ({}, {}, [], False),
    "not in the book": ({}, None, [], False),
    "another account's is cancelled": ({}, {"status": "cancelled", "account_id": "vet"}, [], False),
    "another visit is cancelled": ({}, {"status": "cancelled", "appointment_id": "another"}, [], False),
    "cancelled in another reading": ({}, {}, [booked(status="cancelled", logical_date=EARLIER)], False),
    "cancelled by a reading that is not judged": (
        {}, {"logical_date": EARLIER}, [booked(status="cancelled")], False
    ),
    "its other visit is on": ({}, {"status": "cancelled"}, [reminder(), booked(appointment_id="second")], False),
    "both are cancelled": (
        {}, {"status": "cancelled"}, [reminder(), booked(appointment_id="second", status="cancelled")], True
    ),
    "another contact's visit is on": (
        {}, {"status": "cancelled"}, [reminder(contact_id=9), booked(appointment_id="second")], True
    ),
    "not accepted": ({"state": "in_doubt"}, {"status": "cancelled"}, [], False),
    "without an id": ({"provider_id": None}, {"status": "cancelled"}, [], False),
    "an email": ({"channel": "email", "address_hash": MAILBOX}, {"status": "cancelled"}, [], False),
    "accepted by the provider": ({"provider_status": "accepted"}, {"status": "cancelled"}, [], True),
    "scheduled": ({"provider_status": "scheduled"}, {"status": "cancelled"}, [], True),
    "initiated": ({"provider_status": "initiated"}, {"status": "cancelled"}, [], True),
    "gone out": ({"provider_status": "sent"}, {"status": "cancelled"}, [], False),
    "its account's book is not believed": (
        {}, {"status": "cancelled"}, [lambda rows: rows.hold("book", "clinic")], False
    ),
    "no book is believed": ({}, {"status": "cancelled"}, [lambda rows: rows.hold("book", "*")], False),
    "another's book is not believed": ({}, {"status": "cancelled"}, [lambda rows: rows.hold("book", "vet")], True),
    "the account is held": ({}, {"status": "cancelled"}, [lambda rows: rows.hold("account", "clinic")], True),
}  # fmt: skip


@pytest.mark.parametrize(("attempt", "visit", "acts", "is_cancelled"), TO_CANCEL.values(), ids=TO_CANCEL)
def test_what_has_not_gone_out_and_nobody_needs_is_to_be_cancelled(
    rows: Rows, attempt: Changes, visit: Changes | None, acts: Sequence[Act], is_cancelled: bool
) -> None:
    has_later = (visit or {}).get("logical_date") == EARLIER
    cycle(rows, logical_date=EARLIER)
    cycle(rows, judged_at=None) if has_later else cycle(rows)
    cycle(rows, logical_date=NOW + HOUR, run_kind="backfill")
    rows.reminder(state="accepted", contact_id=1)
    number = rows.attempt(**{**QUEUED, **attempt})
    if visit is not None:
        rows.staged(**visit)
    for act in acts:
        act(rows)
    assert [row["attempt_id"] for row in rows.run("attempts_to_cancel")] == ([number] if is_cancelled else [])


def test_a_contact_to_another_address_is_not_touched(rows: Rows) -> None:
    """Of two that wait at the provider only the one whose visit is off."""
    cycle(rows)
    rows.reminder(state="accepted", contact_id=1)
    rows.reminder(state="accepted", contact_id=2, appointment_id="second", address_hash=ELSEWHERE)
    rows.staged(status="cancelled")
    rows.staged(appointment_id="second", phone_hash=ELSEWHERE)
    off = rows.attempt(**QUEUED)
    rows.attempt(**{**QUEUED, "contact_id": 2, "provider_id": "SM2", "address_hash": ELSEWHERE})
    assert [row["attempt_id"] for row in rows.run("attempts_to_cancel")] == [off]
