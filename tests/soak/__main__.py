"""`make soak SEEDS=n`: n seasons on both cores, or one seed again with its trace."""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.databases import FOLDER_VARIABLE, SharedServer, claim_folder, fill_ledger, remove_folder
from tests.runs import record
from tests.soak.report import Report, counts, path_table, table
from tests.soak.running import begin, server_seconds, work

# Ten years, an hour on two cores.
SEEDS, DAYS = 365, 10
WORKERS = 2
WIDTH = 110
# Seasons, where there is no terminal to show a bar.
TOLD_EVERY = 10


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Seasons of faults on a virtual clock.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (%(default)s)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--days", type=int, default=DAYS, help="of each season (%(default)s)")
    parser.add_argument("--until", type=int, help="break each off after so many days")
    return parser.parse_args()


def run_all(seeds: list[int], days: int, until: int | None, console: Console) -> Report:
    """All seasons, two at a time; the CPU time is that of the workers and of the database server."""
    total = Report()
    server = SharedServer(Path(os.environ[FOLDER_VARIABLE]))
    server.template("ledger_template", fill_ledger)
    before = server_seconds(server)
    columns = (TextColumn("seasons"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with (
        ProcessPoolExecutor(min(WORKERS, len(seeds)), get_context("spawn"), begin) as pool,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
    ):
        task = progress.add_task("", total=len(seeds), told="")
        for done in as_completed([pool.submit(work, seed, days, until) for seed in seeds]):
            report = done.result()
            total.add(report)
            told = f"{total.days:,} days, {total.histories:,} fault histories, {len(total.failures)} failed"
            progress.update(task, advance=1, told=told)
            if not console.is_terminal and total.days % (TOLD_EVERY * days) == 0:
                console.print(told)
            for seed, trace in report.failures.items():
                console.print(f"seed {seed} failed: {again(seed, days)}", style="bold red")
                console.print(trace, highlight=False, markup=False)
    total.cpu_seconds += server_seconds(server) - before
    return total


def again(seed: int, days: int) -> str:
    """The command that replays a season."""
    return f"make soak SEED={seed}" if days == DAYS else f"python -m tests.soak --seed {seed} --days {days}"


def main() -> int:
    """0 when every promise was kept in every season."""
    given = options()
    seeds = [given.seed] if given.seed is not None else list(range(given.first, given.first + given.seeds))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    claim_folder()
    try:
        total = run_all(seeds, given.days, given.until, console)
    finally:
        remove_folder(Path(os.environ[FOLDER_VARIABLE]))
    console.print(path_table(total), table(total))
    record("soak", "seasons of random faults on a virtual clock (`tests/soak`)", counts(total))
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
