"""What came of seasons: figures that add up, the table that is printed, and a trace around what went wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from rich.table import Table

from tests.drill.book import HOUR
from tests.soak.faults import KINDS
from tests.soak.history import STRUCK
from tests.soak.judge import Judge, Violation
from tests.soak.season import Season

BEFORE, AFTER = 4 * HOUR, HOUR / 2
MOST_LINES = 60
WHY = re.compile(
    r"no good cycle|seen for the first time|a step before|overdue|to contact|refused our|appointments in the book"
)


@dataclass
class Report:
    """The figures of one season, or of many together. `paths` counts how often each rare path was reached."""

    days: int = 0
    reminders: int = 0
    contacts: int = 0
    cycles: int = 0
    histories: int = 0
    alone: int = 0
    recovered_in_one: int = 0
    slow: int = 0
    duplicates: int = 0
    lost: int = 0
    calls_at_once: int = 0
    cpu_seconds: float = 0.0
    paths: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        for name in (
            *("days", "reminders", "contacts", "cycles", "histories", "alone", "recovered_in_one", "slow"),
            *("duplicates", "lost", "cpu_seconds"),
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.calls_at_once = max(self.calls_at_once, other.calls_at_once)
        self.paths += other.paths
        self.failures.update(other.failures)


def reported(season: Season, judge: Judge, cpu_seconds: float) -> Report:
    """The figures of a season that is over, by the judge."""
    violations = judge.violations()
    found = Counter(violation.promise for violation in violations)
    return Report(
        days=season.days,
        reminders=len(season.reminders),
        contacts=len(judge.heard),
        cycles=len(season.deployment.good) + len(season.deployment.failed),
        histories=len(season.histories),
        alone=sum(not history.is_entangled for history in season.histories),
        recovered_in_one=sum(history.cycles == 1 for history in season.histories),
        slow=found["slow recovery"],
        duplicates=found["duplicate"],
        lost=found["lost"],
        calls_at_once=judge.calls_at_once,
        cpu_seconds=cpu_seconds,
        paths=Counter(paths(season)),
        failures={season.seed: "\n\n".join(trace(season, each) for each in violations[:3])} if violations else {},
    )


def paths(season: Season) -> Iterator[str]:
    """Every rare path that the season took, once for each time."""
    for history in season.histories:
        yield f"fault: {history.kind}"
        for point in STRUCK:
            if f"at {point}" in history.detail:
                yield f"point: {point}"
        if history.kind in ("lie", "many_doubts"):
            yield f"lie: {history.detail.partition(',')[0]}"
    for row in season.reminders:
        yield f"end: {row['state']} {row['reason']}"
    for hold in season.holds:
        why = WHY.search(hold["why"])
        yield f"hold: {hold['scope']} of {hold['placed_by']}" + (f", {why[0]}" if why else "")
    for decision, times in season.decided.items():
        yield from [f"person: {decision}"] * times


def trace(season: Season, violation: Violation) -> str:
    """What was broken, and what happened around it, in a few lines."""
    since, until = violation.at - BEFORE, violation.at + AFTER
    told = {*violation.whom}
    lines = [
        *((at, what) for at, what in season.diary if since <= at <= until),
        *(
            (asked.at, f"{asked.channel} to {asked.to}: {asked.answer}")
            for asked in season.deployment.network.asked
            if asked.to in told and violation.at - timedelta(days=4) <= asked.at <= until
        ),
        *chain.from_iterable(book_lines(season, name) for name in violation.whom if name in season.book.named),
    ]
    told_in_order = [f"  {at:%a %d %b %H:%M:%S}  {what}" for at, what in sorted(lines)][-MOST_LINES:]
    rows = [f"  {line}" for name in violation.whom for line in ledger_lines(season, name)]
    head = f"{violation.promise} at {violation.at:%a %d %b %H:%M:%S} UTC: {violation.what}"
    return "\n".join([head, *told_in_order, *dict.fromkeys(rows)])


def book_lines(season: Season, name: str) -> Iterator[tuple[datetime, str]]:
    visit, _ = season.book.named[name]
    for version in visit.versions:
        ids = ", ".join(version.ids) or "nothing"
        yield version.from_at, f"the book: {ids} {version.status} at {version.slot_at:%d %H:%M} ({version.name})"


def ledger_lines(season: Season, name: str) -> Iterator[str]:
    if name in season.book.named:
        visit, _ = season.book.named[name]
        ids = {each for version in visit.versions for each in version.ids}
    else:
        ids = {name}
    for row in season.reminders:
        if row["appointment_id"] in ids:
            sent = f", sent {row['sent_at']:%d %H:%M:%S}" if row["sent_at"] else ""
            yield (
                f"the ledger: {row['appointment_id']} {row['slot_at']:%d %H:%M} step {row['step']} by {row['channel']}"
                f", due {row['due_at']:%d %H:%M}{sent}: {row['state']} {row['reason']}"
            )


def counts(report: Report) -> dict[str, int | float | str]:
    """The figures by their labels, in the order of the table."""
    return {
        "simulated days": report.days,
        "reminders": report.reminders,
        "emails, texts and calls": report.contacts,
        "cycles": report.cycles,
        "fault histories": report.histories,
        "of them alone until recovered": report.alone,
        "recovered in the first cycle": report.recovered_in_one,
        "recoveries slower than two cycles": report.slow,
        "duplicates": report.duplicates,
        "lost without a reason": report.lost,
        "most calls at once on a line": report.calls_at_once,
        "seeds that failed": len(report.failures),
        "CPU seconds a day": f"{report.cpu_seconds / max(report.days, 1):.2f}",
        "days an hour of CPU": round(3600 * report.days / max(report.cpu_seconds, 1)),
    }


def table(report: Report) -> Table:
    """The summary."""
    printed = Table(title="by the phone network's own log", show_header=False)
    printed.add_column()
    printed.add_column(justify="right")
    for name, value in counts(report).items():
        printed.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return printed


def path_table(report: Report) -> Table:
    """How often each rare path was reached, the kinds of faults and the points whether or not they were."""
    expected = [*(f"fault: {kind.__name__}" for kind in KINDS), *(f"point: {point}" for point in STRUCK)]
    counted = {name: report.paths[name] for name in expected} | dict(sorted(report.paths.items()))
    printed = Table("path", "times", "path", "times", title="how often each rare path was reached")
    cells = [(name, f"{times:,}") for name, times in counted.items()]
    half = (len(cells) + 1) // 2
    for left, right in zip(cells[:half], [*cells[half:], ("", "")][:half], strict=True):
        printed.add_row(*left, *right)
    return printed
