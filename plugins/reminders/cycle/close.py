"""The end of a cycle: its row, the invariants, and the holds at which a person should look."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from reminders.store.ledger import Ledger
from reminders.store.session import Row

log = logging.getLogger(__name__)

MOST_NAMED = 20


def close(ledger: Ledger, logical_date: datetime, has_succeeded: bool, now: datetime) -> Row:
    """Write the cycle's row and remind of holds that are due for review; none is ever released here.

    Returns what `Ledger.close` does, and `holds_to_review`, how many there are.
    """
    closed = ledger.close(logical_date, has_succeeded, now)
    due = ledger.holds_to_review(now)
    if due:
        more = f", and {len(due) - MOST_NAMED} more" if len(due) > MOST_NAMED else ""
        log.warning("holds to review: %s%s", ", ".join(named(hold) for hold in due[:MOST_NAMED]), more)
    return {**closed, "holds_to_review": len(due)}


def named(hold: Row) -> str:
    """A hold by its number and what it stops, with how long its review is overdue, to the second."""
    scope = f"{hold['scope']} {hold['scope_value']}".rstrip()
    overdue = timedelta(seconds=int(hold["overdue"].total_seconds()))
    return f"{hold['hold_id']} ({scope}) overdue by {overdue}"
