"""The rare paths that the faults are for. A test notes how often its own were reached, and fails when one was not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
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
    DOUBT_PROVED = "a doubt was proved by the provider's list"
    DOUBT_TO_UNKNOWN = "a doubt without proof ended unknown"
    INTENT_LOST = "the ledger was gone before the intent was committed"
    INTENT_UNHEARD = "the intent was committed, and its worker never heard so: it contacted nobody"
    RECORD_LOST = "the provider had accepted, and the ledger was gone before that was recorded"
    RECORD_UNHEARD = "the outcome was recorded, and its worker never heard so"
    # Processes that die or stand still.
    KILLED_IN_INTENT = "a task was killed in its intent: nothing of it was committed"
    KILLED_BEFORE_SOCKET = "a task was killed between its committed intent and the socket"
    KILLED_BEFORE_ACCEPTED = "a task was killed while its request waited at the provider, which acted on it afterwards"
    KILLED_BEFORE_ANSWER = "a task was killed between the provider's acceptance and its answer"
    KILLED_IN_RECORD = "a task was killed in its record: the provider's answer was lost"
    ORPHAN_STOPPED = "a task without its supervisor recorded the calls it had made, and stopped"
    DISPATCHED_TWICE_AT_ONCE = "the same dispatch ran twice at once, and the second contacted somebody"
    STOPPED_WITHOUT_API = "a task that could not ask Airflow whether it is paused stopped"
    WOKE_PAST_LEASE = "a task woke past its lease, before the socket, and contacted nobody"
    RECORDED_PAST_LEASE = "a task woke past its lease, and its record ended the doubt"
    PLANNED_TWICE = "two cycles at once planned the same reminder, and one contacted its client"
    TWO_SCHEDULERS = "tasks of one run were executed by two schedulers"
    # The server.
    INTENT_SURVIVED = "PostgreSQL was stopped at once after an intent's commit, which survived"
    INTENT_ROLLED_BACK = "PostgreSQL was stopped at once in an intent, which was rolled back"
    NO_ROOM_FOR_INTENT = "the disk was full at an intent's commit, and the server died of it"
    NO_ROOM_FOR_RECORD = "the disk was full at a record's commit, and the server died of it"
    NO_ROOM_FOR_DATA = "a dispatch failed for want of room on the disk, and the server went on"


class Paths:
    """Notes paths by pytest's `record_property`, so that they come to the table from whichever worker ran the test."""

    def __init__(self, note: Callable[[str, object], None]) -> None:
        self._note = note

    def reached(self, path: Path, times: int) -> None:
        """`path` was reached so many times; fails when it was not."""
        self._note(PROPERTY, [path.value, times])
        assert times > 0, f"the fault did not reach what it is for: {path}"


def counts(reports: Iterable[Any]) -> dict[str, int]:
    """How often each path was reached, by what happened and in that order; 0 where no test noted it."""
    times = dict.fromkeys((path.value for path in Path), 0)
    for path, found, _ in noted(reports):
        times[path] += found
    return times


def table(reports: Iterable[Any]) -> Table | None:
    """A row for each path: how often it was reached, and by which tests. None when no test noted any."""
    reports = list(reports)
    times = counts(reports)
    tests: dict[str, dict[str, None]] = defaultdict(dict)
    for path, _, test in noted(reports):
        tests[path][test.removeprefix("test_").partition("[")[0].replace("_", " ")] = None
    if not tests:
        return None
    printed = Table("rare path", title="what the faults reached", show_lines=True)
    printed.add_column("times", justify="right")
    printed.add_column("by")
    for path, found in times.items():
        by = "\n".join(tests[path]) or "its tests were not run"
        printed.add_row(path, str(found), by, style=None if found else "dim")
    return printed


def noted(reports: Iterable[Any]) -> Iterator[tuple[str, int, str]]:
    """What the tests noted: path, times, and the test's name."""
    for report in reports:
        for key, value in getattr(report, "user_properties", ()):
            if key == PROPERTY and report.when == "call":
                yield value[0], value[1], report.location[2]
