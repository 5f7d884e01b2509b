"""Peak memory of a task's process above its own idle state, for a small and for a large book."""

from __future__ import annotations

from dataclasses import dataclass

from reminders.model import Channel
from tests.bench.sending import GROUP, go, plan, read, start
from tests.bench.world import World


@dataclass(frozen=True, slots=True)
class Peak:
    """What a process of `rows` reminders needed at its peak, in MiB: `idle` before the work, `grown` by the work."""

    rows: int
    idle: float
    grown: float


def of_extract(world: World, rows: int) -> Peak:
    """Read and stage a book of `rows` appointments."""
    with world.ledger_database() as ledger, world.book_database(rows) as book:
        return _measured(rows, ledger.conninfo, ["extract"], book.server.conninfo(book.name))


def of_dispatch(world: World, rows: int) -> Peak:
    """Send one batch of `rows` emails."""
    with world.ledger_database() as ledger:
        (batch_id,) = plan(ledger, rows, Channel.EMAIL.value, 1)
        return _measured(rows, ledger.conninfo, ["send", str(batch_id), Channel.EMAIL.value, str(GROUP)])


def _measured(rows: int, conninfo: str, arguments: list[str], *further: str) -> Peak:
    child = start(conninfo, *arguments)
    idle = int(read(child))
    go(child)
    for line in further:
        assert child.stdin is not None
        child.stdin.write(line + "\n")
        child.stdin.flush()
    done = int(read(child))
    grown = int(read(child)) - idle
    child.wait()
    if done != rows:
        raise RuntimeError(f"{done} of {rows} were worked on")
    return Peak(rows, idle / 1024, grown / 1024)
