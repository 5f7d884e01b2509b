"""Give each reminder its verdict, and tell what the gate has held."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from reminders.store.ledger import Ledger

log = logging.getLogger(__name__)

Row = dict[str, Any]


def triage(ledger: Ledger, logical_date: datetime, run_kind: str, now: datetime) -> Row:
    """Triage the cycle of `logical_date` and return what `Ledger.triage` does.

    The log names each group that the gate has stopped, with how many reminders it has and why: ids and figures only.
    """
    counts = ledger.triage(logical_date, run_kind, now)
    if counts["held"]:
        for group in ledger.groups_held(now):
            log.warning("held for a person: %d reminders of %s: %s", group["reminders"], group["named"], group["why"])
    return counts
