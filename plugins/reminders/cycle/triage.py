"""Give each reminder its disposition, and tell what the gate has held."""

from __future__ import annotations

import logging
from datetime import datetime

from reminders.store.ledger import Ledger

log = logging.getLogger(__name__)


def triage(ledger: Ledger, logical_date: datetime, run_kind: str, now: datetime) -> dict[str, int]:
    """Triage the cycle of `logical_date` and return its counts: `settled` and `held`, as `Ledger.triage` does.

    The log names each group that took in reminders, how many and why, in ids and figures of the gate's own: never the
    words of a person.
    """
    triaged = ledger.triage(logical_date, run_kind, now)
    for group in triaged["groups"]:
        log.warning("held for a person: %d reminders of %s: %s", group["reminders"], group["named"], group["why"])
    return {"settled": triaged["settled"], "held": triaged["held"]}
