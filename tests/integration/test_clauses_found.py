"""Whom a contact that a recovery found can have been for, and of whom it is certain, clause by clause."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

import pytest

from reminders.model import Hours
from reminders.policy import longest_shift
from tests.integration.losses import CONTACTED_AT, DUE_AT, FORGOTTEN_FROM, FORGOTTEN_UNTIL, found, lost
from tests.integration.rows import ELSEWHERE, MAILBOX, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

MAY_HAVE_BEEN = "SELECT reminders.may_have_been_contacted(r, %(since)s) FROM reminders.reminder r"
LISTED = "SELECT reminders.rebuild_listed('{}')"
TOLD = "SELECT state, reason FROM reminders.reminder WHERE reminder_id = %(reminder_id)s"

Changes = dict[str, Any]


# Which reminders a contact can be of


@pytest.mark.parametrize(
    ("due_at", "expires_at", "could_be"),
    [
        (NOW + 5 * MINUTE, NOW + HOUR, True),
        (NOW + 5 * MINUTE + timedelta(seconds=1), NOW + HOUR, False),
        (NOW - HOUR, NOW + timedelta(seconds=1), True),
        (NOW - HOUR, NOW, False),
    ],
)
def test_a_contact_can_be_of_what_was_due_and_of_use(
    rows: Rows, due_at: datetime, expires_at: datetime, could_be: bool
) -> None:
    asked = "SELECT reminders.could_be_of(%(due_at)s, %(expires_at)s, %(now)s)"
    assert rows.ask(asked, due_at=due_at, expires_at=expires_at, now=NOW) == [(could_be,)]


EARLIEST = "SELECT reminders.earliest_due(%(account)s, %(step)s::smallint, %(channel)s, %(slot)s)"
COULD_HAVE_BEEN = "SELECT reminders.could_have_been_of('clinic', 2::smallint, 'sms', %(slot)s, %(at)s)"
OWN_LADDER = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('vet', 1, 'sms', '30 hours', '1 hour', '0'), ('vet', 3, 'call', '6 hours', '1 hour', '0')
"""
ONE_DAY_OPEN = Hours(opens=time(9), closes=time(20), days=frozenset({1}))
SHIFTS = {"email": timedelta(0), "sms": longest_shift(None), "call": longest_shift(ONE_DAY_OPEN)}


@pytest.mark.parametrize(
    ("account", "step", "channel", "lead"),
    [
        ("clinic", 1, "email", 72), ("clinic", 2, "sms", 24), ("clinic", 3, "call", 4), ("vet", 1, "sms", 30),
        ("vet", 3, "call", 6), ("vet", 2, "sms", 30 * 24), ("clinic", 4, "email", 30 * 24),
    ],
)  # fmt: skip
def test_a_step_can_have_been_due_as_early_as_its_ladder_and_the_hours_of_anybody_let_it(
    rows: Rows, account: str, step: int, channel: str, lead: int
) -> None:
    """The shift is the policy's own; a step that no ladder has may have had any lead."""
    rows.owner.execute(OWN_LADDER)
    [(earliest,)] = rows.ask(EARLIEST, account=account, step=step, channel=channel, slot=VISIT)
    assert earliest == VISIT - lead * HOUR - SHIFTS[channel]


@pytest.mark.parametrize(
    ("slot_at", "could_have_been"),
    [
        (NOW + timedelta(seconds=1), True), (NOW, False), (NOW + 72 * HOUR + 5 * MINUTE, True),
        (NOW + 72 * HOUR + 6 * MINUTE, False),
    ],
)  # fmt: skip
def test_a_contact_can_have_been_of_what_can_have_been_due_and_had_not_begun(
    rows: Rows, slot_at: datetime, could_have_been: bool
) -> None:
    assert rows.ask(COULD_HAVE_BEEN, slot=slot_at, at=NOW) == [(could_have_been,)]


@pytest.mark.parametrize(
    ("reminder", "may_have"),
    [
        ({"state": "pending"}, True),
        ({"state": "held"}, True),
        ({"state": "sending"}, False),
        ({"state": "accepted"}, False),
        ({"state": "expired", "ended_at": FORGOTTEN_FROM + MINUTE}, True),
        ({"state": "expired", "ended_at": FORGOTTEN_FROM}, False),
        ({"state": "delivered", "ended_at": FORGOTTEN_FROM + MINUTE}, False),
    ],
)
def test_what_waits_or_ended_untold_since_may_have_been_contacted(
    rows: Rows, reminder: Changes, may_have: bool
) -> None:
    rows.reminder(**reminder)
    assert [row[0] or False for row in rows.ask(MAY_HAVE_BEEN, since=FORGOTTEN_FROM)] == [may_have]


# What is put back for a found contact

CERTAIN, UNCERTAIN = ("accepted", None), ("unknown", "forgotten")
CALL: Changes = {"channel": "call", "provider_id": "CA2", "state": "accepted", "contact_id": 7}
BESIDE = {
    "nothing": ("sms", None, CERTAIN),
    "an open call, and a call was found": ("call", CALL, UNCERTAIN),
    "an open call, and a text was found": ("sms", CALL, CERTAIN),
    "an open call to another": ("call", {**CALL, "address_hash": ELSEWHERE}, CERTAIN),
    "a call that has ended": ("call", {**CALL, "state": "delivered"}, CERTAIN),
    "an open text": ("call", {**CALL, "channel": "sms"}, CERTAIN),
}


@pytest.mark.parametrize(("channel", "attempt", "told"), BESIDE.values(), ids=BESIDE)
def test_a_line_with_an_open_call_gets_no_second_one_back(
    rows: Rows, channel: str, attempt: Changes | None, told: tuple[str, str | None]
) -> None:
    found(rows, lost(rows), channel=channel)
    reminder_id = rows.reminder(channel=channel, due_at=DUE_AT)
    if attempt is not None:
        # Of a time that no doubt of that contact's can be of.
        rows.attempt(**{"intended_at": NOW - 24 * HOUR, **attempt})
    assert rows.ask(LISTED) == [(1,)]
    assert rows.ask(TOLD, reminder_id=reminder_id) == [told]


LATER = CONTACTED_AT + 30 * MINUTE
TWO_TEXTS = {"SM1": CONTACTED_AT, "SM2": LATER}
ANOTHER = {"appointment_id": "another", "slot_at": VISIT + HOUR}
FITS: dict[str, tuple[dict[str, datetime], dict[str, Changes], dict[str, tuple[Any, ...]]]] = {
    "one, within its window": ({"SM1": LATER}, {"visit": {}}, {"visit": (*CERTAIN, LATER)}),
    "one, before its window": ({"SM1": LATER}, {"visit": {"due_at": NOW}}, {"visit": (*UNCERTAIN, LATER)}),
    "one, after its window": ({"SM1": LATER}, {"visit": {"expires_at": LATER}}, {"visit": (*UNCERTAIN, LATER)}),
    "none": ({"SM1": LATER}, {"visit": {"slot_at": LATER, "expires_at": LATER}}, {"visit": ("pending", None, None)}),
    "one within its window, and another that was moved": (
        {"SM1": LATER},
        {"visit": {}, "another": {**ANOTHER, "due_at": NOW}},
        {"visit": (*UNCERTAIN, LATER), "another": (*UNCERTAIN, LATER)},
    ),
    "of two texts the one within its window": (
        TWO_TEXTS,
        {"visit": {"due_at": LATER}},
        {"visit": (*UNCERTAIN, LATER)},
    ),
    "two texts, of which one fits another reminder too": (
        TWO_TEXTS,
        {"visit": {}, "another": {**ANOTHER, "slot_at": LATER + 72 * HOUR, "due_at": LATER}},
        {"visit": (*UNCERTAIN, CONTACTED_AT), "another": (*UNCERTAIN, LATER)},
    ),
}


@pytest.mark.parametrize(("texts", "reminders", "told"), FITS.values(), ids=FITS)
def test_only_a_text_within_the_window_of_one_reminder_and_of_no_other_is_certain(
    rows: Rows,
    texts: dict[str, datetime],
    reminders: dict[str, Changes],
    told: dict[str, tuple[Any, ...]],
) -> None:
    recovery_id = lost(rows)
    for provider_id, at in texts.items():
        found(rows, recovery_id, provider_id=provider_id, contacted_at=at)
    for changed in reminders.values():
        rows.reminder(**{"due_at": DUE_AT, **changed})
    rows.ask(LISTED)
    states = rows.ask("SELECT appointment_id, state, reason, sent_at FROM reminders.reminder")
    assert {name: tuple(rest) for name, *rest in states} == told


def test_only_the_contact_that_was_put_back_is_noted_as_put_back(rows: Rows) -> None:
    recovery_id = lost(rows)
    found(rows, recovery_id)
    found(rows, recovery_id, channel="call")
    found(rows, recovery_id, provider_id="SM2", address_hash=ELSEWHERE)
    rows.reminder(due_at=DUE_AT)
    assert rows.ask(LISTED) == [(1,)]
    assert rows.ask("SELECT channel, provider_id FROM reminders.found_contact WHERE is_rebuilt") == [("sms", "SM1")]


# Emails, of which there is no list

EMAILS = "SELECT reminders.rebuild_emails()"
SOON = FORGOTTEN_UNTIL + 72 * HOUR
MAY_HAVE_GONE: dict[str, tuple[Changes, Changes, bool]] = {
    "due in what is forgotten": ({}, {}, True),
    "due after it by now": ({"due_at": NOW}, {}, True),
    "due after it at the earliest": ({"slot_at": SOON + MINUTE}, {}, False),
    "due at its end at the earliest": ({"slot_at": SOON}, {}, True),
    "the notice of a cancellation": ({"slot_at": SOON + MINUTE, "step": 0}, {}, True),
    "a text that was turned down": ({"slot_at": SOON, "step": 2, "turned_down_from": "sms"}, {}, True),
    "a text's step by email": ({"slot_at": SOON, "step": 2}, {}, False),
    "of no use any more": ({"due_at": FORGOTTEN_FROM - HOUR, "expires_at": FORGOTTEN_FROM}, {}, False),
    "on its way": ({"state": "sending"}, {}, False),
    "without an address": ({"address_hash": None}, {}, False),
    "a text": ({"channel": "sms"}, {}, False),
    "nothing is forgotten": ({}, {"forgotten_until": None}, False),
    "a cycle has gone by the list": ({}, {"taken_at": NOW}, False),
}


@pytest.mark.parametrize(("reminder", "recovery", "counts"), MAY_HAVE_GONE.values(), ids=MAY_HAVE_GONE)
def test_an_email_that_may_have_gone_counts_as_contacted(
    rows: Rows, reminder: Changes, recovery: Changes, counts: bool
) -> None:
    lost(rows, **recovery)
    email = {"step": 1, "channel": "email", "address_hash": MAILBOX, "due_at": DUE_AT, **reminder}
    reminder_id = rows.reminder(**email)
    assert rows.ask(EMAILS) == [(int(counts),)]
    [told] = rows.ask(TOLD, reminder_id=reminder_id)
    assert (told == UNCERTAIN) is counts
