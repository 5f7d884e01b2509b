"""The kinds of faults, and how often each is drawn.

Each draws its point, channel and length from its history's seed, and says when it has struck and when it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.soak import processes, surroundings
from tests.soak.history import History

if TYPE_CHECKING:
    from tests.soak.season import Season

Kind = Callable[["Season", History], None]
# How often each is drawn.
KINDS: dict[Kind, int] = {
    processes.crash: 34,
    processes.crash_where_few_come: 4,
    processes.cut: 8,
    processes.pause: 10,
    processes.pause_in_transaction: 3,
    processes.twin: 8,
    processes.twin_dispatch: 4,
    processes.twin_reconcile: 4,
    processes.run_again: 8,
    processes.backfill: 3,
    surroundings.lie: 24,
    surroundings.many_doubts: 2,
    surroundings.outage: 8,
    surroundings.stuck_texts: 3,
    surroundings.long_calls: 2,
    surroundings.lost_callbacks: 1,
    surroundings.book_away: 5,
    surroundings.book_slips: 3,
    surroundings.ledger_away: 4,
    surroundings.restored_ledger: 2,
    processes.no_scheduler: 3,
    processes.broken_deploy: 2,
    processes.paused_dag: 2,
    surroundings.operator_hold: 4,
}
