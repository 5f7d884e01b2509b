"""Holds, as a person places and releases them: each method is one transaction under the operator's role.

What lets go (`release`, `drop`, `turn_down`) takes its turn with the cycles' merge, triage and plan, and with another
person who lets go: a person may wait as long as one of these takes, some seconds. A stop (`place`) waits for nobody.
Every time is the ledger's own: a person's machine may have any clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from reminders.errors import HoldError
from reminders.store.guards import OPERATOR
from reminders.store.session import Row, Session, again_after_deadlock
from reminders.store.statements import statement


@dataclass(frozen=True)
class LetGo:
    """What became of the reminders of the holds: `going` out, `dropped`. What had expired is in neither."""

    going: int
    dropped: int


class Holds(Session):
    """The holds of the ledger; its connection logs in as the operator."""

    def clock(self) -> datetime:
        """The time by the ledger's clock."""
        with self.acting_as(OPERATOR):
            return self._now()

    def in_force(self) -> list[Row]:
        """Every hold that nobody has released, the oldest first, with how many reminders it holds that are of use."""
        with self.acting_as(OPERATOR):
            return self.rows("holds_in_force", now=self._now())

    def recoveries(self) -> list[Row]:
        """The recoveries whose hold is in force: hold_id, why, missing_from, begun_at, listed_at, taken_at, found,
        rebuilt."""
        with self.acting_as(OPERATOR):
            return self.rows("recoveries_in_force")

    def doubts(self, since: datetime) -> list[Row]:
        """A row for each reminder whose contact since then is in doubt or unknown, the next appointment first."""
        with self.acting_as(OPERATOR):
            return self.rows("doubts", since=since)

    @again_after_deadlock
    def place(self, scope: str, value: str, who: str, why: str, review_in: timedelta) -> int:
        """Hold a scope at once and return the hold's id; `value` is its account, channel or logical date, or empty.

        Raises `HoldError` when one is in force already, or when the scope or its value make no sense.
        """
        wanted = {"scope": scope, "scope_value": value}
        try:
            with self.acting_as(OPERATOR, "place_hold"):
                now = self._now()
                placed = self.rows("place_hold", **wanted, placed_by=who, why=why, now=now, review_at=now + review_in)
                others = [] if placed else self.rows("hold_of_scope", **wanted)
        except psycopg.errors.CheckViolation as error:
            raise HoldError(f"no such scope: {scope} {value}".rstrip() + "; see --help") from error
        for other in others:
            raise HoldError(
                f"hold {other['hold_id']} of {other['placed_by']}, placed {other['placed_at']:%Y-%m-%d %H:%M %Z}, "
                "is in force there already"
            )
        if not placed:
            raise HoldError("a hold was released there at this moment: look at `holds`, and place it again")
        return int(placed[0]["hold_id"])

    def knows_account(self, account_id: str) -> bool:
        """Whether anything of the account was ever due."""
        with self.acting_as(OPERATOR):
            return bool(self.rows("account_seen", account_id=account_id))

    @again_after_deadlock
    def release(self, hold_ids: Sequence[int], who: str) -> LetGo:
        """Release the holds. What they held and is still useful goes out, nearest first, after a canary.

        Raises `HoldError`, and releases none, when one of them is unknown or released already.
        """
        with self.acting_as(OPERATOR, "release"):
            now = self._lock(hold_ids)
            going = self.rows("count_held", hold_ids=list(hold_ids), now=now)[0]["reminders"]
            self._release(hold_ids, who, now)
        return LetGo(going, 0)

    @again_after_deadlock
    def drop(self, hold_ids: Sequence[int], who: str) -> LetGo:
        """End what the groups hold as dropped, and release them. Raises `HoldError` as `release`, or for no group."""
        with self.acting_as(OPERATOR, "drop"):
            now = self._lock(hold_ids, are_groups=True)
            dropped = len(self.rows("drop_held", hold_ids=list(hold_ids), now=now))
            self._release(hold_ids, who, now)
        return LetGo(0, dropped)

    @again_after_deadlock
    def turn_down(self, hold_ids: Sequence[int], who: str) -> LetGo:
        """Turn what the groups hold down to email and release them; who has had an email of the slot gets none more.

        Raises `HoldError` as `drop`, and when the book's addresses are not at hand.
        """
        with self.acting_as(OPERATOR, "turn_down"):
            now = self._lock(hold_ids, are_groups=True)
            turned = self.rows("turn_down_held", hold_ids=list(hold_ids), now=now)[0]
            if turned["unread"]:
                raise HoldError(
                    "the book has not been read since the ledger's server came up: turn down after the next cycle; "
                    "nothing was changed"
                )
            self._release(hold_ids, who, now)
        return LetGo(turned["turned_down"], turned["dropped"])

    def _lock(self, hold_ids: Sequence[int], are_groups: bool = False) -> datetime:
        """Take the turn and the holds, and return the time from which on they are ours. Raises `HoldError`."""
        # The transaction's first: a statement that had begun before would not see what the others have done.
        self.connection.execute(statement("lock_cycles"))
        found = {row["hold_id"]: row for row in self.rows("lock_holds", hold_ids=list(hold_ids))}
        for hold_id in hold_ids:
            if hold_id not in found:
                raise HoldError(f"there is no hold {hold_id}: `holds` lists those in force")
            hold = found[hold_id]
            if hold["released_at"] is not None:
                raise HoldError(
                    f"hold {hold_id} was released by {hold['released_by']} at "
                    f"{hold['released_at']:%Y-%m-%d %H:%M %Z} already; nothing was changed"
                )
            if are_groups and hold["scope"] != "group":
                raise HoldError(
                    f"hold {hold_id} stops {hold['scope']} {hold['scope_value']}".rstrip()
                    + ", which is no group of overdue reminders: release it, or let what it holds expire"
                )
        return self._now()

    def _now(self) -> datetime:
        now: datetime = self.one("ledger_time")["now"]
        return now

    def _release(self, hold_ids: Sequence[int], who: str, now: datetime) -> None:
        try:
            self.rows("release_holds", hold_ids=list(hold_ids), who=who, now=now)
        except psycopg.errors.CheckViolation as error:
            if error.diag.constraint_name != "recovered_first":
                raise
            raise HoldError(
                "the ledger lacks contacts that the provider may know: reconcile_deliveries reads the provider's list "
                "ten minutes after the loss was noticed, then a cycle goes by it, once no book is on hold; release "
                "after that; nothing changed"
            ) from None
