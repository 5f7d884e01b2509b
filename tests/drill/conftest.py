"""The table of `make chaos`: what each safeguard's absence showed."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a row for each absence that was run, whatever became of it."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    rows = [row for report in reports for name, row in report.user_properties if name == "absence"]
    if rows:
        names = ("safeguard", "taken away", "drill", "what it shows")
        terminalreporter.write_line(tabulate(sorted(map(tuple, rows)), headers=names, tablefmt="simple"))
