"""Give each reminder its verdict, and tell what the gate has held."""

from __future__ import annotations

import logging
from datetime import datetime

from reminders.store.ledger import Ledger, Row

log = logging.getLogger(__name__)


def triage(ledger: Ledger, logical_date: datetime, run_kind: str, now: datetime) -> Row:
    """Triage the cycle of `logical_date` and return what `Ledger.triage` does.

    The log names each group that is newly held, with how many reminders it has and why, in ids and figures only; what
    joins one that is held already is only counted.
    """
    counts = ledger.triage(logical_date, run_kind, now)
    if counts["held"]:
        for group in ledger.groups_held(now):
            log.warning("held for a person: %d reminders of %s: %s", group["reminders"], group["named"], group["why"])
    return counts
