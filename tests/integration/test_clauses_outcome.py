"""What is recorded of an attempt, counted for it and given back, clause by clause, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.databases import SharedServer
from tests.integration.rows import ELSEWHERE, HERE, MONDAY, NOW, TODAY, Rows, placed
from tests.integration.scene import HOUR, MINUTE

DAY, WEEK = timedelta(days=1), timedelta(days=7)
BEFORE = NOW - 10 * MINUTE
RECORD = """
SELECT reminders.record_outcomes(%(ids)s, %(outcomes)s, %(reasons)s, %(codes)s, %(providers)s, %(statuses)s,
                                 %(not_before)s, %(now)s)
"""
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


@pytest.fixture(scope="module")
def owner(shared_server: SharedServer) -> Iterator[psycopg.Connection[Any]]:
    with placed(shared_server) as connection:
        yield connection


@pytest.fixture
def rows(owner: psycopg.Connection[Any]) -> Iterator[Rows]:
    with owner.transaction(force_rollback=True):
        yield Rows(owner)


def guards_on(rows: Rows) -> None:
    rows.owner.execute("SET LOCAL session_replication_role = origin")


def sent(rows: Rows, state: str = "sending", contact: int = 1, **changed: Any) -> int:
    """A text that was sent ten minutes ago and is in this state, its reminder and its key. Returns its number."""
    rows.owner.execute("SET LOCAL session_replication_role = replica")
    columns = {"contact_id": contact, "intended_at": BEFORE, "state": state, "address_hash": HERE} | changed
    rows.put(
        "contact", contact_id=contact, batch_id=1, account_id="clinic", channel="sms", zone="UTC", place=1,
        address_hash=columns["address_hash"],
    )  # fmt: skip
    if state != "not_contacted":
        rows.reminder(
            appointment_id=f"visit {contact}", state=state, contact_id=contact, sent_at=BEFORE,
            address_hash=columns["address_hash"],
        )  # fmt: skip
    rows.guard(contact_id=contact, address_hash=columns["address_hash"], is_uncontacted=state == "not_contacted")
    return rows.attempt(**columns)


def record(rows: Rows, *outcomes: tuple[int, str, str | None], **changed: Any) -> int:
    """How many attempts it changed."""
    guards_on(rows)
    count = len(outcomes)
    values = {"code": "", "provider": "", "status": "", "not_before": None} | changed
    [(changed_attempts,)] = rows.ask(
        RECORD,
        ids=[each[0] for each in outcomes],
        outcomes=[each[1] for each in outcomes],
        reasons=[each[2] for each in outcomes],
        codes=[values["code"]] * count,
        providers=[values["provider"]] * count,
        statuses=[values["status"]] * count,
        not_before=[values["not_before"]] * count,
        now=NOW,
    )
    return int(changed_attempts)


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
    rows.owner.execute("UPDATE reminders.address_gap SET last_contact_at = %s WHERE address_hash = %s", [BEFORE, HERE])
    rows.owner.execute("UPDATE reminders.address_gap SET previous_contact_at = %s", [NOW - 9 * HOUR])
    record(rows, (number, "not_contacted", "rate_limited"))
    assert rows.ask("SELECT contact_id, is_uncontacted FROM reminders.contact_guard ORDER BY 1") == [
        (1, True), (2, False),
    ]  # fmt: skip
    assert rows.ask(LIMITS["address_gap"]) == [
        (HERE, NOW - 9 * HOUR, None), (ELSEWHERE, NOW - 5 * HOUR, NOW - 9 * HOUR),
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
