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
from tests.kills.paths import Paths, table
from tests.kills.proxy import Proxy
from tests.simulator.client import Simulator

WIDTH = 150


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
    printed = table(report for found in terminalreporter.stats.values() for report in found)
    if printed is not None:
        Console(width=WIDTH).print(printed)
