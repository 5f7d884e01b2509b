"""The rare paths that the faults are for. A test notes how often its own were reached, and fails when one was not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from rich.table import Table

PROPERTY = "rare path"


class Path(StrEnum):
    """What happened, as the table at the end says it."""

    # A network that is cut.
    CUT_BEFORE_THE_MESSAGE = "the network was cut before the message: proof that nobody was contacted"
    DOUBT_AND_REACHED = "an attempt ended in doubt, and the provider had accepted it"
    DOUBT_AND_NOT_REACHED = "an attempt ended in doubt, and nothing had arrived"
    CUT_AFTER_THE_ANSWER = "the network was cut after the answer that decides: accepted"
    GIVEN_BACK_AND_SENT = "given back after a cut, and sent once by a later cycle"
    DOUBT_TO_UNKNOWN = "a doubt without proof ended unknown"
    INTENT_LOST = "the ledger was gone before the intent was committed"
    INTENT_UNHEARD = "the intent was committed, and its worker never heard so: it contacted nobody"
    RECORD_LOST = "the provider had accepted, and the ledger was gone before that was recorded"
    RECORD_UNHEARD = "the outcome was recorded, and its worker never heard so"


class Paths:
    """Notes paths by pytest's `record_property`, so that they come to the table from whichever worker ran the test."""

    def __init__(self, note: Callable[[str, object], None]) -> None:
        self._note = note

    def reached(self, path: Path, times: int) -> None:
        """`path` was reached so many times; fails when it was not."""
        self._note(PROPERTY, [path.value, times])
        assert times > 0, f"the fault did not reach what it is for: {path}"


def table(reports: Iterable[Any]) -> Table | None:
    """A row for each path: how often it was reached, and by which tests. None when no test noted any."""
    times: dict[str, int] = defaultdict(int)
    tests: dict[str, dict[str, None]] = defaultdict(dict)
    for report in reports:
        for key, value in getattr(report, "user_properties", ()):
            if key == PROPERTY and report.when == "call":
                times[value[0]] += value[1]
                tests[value[0]][report.location[2].removeprefix("test_").partition("[")[0].replace("_", " ")] = None
    if not times:
        return None
    printed = Table("rare path", title="what the faults reached", show_lines=True)
    printed.add_column("times", justify="right")
    printed.add_column("by")
    for path in Path:
        by = "\n".join(tests[path]) or "its tests were not run"
        printed.add_row(path.value, str(times[path]), by, style=None if times[path] else "dim")
    return printed
