"""The ledger as the tasks see it: each method is one transaction, under the role that may do it.

`intend` and `record` alone need several, where a guard refuses one row of many. A time that a method needs is given as
`now` (timezone-aware); claims and numbers go by the ledger's own clock. Rows come back as dicts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from reminders.errors import ClaimLost, PreflightError
from reminders.store.guards import CONSTRAINTS, DELETABLE, DISPATCHER, PLANNER, ROLES, TRIGGERS, UNIQUE_INDEXES
from reminders.store.migrate import check_schema
from reminders.store.session import STAGE, Row, Session, again_after_deadlock, guard_of
from reminders.store.statements import statement

log = logging.getLogger(__name__)

MOST_STEPS = 20
REHEARSED = ("contacts", "people", "ceilings", "usual", "withheld")
# After so long people are reminded of a hold that nobody gave a time for.
REVIEW_IN = timedelta(hours=1)


class Ledger(Session):
    """The delivery ledger; its connection logs in as a member of the planner and dispatcher."""

    def check_schema(self) -> None:
        """Raise `SchemaError` unless the ledger has exactly this release's migrations."""
        with self.acting_as(PLANNER) as connection:
            check_schema(connection)

    def missing_guards(self) -> list[str]:
        """The names of guards that are absent or switched off; empty when sending is safe."""
        with self.acting_as(PLANNER):
            found = self.rows(
                "missing_guards",
                constraints=list(CONSTRAINTS),
                indexes=list(UNIQUE_INDEXES),
                triggers=list(TRIGGERS),
            )
        return sorted(row["guard"] for row in found)

    def excessive_rights(self) -> list[str]:
        """What the login and the roles may do though they must not, in words; empty when sending is safe."""
        with self.acting_as(PLANNER):
            found = self.rows(
                "excessive_rights", roles=list(ROLES), deletable=list(DELETABLE), acting=[PLANNER, DISPATCHER]
            )
        return sorted(row["excess"] for row in found)

    def changed_guards(self) -> list[str]:
        """What is not defined, or open to the same roles, as the migrations left it; empty when sending is safe."""
        with self.acting_as(PLANNER):
            present, recorded = (
                {(row["name"], row["fingerprint"]) for row in self.rows(name)}
                for name in ("guard_definitions", "recorded_definitions")
            )
        return sorted({name for name, _ in present ^ recorded})

    def identity(self) -> Row:
        """Which database this is: system_identifier, timeline, database_oid, all that tells it from another in one
        `identity`, reserved_to, secret_fingerprint, clock, and whether preflight looked at it last, `is_as_checked`."""
        with self.acting_as(PLANNER):
            return self.one("identity")

    def reserve_attempts(self, most: int, secret_fingerprint: str, identity: str) -> int:
        """Reserve `most` further attempt numbers and return the highest that may now be used.

        `identity` is the database's that was looked at: should it have become another since, that one sends nothing.
        """
        with self.acting_as(PLANNER, "reserve_attempts"):
            row = self.one("reserve_attempts", most=most, secret_fingerprint=secret_fingerprint, identity=identity)
        if not row:
            raise PreflightError("ledger_db: reminders.ledger_mark is empty, so the ledger was not migrated whole")
        return int(row["reserved_to"])

    def begin_recovery(self, why: str, known_to: int) -> None:
        """Hold everything: the ledger has forgotten attempts, whose numbers went up to `known_to`."""
        with self.acting_as(PLANNER, "begin_recovery"):
            self.one(
                "begin_recovery",
                why=why,
                placed_by="preflight",
                has_forgotten=True,
                missing_from=None,
                known_to=known_to,
            )

    def cadences(self) -> list[Row]:
        with self.acting_as(PLANNER):
            return self.rows("read_cadences")

    def hours(self) -> list[Row]:
        with self.acting_as(PLANNER):
            return self.rows("read_hours")

    def open_appointments(self, logical_date: datetime) -> list[str]:
        with self.acting_as(PLANNER):
            return [row["appointment_id"] for row in self.rows("open_appointments", logical_date=logical_date)]

    def last_cycle(self, logical_date: datetime) -> datetime | None:
        """The logical date of the cycle before this one; None when there was none within three days."""
        with self.acting_as(PLANNER):
            found: datetime | None = self.one("last_cycle", logical_date=logical_date)["logical_date"]
        return found

    def stage(
        self,
        logical_date: datetime,
        now: datetime,
        chunks: Iterable[tuple[Sequence[Sequence[Any]], Sequence[Sequence[Any]]]],
    ) -> int:
        """Replace what `logical_date` has staged by `chunks` of (appointment rows, rung rows); return how many came."""
        staged = 0
        with self.acting_as(PLANNER, STAGE):
            gone = [row["logical_date"] for row in self.rows("readings_to_unstage", logical_date=logical_date, now=now)]
            for name in ("unstage_rungs", "unstage_appointments"):
                self.connection.execute(statement(name), {"logical_dates": gone})
            for appointments, rungs in chunks:
                self._copy("copy_appointments", appointments)
                self._copy("copy_rungs", rungs)
                staged += len(appointments)
        return staged

    def _copy(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(statement(name)) as copy:
            for row in rows:
                copy.write_row(row)

    @again_after_deadlock
    def merge(self, logical_date: datetime, run_kind: str, has_own_date: bool, now: datetime) -> Row:
        """Bring the staged book into the ledger; returns counts: created, adopted, ended, books that `changed`, and
        attempts `rebuilt` that a recovery found.

        A book of which over a fifth is lost, cancelled, moved or without address ends nothing, and its account (or
        everything) is held until a person has looked. A backfill only adds and adopts.
        """
        with self.acting_as(PLANNER, "merge"):
            self.connection.execute(statement("lock_cycles"))
            self.connection.execute(
                statement("open_cycle"),
                {"logical_date": logical_date, "run_kind": run_kind, "has_own_date": has_own_date, "now": now},
            )
            is_backfill = run_kind == "backfill"
            changed = [] if is_backfill else self._changed_books(logical_date, now)
            for name in ("keep_merge_in_memory", "make_merge_source", "keep_stage_from_looping"):
                self.connection.execute(statement(name))
            self.connection.execute(
                statement("stage_merge"),
                {
                    "logical_date": logical_date,
                    "now": now,
                    "ends_nothing": is_backfill or "*" in changed,
                    "changed": changed,
                },
            )
            for name in ("analyze_merge", "let_merge_loop", "keep_merge_by_key", "keep_merge_from_sorting"):
                self.connection.execute(statement(name))
            merged = self.one("merge_ledger", logical_date=logical_date, now=now)
            rebuilt = self.one("rebuild", logical_date=logical_date, now=now)["rebuilt"]
        return {**merged, "changed": len(changed), "rebuilt": rebuilt}

    def _changed_books(self, logical_date: datetime, now: datetime) -> list[str]:
        on_hold = [row["account_id"] for row in self.rows("books_on_hold")]
        found = self.rows("changed_books", logical_date=logical_date)
        for row in found:
            self.connection.execute(
                statement("place_hold"),
                {
                    "review_at": now + REVIEW_IN,
                    "scope": "book",
                    "scope_value": row["account_id"],
                    "placed_by": "merge_ledger",
                    "why": f"of {row['expected']} appointments in the book {row['lost']} are gone, {row['cancelled']} "
                    f"cancelled, {row['moved']} moved, {row['without_address']} without address, all at once; nothing "
                    "was done about them",
                    "now": now,
                },
            )
        return sorted({*on_hold, *(row["account_id"] for row in found)})

    @again_after_deadlock
    def triage(self, logical_date: datetime, run_kind: str, now: datetime) -> Row:
        """Give every reminder that can still go out its disposition, then let the gate judge what is about to go.

        Returns counts: `settled` reminders changed, `held` ones the gate stopped (none for a backfill, which sends
        nothing), and the `groups` that took them in: `named` by account, step and age, `reminders`, `why`. A rung that
        ends here frees the one above it, so the dispositions are repeated for those.
        """
        settled, groups = 0, []
        with self.acting_as(PLANNER, "triage"):
            self.connection.execute(statement("lock_cycles"))
            waiting = self.one("waiting_reminders", logical_date=logical_date)["reminder_ids"]
            for _ in range(MOST_STEPS):
                if not waiting:
                    break
                found = self.one("triage", reminder_ids=waiting, now=now)
                settled += found["settled"]
                waiting = found["freed_ids"]
            if run_kind != "backfill":
                groups = self.rows("judge", logical_date=logical_date, now=now)
        return {"settled": settled, "held": sum(group["reminders"] for group in groups), "groups": groups}

    @again_after_deadlock
    def plan(self, logical_date: datetime, now: datetime, most: dict[str, int], batches: dict[str, int]) -> list[int]:
        """Bundle what is ready into contacts and a few batches; `most` contacts and `batches` for each channel."""
        channels = sorted(most)
        with self.acting_as(PLANNER, "plan"):
            self.connection.execute(statement("lock_cycles"))
            self.connection.execute(statement("keep_plan_from_looping"))
            planned = self.rows(
                "plan_contacts",
                logical_date=logical_date,
                now=now,
                channels=channels,
                most=[most[channel] for channel in channels],
                batches=[batches[channel] for channel in channels],
            )
        return [row["batch_id"] for row in planned]

    def wordings(self) -> list[Row]:
        with self.acting_as(DISPATCHER):
            return self.rows("read_wordings")

    def claim(self, batch_id: int, lasts: timedelta) -> Row:
        """Take a batch, for so long, from whichever task had it: its channel, share, claim and contact_ids.

        Raises `ClaimLost` when there is no such batch: the task is of a cycle that the ledger has forgotten.
        """
        with self.acting_as(DISPATCHER, "claim"):
            self.one("claim_batch", batch_id=batch_id, lasts=lasts)
            batch = self.one("read_batch", batch_id=batch_id)
        if not batch:
            raise ClaimLost(
                f"the ledger has no batch {batch_id}: it was restored, or is another one; the next cycle plans anew"
            )
        return batch

    @again_after_deadlock
    def intend(self, contact_ids: Sequence[int], claim: UUID, now: datetime, deadline_at: datetime) -> list[Row]:
        """Commit the intents of a group and return the rows that its contacts are worded from (see `read_contacts`).

        Only contacts that still qualify under locks are among them. A group that a guard refuses as a whole is
        retried contact by contact, so that one bad contact cannot stop the others; the log names its guard. Raises
        `ClaimLost` when another task has claimed their batch since, or the claim's time is over.
        """
        try:
            with self.acting_as(DISPATCHER, "intend"):
                attempts = self.rows(
                    "intend", contact_ids=list(contact_ids), claim=claim, now=now, deadline_at=deadline_at
                )
                return self.rows("read_contacts", attempt_ids=[row["attempt_id"] for row in attempts])
        except psycopg.errors.IntegrityError as error:
            if guard_of(error) == "batch_is_claimed":
                raise ClaimLost("another run of this task has taken its batch, or its time is over") from None
            if len(contact_ids) == 1:
                self._note_refusal(contact_ids[0], str(error))
                return []
        return [row for contact_id in contact_ids for row in self.intend([contact_id], claim, now, deadline_at)]

    def _note_refusal(self, contact_id: int, guard: str) -> None:
        log.warning("contact %d was refused: %s", contact_id, guard)
        with self.acting_as(DISPATCHER, "note_refusal"):
            self.connection.execute(statement("note_refusal"), {"contact_id": contact_id})

    def holds(self) -> list[Row]:
        with self.acting_as(DISPATCHER):
            return self.rows("read_holds")

    def record(self, outcomes: Sequence[Row], now: datetime) -> int:
        """Record outcomes: dicts of attempt_id, outcome, reason, code, provider_id, provider_status, not_before_at.

        Returns how many changed an attempt. A group that a guard refuses is recorded one by one, so that one bad answer
        does not cost the others theirs; an acceptance whose provider id is another attempt's is doubt.
        """
        try:
            return self._record(outcomes, now)
        except psycopg.errors.UniqueViolation:
            if len(outcomes) == 1:
                return self._record([{**outcomes[0], "outcome": "in_doubt", "provider_id": ""}], now)
        except psycopg.errors.IntegrityError:
            if len(outcomes) == 1:
                raise
        return self._record_one_by_one(outcomes, now)

    def _record_one_by_one(self, outcomes: Sequence[Row], now: datetime) -> int:
        recorded, refused = 0, None
        for row in outcomes:
            try:
                recorded += self.record([row], now)
            except psycopg.errors.IntegrityError as error:
                refused = error
        if refused is not None:
            raise refused
        return recorded

    @again_after_deadlock
    def _record(self, outcomes: Sequence[Row], now: datetime) -> int:
        if not outcomes:
            return 0
        with self.acting_as(DISPATCHER, "record"):
            return int(
                self.one(
                    "record_outcomes",
                    attempt_ids=[o["attempt_id"] for o in outcomes],
                    outcomes=[o["outcome"] for o in outcomes],
                    reasons=[o["reason"] for o in outcomes],
                    codes=[o["code"] for o in outcomes],
                    provider_ids=[o["provider_id"] for o in outcomes],
                    provider_statuses=[o["provider_status"] for o in outcomes],
                    not_before=[o["not_before_at"] for o in outcomes],
                    now=now,
                )["recorded"]
            )

    def close(self, logical_date: datetime, has_succeeded: bool, now: datetime) -> Row:
        """Write the cycle's row. Returns counts by channel and state, `breaches` of invariants, and `overdue`.

        The cycle is a good one when its run `has_succeeded` and no invariant is broken.
        """
        with self.acting_as(PLANNER, "close"):
            breaches = {row["breach"]: row["cases"] for row in self.rows("broken_invariants", now=now)}
            is_good = has_succeeded and not breaches
            closed = self.one("close_cycle", logical_date=logical_date, is_good=is_good, now=now)
            overdue = self.one("overdue", now=now)["overdue"]
        return {"counts": closed.get("counts", {}), "breaches": breaches, "overdue": overdue}

    def holds_to_review(self, now: datetime) -> list[Row]:
        """Holds whose review is due, the longest first: hold_id, scope, scope_value (ids only), overdue (timedelta)."""
        with self.acting_as(PLANNER):
            return self.rows("holds_to_review", now=now)

    def attempts(self, name: str, **values: Any) -> list[Row]:
        """The attempts that the named statement of 6_reconcile.sql selects."""
        with self.acting_as(DISPATCHER, name):
            return self.rows(name, **values)

    def rehearsed(self, logical_date: datetime, now: datetime) -> dict[str, list[Row]]:
        """What the cycle of `logical_date` has planned at `now`: contacts, people, what is usual, what is withheld."""
        with self.acting_as(PLANNER):
            return {
                name: self.rows(name, logical_date=logical_date, now=now)
                for name in (f"rehearsed_{what}" for what in REHEARSED)
            }

    def note_status(self, attempt_id: int, provider_status: str, now: datetime) -> None:
        """The provider said so of an accepted attempt, which has not ended; a status that is new is so since `now`."""
        with self.acting_as(DISPATCHER, "note_status"):
            self.connection.execute(
                statement("note_status"),
                {"attempt_id": attempt_id, "provider_status": provider_status, "now": now},
            )
