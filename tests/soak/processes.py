"""Faults of our own processes: they die, lose their connection, stand still, run twice, or do not run at all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.crash import Crash
from tests.drill.book import DAY, HOUR, TICK
from tests.soak.book import MINUTE
from tests.soak.history import BETWEEN, COMMON, STRUCK, History, drawn_point

if TYPE_CHECKING:
    from tests.soak.season import Season


def crash(season: Season, history: History) -> None:
    """The process dies at a point."""

    def die(point: str) -> None:
        season.struck(history, over_at=season.now)
        raise Crash(point)

    season.trap(history, *drawn_point(history, COMMON), die)


def crash_where_few_come(season: Season, history: History) -> None:
    """The process dies at a point that few days come to: the trap lies there until it is come to."""
    point = history.random.choice([point for point in STRUCK if point not in COMMON])
    history.detail = f"at {point}"

    def die(point: str) -> None:
        season.struck(history, over_at=season.now)
        raise Crash(point)

    season.trap(history, point, 1, die, lies=365 * DAY)


def cut(season: Season, history: History) -> None:
    """The server ends a run's connection."""

    def end(_point: str) -> None:
        season.struck(history, over_at=season.now)
        season.deployment.cut_connection()

    season.trap(history, *drawn_point(history, COMMON), end)


def pause(season: Season, history: History) -> None:
    """The process stands still for longer than its lease, while others go on, and wakes up."""
    lasts = MINUTE * history.random.choice((1, 2, 4, 6, 11, 16))

    def stand_still(point: str) -> None:
        season.struck(history)
        season.pass_time(lasts, with_others=True)
        if point == "send.before":
            season.deployment.network.next_delay = lasts.total_seconds()
        season.over(history)

    point, time = drawn_point(history, BETWEEN)
    history.detail += f" for {lasts}"
    season.trap(history, point, time, stand_still)


def pause_in_transaction(season: Season, history: History) -> None:
    """The process stands still just before it commits; everybody else waits for its locks."""
    lasts = MINUTE * history.random.choice((1, 2, 4, 6))

    def stand_still(_point: str) -> None:
        season.struck(history)
        season.pass_time(lasts, with_others=False)
        season.over(history)

    point, time = drawn_point(history, [point for point in COMMON if point.endswith("before_commit")])
    history.detail += f" for {lasts}"
    season.trap(history, point, time, stand_still)


def twin(season: Season, history: History) -> None:
    """A second run, of the same date or by hand, begins and ends between two steps of the first."""
    date_is_same = history.random.random() < 0.5
    history.detail = "of the same date" if date_is_same else "by hand"

    def run_beside(_point: str) -> None:
        season.struck(history)
        date = season.deployment.runs[-1].date
        if date_is_same:
            season.deployment.cycled(date, 1)
        else:
            season.deployment.cycled(season.now - timedelta(seconds=1), 1, "manual")
        season.over(history)

    season.trap(history, *drawn_point(history, BETWEEN), run_beside)


def twin_dispatch(season: Season, history: History) -> None:
    """The same dispatch tasks run twice at once: the second begins and ends between two steps of the first."""

    def run_beside(_point: str) -> None:
        season.struck(history)
        season.deployment.dispatched_again(season.deployment.batches[-3:], 1)
        season.over(history)

    points = [point for point in BETWEEN if point.partition(".")[0] in ("intend", "send", "record")]
    season.trap(history, *drawn_point(history, points), run_beside)


def twin_reconcile(season: Season, history: History) -> None:
    """Deliveries are reconciled between two steps of any run."""

    def run_beside(_point: str) -> None:
        season.struck(history)
        season.deployment.reconciled(1)
        season.over(history)

    season.trap(history, *drawn_point(history, BETWEEN), run_beside)


def run_again(season: Season, history: History) -> None:
    """A run is cleared, right after it, or that of hours ago: it runs again, or only its dispatch does."""
    ago = history.random.choice((timedelta(0), timedelta(0), HOUR, 6 * HOUR, DAY))
    only_dispatch = history.random.random() < 0.4
    history.detail = f"{'dispatch of ' if only_dispatch else ''}{ago} ago"

    def clear() -> None:
        dates = [good.date for good in season.deployment.good if good.date <= season.now - ago]
        if not dates:
            return
        season.struck(history)
        if only_dispatch:
            season.deployment.dispatched_again(season.deployment.batches[-6:], 0)
        else:
            season.deployment.cycled(dates[-1], 0)
        season.over(history)

    season.after_tick(clear)


def backfill(season: Season, history: History) -> None:
    """Somebody backfills a few hours of the past."""
    since = history.random.randrange(2, 60) * HOUR

    def fill() -> None:
        season.struck(history)
        start = (season.now - since).replace(minute=0, second=0, microsecond=0)
        for place in range(3):
            season.deployment.cycled(start + place * HOUR / 2 + MINUTE, place % 2, "backfill")
        season.over(history)

    history.detail = f"from {since} ago"
    season.after_tick(fill)


def no_scheduler(season: Season, history: History) -> None:
    """Nothing runs: the scheduler is down, or the DAG paused."""
    lasts = TICK * history.random.choice((2, 5, 9, 15, 48, 150))
    history.detail = f"for {lasts}"

    def start() -> None:
        season.is_scheduler_down = False

    season.is_scheduler_down = True
    season.struck(history)
    season.lasting(history, lasts, start)


def broken_deploy(season: Season, history: History) -> None:
    """A deploy breaks dispatch, and nothing else, until it is reverted."""
    lasts = TICK * history.random.choice((2, 4, 8, 20))
    history.detail = f"for {lasts}"

    def revert() -> None:
        season.deployment.is_dispatch_broken = False

    season.deployment.is_dispatch_broken = True
    season.struck(history)
    season.lasting(history, lasts, revert)


def paused_dag(season: Season, history: History) -> None:
    """Somebody pauses the DAG in the middle of a batch, and resumes it."""

    def resume() -> None:
        season.deployment.is_paused = False

    def press(_point: str) -> None:
        season.struck(history)
        season.deployment.is_paused = True
        season.lasting(history, 2 * TICK, resume)

    season.trap(history, *drawn_point(history, ("intend.committed", "send.before", "record.committed")), press)
