"""A run of reconcile_deliveries, for tests that run the product without Airflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from reminders.channels.telephony import Twilio
from reminders.channels.twilio_codes import final_status
from reminders.cycle.doubts import apply_events, look_up
from reminders.cycle.reconcile import cancel_at_provider, close_dead, poll
from reminders.cycle.recovery import recover
from reminders.store.evidence import Evidence
from reminders.store.ledger import Ledger

Counts = dict[str, int]
Now = Callable[[], datetime]


def reconcile_tasks(ledger: Ledger, twilio: Twilio, secret: bytes, now: Now) -> dict[str, Callable[[], Counts]]:
    """The run's tasks by name, in their order: each does its work when it is called, and returns its counts."""
    evidence = Evidence(ledger.connection)

    def resolve_doubts() -> Counts:
        applied = apply_events(ledger, evidence, final_status, now())
        return {**applied, **look_up(ledger, evidence, twilio.listed, final_status, now())}

    def poll_accepted() -> Counts:
        cancelled = cancel_at_provider(evidence, twilio.cancel)
        return {**cancelled, **poll(ledger, twilio.status, final_status, now())}

    return {
        "close_dead_attempts": lambda: close_dead(ledger, now()),
        "resolve_doubts": resolve_doubts,
        "poll_accepted": poll_accepted,
        "recover_forgotten": lambda: recover(evidence, twilio.listed, secret, now()),
    }


def reconcile_deliveries(ledger: Ledger, twilio: Twilio, secret: bytes, now: Now) -> Counts:
    """One run, task after task; returns all their counts."""
    counts: Counts = {}
    for task in reconcile_tasks(ledger, twilio, secret, now).values():
        counts |= task()
    return counts
