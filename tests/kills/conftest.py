"""Fixtures of the faults, and the table of the rare paths that they reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.integration.scene import WEDNESDAY_2PM
from tests.kills.line import Line
from tests.kills.paths import Paths, counts, table
from tests.kills.proxy import Proxy
from tests.runs import record
from tests.simulator.client import Simulator

WIDTH = 150
FOLDER = "tests/kills"
WHAT = f"processes killed, networks cut after every byte, a full disk (`{FOLDER}`): how often each path was reached"


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong is logged a hundred times here, and is what the test is for."""
    caplog.set_level("ERROR")


@pytest.fixture
def paths(record_property: Callable[[str, object], None]) -> Paths:
    """Where a test notes the rare paths that it reached."""
    return Paths(record_property)


@pytest.fixture
def line(ledger: TestDatabase) -> Iterator[Line]:
    """An empty ledger and a phone network in a process of its own, on a Wednesday at two."""
    with Simulator.spawn(options=("--start", WEDNESDAY_2PM.isoformat())) as network, Proxy() as proxy:
        worker, watching = (Ledger(ledger.connect("reminders_app")) for _ in range(2))
        line = Line(ledger.connect(), worker, watching, network=network, proxy=proxy).widened()
        line.at(WEDNESDAY_2PM)
        yield line


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    printed = table(reports)
    if printed is None:
        return
    Console(width=WIDTH).print(printed)
    times = counts(reports)
    # Only all the tests together reach every path.
    if all(times.values()):
        failed = sum(f"{FOLDER}/" in report.nodeid for report in terminalreporter.stats.get("failed", []))
        record("kills", WHAT, {"tests that failed": failed, **times})
