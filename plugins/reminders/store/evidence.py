"""What the provider says of contacts, as the ledger takes it: the inbox, doubts, and recoveries from its list.

Each method is one transaction under the dispatcher's role; `now` is timezone-aware.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from reminders.model import Channel
from reminders.store.guards import DISPATCHER
from reminders.store.session import Row, Session
from reminders.store.statements import statement


class Evidence(Session):
    """The ledger's side of what the provider reports; its connection logs in as a member of the dispatcher."""

    def events(self, most: int) -> list[Row]:
        """Reports in the inbox that nobody has applied, the oldest first, each with the attempt that it is about.

        attempt_id, channel and known_id (the attempt's provider id) are None when the ledger has no such attempt;
        is_found: a recovery has found it.
        """
        with self.acting_as(DISPATCHER):
            return self.rows("events_to_apply", most=most)

    def note_applied(self, events: Sequence[Row], now: datetime) -> None:
        """These of `events` need not be looked at again."""
        with self.acting_as(DISPATCHER, "note_applied"):
            self.connection.execute(
                statement("note_applied"),
                {
                    "provider_ids": [event["provider_id"] for event in events],
                    "provider_statuses": [event["provider_status"] for event in events],
                    "now": now,
                },
            )

    def doubtful(self, since: datetime) -> list[Row]:
        """Texts and calls without a provider's id, the longest not looked up first: attempt_id, channel, address,
        state, intended_at, deadline_at, and whether the list can prove it, `is_provable`."""
        with self.acting_as(DISPATCHER):
            return self.rows("doubtful_attempts", since=since)

    def note_looked_up(self, attempt_ids: Sequence[int], now: datetime) -> None:
        """These were looked up in the provider's list now."""
        with self.acting_as(DISPATCHER, "note_looked_up"):
            self.connection.execute(statement("note_looked_up"), {"attempt_ids": list(attempt_ids), "now": now})

    def missing(self, channel: Channel, provider_ids: Collection[str]) -> set[str]:
        """Those of the provider's ids that the ledger does not have."""
        with self.acting_as(DISPATCHER):
            found = self.rows("missing_contacts", channel=channel.value, provider_ids=list(provider_ids))
        return {row["provider_id"] for row in found}

    def to_cancel(self) -> list[Row]:
        """Contacts that have not left the provider and that nobody needs any more: attempt_id, channel, provider_id."""
        with self.acting_as(DISPATCHER):
            return self.rows("attempts_to_cancel")

    def begin_recovery(self, why: str, placed_by: str, missing_from: datetime) -> None:
        """Hold everything: the provider knows of contacts since `missing_from` that the ledger does not know."""
        with self.acting_as(DISPATCHER, "begin_recovery"):
            self.one(
                "begin_recovery",
                why=why,
                placed_by=placed_by,
                has_forgotten=False,
                missing_from=missing_from,
                known_to=0,
            )

    def recovery(self) -> Row:
        """The recovery whose list is to be read: recovery_id, missing_from, begun_at, and the ledger's own
        secret_fingerprint; empty when there is none."""
        with self.acting_as(DISPATCHER):
            return self.one("open_recovery")

    def note_found(self, lost: Row, found: Sequence[Row]) -> bool:
        """Keep what the provider's complete list has and the ledger had not; the list of `lost` has been read.

        `lost` is what `recovery` returned. False when it was begun anew since: then the list is to be read again.
        """
        with self.acting_as(DISPATCHER, "note_found"):
            for row in found:
                self.connection.execute(statement("note_found"), {"recovery_id": lost["recovery_id"], **row})
            listed = self.one("note_listed", recovery_id=lost["recovery_id"], begun_at=lost["begun_at"])
        return bool(listed["is_listed"])
