"""What is recorded of an attempt, and what is done about a refusal, clause by clause, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.integration.rows import ELSEWHERE, NOW, Rows
from tests.integration.scene import HOUR, MINUTE
from tests.integration.sent import BEFORE, record, sent

STATES = (
    "sending", "in_doubt", "accepted", "delivered", "undelivered", "cancelled", "failed", "unknown", "not_contacted",
)  # fmt: skip
OPEN = ("sending", "in_doubt", "accepted")

# (outcome, reason) -> which state it makes of which; every other state stays.
MAKES = {
    ("accepted", None): {"sending": "accepted", "in_doubt": "accepted", "unknown": "accepted"},
    ("delivered", "read"): dict.fromkeys(("sending", "in_doubt", "accepted", "unknown"), "delivered"),
    ("undelivered", "busy"): dict.fromkeys(("in_doubt", "accepted", "unknown"), "undelivered"),
    ("cancelled", "cancelled_at_provider"): {"accepted": "cancelled"},
    ("unknown", "no_proof"): {"in_doubt": "unknown"},
    ("unknown", "no_final_status"): {"in_doubt": "unknown", "accepted": "unknown"},
    ("failed", "bad_address"): {"sending": "failed", "in_doubt": "undelivered", "unknown": "undelivered"},
    ("misconfigured", "misconfigured"): {
        "sending": "not_contacted", "in_doubt": "undelivered", "unknown": "undelivered",
    },
    ("not_contacted", "rate_limited"): {"sending": "not_contacted"},
    ("in_doubt", "timeout"): {"sending": "in_doubt"},
}  # fmt: skip


def one(rows: Rows, table: str, where: str = "true") -> dict[str, Any]:
    with rows.owner.cursor(row_factory=dict_row) as cursor:
        [row] = cursor.execute(f"SELECT * FROM reminders.{table} WHERE {where}".encode()).fetchall()
    return row


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("said", MAKES, ids=str)
def test_what_is_recorded_of_an_attempt_and_of_its_reminder(
    rows: Rows, before: str, said: tuple[str, str | None]
) -> None:
    outcome, reason = said
    number = sent(rows, before)
    after = MAKES[said].get(before, before)
    assert record(rows, (number, outcome, reason), not_before=NOW + HOUR) == (after != before)
    attempt = one(rows, "attempt")
    assert attempt["state"] == after
    if after == before:
        return
    reminder = one(rows, "reminder")
    if after == "not_contacted":
        state, waits = ("held", "on_hold") if outcome == "misconfigured" else ("pending", "wait_until_not_before")
        assert (reminder["state"], reminder["deferred_for"], reminder["not_before_at"]) == (state, waits, NOW + HOUR)
        assert (reminder["contact_id"], reminder["sent_at"], reminder["ended_at"]) == (None, None, None)
        assert (attempt["ended_at"], attempt["reason"]) == (NOW, reason)
        return
    ended_at, why = (None, None) if after in OPEN else (NOW, reason)
    assert (attempt["ended_at"], attempt["reason"], attempt["status_since_at"]) == (ended_at, why, NOW)
    assert (reminder["state"], reminder["ended_at"], reminder["reason"]) == (after, ended_at, why)
    assert (reminder["contact_id"], reminder["sent_at"], reminder["not_before_at"]) == (1, BEFORE, None)
    delivered = (NOW, reason) if after == "delivered" else (None, None)
    assert (reminder["delivered_at"], reminder["delivery_evidence"]) == delivered


def test_what_the_provider_says_is_kept(rows: Rows) -> None:
    record(rows, (sent(rows), "accepted", None), code="30001", provider="SM1", status="queued")
    attempt = one(rows, "attempt")
    kept = (attempt["provider_code"], attempt["provider_id"], attempt["provider_status"])
    assert kept == ("30001", "SM1", "queued")


def test_what_it_does_not_say_is_nothing_and_its_first_id_stays(rows: Rows) -> None:
    number = sent(rows, "accepted", provider_id="SM1", provider_code="1")
    record(rows, (number, "delivered", "read"), provider="SM2")
    attempt = one(rows, "attempt")
    assert (attempt["provider_code"], attempt["provider_id"]) == (None, "SM1")
    record(rows, (sent(rows, contact=2, address_hash=ELSEWHERE), "accepted", None))
    assert one(rows, "attempt", "contact_id = 2")["provider_id"] is None


def test_each_outcome_is_recorded_of_its_own_attempt_and_contact(rows: Rows) -> None:
    first, second, third = (
        sent(rows, contact=number, address_hash=bytes([number])) for number in (1, 2, 3)
    )  # fmt: skip
    assert record(rows, (first, "accepted", None), (second, "delivered", "read")) == 2
    assert third
    for table in ("attempt", "reminder"):
        assert rows.ask(f"SELECT contact_id, state FROM reminders.{table} ORDER BY 1") == [
            (1, "accepted"), (2, "delivered"), (3, "sending"),
        ]  # fmt: skip


def test_a_record_that_comes_too_late_changes_no_reminder_either(rows: Rows) -> None:
    number = sent(rows, "delivered")
    rows.owner.execute(
        "UPDATE reminders.reminder SET state = 'accepted', ended_at = NULL, reason = NULL, delivered_at = NULL"
    )
    assert record(rows, (number, "accepted", None)) == 0
    assert one(rows, "reminder")["state"] == "accepted"


def test_a_reminder_that_has_ended_says_what_was(rows: Rows) -> None:
    number = sent(rows, "accepted")
    rows.owner.execute("UPDATE reminders.reminder SET state = 'cancelled', ended_at = now(), reason = 'test'")
    assert record(rows, (number, "delivered", "read")) == 1
    assert one(rows, "reminder")["state"] == "cancelled"


def holds(rows: Rows) -> list[tuple[Any, ...]]:
    return rows.ask("SELECT scope, scope_value, why FROM reminders.hold WHERE released_at IS NULL")


REFUSED = "the provider refused our configuration: "


@pytest.mark.parametrize(
    ("outcome", "reason", "code", "held"),
    [
        ("misconfigured", "misconfigured", "30034", [("channel", "sms", f"{REFUSED}30034")]),
        ("misconfigured", "certificate", "", [("channel", "sms", f"{REFUSED}misconfigured")]),
        ("undelivered", "misconfigured", "30007", [("channel", "sms", f"{REFUSED}30007")]),
        ("undelivered", "busy", "30008", []),
    ],
)
def test_a_refusal_about_us_holds_the_channel(
    rows: Rows, outcome: str, reason: str, code: str, held: list[tuple[str, str, str]]
) -> None:
    number = sent(rows, "accepted" if outcome == "undelivered" else "sending")
    record(rows, (number, outcome, reason), code=code)
    assert holds(rows) == held


@pytest.mark.parametrize(
    ("released", "is_held"),
    [
        ({"released_at": NOW - 5 * MINUTE}, False),
        ({"released_at": BEFORE}, False),
        ({"released_at": NOW}, False),
        ({"released_at": BEFORE - MINUTE}, True),
        ({"released_at": NOW + MINUTE}, True),
        ({"released_at": NOW - 5 * MINUTE, "value": "call"}, True),
        ({"released_at": NOW - 5 * MINUTE, "scope": "account"}, True),
    ],
)
def test_what_was_begun_before_a_release_says_nothing_of_the_channel_now(
    rows: Rows, released: dict[str, Any], is_held: bool
) -> None:
    rows.hold(**({"scope": "channel", "value": "sms"} | released))
    record(rows, (sent(rows), "misconfigured", "misconfigured"))
    assert bool(holds(rows)) == is_held


def test_two_refusals_at_once_and_one_more_are_one_hold(rows: Rows) -> None:
    first, second, third = (sent(rows, contact=n, address_hash=bytes([n])) for n in (1, 2, 3))
    record(rows, (first, "misconfigured", None), (second, "misconfigured", None))
    record(rows, (third, "misconfigured", None))
    assert len(holds(rows)) == 1


def test_who_asks_for_silence_is_silenced_once_and_nobody_else(rows: Rows) -> None:
    first, second, third = (sent(rows, contact=n, address_hash=bytes([n])) for n in (1, 2, 3))
    record(rows, (first, "failed", "opted_out"), (second, "failed", "bad_address"))
    rows.put("suppression", address_hash=b"\x03", channel="*", reason="opted_out")
    record(rows, (third, "failed", "opted_out"))
    assert rows.ask("SELECT address_hash, channel, reason FROM reminders.suppression ORDER BY 1") == [
        (b"\x01", "*", "opted_out"), (b"\x03", "*", "opted_out"),
    ]  # fmt: skip


FAILURES = {
    "sending": set(),
    "accepted": set(),
    "delivered": set(),
    "cancelled": set(),
    "in_doubt": {None, "opted_out", "bad_address", "busy", "no_answer", "misconfigured", "unreachable"},
    "unknown": {None, "opted_out", "bad_address", "busy", "no_answer", "misconfigured", "unreachable"},
    "failed": {None, "busy", "no_answer", "misconfigured", "unreachable"},
    "undelivered": {None, "misconfigured", "unreachable"},
    "not_contacted": {"misconfigured"},
}


@pytest.mark.parametrize("state", FAILURES)
def test_what_is_a_failure_of_the_channel(rows: Rows, state: str) -> None:
    found = {
        reason
        for reason in FAILURES["in_doubt"]
        if rows.ask("SELECT reminders.is_channel_failure(%(state)s, %(reason)s)", state=state, reason=reason)[0][0]
    }
    assert found == FAILURES[state]


@pytest.mark.parametrize("state", STATES)
def test_what_is_an_outcome_of_the_channel(rows: Rows, state: str) -> None:
    """Its time is when it ended, or when its status was seen, or when it began; of doubt for ever when it began."""
    number = sent(rows, state, reason="misconfigured", status_since_at=BEFORE + MINUTE)
    found = rows.ask("SELECT attempt_id, channel, outcome_at FROM reminders.channel_outcome")
    at = {"in_doubt": BEFORE + MINUTE, "unknown": BEFORE}.get(state, BEFORE + MINUTE)
    assert found == ([] if state in ("sending", "accepted") else [(number, "sms", at)])


def test_when_an_outcome_came(rows: Rows) -> None:
    outcome_at = "SELECT outcome_at FROM reminders.channel_outcome"
    number = sent(rows, "delivered", status_since_at=BEFORE + 2 * MINUTE)
    assert rows.ask(outcome_at) == [(BEFORE + MINUTE,)]
    rows.owner.execute("UPDATE reminders.attempt SET state = 'in_doubt', ended_at = NULL")
    assert rows.ask(outcome_at) == [(BEFORE + 2 * MINUTE,)]
    rows.owner.execute("UPDATE reminders.attempt SET status_since_at = NULL WHERE attempt_id = %s", [number])
    assert rows.ask(outcome_at) == [(BEFORE,)]


@pytest.mark.parametrize("reason", ["rate_limited", None])
def test_what_was_given_back_is_no_outcome_unless_it_was_our_configuration(rows: Rows, reason: str | None) -> None:
    sent(rows, "not_contacted", reason=reason)
    assert rows.ask("SELECT * FROM reminders.channel_outcome") == []
