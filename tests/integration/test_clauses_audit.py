"""What the audit asks of the ledger, clause by clause: what breaks each promise, and what falls just short of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, TODAY, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
SINCE, AT = NOW - DAY, NOW - 3 * HOUR

P1_TWICE = "P1: an address was contacted twice about a slot and step"
P1_MADE_TWICE = "P1: a contact was made twice"
P1_UNGUARDED = "P1: a contact is unguarded"
P2_CALLS = "P2: two calls to a number at once"
P2_MINUTE = "P2: two contacts to an address within a minute"
P2_CAP = "P2: a day's cap counts less than was sent"
P2_CEILING = "P2: a day's ceiling counts less than was sent"
P3_USELESS = "P3: a contact when it was no longer useful"
P3_SILENCED = "P3: a contact to an address that had been silenced"
P3_CALL = "P3: a call though no lower rung had been tried"
P4_WAITS = "P4: a reminder still waits after its appointment began"
P4_DIFFERS = "P4: a reminder in flight and its attempt say different things"
P4_NO_END = "P4: an attempt without an end"
P5_HELD = "P5: a contact while it was held"

Act = Callable[[Rows], Any]


def do(statement: str) -> Act:
    return lambda rows: rows.owner.execute(statement.encode())


def put(table: str, **columns: Any) -> Act:
    return lambda rows: rows.put(table, **columns)


def guard(**columns: Any) -> Act:
    return lambda rows: rows.guard(**columns)


def attempt(contact_id: int = 2, **columns: Any) -> Act:
    """Another attempt, about no reminder."""
    made = {"contact_id": contact_id, "intended_at": AT + 10 * MINUTE, "state": "delivered", **columns}
    return lambda rows: rows.attempt(**made)


def reminder(appointment: str = "another", **columns: Any) -> Act:
    return lambda rows: rows.reminder(**{"appointment_id": appointment, **columns})


def hold(scope: str, value: str = "", **columns: Any) -> Act:
    return lambda rows: rows.hold(scope, value, **{"placed_at": AT - 3 * MINUTE, **columns})


def change(table: str, columns: str) -> Act:
    return do(f"UPDATE reminders.{table} SET {columns}")


def sound(rows: Rows) -> None:
    """A text that was sent three hours ago and delivered, with all that goes with it, and room for more."""
    rows.reminder(state="delivered", contact_id=1, sent_at=AT)
    rows.attempt(contact_id=1, intended_at=AT, state="delivered")
    rows.guard(contact_id=1)
    for address in (HERE, ELSEWHERE, MAILBOX):
        rows.put("address_cap", address_hash=address, period="day", starts_on=TODAY, contact_count=4, cap=9)
    for account in ("clinic", "vet"):
        for channel in ("email", "sms", "call"):
            rows.put("daily_ceiling", account_id=account, channel=channel, day=TODAY, contact_count=2, ceiling=9)


def text_is(columns: str) -> Act:
    return change("reminder", f"{columns} WHERE channel = 'sms'")


def silenced(**columns: Any) -> Act:
    silence = {"address_hash": HERE, "channel": "sms", "reason": "opted_out", "created_at": AT - 3 * MINUTE}
    return put("suppression", **{**silence, **columns})


def called(at: timedelta = 10 * MINUTE) -> list[Act]:
    """The text's visit has a call, which the ladder asks a lower rung for."""
    told = {"step": 3, "channel": "call", "state": "delivered", "contact_id": 2, "sent_at": AT + at}
    return [
        reminder("visit", **told),
        attempt(2, channel="call", intended_at=AT + at),
        guard(contact_id=2, step=3),
    ]


def waits(**columns: Any) -> Act:
    began = {"slot_at": NOW - HOUR - MINUTE, "due_at": NOW - 9 * HOUR, "expires_at": NOW - 2 * HOUR}
    return reminder(**{**began, **columns})


def judged(at: datetime = NOW - 30 * MINUTE, run_kind: str = "scheduled") -> Act:
    """A cycle that was judged then."""
    cycle = {"run_kind": run_kind, "has_own_date": True, "started_at": at, "judged_at": at}
    return lambda rows: rows.put("cycle", logical_date=at, **cycle)


def in_flight(state: str, attempts: str) -> list[Act]:
    """A reminder in this state, whose attempt is in that one; long enough ago to be near nothing else."""
    open_until = None if attempts in ("sending", "in_doubt", "accepted") else NOW
    told = {"state": state, "contact_id": 2, "sent_at": NOW - HOUR, "ended_at": None, "reason": None}
    return [
        reminder(**told),
        guard(contact_id=2, slot_at=VISIT, step=2, account_id="vet"),
        attempt(2, state=attempts, intended_at=NOW - HOUR, ended_at=open_until),
        change("reminder", "account_id = 'vet' WHERE appointment_id = 'another'"),
    ]


def endless(state: str, **columns: Any) -> list[Act]:
    """An attempt about nothing that is open since long."""
    return [attempt(state=state, ended_at=None, **columns)]


NO_TEXT = [do("DELETE FROM reminders.reminder"), do("DELETE FROM reminders.attempt")]
ANY_KEYS, ANY_ATTEMPTS = do("DROP INDEX reminders.contacted_once"), do("DROP INDEX reminders.contact_made_once")
CALL = {"channel": "call", "ended_at": AT + 20 * MINUTE}
NEXT_CALL = {"channel": "call", "contact_id": 3}
OF_THE_VET = {"address_hash": ELSEWHERE, "account_id": "vet"}
NO_MAILBOX = {"step": 1, "channel": "email", "state": "suppressed", "reason": "no_address", "address_hash": None}
NOT_TRIED = {"step": 1, "channel": "email", "state": "expired", "reason": "too_late"}
THREE_HOURS, TWO_DAYS = NOW - 3 * HOUR, NOW - 49 * HOUR

BROKEN: dict[str, tuple[Sequence[Act], str]] = {
    "a second key": ([ANY_KEYS, guard(contact_id=9)], P1_TWICE),
    "a second attempt": ([ANY_ATTEMPTS, attempt(1)], P1_MADE_TWICE),
    "no key": ([do("DELETE FROM reminders.contact_guard")], P1_UNGUARDED),
    "a key that was given back": ([change("contact_guard", "is_uncontacted = true")], P1_UNGUARDED),
    "another account's key": ([change("contact_guard", "account_id = 'vet'")], P1_UNGUARDED),
    "another address's key": ([change("contact_guard", "address_hash = '\\x09'")], P1_UNGUARDED),
    "another slot's key": ([change("contact_guard", "slot_at = slot_at + interval '1 hour'")], P1_UNGUARDED),
    "another step's key": ([change("contact_guard", "step = 3")], P1_UNGUARDED),
    "a call during another": ([attempt(**CALL), attempt(**NEXT_CALL, intended_at=AT + 15 * MINUTE)], P2_CALLS),
    "a call during an open one": (
        [attempt(channel="call", state="accepted", ended_at=None), attempt(**NEXT_CALL, intended_at=AT + 24 * MINUTE)],
        P2_CALLS,
    ),
    "less than a minute": ([attempt(intended_at=AT + MINUTE - SECOND)], P2_MINUTE),
    "no cap": ([do("DELETE FROM reminders.address_cap WHERE address_hash = '\\x01'")], P2_CAP),
    "a cap of a week": ([change("address_cap", "period = 'week'")], P2_CAP),
    "a cap of another day": ([change("address_cap", "starts_on = starts_on - 1")], P2_CAP),
    "a cap that counts less": ([attempt(), change("address_cap", "contact_count = 1")], P2_CAP),
    "no ceiling": ([do("DELETE FROM reminders.daily_ceiling WHERE account_id = 'clinic'")], P2_CEILING),
    "a ceiling of other channels": ([do("DELETE FROM reminders.daily_ceiling WHERE channel = 'sms'")], P2_CEILING),
    "a ceiling of another day": ([change("daily_ceiling", "day = day - 1")], P2_CEILING),
    "a ceiling that counts less": ([attempt(), change("daily_ceiling", "contact_count = 1")], P2_CEILING),
    "of no use any more": ([change("reminder", f"expires_at = '{AT}'")], P3_USELESS),
    "silenced": ([silenced()], P3_SILENCED),
    "silenced on every channel": ([silenced(channel="*")], P3_SILENCED),
    "a call before all": ([*NO_TEXT, *called()], P3_CALL),
    "a call before the text": ([*called(-HOUR)], P3_CALL),
    "a call after another account's text": (
        [*called(), text_is("account_id = 'vet'"), guard(contact_id=1, account_id="vet")], P3_CALL
    ),
    "a call after another visit's text": ([*called(), text_is("appointment_id = 'another'")], P3_CALL),
    "a call after another slot's text": (
        [*called(), text_is("slot_at = slot_at + interval '1 hour'"), guard(slot_at=VISIT + HOUR)], P3_CALL
    ),
    "a call after a higher rung": ([*called(), text_is("step = 4"), guard(contact_id=1, step=4)], P3_CALL),
    "a call after a text without number": (
        [*NO_TEXT, *called(), reminder("visit", **{**NO_MAILBOX, "channel": "sms"})], P3_CALL
    ),
    "a call after an email that was not tried": ([*NO_TEXT, *called(), reminder("visit", **NOT_TRIED)], P3_CALL),
    "one waits": ([waits(), judged()], P4_WAITS),
    "one is held": ([waits(state="held", deferred_for="on_hold"), judged()], P4_WAITS),
    "sending, says the reminder alone": (in_flight("sending", "delivered"), P4_DIFFERS),
    "in doubt, says the reminder alone": (in_flight("in_doubt", "delivered"), P4_DIFFERS),
    "accepted, says the reminder alone": (in_flight("accepted", "delivered"), P4_DIFFERS),
    "another's attempt is accepted": (
        [*in_flight("accepted", "delivered"), attempt(3, state="accepted", **OF_THE_VET)], P4_DIFFERS
    ),
    "sending for an hour": (endless("sending", intended_at=NOW - HOUR - MINUTE - SECOND), P4_NO_END),
    "in doubt for three": (endless("in_doubt", intended_at=THREE_HOURS - MINUTE), P4_NO_END),
    "accepted for two days": (endless("accepted", intended_at=TWO_DAYS - SECOND), P4_NO_END),
    "all is held": ([hold("all")], P5_HELD),
    "the channel is held": ([hold("channel", "sms")], P5_HELD),
    "the account is held": ([hold("account", "clinic")], P5_HELD),
    "held until well after it": ([hold("all", released_at=AT + 2 * MINUTE + SECOND)], P5_HELD),
    "an audit holds": ([hold("audit", "2026-02-10")], P5_HELD),
}  # fmt: skip

KEPT: dict[str, Sequence[Act]] = {
    "sound": [],
    "a second key that was given back": [ANY_KEYS, guard(contact_id=9, is_uncontacted=True)],
    "another account's key": [ANY_KEYS, guard(account_id="vet")],
    "another address's key": [ANY_KEYS, guard(address_hash=ELSEWHERE)],
    "another slot's key": [ANY_KEYS, guard(slot_at=VISIT + HOUR)],
    "another step's key": [ANY_KEYS, guard(step=3)],
    "a second try after one that declined": [ANY_ATTEMPTS, attempt(1, state="not_contacted")],
    "a second one that was put back": [ANY_ATTEMPTS, attempt(1, is_rebuilt=True)],
    "a second one of long ago": [ANY_ATTEMPTS, attempt(1, intended_at=SINCE - SECOND)],
    "a call after another": [attempt(**CALL), attempt(**NEXT_CALL, intended_at=AT + 20 * MINUTE)],
    "a call during another's": [
        attempt(**CALL), attempt(**NEXT_CALL, address_hash=ELSEWHERE, intended_at=AT + 15 * MINUTE)
    ],
    "a text during a call": [attempt(**CALL), attempt(3, intended_at=AT + 15 * MINUTE)],
    "a call after one whose proof came late": [
        attempt(channel="call", ended_at=NOW), attempt(**NEXT_CALL, intended_at=AT + 25 * MINUTE)
    ],
    "a minute": [attempt(intended_at=AT + MINUTE)],
    "another's within a minute": [attempt(address_hash=ELSEWHERE, intended_at=AT + SECOND)],
    "as many as the cap counts": [attempt(), change("address_cap", "contact_count = 2")],
    "each address's cap": [attempt(address_hash=ELSEWHERE), change("address_cap", "contact_count = 1")],
    "each account's and channel's ceiling": [
        attempt(account_id="vet"), attempt(3, channel="email", intended_at=AT + 20 * MINUTE, address_hash=MAILBOX),
        change("daily_ceiling", "contact_count = 1"),
    ],
    "of use a second longer": [change("reminder", f"expires_at = '{AT + SECOND}'")],
    "silenced just before": [silenced(created_at=AT - 2 * MINUTE)],
    "another was silenced": [silenced(address_hash=ELSEWHERE)],
    "another channel was silenced": [silenced(channel="call")],
    "a call after the text": called(),
    "a call after an email without mailbox": [*NO_TEXT, *called(), reminder("visit", **NO_MAILBOX)],
    "a call that begins the ladder": [*NO_TEXT, *called(), change("reminder", "has_lower_rung = false")],
    "a text before all": [change("reminder", "has_lower_rung = true")],
    "one waits for an hour": [waits(slot_at=NOW - HOUR), judged()],
    "one has ended": [waits(state="expired"), judged()],
    "one waits, and no cycle has run since": [waits(), judged(NOW - 3 * HOUR)],
    "one waits, and only a backfill has run since": [waits(), judged(run_kind="backfill")],
    "sending, say both": in_flight("sending", "sending"),
    "in doubt, say both": in_flight("in_doubt", "in_doubt"),
    "accepted, say both": in_flight("accepted", "accepted"),
    "sending for less": endless("sending", intended_at=NOW - HOUR - MINUTE),
    "in doubt for less": endless("in_doubt", intended_at=THREE_HOURS + 10 * MINUTE),
    "accepted for less": endless("accepted", intended_at=TWO_DAYS),
    "the call channel is held": [hold("channel", "call")],
    "another account is held": [hold("account", "vet")],
    "a cycle is held": [hold("cycle", str(NOW))],
    "held just before": [hold("all", placed_at=AT - 2 * MINUTE)],
    "released by then, as far as two clocks can tell": [hold("all", released_at=AT + 2 * MINUTE)],
}  # fmt: skip


@pytest.mark.parametrize(("acts", "breach"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_a_promise_is_told(rows: Rows, acts: Sequence[Act], breach: str) -> None:
    assert breaches(rows, acts) == {breach: 1}


@pytest.mark.parametrize("acts", KEPT.values(), ids=KEPT)
def test_what_keeps_every_promise_is_not_told(rows: Rows, acts: Sequence[Act]) -> None:
    assert breaches(rows, acts) == {}


def breaches(rows: Rows, acts: Sequence[Act]) -> dict[str, int]:
    sound(rows)
    for act in acts:
        act(rows)
    return {row["breach"]: row["cases"] for row in rows.run("broken_promises", since=SINCE, now=NOW)}


@pytest.mark.parametrize(
    ("changed", "is_of_the_day"),
    [
        ({}, True),
        ({"intended_at": SINCE}, True),
        ({"intended_at": SINCE - SECOND}, False),
        ({"intended_at": NOW}, False),
        ({"channel": "email", "address_hash": MAILBOX}, False),
        ({"provider_id": None}, False),
    ],
)
def test_the_attempts_of_a_day_are_those_that_the_provider_took(
    rows: Rows, changed: dict[str, Any], is_of_the_day: bool
) -> None:
    number = rows.attempt(**{"provider_id": "SM1", "state": "delivered", "intended_at": AT, **changed})
    found = [row["attempt_id"] for row in rows.run("attempts_of_day", from_at=SINCE, until_at=NOW)]
    assert found == ([number] if is_of_the_day else [])
