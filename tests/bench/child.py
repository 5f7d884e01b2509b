"""A process that is measured by itself, as a task is: it says its idle memory, waits, works, and says what it did.

Standard input: the ledger's connection string, a line to begin. Standard output: peak resident memory in KiB when idle;
then what was done and the peak afterwards.
"""

from __future__ import annotations

import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from reminders.cycle.extract import extract
from reminders.model import Channel
from reminders.store.book import read_book
from reminders.store.ledger import Ledger
from tests.bench import sending

STATUS = Path("/proc/self/status")


def peak() -> int:
    """The highest resident memory of this process so far, in KiB."""
    if STATUS.exists():
        # ru_maxrss would count the process that started this one: Linux keeps it across exec.
        return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage // 1024 if sys.platform == "darwin" else usage


def work(conninfo: str, arguments: list[str]) -> int:
    """Send or extract; returns how many contacts or appointments there were.

    `arguments`: `send BATCH CHANNEL RATE`, or `extract` of the book whose connection string is the next line.
    """
    if arguments[0] == "send":
        return sending.send(conninfo, int(arguments[1]), Channel(arguments[2]), False, float(arguments[3])).contacts
    now = datetime.now(UTC)
    with psycopg.connect(sys.stdin.readline().strip()) as book, psycopg.connect(conninfo) as connection:
        return extract(Ledger(connection), lambda *window: read_book(book, *window), now, now, b"only for benchmarks")


def main() -> None:
    conninfo = sys.stdin.readline().strip()
    print(peak(), flush=True)
    sys.stdin.readline()
    print(work(conninfo, sys.argv[1:]), flush=True)
    print(peak(), flush=True)


if __name__ == "__main__":
    main()
