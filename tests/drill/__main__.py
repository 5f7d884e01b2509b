"""`make replay`: re-enact the night, print the figures, write the chart."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.databases import SharedServer, TestDatabase, fill_ledger, remove_folder
from tests.drill import chart, figures
from tests.drill.book import Book, drill_book
from tests.drill.night import NIGHT, Run, Tell, run_predecessor, run_ringonce

CLIENTS, FEWEST, MOST = 600, 50, 2500
SEED = 13
WIDTH = 104
PREDECESSOR, RINGONCE = "The predecessor", "Ringonce"
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description="The night of the 13 hours, re-enacted.")
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"how many, {FEWEST} to {MOST} (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the book (%(default)s)")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of night.png and night.html (%(default)s)")
    given = parser.parse_args()
    if not FEWEST <= given.clients <= MOST:
        parser.error(f"--clients must be from {FEWEST} to {MOST}")
    return given


@contextmanager
def empty_ledger() -> Iterator[TestDatabase]:
    """A migrated ledger on a private server, which is stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ringonce-drill-") as place:
        Path(place).chmod(0o711)
        folder = Path(place) / "server"
        try:
            server = SharedServer(folder)
            with server.database(server.template("ledger_template", fill_ledger)) as database:
                yield database
        finally:
            remove_folder(folder)


def run_both(book: Book, console: Console) -> dict[str, Run]:
    """Both systems' runs, the predecessor's first, by the names that table and chart give them."""
    columns = (TextColumn("{task.description:16}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        with teller(progress, PREDECESSOR) as tell:
            runs = {PREDECESSOR: run_predecessor(book, NIGHT, tell)}
        with empty_ledger() as database, teller(progress, RINGONCE) as tell:
            runs[RINGONCE] = run_ringonce(database, book, NIGHT, tell)
    return runs


@contextmanager
def teller(progress: Progress, name: str) -> Iterator[Tell]:
    """A line of the progress, which goes by the virtual clock and stops at the end."""
    whole = (NIGHT.ends_at - NIGHT.starts_at).total_seconds()
    task = progress.add_task(name, total=whole, at="")

    def tell(now: datetime) -> None:
        progress.update(task, completed=(now - NIGHT.starts_at).total_seconds(), at=f"{now:%a %H:%M}")

    yield tell
    progress.update(task, completed=whole)


def shown(frame: pd.DataFrame, title: str) -> Table:
    """A frame of `figures.table` as it is printed."""
    printed = Table(title=title, caption=figures.MODEL, caption_justify="left")
    printed.add_column("")
    for period, system in frame.columns:
        printed.add_column(f"{period}\n{system}", justify="right")
    for label, row in frame.iterrows():
        printed.add_row(str(label), *(f"{value:,}" for value in row))
    return printed


def main() -> int:
    """0 when Ringonce kept its promises through the night."""
    given, started = options(), time.monotonic()
    # A file has no width of its own; a terminal that is narrower folds the words.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    runs = run_both(drill_book(given.clients, given.seed), console)
    columns = {("normal day", name): run.normal for name, run in runs.items()}
    columns |= {("night", name): run.night for name, run in runs.items()}
    title = f"{NIGHT.hours} hours without sending, {given.clients} clients, by the phone network's log"
    console.print(shown(figures.table(columns), title))
    written = chart.write(given.out, runs, NIGHT, given.clients)
    console.print(*written, f"{time.monotonic() - started:.0f} s", sep="\n")
    ringonce = runs[RINGONCE]
    broken = figures.broken_promises(ringonce.normal) | figures.broken_promises(ringonce.night) | ringonce.failures
    if broken:
        console.print(f"Ringonce broke its promises: {broken}", style="bold red")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
