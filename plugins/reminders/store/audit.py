"""The ledger as the daily audit reads it, under the dispatcher's role; times are timezone-aware."""

from __future__ import annotations

from datetime import date, datetime

from reminders.store.guards import DISPATCHER
from reminders.store.ledger import REVIEW_IN
from reminders.store.session import Row, Session


class AuditedLedger(Session):
    """What the audit compares and asks; its connection logs in as a member of the dispatcher."""

    def attempts_of_day(self, from_at: datetime, until_at: datetime) -> list[Row]:
        """Texts and calls that the provider took in the time: attempt_id, channel, provider_id, state."""
        with self.acting_as(DISPATCHER):
            return self.rows("attempts_of_day", from_at=from_at, until_at=until_at)

    def broken_promises(self, since: datetime, now: datetime) -> dict[str, int]:
        """How many cases there are of each promise that was broken by what was sent since then; empty when none was."""
        with self.acting_as(DISPATCHER):
            return {row["breach"]: row["cases"] for row in self.rows("broken_promises", since=since, now=now)}

    def hold_everything(self, day: date, why: str, now: datetime) -> None:
        """Stop all contacts, for what the audit of that day found, until a person has looked.

        It is a hold of its own, beside a person's on everything and another day's; the same day's stays as it is.
        """
        with self.acting_as(DISPATCHER, "hold_everything"):
            self.rows(
                "place_hold",
                scope="audit",
                scope_value=f"{day:%Y-%m-%d}",
                placed_by="audit_ledger",
                why=why,
                now=now,
                review_at=now + REVIEW_IN,
            )
