"""Measure and print one table: `.venv/bin/python -m tests.bench [--full]`, with plugins/ on PYTHONPATH."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from reminders.model import Channel
from tests.bench import fanout, memory, merging, sending, triage
from tests.bench.world import World, world

Figure = tuple[str, str, str, str]
SENT = 20_000
WANTED_RATE = 3000
LIMIT = 20
MAPPED = 100
TRIAGE_SECONDS = 3
CYCLE_SECONDS = 300


def merge_figures(server: World, is_full: bool, console: Console) -> Iterable[Figure]:
    sizes = [50_000, 500_000, *([5_000_000] if is_full else [])]
    found = merging.measure(server, sizes, console.log)
    for at in found:
        yield (
            f"MERGE of {merging.DUE:,} due rows into {at.rows:,}: speed / plain INSERT's",
            f"{at.insert / at.merge:.2f}",
            "≥ 0.75",
            f"{at.merge:.2f} s; INSERT {at.insert:.2f} s; staged, analysed and merged {at.whole:.2f} s",
        )
    for at in found[1:]:
        yield (
            f"MERGE into {at.rows:,}: time / that into {found[0].rows:,}",
            f"{at.merge / found[0].merge:.2f}",
            "0.85 to 1.15",
            "",
        )


def triage_figures(server: World, is_full: bool, console: Console) -> Iterable[Figure]:
    found = triage.measure(server, [500_000, *([5_000_000] if is_full else [])], console.log)
    smallest = found[0]
    for at in found:
        for what, seconds, limit in (
            ("ready", at.ready, TRIAGE_SECONDS),
            ("that must wait", at.deferred, TRIAGE_SECONDS),
            ("overdue after an outage, held in groups", at.held, CYCLE_SECONDS),
        ):
            yield (
                f"triage of {triage.PENDING:,} {what}, {at.rows:,} in the ledger: seconds / {limit}",
                f"{seconds / limit:.2f}",
                "< 1.00",
                f"{seconds:.2f} s",
            )
    for at in found[1:]:
        for what, seconds, first in (
            ("ready", at.ready, smallest.ready),
            ("that must wait", at.deferred, smallest.deferred),
            ("held", at.held, smallest.held),
        ):
            yield (
                f"triage, {what}, {at.rows:,} in the ledger: time / that with {smallest.rows:,}",
                f"{seconds / first:.2f}",
                "0.85 to 1.15",
                "",
            )


def send_figures(server: World, console: Console) -> Iterable[Figure]:
    for channel, batches in ((Channel.EMAIL, 1), (Channel.EMAIL, 2), (Channel.SMS, 2)):
        console.log(f"dispatch: {channel} in {batches} batches")
        sent = sending.unlimited(server, SENT, channel, batches)
        yield (
            f"dispatch of {SENT:,} ({channel}) in {batches} at once: reminders a second / {WANTED_RATE:,}",
            f"{sent.rate / WANTED_RATE:.2f}",
            "≥ 1.00",
            f"{sent.rate:,.0f} a second",
        )
    console.log(f"dispatch: limited to {LIMIT} a second")
    limited = sending.limited(server, LIMIT, 10)
    yield (
        f"200 ms latency, at most R = {LIMIT} a second: rate / R",
        f"{limited.rate / LIMIT:.3f}",
        "≥ 0.95",
        f"{limited.contacts} texts in {limited.seconds:.1f} s",
    )


def fan_out_figures(server: World, console: Console) -> Iterable[Figure]:
    each, few = fanout.measure(server, [(MAPPED, MAPPED), (SENT, fanout.FEW_TASKS)], console.log)
    yield (
        "reminders in five minutes on real Airflow: a few batches / a mapped task for each",
        f"{few.in_five_minutes / each.in_five_minutes:,.0f}",
        "> 1",
        f"{few.in_five_minutes:,.0f} and {each.in_five_minutes:,.0f}, each by the same dispatch path",
    )


def memory_figures(server: World, is_full: bool, console: Console) -> Iterable[Figure]:
    most_sent = 100_000 if is_full else SENT
    for what, measure, most in (("extract", memory.of_extract, 100_000), ("dispatch", memory.of_dispatch, most_sent)):
        peaks = []
        for rows in (1000, most):
            console.log(f"memory: {what} of {rows:,}")
            peaks.append(measure(server, rows))
        small, large = peaks
        growth = large.grown - small.grown
        yield (
            f"memory of {what}: growth from 1,000 to {most:,} / 100 MiB",
            f"{growth / 100:.2f}",
            "< 1.00",
            f"above idle ({large.idle:.0f} MiB): {small.grown:.0f} and {large.grown:.0f} MiB",
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="How fast, as ratios in one run.")
    parser.add_argument("--full", action="store_true", help="also a ledger of 5,000,000 rows (some minutes)")
    options = parser.parse_args()
    console = Console()
    table = Table(title=f"Ringonce on {os.cpu_count()} cores, PostgreSQL with fsync")
    for name in ("figure", "measured", "wanted", "from"):
        table.add_column(name, justify="right" if name == "measured" else "left")
    with world() as server:
        for figures in (
            merge_figures(server, options.full, console),
            triage_figures(server, options.full, console),
            send_figures(server, console),
            memory_figures(server, options.full, console),
            fan_out_figures(server, console),
        ):
            for figure in figures:
                table.add_row(*figure)
    console.print(table)


if __name__ == "__main__":
    main()
