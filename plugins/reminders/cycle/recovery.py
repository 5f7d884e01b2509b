"""What the ledger has forgotten, or never knew, is taken from the provider's list, before a person lets anything go."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from reminders.addresses import key, mask, normalise_phone, secret_fingerprint
from reminders.cycle.doubts import LIST_SETTLES_IN, ListOf, missing_of
from reminders.cycle.preflight import check_secret
from reminders.failpoints import reached
from reminders.model import Channel, Listed
from reminders.store.evidence import Evidence
from reminders.store.session import Row

log = logging.getLogger(__name__)

# What the ledger knows already is skipped, so that more costs nothing.
CLOCKS_MAY_DIFFER_BY = timedelta(hours=1)
LISTED_CHANNELS = (Channel.SMS, Channel.CALL)


def read_lists(list_of: ListOf, since: datetime) -> list[Listed]:
    """Every text and call that the provider took from our senders since then. Raises a leaf of `SendError`."""
    listed: list[Listed] = []
    for channel in LISTED_CHANNELS:
        reached("list", "before")
        listed.extend(list_of(channel, since, None))
        reached("list", "answered")
    return listed


def recover(evidence: Evidence, list_of: ListOf, secret: bytes, now: datetime) -> dict[str, int]:
    """Read the provider's list for the open recovery, when it is settled; the next cycle goes by what it has.

    It proves no doubt: what is found may be what was forgotten (`doubts.matches`).

    Returns how many lists are still to be read (0 or 1), and how many contacts were found. Raises a leaf of `SendError`
    when the list cannot be read to its end, and `PreflightError` when `secret` is not the key of the ledger's own
    addresses: it is read again the next time, and nothing is released before.
    """
    lost = evidence.recovery()
    if not lost:
        return {"lists_to_read": 0, "found": 0}
    if now < lost["begun_at"] + LIST_SETTLES_IN:
        return {"lists_to_read": 1, "found": 0}
    check_secret(lost["secret_fingerprint"], secret_fingerprint(secret))
    missing = missing_of(evidence, read_lists(list_of, lost["missing_from"] - CLOCKS_MAY_DIFFER_BY))
    is_listed = evidence.note_found(lost, [as_found(each, secret) for each in missing])
    log.warning("recovery: the provider's list was read, %d contacts were missing from the ledger", len(missing))
    return {"lists_to_read": int(not is_listed), "found": len(missing)}


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
