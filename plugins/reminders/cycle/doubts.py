"""Doubt is resolved by proof alone: a report that carries our reference, or exactly one match in the provider's list.

A doubtful attempt is never made again. What stays without proof ends `unknown`, on a person's list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from reminders.cycle.dispatch import LEASE
from reminders.cycle.reconcile import Final, closing
from reminders.errors import SendError
from reminders.failpoints import reached
from reminders.model import Channel, Listed, Reported
from reminders.store.evidence import Evidence
from reminders.store.ledger import Ledger
from reminders.store.session import Row

log = logging.getLogger(__name__)

# Asked for one number's texts or calls since a time: all pages of them, or a `SendError`.
ListOf = Callable[[Channel, datetime, str | None], Sequence[Listed]]

# https://www.twilio.com/docs/glossary/what-is-a-sid: how the ids of texts and of calls begin.
ID_KINDS: dict[str | None, tuple[str, ...]] = {"sms": ("SM", "MM"), "call": ("CA",)}
# A run of reconcile_deliveries has two minutes: a report costs some milliseconds, a list a request or more.
MOST_EVENTS = 1_000
MOST_ASKED = 50
# The provider's list lags; the ledger refuses a recovery whose list was read sooner (list_is_settled).
LIST_SETTLES_IN = timedelta(minutes=10)
# Doubt lasts two hours (`attempts_without_proof`); what came to its end late is looked at still.
LOOKED_BACK = timedelta(hours=3)
# The provider's clock and ours, and its times to the second.
BEFORE_INTENT = timedelta(minutes=1)
AFTER_DEADLINE = timedelta(minutes=5)
# From an intent to a contact that can still be its own.
LONGEST_FIT = LEASE + AFTER_DEADLINE
# A report can overtake its contact's record; by then that was made, or its worker has died.
EVENT_MAY_PRECEDE_ITS_RECORD = timedelta(minutes=15)


def proof(attempt_id: int, each: Reported, final: Final) -> Row:
    """What the ledger records of a doubtful attempt whose contact the provider has."""
    outcome, reason = final(each.channel, each.status, each.code) or ("accepted", None)
    if outcome == "cancelled":
        # Only what was accepted can be cancelled: the poll, which is told the same, ends it.
        outcome, reason = "accepted", None
    return {**closing(attempt_id, outcome, reason, each.status, each.code), "provider_id": each.provider_id}


def fits(doubt: Row, each: Listed) -> bool:
    """Whether the contact can be the doubtful attempt's, by channel, address and time."""
    return (
        doubt["channel"] == each.channel.value
        and doubt["address"] == each.address
        and doubt["intended_at"] - BEFORE_INTENT <= each.created_at <= doubt["deadline_at"] + AFTER_DEADLINE
    )


def matches(doubts: Sequence[Row], listed: Sequence[Listed]) -> dict[int, Listed]:
    """By attempt, the one contact that fits it and no other doubt; `listed` is what no attempt of the ledger's has.

    Nothing of a time that the ledger may have forgotten: the contact could be one that it does not know.
    """
    found = {}
    for doubt in doubts:
        fitting = [each for each in listed if fits(doubt, each)]
        if doubt["is_provable"] and len(fitting) == 1 and sum(fits(other, fitting[0]) for other in doubts) == 1:
            found[doubt["attempt_id"]] = fitting[0]
    return found


def missing_of(evidence: Evidence, listed: Sequence[Listed]) -> list[Listed]:
    """Those of the provider's texts and calls that the ledger does not have."""
    missing = {
        channel: evidence.missing(channel, [each.provider_id for each in listed if each.channel is channel])
        for channel in {each.channel for each in listed}
    }
    return [each for each in listed if each.provider_id in missing[each.channel]]


def look_up(ledger: Ledger, evidence: Evidence, list_of: ListOf, final: Final, now: datetime) -> dict[str, int]:
    """Look up in the provider's list what is in doubt for long enough: how many were looked up, proved, unreadable."""
    counts = {"looked_up": 0, "proved": 0, "unreadable_lists": 0}
    doubts = evidence.doubtful(now - LOOKED_BACK)
    ripe = [row for row in doubts if row["state"] == "in_doubt" and row["deadline_at"] + LIST_SETTLES_IN <= now]
    ripe = ripe[:MOST_ASKED]
    if ripe:
        evidence.note_looked_up([row["attempt_id"] for row in ripe], now)
    for doubt in ripe:
        counts["looked_up"] += 1
        try:
            reached("list", "before")
            listed = list_of(Channel(doubt["channel"]), doubt["intended_at"] - BEFORE_INTENT, doubt["address"])
            reached("list", "answered")
        except SendError:
            counts["unreadable_lists"] += 1
            continue
        match = matches(doubts, missing_of(evidence, listed)).get(doubt["attempt_id"])
        if match is not None:
            counts["proved"] += ledger.record([proof(doubt["attempt_id"], match, final)], now)
    return counts


def apply_events(ledger: Ledger, evidence: Evidence, final: Final, now: datetime) -> dict[str, int]:
    """Apply the inbox's reports to their attempts; returns how many were applied, and how many tell of no attempt.

    A report with our reference about a contact that the ledger does not have, or has under another id of the
    provider's, shows that the ledger has forgotten it or that it was made twice: everything is held, and the provider's
    list read.
    """
    done, foreign = [], []
    for event in evidence.events(MOST_EVENTS):
        is_new = now - event["received_at"] < EVENT_MAY_PRECEDE_ITS_RECORD
        # A worker records what it was answered, or its deadline passes: then the report says what became of it.
        if event["state"] == "sending" or (event["attempt_id"] is None and is_new):
            continue
        done.append(event)
        if is_proof(event):
            ledger.record([proof(event["attempt_id"], reported(event), final)], now)
        elif is_foreign(event):
            foreign.append(event)
    if foreign:
        began = min(event["received_at"] for event in foreign)
        evidence.begin_recovery(
            f"the provider reports {len(foreign)} contacts with our reference that the ledger does not know",
            "resolve_doubts",
            began - LOOKED_BACK,
        )
        log.error("%d reports of contacts that the ledger does not know: everything is held", len(foreign))
    if done:
        evidence.note_applied(done, now)
    return {"applied": len(done) - len(foreign), "unknown_to_ledger": len(foreign)}


def is_proof(event: Row) -> bool:
    """Whether the event tells of its attempt's own contact, by an id of the kind that its channel has."""
    kinds = ID_KINDS.get(event["channel"], ())
    return event["known_id"] in (None, event["provider_id"]) and event["provider_id"].startswith(kinds)


def is_foreign(event: Row) -> bool:
    """Whether a contact with our reference is not the one that the ledger knows, and none that a recovery found."""
    is_another = event["attempt_id"] is None or event["known_id"] not in (None, event["provider_id"])
    is_a_contact = event["provider_id"].startswith(sum(ID_KINDS.values(), ()))
    return event["reference"] is not None and is_another and is_a_contact and not event["is_found"]


def reported(event: Row) -> Reported:
    """An event of the inbox, whose attempt is known, as the provider's word on its contact."""
    return Reported(Channel(event["channel"]), event["provider_id"], event["provider_status"], event["provider_code"])
