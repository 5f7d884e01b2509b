"""A clock that a test can advance, and the agenda of what is due in it."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Two readings of one time: `now()` stamps records, `elapsed()` drives progress.

    `speed` is how many seconds of progress pass in a second of wall time: at 60 a call of 15 s lasts a quarter of a
    second; at 0 nothing moves, stamps included, except by `skip`. Stamps otherwise run with the wall clock, so
    that they can be compared with those of the system under test. `start` (timezone-aware) is the first stamp, by
    default the time of construction.
    """

    def __init__(self, speed: float = 1.0, start: datetime | None = None) -> None:
        if speed < 0:
            raise ValueError("speed must not be negative")
        self.speed = speed
        self._start = start
        self.restart()

    def restart(self) -> None:
        """Forget every skip and begin again at the first stamp."""
        self._first_stamp = self._start or datetime.now(UTC)
        self._origin = time.monotonic()
        self._skipped = 0.0

    def _wall(self) -> float:
        return time.monotonic() - self._origin if self.speed else 0.0

    def now(self) -> datetime:
        """The time to stamp a record with, in UTC."""
        return (self._first_stamp + timedelta(seconds=self._wall() + self._skipped)).astimezone(UTC)

    def elapsed(self) -> float:
        """Seconds of progress since the start."""
        return self._wall() * self.speed + self._skipped

    def skip(self, seconds: float) -> None:
        """Move both readings forward; a negative number moves nothing."""
        self._skipped += max(0.0, seconds)


class Agenda:
    """Actions that fall due as the clock moves, run in the order of their times, then of their booking."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._booked = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` when `seconds` of progress have passed. With 0 it runs at the next settling, never at once."""
        heapq.heappush(self._due, (self._clock.elapsed() + seconds, next(self._booked), action))

    def settle(self) -> None:
        """Run all that is due by now."""
        while self._due and self._due[0][0] <= self._clock.elapsed():
            heapq.heappop(self._due)[2]()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once, stopping at each action so that it sees, and stamps, its own time."""
        target = self._clock.elapsed() + seconds
        while self._due and self._due[0][0] <= target:
            due, _, action = heapq.heappop(self._due)
            self._clock.skip(due - self._clock.elapsed())
            action()
        self._clock.skip(target - self._clock.elapsed())

    def run_out(self) -> None:
        """Advance until nothing is left to happen."""
        while self._due:
            self.advance(max(0.0, self._due[0][0] - self._clock.elapsed()))

    def clear(self) -> None:
        """Forget everything that is booked."""
        self._due.clear()
