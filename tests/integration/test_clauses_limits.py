"""What is counted for an attempt, and given back of it, clause by clause, and what is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.integration.rows import ELSEWHERE, HERE, MONDAY, NOW, TODAY, Rows
from tests.integration.scene import HOUR, MINUTE
from tests.integration.sent import BEFORE, guards_on, record, sent

DAY, WEEK = timedelta(days=1), timedelta(days=7)

LIMITS = {
    "address_gap": "SELECT address_hash, last_contact_at, previous_contact_at FROM reminders.address_gap ORDER BY 1",
    "address_cap": "SELECT address_hash, period, starts_on, contact_count FROM reminders.address_cap ORDER BY 1, 2, 3",
    "daily_ceiling": "SELECT account_id, channel, day, contact_count FROM reminders.daily_ceiling ORDER BY 1, 2, 3",
}
CAPS = [
    (HERE, "day", MONDAY), (HERE, "day", TODAY - DAY), (HERE, "day", TODAY), (HERE, "week", MONDAY - WEEK),
    (HERE, "week", MONDAY), (HERE, "week", TODAY), (ELSEWHERE, "day", TODAY), (ELSEWHERE, "week", MONDAY),
]  # fmt: skip
CEILINGS = [
    (account, channel, day)
    for account in ("*", "clinic", "vet")
    for channel in ("call", "sms")
    for day in (TODAY - DAY, TODAY)
]


def limits(rows: Rows) -> None:
    """Of this address and another, of this day and week and others, of this account and another: counted 3 times."""
    for address in (HERE, ELSEWHERE):
        rows.put("address_gap", address_hash=address, last_contact_at=NOW - 5 * HOUR, min_gap=9 * MINUTE)
    for address, period, day in CAPS:
        rows.put("address_cap", address_hash=address, period=period, starts_on=day, contact_count=3, cap=9)
    for account, channel, day in CEILINGS:
        rows.put("daily_ceiling", account_id=account, channel=channel, day=day, contact_count=3, ceiling=9)


def differing(rows: Rows) -> tuple[set[Any], set[Any]]:
    """The caps and ceilings that do not stand at 3, with what they stand at."""
    return tuple(  # type: ignore[return-value]
        {(*row[:3], row[3] - 3) for row in rows.ask(LIMITS[table]) if row[3] != 3}
        for table in ("address_cap", "daily_ceiling")
    )


@pytest.mark.parametrize(("channel", "gap"), [("sms", 2 * HOUR), ("email", 15 * MINUTE)])
def test_an_attempt_counts_for_its_address_its_account_and_all(rows: Rows, channel: str, gap: timedelta) -> None:
    limits(rows)
    for account in ("*", "clinic"):
        rows.put("daily_ceiling", account_id=account, channel="email", day=TODAY, contact_count=3, ceiling=9)
    rows.owner.execute("ALTER TABLE reminders.attempt DISABLE TRIGGER fenced, DISABLE TRIGGER gated")
    guards_on(rows)
    rows.owner.execute("ALTER TABLE reminders.attempt DROP CONSTRAINT attempt_is_of_its_contact")
    rows.attempt(channel=channel, intended_at=NOW)
    assert rows.ask("SELECT * FROM reminders.address_gap ORDER BY 1") == [
        (HERE, NOW, NOW - 5 * HOUR, gap), (ELSEWHERE, NOW - 5 * HOUR, None, 9 * MINUTE),
    ]  # fmt: skip
    assert differing(rows) == (
        {(HERE, "day", TODAY, 1), (HERE, "week", MONDAY, 1)},
        {("clinic", channel, TODAY, 1), ("*", channel, TODAY, 1)},
    )


def test_what_is_given_back_is_the_attempts_own(rows: Rows) -> None:
    limits(rows)
    number = sent(rows)
    sent(rows, contact=2, address_hash=ELSEWHERE)
    # Both were begun at the same moment, as a group's contacts are.
    rows.owner.execute(
        "UPDATE reminders.address_gap SET last_contact_at = %s, previous_contact_at = %s", [BEFORE, NOW - 9 * HOUR]
    )
    record(rows, (number, "not_contacted", "rate_limited"))
    assert rows.ask("SELECT contact_id, is_uncontacted FROM reminders.contact_guard ORDER BY 1") == [
        (1, True), (2, False),
    ]  # fmt: skip
    assert rows.ask(LIMITS["address_gap"]) == [
        (HERE, NOW - 9 * HOUR, None), (ELSEWHERE, BEFORE, NOW - 9 * HOUR),
    ]  # fmt: skip
    assert differing(rows) == (
        {(HERE, "day", TODAY, -1), (HERE, "week", MONDAY, -1)},
        {("clinic", "sms", TODAY, -1), ("*", "sms", TODAY, -1)},
    )


def test_a_contact_since_then_keeps_its_gap(rows: Rows) -> None:
    limits(rows)
    record(rows, (sent(rows), "not_contacted", "rate_limited"))
    assert rows.ask(LIMITS["address_gap"])[0] == (HERE, NOW - 5 * HOUR, None)


@pytest.mark.parametrize("outcome", ["accepted", "failed", "in_doubt", "delivered"])
def test_what_may_have_reached_somebody_is_not_given_back(rows: Rows, outcome: str) -> None:
    limits(rows)
    first, second = sent(rows), sent(rows, contact=2, address_hash=b"\x09")
    record(rows, (first, outcome, "test"), (second, "not_contacted", "rate_limited"))
    assert rows.ask("SELECT contact_id, is_uncontacted FROM reminders.contact_guard ORDER BY 1") == [
        (1, False), (2, True),
    ]  # fmt: skip
    assert differing(rows)[0] == set()


def test_what_was_given_back_is_not_given_back_twice(rows: Rows) -> None:
    limits(rows)
    sent(rows, "not_contacted")
    guards_on(rows)
    rows.owner.execute("UPDATE reminders.attempt SET polled_at = %s", [NOW])
    assert differing(rows) == (set(), set())


def test_a_key_that_was_given_back_before_stays_so(rows: Rows) -> None:
    """A contact that is tried a second time has two keys, the first of them given back."""
    number = sent(rows)
    rows.guard(is_uncontacted=True)
    record(rows, (number, "not_contacted", "rate_limited"))
    assert rows.ask("SELECT count(*) FROM reminders.contact_guard WHERE is_uncontacted") == [(2,)]


@pytest.mark.parametrize(
    ("states", "was_uncontacted", "is_accepted"),
    [
        (("not_contacted",), False, True),
        (("not_contacted", "not_contacted"), False, True),
        ((), False, False),
        (("sending",), False, False),
        (("not_contacted", "failed"), False, False),
        (("not_contacted",), True, False),
    ],
)
def test_a_key_goes_back_once_and_with_proof_of_the_contacts_own(
    rows: Rows, states: tuple[str, ...], was_uncontacted: bool, is_accepted: bool
) -> None:
    rows.put("batch", batch_id=1, logical_date=NOW, channel="sms", share=1, planned_at=NOW)
    rows.put(
        "contact", contact_id=1, batch_id=1, account_id="clinic", channel="sms", zone="UTC", place=1, address_hash=HERE
    )
    rows.guard(is_uncontacted=was_uncontacted)
    for state in states:
        rows.attempt(state=state)
    rows.attempt(contact_id=2, state="failed" if is_accepted else "not_contacted", address_hash=ELSEWHERE)
    guards_on(rows)
    change = "UPDATE reminders.contact_guard SET is_uncontacted = true"
    if is_accepted:
        rows.owner.execute(change)
        return
    with pytest.raises(psycopg.errors.CheckViolation) as refused, rows.owner.transaction():
        rows.owner.execute(change)
    assert refused.value.diag.constraint_name == "guard_is_one_way"
