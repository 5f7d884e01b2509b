"""The schedule of the night and the run through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from unittest.mock import patch

import pandas as pd

from reminders import policy
from reminders.cycle import extract
from reminders.store import ledger, session
from tests.databases import TestDatabase
from tests.drill import figures
from tests.drill.book import DAY, HOUR, TICK, WEDNESDAY, Book
from tests.drill.predecessor import Predecessor
from tests.drill.ringonce import Act, Ringonce

# Outside the hours in which anything can come due, and before the days that are judged, cycles are rarer, to save time.
SLOW_TICK = timedelta(minutes=50)
CYCLES_BETWEEN_VACUUMS = 24
# Every cycle reads the same book. What these answer depends on their arguments alone, so it is worked out once.
PURE = (
    (extract, "normalise_email"),
    (extract, "normalise_phone"),
    (extract, "key"),
    (extract, "mask"),
    (extract, "text"),
    (policy, "window"),
    (ledger, "statement"),
    (session, "statement"),
)

Tell = Callable[[datetime], None]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Begins before the first appointment's first rung is due. The drain is broken from `broken_at`, for 13 hours, to
    `reverted_at`; a person comes to the office at `morning_at`."""

    starts_at: datetime = WEDNESDAY - 3 * DAY + 7 * HOUR
    normal_from: datetime = WEDNESDAY
    normal_until: datetime = WEDNESDAY + DAY
    broken_at: datetime = WEDNESDAY + DAY + 9 * HOUR
    reverted_at: datetime = WEDNESDAY + DAY + 22 * HOUR
    morning_at: datetime = WEDNESDAY + 2 * DAY + 8 * HOUR + timedelta(minutes=30)
    ends_at: datetime = WEDNESDAY + 3 * DAY
    # Between two cycles of Ringonce; a drill that has to be short takes longer ones.
    step: timedelta = TICK

    @property
    def hours(self) -> int:
        """How long the drain is broken."""
        return (self.reverted_at - self.broken_at) // HOUR

    @property
    def turns(self) -> set[datetime]:
        """When something happens that no tick may miss."""
        return {self.broken_at, self.reverted_at, self.morning_at}

    def is_broken(self, now: datetime) -> bool:
        return self.broken_at <= now < self.reverted_at

    def ticks(self) -> Iterator[datetime]:
        """Every tick of cron."""
        now = self.starts_at
        while now < self.ends_at:
            yield now
            now += TICK

    def fewer_ticks(self) -> Iterator[datetime]:
        """The ticks at which something can happen, and some between them."""
        last = self.starts_at - SLOW_TICK
        for now in self.ticks():
            is_busy = now >= self.normal_from and 8 <= now.hour < 20
            just_reverted = self.broken_at <= now < self.reverted_at + HOUR
            if now - last >= (self.step if is_busy or just_reverted else SLOW_TICK) or now in self.turns:
                yield now
                last = now


NIGHT = Schedule()


@dataclass(frozen=True)
class Run:
    """What one system did: the figures (see figures.py) of the normal day and of the night, all that was `heard`, and
    `failures`, the cycles that went wrong for another reason than the broken drain, by that reason."""

    normal: dict[str, int]
    night: dict[str, int]
    heard: pd.DataFrame
    failures: dict[str, int]


def judged(book: Book, schedule: Schedule, heard: pd.DataFrame, explained: figures.Explained = frozenset()) -> Run:
    """The run whose log says `heard` and whose ledger explains `explained`; the night ends with the schedule."""
    due = book.due()
    found = []
    for from_at, until_at in (
        (schedule.normal_from, schedule.normal_until),
        (schedule.broken_at, schedule.ends_at),
    ):
        fell_due = [rung for rung in due if from_at <= rung.due_at < until_at]
        unsent = figures.unsent(fell_due, heard, schedule.ends_at)
        lost = [rung for rung in unsent if (rung.booking.client_id, rung.step) not in explained]
        counts = {"unsent": len(unsent) - len(lost), "lost": len(lost)}
        found.append({**figures.figures(figures.between(heard, from_at, until_at)), **counts})
    return Run(found[0], found[1], heard, {})


def run_predecessor(book: Book, schedule: Schedule = NIGHT, tell: Tell = lambda _now: None) -> Run:
    """The night with the predecessor's two jobs."""
    system = Predecessor(book, schedule.starts_at)
    for now in schedule.ticks():
        tell(now)
        system.is_drainer_broken = schedule.is_broken(now)
        system.tick(now)
    return judged(book, schedule, figures.heard(system.events(), system.calls(), book))


def run_ringonce(
    database: TestDatabase,
    book: Book,
    schedule: Schedule = NIGHT,
    tell: Tell = lambda _now: None,
    *,
    sabotage: Act = lambda _system: None,
    operator: Act = lambda _system: None,
    planners: int = 1,
) -> Run:
    """The night with Ringonce, on an empty ledger.

    `sabotage` takes a guard away when the drain breaks; what it enters into the system's `until_the_end` is undone
    after the run. `operator` is what a person does in the morning: without it nobody releases anything. `planners` is
    how many runs of the DAG there are at each tick, at the same time.
    """
    with ExitStack() as until_the_end:
        for module, name in PURE:
            remembered = lru_cache(maxsize=None)(getattr(module, name))
            until_the_end.enter_context(patch.object(module, name, remembered))
        system = until_the_end.enter_context(Ringonce(database, book, schedule.starts_at, planners))
        for place, now in enumerate(schedule.fewer_ticks(), start=1):
            tell(now)
            system.clock.set(now)
            if now == schedule.broken_at:
                sabotage(system)
            if now == schedule.morning_at:
                operator(system)
            system.is_dispatch_broken = schedule.is_broken(now)
            system.tick(now)
            if place % CYCLES_BETWEEN_VACUUMS == 0:
                system.vacuum()
        heard = figures.heard(system.network.log(), system.network.calls(), book)
        run = judged(book, schedule, heard, figures.explanations(system.reminders()))
        return replace(run, failures=dict(system.failures))
