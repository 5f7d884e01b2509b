"""Rows of a recovery that has read its list and that no cycle has gone by yet."""

from __future__ import annotations

from typing import Any

from tests.integration.rows import HERE, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

FORGOTTEN_FROM, FORGOTTEN_UNTIL = NOW - 3 * HOUR, NOW - HOUR
CONTACTED_AT = NOW - 2 * HOUR
DUE_AT, EXPIRES_AT = NOW - 150 * MINUTE, VISIT - 2 * HOUR
BEGUN_AT, LISTED_AT = NOW - 50 * MINUTE, NOW - 30 * MINUTE


def lost(rows: Rows, **changed: Any) -> int:
    """A recovery whose list was read and that no cycle has taken over."""
    times = {"missing_from": FORGOTTEN_FROM, "forgotten_until": FORGOTTEN_UNTIL, "begun_at": BEGUN_AT}
    number = rows.put("recovery", **{"hold_id": 1, "why": "a loss", "listed_at": LISTED_AT, **times, **changed})
    assert number is not None
    return number


def found(rows: Rows, recovery_id: int, **changed: Any) -> None:
    """A text to this address that only the provider knew."""
    columns = {"channel": "sms", "provider_id": "SM1", "address_hash": HERE, "address_masked": "", **changed}
    at = {"contacted_at": CONTACTED_AT, "provider_status": "sent", "recovery_id": recovery_id}
    rows.put("found_contact", **{**at, **columns})
