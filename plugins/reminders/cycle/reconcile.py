"""Find out how accepted attempts ended, cancel what nobody needs any more, and close those whose worker has died."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from reminders.errors import SendError
from reminders.failpoints import reached
from reminders.model import Channel
from reminders.store.evidence import Evidence
from reminders.store.ledger import Ledger
from reminders.store.session import Row

# Given a contact's channel and provider id: the provider's status and error code ("": none), or a `SendError`.
Status = Callable[[Channel, str], tuple[str, str]]
# Given the same, has the provider cancel the contact; a `SendError` when it does not.
Cancel = Callable[[Channel, str], None]
# Given a channel, a status and a code: the attempt's outcome and reason, or None while the contact has not ended.
Final = Callable[[Channel, str, str], tuple[str, str] | None]
MOST_POLLED = 500
SENT_COUNTS_AS_DELIVERED_AFTER = timedelta(hours=2)


def closing(attempt_id: int, outcome: str, reason: str | None, status: str = "", code: str = "") -> Row:
    """What `Ledger.record` takes to end an attempt so, or to put it into doubt; the provider's id stays."""
    return {
        "attempt_id": attempt_id,
        "outcome": outcome,
        "reason": reason,
        "code": code,
        "provider_id": "",
        "provider_status": status,
        "not_before_at": None,
    }


def poll(ledger: Ledger, status_of: Status, final: Final, now: datetime) -> dict[str, int]:
    """Ask the provider for the status of each accepted attempt; returns how many were asked, ended and unreadable."""
    counts = {"asked": 0, "ended": 0, "unreadable": 0}
    for attempt in ledger.attempts("attempts_to_poll", most=MOST_POLLED, now=now):
        counts["asked"] += 1
        channel = Channel(attempt["channel"])
        try:
            reached("status", "before")
            status, code = status_of(channel, attempt["provider_id"])
            reached("status", "answered")
        except SendError:
            counts["unreadable"] += 1
            continue
        ended = final(channel, status, code)
        unchanged = status == attempt["provider_status"]
        if (
            ended is None
            and status == "sent"
            and unchanged
            and (now - attempt["status_since_at"] >= SENT_COUNTS_AS_DELIVERED_AFTER)
        ):
            ended = ("delivered", "sent_unchanged")
        if ended is None:
            ledger.note_status(attempt["attempt_id"], status, now)
        else:
            counts["ended"] += ledger.record([closing(attempt["attempt_id"], *ended, status=status, code=code)], now)
    return counts


def close_dead(ledger: Ledger, now: datetime) -> dict[str, int]:
    """Move attempts past their deadline into doubt, and doubt without proof to unknown. Returns how many of each."""
    moved = {}
    for selection, outcome, reason in (
        ("attempts_past_deadline", "in_doubt", None),
        ("attempts_without_proof", "unknown", "no_proof"),
        ("attempts_without_final_status", "unknown", "no_final_status"),
    ):
        found = ledger.attempts(selection, now=now)
        moved[selection] = ledger.record([closing(row["attempt_id"], outcome, reason) for row in found], now)
    return moved


def cancel_at_provider(evidence: Evidence, cancel: Cancel) -> dict[str, int]:
    """Ask the provider to cancel what waits there and has been cancelled or moved in the book since.

    Returns how many were asked for, and how many it cancelled; the next poll sees what became of each.
    """
    counts = {"to_cancel": 0, "cancelled": 0}
    for attempt in evidence.to_cancel():
        counts["to_cancel"] += 1
        try:
            reached("cancel", "before")
            cancel(Channel(attempt["channel"]), attempt["provider_id"])
            reached("cancel", "answered")
        except SendError:
            # It has gone out meanwhile, or nobody can tell: the poll will.
            continue
        counts["cancelled"] += 1
    return counts
