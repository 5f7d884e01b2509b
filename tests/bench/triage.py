"""Triage of pending reminders, with the gate: that they may go, that they must wait, and that a backlog is held."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.bench.world import Database, World

PENDING = 100_000
ROUNDS = 3

# The gate lets pass as much as the bench plans, in every round.
WIDE_GATE = (
    "UPDATE reminders.gate_bound SET least_of_account = 1000, least_in_all = 10000, times_usual = 10",
    "INSERT INTO reminders.account_seen SELECT DISTINCT account_id, now() FROM reminders.reminder",
)
GOOD_CYCLE = "UPDATE reminders.cycle SET judged_at = started_at, is_good = true"
# The gate refuses another time than the ledger's.
STAND_STILL = (
    "DELETE FROM reminders.clock",
    "INSERT INTO reminders.clock (shift) VALUES (%(now)s - clock_timestamp())",
)
OVERDUE = "UPDATE reminders.reminder SET due_at = due_at - interval '13 hours' WHERE ended_at IS NULL"
# Each waits for its address's gap: every row is written.
GAPS = """
INSERT INTO reminders.address_gap (address_hash, last_contact_at, min_gap)
SELECT DISTINCT address_hash, %(now)s::timestamptz, interval '15 minutes'
FROM reminders.reminder WHERE ended_at IS NULL"""


@dataclass(frozen=True, slots=True)
class Triaged:
    """Seconds for `PENDING` reminders with `rows` ended ones in the ledger; each is the least of some tries."""

    rows: int
    ready: float
    deferred: float
    held: float


def measure(world: World, sizes: Sequence[int], tell: Callable[[str], None]) -> list[Triaged]:
    """Grow one ledger through `sizes` (ascending) and measure at each."""
    now = datetime.now(UTC)
    found: list[Triaged] = []
    with world.ledger_database() as database:
        database.lift_ceilings()
        database.stage(PENDING, "email", now)
        filled = 0
        for size in sizes:
            tell(f"triage beside {size:,} ledger rows")
            database.fill(filled + 1, size, now)
            if not filled:
                database.ledger().merge(now, "scheduled", True, now)
                for text in WIDE_GATE:
                    database.owner.execute(text)
            database.owner.execute("VACUUM ANALYZE")
            filled = size
            found.append(
                Triaged(
                    size,
                    least(database, now, "settled", 0, (GOOD_CYCLE,)),
                    least(database, now, "settled", PENDING, (GOOD_CYCLE, GAPS)),
                    least(database, now, "held", PENDING, (OVERDUE,)),
                )
            )
    return found


def least(database: Database, now: datetime, count: str, wanted: int, before: Sequence[str]) -> float:
    """The least time that triage takes after the statements `before`; `wanted` is what it counts as `count`. What a
    round does is undone."""
    took = []
    ledger = database.ledger()
    connection: Any = ledger.connection
    for _ in range(ROUNDS):
        undo = changed(database, before, now)
        started = time.perf_counter()
        with connection.transaction(force_rollback=True):
            found = ledger.triage(now, "scheduled", now)[count]
            took.append(time.perf_counter() - started)
        if found != wanted:
            raise RuntimeError(f"triage {count} {found} of {PENDING} reminders, not {wanted}")
        for text in undo:
            database.owner.execute(text)
        database.owner.execute("VACUUM ANALYZE")
    connection.close()
    return min(took)


def changed(database: Database, before: Sequence[str], now: datetime) -> Sequence[str]:
    """Execute the statements and return those that undo them."""
    undone = {
        GOOD_CYCLE: GOOD_CYCLE.replace("true", "false"),
        GAPS: "DELETE FROM reminders.address_gap",
        OVERDUE: OVERDUE.replace("due_at -", "due_at +"),
    }
    for text in (*STAND_STILL, *before):
        database.owner.execute(text, {"now": now})
    database.owner.execute("VACUUM ANALYZE")
    return [undone[text] for text in before]
