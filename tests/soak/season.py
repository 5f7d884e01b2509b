"""A season: days of a practice, faults and people on a virtual clock, all from one seed, that happens the same way
each time.

Ticks at which nothing can happen are left out: there is one at each hour (an hour without a good cycle is a gap), when
something comes due by the book or by the ledger, around each fault, and when a person acts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

from psycopg.rows import dict_row

from reminders.cycle.doubts import LIST_SETTLES_IN
from tests.databases import TestDatabase
from tests.drill.book import DAY, HOUR, TICK
from tests.drill.ringonce import Act
from tests.soak.book import MINUTE, SeasonBook
from tests.soak.deployment import SeasonDeployment
from tests.soak.faults import KINDS
from tests.soak.history import WAITS, History
from tests.soak.people import Person
from tests.soak.writer import written

# Before a fault there is a good cycle so shortly that the next two failures make no gap.
BEFORE, LONG_BEFORE = HOUR / 2, 50 * MINUTE
# A run of reconcile_deliveries after a cycle's.
SOON = 2 * MINUTE
# Kinds of days by their number of faults, and how often each comes; only the last lets faults overlap as they may.
DAYS = {(0, 0): 10, (1, 1): 15, (3, 6): 60, (6, 9): 15}
APART = HOUR
AUDIT_HOUR = 3
DAYS_BETWEEN_VACUUMS = 2 * DAY
# After the last slot: doubt ends, then what was accepted and has no final status.
TAIL = (TICK, 130 * MINUTE, 49 * HOUR, 50 * HOUR)

NEXT = """
SELECT min(not_before_at) FILTER (WHERE not_before_at > %(now)s) AS soonest_at,
       bool_or(state = 'pending' AND (deferred_for IS NULL OR deferred_for IN ('wait_for_pace', 'refused_by_guard',
               'wait_for_book', 'wait_for_line') OR not_before_at <= %(now)s)) AS waits,
       EXISTS (SELECT FROM reminders.hold WHERE released_at IS NULL) AS has_hold,
       EXISTS (SELECT FROM reminders.attempt WHERE ended_at IS NULL)
           OR EXISTS (SELECT FROM reminders.recovery WHERE listed_at IS NULL) AS has_to_reconcile,
       (SELECT min(deadline_at) FROM reminders.attempt
        WHERE ended_at IS NULL AND state IN ('sending', 'in_doubt') AND channel <> 'email'
          AND deadline_at > %(now)s - interval '10 minutes') AS doubt_since
FROM reminders.reminder WHERE ended_at IS NULL AND state IN ('pending', 'held') AND expires_at > %(now)s"""
NORMAL = """
SELECT (SELECT is_good FROM reminders.cycle ORDER BY started_at DESC, logical_date DESC LIMIT 1) AS is_good,
       (SELECT count(*) FROM reminders.reminder
        WHERE ended_at IS NULL AND state = 'pending' AND due_at <= %(now)s
          AND (deferred_for IS NULL OR deferred_for IN ('refused_by_guard', 'wait_for_book'))) AS left_over,
       (SELECT count(*) FROM reminders.attempt
        WHERE ended_at IS NULL AND state = 'sending' AND deadline_at < %(now)s) AS past_deadline"""
KEYS = """
SELECT account_id, appointment_id, slot_at, step FROM reminders.reminder
WHERE slot_at BETWEEN %(now)s AND %(now)s + interval '6 days'"""


@dataclass(eq=False)
class Trap:
    history: History
    point: str
    times: int
    act: Callable[[str], None]
    is_near: bool


@dataclass(eq=False)
class Lasting:
    """A fault that lasts until `stop`, or until it is over by itself."""

    history: History
    stop: Callable[[], None]
    is_struck: Callable[[], bool]
    is_over: Callable[[], bool]


class Season:
    """One season of `days` days on the empty ledger in `database`, broken off after `until` of them if that is given.

    `sabotage` takes a guard away at its start.
    """

    def __init__(
        self, database: TestDatabase, seed: int, days: int, until: int | None = None, sabotage: Act | None = None
    ) -> None:
        self.seed, self.days, self.until = seed, days, until
        self.database, self.sabotage = database, sabotage
        self.book: SeasonBook = written(seed, days)
        self.zone = next(iter(self.book.accounts.values())).zone
        self.diary: list[tuple[datetime, str]] = []
        self.histories: list[History] = []
        self.slow: list[History] = []
        self.recovering: list[History] = []
        self.traps: list[Trap] = []
        self.lastings: list[Lasting] = []
        self.is_scheduler_down = False
        self.reached: Counter[str] = Counter()
        self.decided: Counter[str] = Counter()
        self.ticks = 0
        self._audited_on: date | None = None
        self._doubt_settles_at: datetime | None = None
        self._soonest_at: datetime | None = None
        self._waits = self._has_hold = self._has_to_reconcile = False
        self._moments = sorted(self.book.moments())
        self._faults: list[datetime] = []
        self._wanted: set[datetime] = set()
        self._later: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = count()
        self._after: list[Callable[[], None]] = []

    @property
    def now(self) -> datetime:
        return self.deployment.clock.now

    def note(self, what: str) -> None:
        self.diary.append((self.now, what))

    def run(self) -> None:
        """Let all its days pass, and then what ends later."""
        with ExitStack() as until_the_end:
            self.deployment = until_the_end.enter_context(
                SeasonDeployment(self.database, self.book, self._reach, self.note)
            )
            self.person = Person(self, Random(f"{self.seed} person"))
            if self.sabotage:
                self.sabotage(self.deployment)
            self._plan_faults()
            self._live()
            self._read_the_end()

    def _live(self) -> None:
        at, ends_at = self.book.starts_at, self.book.ends_at
        if self.until is not None:
            ends_at = min(ends_at, at + self.until * DAY)
        days_over = 0
        while at <= ends_at:
            self._tick(at)
            if (at - self.book.starts_at) // DAYS_BETWEEN_VACUUMS > days_over:
                days_over += 1
                self.deployment.vacuum()
            at = self._next_tick(at)
            if self._doubt_settles_at and self._doubt_settles_at < at and not self.is_scheduler_down:
                self._reconcile(self._doubt_settles_at)
        for after in TAIL if self.until is None else ():
            self._tick(max(ends_at + after, up_to_tick(self.now)))

    # Ticks

    def _tick(self, at: datetime) -> None:
        self.ticks += 1
        asked = len(self.deployment.network.asked)
        self.deployment.clock.set(at)
        self._do_what_is_due()
        if not self.is_scheduler_down:
            # Without an open attempt or recovery there is nothing to reconcile, and nothing to break.
            self.deployment.scheduled(at, 0, self._has_to_reconcile or any(trap.is_near for trap in self.traps))
        for act in self._drain(self._after):
            act()
        self._see_what_struck()
        self._look_ahead()
        if self._has_hold:
            self.person.look()
        self._see_recoveries(at)
        if at.hour == AUDIT_HOUR and self._audited_on != at.date() and not self.is_scheduler_down:
            self._audited_on = at.date()
            self.deployment.audited()
            self._see_what_struck()
        if len(self.deployment.network.asked) > asked and not self.is_scheduler_down:
            self._reconcile(self.now + SOON)

    def _reconcile(self, at: datetime) -> None:
        """A run of reconcile_deliveries between two cycles."""
        self.deployment.clock.set(at)
        self.deployment.receive_callbacks()
        self.deployment.reconciled(0)
        self._see_what_struck()

    def _look_ahead(self) -> None:
        row = self.deployment.owner.execute(NEXT, {"now": self.now}).fetchone()
        assert row is not None
        self._soonest_at, self._waits, self._has_hold, self._has_to_reconcile, doubt_since = row
        self._doubt_settles_at = up_to_tick(doubt_since + LIST_SETTLES_IN) if doubt_since else None

    def _next_tick(self, last: datetime) -> datetime:
        self._wanted = {at for at in self._wanted if at > self.now}
        place = bisect_right(self._moments, self.now)
        candidates = [last + HOUR, *self._wanted, *self._moments[place : place + 1]]
        if self._soonest_at:
            candidates.append(self._soonest_at)
        if self._waits and not self.is_scheduler_down:
            candidates.append(last + TICK)
        soonest = up_to_tick(self.now + timedelta(seconds=1))
        coming = next((at for at in self._faults if at > self.now), None)
        if coming is not None and coming <= min(candidates):
            candidates.append(coming if coming - last <= LONG_BEFORE else coming - BEFORE)
        return max(up_to_tick(min(candidates)), soonest)

    def want(self, at: datetime) -> None:
        """There is to be a tick at `at`, or as soon after as there can be one."""
        self._wanted.add(at)

    def later(self, at: datetime, act: Callable[[], None]) -> None:
        """Do `act` before the first tick from `at` on, whenever that is."""
        self._later.append((at, next(self._numbers), act))

    def _do_what_is_due(self) -> None:
        due = sorted(entry[:2] for entry in self._later if entry[0] <= self.now)
        acts = {entry[:2]: entry[2] for entry in self._later}
        self._later = [entry for entry in self._later if entry[0] > self.now]
        for entry in due:
            acts[entry]()

    @staticmethod
    def _drain(acts: list[Callable[[], None]]) -> list[Callable[[], None]]:
        drained = acts[:]
        acts.clear()
        return drained

    def pass_time(self, lasts: timedelta, with_others: bool) -> None:
        """Let the clock go on inside a run that stands still; with others, what Airflow starts meanwhile runs too."""
        until = self.now + lasts
        at = up_to_tick(self.now + timedelta(seconds=1))
        while with_others and at < until and not self.is_scheduler_down:
            self.deployment.scheduled(at, 1)
            at = max(at + TICK, up_to_tick(self.now))
        self.deployment.clock.set(until)

    # Faults

    def _plan_faults(self) -> None:
        first = self.book.starts_at
        for day in range((self.book.ends_at - first) // DAY):
            random = Random(f"{self.seed} faults {day}")
            for at in self._fault_times(first + day * DAY, random):
                (kind,) = random.choices(list(KINDS), list(KINDS.values()))
                history = History(kind.__name__, at, Random(f"{self.seed} {day} {at}"))
                self._faults.append(at)
                self.later(at, lambda kind=kind, history=history: kind(self, history))

    def _fault_times(self, day: datetime, random: Random) -> list[datetime]:
        ((least, most),) = random.choices(list(DAYS), list(DAYS.values()))
        busy = [up_to_tick(at) for at in self._moments if day <= at < day + DAY]
        times: list[datetime] = []
        for _ in range(random.randint(least, most)):
            for _ in range(8):
                at = random.choice(busy) if busy and random.random() < 0.8 else day + TICK * random.randrange(288)
                if most == max(DAYS)[1] or all(abs(at - other) >= APART for other in times):
                    times.append(at)
                    break
        return sorted(times)

    def trap(
        self, history: History, point: str, times: int, act: Callable[[str], None], lies: timedelta = WAITS
    ) -> None:
        """Do `act` when `point` is come to for the `times`th time from now on, while the trap `lies` there."""
        trap = Trap(history, point, times, act, lies == WAITS)
        self.traps.append(trap)
        self.later(self.now + lies, lambda: trap in self.traps and self.traps.remove(trap))

    def _reach(self, point: str) -> None:
        self.reached[point] += 1
        # What is done inside one trap does not fall into the next.
        if len(self.deployment.runs) > 1:
            return
        for trap in [trap for trap in self.traps if trap.point == point]:
            trap.times -= 1
            if trap.times == 0:
                self.traps.remove(trap)
                trap.act(point)

    def after_tick(self, act: Callable[[], None]) -> None:
        """Do `act` when the runs of this tick have ended."""
        self._after.append(act)

    def lasting(
        self,
        history: History,
        lasts: timedelta,
        stop: Callable[[], object],
        is_struck: Callable[[], bool] = lambda: True,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """The fault goes on for `lasts`, or until it is over; then `stop`. It may strike nobody."""
        lasting = Lasting(history, lambda: stop() and None, is_struck, is_over)
        self.lastings.append(lasting)
        self.later(self.now + lasts, lambda: lasting in self.lastings and self._stop(lasting))
        if lasts != WAITS:
            self.want(self.now + lasts)

    def _stop(self, lasting: Lasting) -> None:
        self.lastings.remove(lasting)
        if lasting.is_struck():
            self.struck(lasting.history)
        lasting.stop()
        if lasting.history.struck_at is not None:
            self.over(lasting.history)

    def _see_what_struck(self) -> None:
        for lasting in self.lastings[:]:
            if lasting.is_struck():
                self.struck(lasting.history)
                if lasting.is_over():
                    self._stop(lasting)

    def struck(self, history: History, over_at: datetime | None = None) -> None:
        """The fault has struck: it is a history from now on."""
        if history.struck_at is not None:
            return
        history.struck_at = self.now
        self.note(f"{history} strikes")
        for other in (*self.recovering, history) if self.recovering else ():
            other.is_entangled = True
        self.histories.append(history)
        self.recovering.append(history)
        if over_at is not None:
            self.over(history)

    def over(self, history: History) -> None:
        """The fault is over: from now on the deployment recovers."""
        history.over_at = self.now
        self.note(f"{history} is over")
        self.want(self.now + TICK)

    def _see_recoveries(self, began_at: datetime) -> None:
        """Count the cycles since the last fault was over, and see whether everything flows again."""
        if not self.recovering:
            return
        if self.is_scheduler_down or any(history.over_at is None for history in self.recovering):
            return
        last_over_at = max(history.over_at or began_at for history in self.recovering)
        if began_at < last_over_at:
            return
        for history in self.recovering:
            history.cycles += 1
        wrong = self.what_is_wrong()
        if wrong and self.recovering[-1].cycles < 2:
            self.want(self.now + TICK)
            return
        for history in self.recovering:
            history.wrong = wrong
        if wrong:
            self.note(f"not recovered in {self.recovering[-1].cycles} cycles: {wrong}")
            self.slow.extend(self.recovering)
        self.recovering.clear()

    def what_is_wrong(self) -> list[str]:
        """Why the deployment is not back to normal; empty when it is."""
        row = self.deployment.owner.execute(NORMAL, {"now": self.now}).fetchone()
        assert row is not None
        is_good, left_over, past_deadline = row
        wrong = [] if is_good else ["the last cycle is not good"]
        wrong += [f"{left_over} reminders are ready and do not go"] if left_over else []
        wrong += [f"{past_deadline} attempts are past their deadline"] if past_deadline else []
        missing = self._missing()
        return wrong + ([f"{len(missing)} due reminders are not in the ledger: {missing[:3]}"] if missing else [])

    def _missing(self) -> list[tuple[Any, ...]]:
        if not self.deployment.merged:
            return []
        reading = self.deployment.merged[-1]
        known = set(self.deployment.owner.execute(KEYS, {"now": self.now}).fetchall())
        return [
            key
            for visit in self.book.around(self.now, self.now + 6 * DAY)
            for key in self.book.due_keys(visit, reading.read_at, reading.date)
            if reading.is_true and self.now <= key[2] < self.now + 5 * DAY and key not in known
        ]

    def _read_the_end(self) -> None:
        with self.deployment.owner.cursor(row_factory=dict_row) as cursor:
            self.reminders = cursor.execute("SELECT * FROM reminders.reminder").fetchall()
            self.holds = cursor.execute("SELECT * FROM reminders.hold").fetchall()


def up_to_tick(at: datetime) -> datetime:
    """`at`, or the first tick of cron after it."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return start - ((start - at) // TICK) * TICK
