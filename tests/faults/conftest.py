"""Counts the faults that were tried, for docs/guarantees.md: when all of them were."""

from __future__ import annotations

from typing import Any

from reminders.failpoints import POINTS
from tests.faults.test_failpoints import CASES
from tests.runs import record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tried = {
        outcome: sum("test_a_fault_at_a_point" in report.nodeid for report in terminalreporter.stats.get(outcome, []))
        for outcome in ("passed", "failed")
    }
    if sum(tried.values()) == len(CASES):
        record(
            "failpoints",
            "a crash, an error, a pause past the lease at each point of input and output, by channel (`tests/faults`)",
            {
                "points": len(POINTS),
                "faults tried": tried["passed"] + tried["failed"],
                "that contacted somebody twice, lost somebody, or took more than two cycles": tried["failed"],
            },
        )
