"""MERGE of due rows into the ledger, against a plain INSERT of the same rows and against itself as the ledger grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reminders.store.guards import PLANNER
from reminders.store.ledger import Ledger
from reminders.store.statements import statement
from tests.bench.world import Database, World

DUE = 100_000
ROUNDS = 5
SOURCE = ("keep_merge_in_memory", "make_merge_source", "stage_merge", "analyze_merge")

PLAIN_INSERT = """
INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at,
    expires_at, wait, has_lower_rung, address_hash, address_masked, created_at)
SELECT account_id, appointment_id, slot_at, step, channel, %(logical_date)s, %(logical_date)s, due_at, expires_at, wait,
    has_lower_rung, address_hash, address_masked, %(now)s
FROM merge_source"""


@dataclass(frozen=True, slots=True)
class Merged:
    """Seconds for `DUE` new rows with `rows` in the ledger: the two statements, and all of `Ledger.merge`.

    Each is the least of some tries: what else the machine does only adds to them.
    """

    rows: int
    merge: float
    insert: float
    whole: float


def measure(world: World, sizes: Sequence[int], tell: Callable[[str], None]) -> list[Merged]:
    """Grow one ledger through `sizes` (ascending) and measure at each. Each try is rolled back and vacuumed away."""
    now = datetime.now(UTC)
    found: list[Merged] = []
    with world.ledger_database() as database:
        database.stage(DUE, "email", now)
        filled = 0
        for size in sizes:
            tell(f"MERGE into {size:,} ledger rows")
            database.fill(filled + 1, size, now)
            filled = size
            found.append(_at(database, size, now))
    return found


def _at(database: Database, rows: int, now: datetime) -> Merged:
    ledger = database.ledger()
    connection: Any = ledger.connection
    merges, inserts, wholes = [], [], []
    for _ in range(ROUNDS):
        inserts.append(_insert(ledger, now))
        database.owner.execute("VACUUM reminders.reminder")
        connection.took.clear()
        with connection.transaction(force_rollback=True):
            started = time.perf_counter()
            created = ledger.merge(now, "scheduled", True, now)["created"]
            wholes.append(time.perf_counter() - started)
        if created != DUE:
            raise RuntimeError(f"the MERGE created {created} of {DUE} reminders")
        merges.append(connection.took[statement("merge_ledger")])
        database.owner.execute("VACUUM reminders.reminder")
    connection.close()
    return Merged(rows, min(merges), min(inserts), min(wholes))


def _insert(ledger: Ledger, now: datetime) -> float:
    values = {"logical_date": now, "now": now, "ends_nothing": False, "changed": []}
    with ledger.connection.transaction(force_rollback=True), ledger.acting_as(PLANNER) as connection:
        for name in SOURCE:
            connection.execute(statement(name), values)
        started = time.perf_counter()
        connection.execute(PLAIN_INSERT, values)
        return time.perf_counter() - started
