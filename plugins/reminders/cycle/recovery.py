"""What the ledger has forgotten, or never knew, is taken from the provider's list, before a person lets anything go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from reminders.addresses import key, mask, normalise_phone
from reminders.cycle.doubts import BEFORE_INTENT, LIST_SETTLES_IN, ListOf, matches, missing_of, proof
from reminders.cycle.reconcile import Final
from reminders.failpoints import reached
from reminders.model import Channel, Listed
from reminders.store.evidence import Evidence
from reminders.store.ledger import Ledger
from reminders.store.session import Row

log = logging.getLogger(__name__)

LISTED_CHANNELS = (Channel.SMS, Channel.CALL)


def read_lists(list_of: ListOf, since: datetime) -> list[Listed]:
    """Every text and call that the provider took from our senders since then. Raises a leaf of `SendError`."""
    listed: list[Listed] = []
    for channel in LISTED_CHANNELS:
        reached("list", "before")
        listed.extend(list_of(channel, since, None))
        reached("list", "answered")
    return listed


def resolved(ledger: Ledger, evidence: Evidence, listed: Sequence[Listed], final: Final, now: datetime) -> list[Listed]:
    """Record as proved the doubts that the list resolves; returns those of the list that the ledger still lacks."""
    missing = missing_of(evidence, listed)
    if not missing:
        return []
    doubts = evidence.doubtful(min(each.created_at for each in missing) - LIST_SETTLES_IN)
    found = matches(doubts, missing)
    # One at a time: of two proofs with one id the second is doubt still.
    for attempt_id, each in found.items():
        ledger.record([proof(attempt_id, each, final)], now)
    proved = {each.provider_id for each in found.values()}
    return [each for each in missing if each.provider_id not in proved]


def recover(
    ledger: Ledger, evidence: Evidence, list_of: ListOf, final: Final, secret: bytes, now: datetime
) -> dict[str, int]:
    """Read the provider's list for the open recovery, when it is settled; the next cycle goes by what it has.

    Returns how many recoveries are open, and how many contacts were found. Raises a leaf of `SendError` when the list
    cannot be read to its end: it is read again the next time, and nothing is released before.
    """
    lost = evidence.recovery()
    if not lost:
        return {"open": 0, "found": 0}
    if now < lost["begun_at"] + LIST_SETTLES_IN:
        return {"open": 1, "found": 0}
    listed = read_lists(list_of, lost["missing_from"] - BEFORE_INTENT)
    missing = resolved(ledger, evidence, listed, final, now)
    evidence.note_found(lost["recovery_id"], [as_found(each, secret) for each in missing], now)
    log.warning("recovery: the provider's list was read, %d contacts were missing from the ledger", len(missing))
    return {"open": 0, "found": len(missing)}


def as_found(each: Listed, secret: bytes) -> Row:
    """A contact of the provider's list as the ledger keeps it, with its address hashed and masked."""
    address = normalise_phone(each.address, None)
    is_number = address.problem is None
    return {
        "channel": each.channel.value,
        "provider_id": each.provider_id,
        # What is no number has no reminder either.
        "address_hash": key(address, secret) if is_number else b"",
        "address_masked": mask(address),
        "contacted_at": each.created_at,
        "provider_status": each.status,
    }
