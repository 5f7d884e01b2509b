"""Prints the table of guards after the tests, whichever worker ran them, and counts them for docs/guarantees.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.chaos.guards import ELSEWHERE, REMOVALS
from tests.chaos.strain import LABELS
from tests.runs import record

WIDTH = 150
WHAT = "a night's drill without a guard, or without each of those that keep the same (`tests/chaos`)"
Figures = dict[str, int]


def noted(reports: Iterable[Any], what: str) -> dict[str, Figures]:
    """The figures that tests recorded as `what`, by the name of the drill or removal."""
    return {
        name: found
        for report in reports
        for key, (name, found) in getattr(report, "user_properties", ())
        if key == what and report.when == "call"
    }


def table(clean: dict[str, Figures], changed: dict[str, Figures]) -> Table:
    """A row for each removal that was run; `clean` holds the drills' figures with every guard."""
    printed = Table("guard", "without", "drill", "figure", title="every guard, proved by its absence", show_lines=True)
    printed.add_column("with it", justify="right")
    printed.add_column("without", justify="right")
    for removal in REMOVALS:
        if removal.name not in changed:
            continue
        # Of a guard that is kept twice nothing is seen: the figure shown is the one that turns bad without both.
        figure = removal.figure or removal.would_be
        label = LABELS[figure] if removal.figure else f"nothing: {removal.held_by} still holds ({LABELS[figure]})"
        before = clean.get(removal.drill.name, {}).get(figure, "")
        cells = (removal.guard, removal.what, removal.drill.name, label)
        printed.add_row(
            *cells, str(before), str(changed[removal.name][figure]), style=None if removal.figure else "dim"
        )
    return printed


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    changed = noted(reports, "removal")
    if not changed:
        return
    console = Console(width=WIDTH)
    console.print(table(noted(reports, "drill"), changed))
    console.print("No drill notices the absence of these; tests/integration/test_row_guards.py proves them row by row:")
    for guard in ELSEWHERE:
        console.print(f"  {guard}")
    if len(changed) == len(REMOVALS):
        failed = sum("tests/chaos/" in report.nodeid for report in terminalreporter.stats.get("failed", []))
        record("chaos", WHAT, {"tests that failed": failed, **counts()})


def counts() -> dict[str, int]:
    """How many removals there are of a guard or several, by what came of them."""
    noticed = sum(removal.figure is not None for removal in REMOVALS)
    return {
        "removals": len(REMOVALS),
        "that turned a figure of the log bad": noticed,
        "of one guard where another still holds": len(REMOVALS) - noticed,
        "guards that only a row notices": len(ELSEWHERE),
    }


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What a guard refuses is logged a hundred times here, and is what the drill is for."""
    caplog.set_level("ERROR")
