"""The faults: each kind draws its point, channel and length from the seed, and says when it has struck and is over.

A fault that nothing came across, such as a crash at a point that was not reached in its time, is no fault history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from reminders.errors import HoldError
from reminders.failpoints import POINTS
from reminders.model import Channel
from tests.drill.book import DAY, HOUR, TICK
from tests.simulator.faults import Fault as Lie
from tests.soak.book import MINUTE, Row
from tests.soak.deployment import Crash

if TYPE_CHECKING:
    from tests.soak.season import Season

# A fault that has not struck in this time does not.
WAITS = 3 * TICK
# Where a process that stands still, or another run, leaves no transaction open: others can go on meanwhile.
BETWEEN = tuple(point for point in POINTS if not point.endswith("before_commit"))
# Points that many contacts of a cycle come to; at the others the first time counts.
OFTEN = ("intend", "send", "record", "status", "note_status")
# What is only refused for our own configuration, about the address, or for now; and what fails later.
CODES = ("21606", "21211", "21614", "21610", "30001", "30003", "30005", "30006", "30007", "30008", "30034", "30036")
PHONE_LIES = (
    *("accept_then_500", "accept_then_hang", "accept_then_reset", "accept_then_truncate"),
    *("429", "refuse_503_without_accepting", "repeat_callbacks", "reorder_callbacks"),
)
EMAIL_LIES = ("reject_550", "reject_451", "drop_after_dot", "hang_after_dot")
SIDES = ("email", "sms", "call", "status")


@dataclass
class History:
    """One fault and its recovery. `entangled`: another fault struck before this one's recovery was seen."""

    kind: str
    at: datetime
    random: Random
    detail: str = ""
    struck_at: datetime | None = None
    over_at: datetime | None = None
    cycles: int = 0
    is_entangled: bool = False
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()


def crash(season: Season, history: History) -> None:
    """The process dies at a point."""

    def die(point: str) -> None:
        season.struck(history, over_at=season.now)
        raise Crash(point)

    season.trap(history, *drawn_point(history, POINTS), die)


def cut(season: Season, history: History) -> None:
    """The server ends a run's connection."""

    def end(_point: str) -> None:
        season.struck(history, over_at=season.now)
        season.deployment.cut_connection()

    season.trap(history, *drawn_point(history, POINTS), end)


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

    point, time = drawn_point(history, [point for point in POINTS if point.endswith("before_commit")])
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
        dates = [at for at in season.deployment.good_at if at <= season.now - ago]
        if not dates:
            return
        season.struck(history)
        if only_dispatch:
            season.deployment.dispatched_again(season.deployment.batches[-6:], 0)
        else:
            season.deployment.cycled(dates[-1], 0)
        season.over(history)

    season.after_tick(history, clear)


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
    season.after_tick(history, fill)


def lie(season: Season, history: History) -> None:
    """The provider or the relay lies a few times, or refuses."""
    random = history.random
    channel = random.choice(("sms", "sms", "call", "email"))
    if channel == "email":
        name = random.choice(EMAIL_LIES)
    else:
        name = random.choice(PHONE_LIES if channel == "call" or random.random() < 0.6 else CODES)
    count = random.choice((1, 1, 2, 3))
    history.detail = f"{name} by {channel}, {count} times"
    tell(season, history, channel, name, count)


def many_doubts(season: Season, history: History) -> None:
    """So many doubtful answers that the channel is held."""
    channel = history.random.choice(("sms", "call", "email"))
    name = "drop_after_dot" if channel == "email" else history.random.choice(PHONE_LIES[:4])
    history.detail = f"{name} by {channel}"
    tell(season, history, channel, name, 14, lasts=3 * HOUR)


def tell(season: Season, history: History, channel: str, name: str, count: int, lasts: timedelta = WAITS) -> None:
    lies = season.deployment.network.faults
    ordered: Lie = lies.order(channel, name, count)

    def stop() -> None:
        if ordered in lies.ordered:
            lies.ordered.remove(ordered)

    def is_struck() -> bool:
        return ordered.count < count

    season.lasting(history, lasts, stop, is_struck, is_over=lambda: ordered not in lies.ordered)


def outage(season: Season, history: History) -> None:
    """The provider or the relay is away for a while."""
    random = history.random
    network = season.deployment.network
    side = random.choice(SIDES)
    how = random.choice(("unreachable", "hang") if side == "email" else ("unreachable", "hang", "429", "503"))
    lasts = TICK * random.choice((1, 2, 3, 6, 18))
    history.detail = f"{side} {how} for {lasts}"
    before = network.turned_away
    network.outages[side] = how
    season.lasting(
        history, lasts, lambda: network.outages.pop(side, None) and None, lambda: network.turned_away > before
    )


def stuck_texts(season: Season, history: History) -> None:
    """Texts arrive and are reported late, or as `sent` for ever."""
    takes = history.random.choice((12.0, 40.0, 200.0, 72 * 60.0))
    slow(season, history, "sms", takes)


def long_calls(season: Season, history: History) -> None:
    """Whoever is called stays on the line."""
    slow(season, history, "call", history.random.choice((8.0, 40.0, 180.0)))


def slow(season: Season, history: History, channel: str, minutes: float) -> None:
    takes = season.deployment.network.takes[channel]
    takes.extend([60 * minutes] * 4)
    before = len(takes)
    history.detail = f"{minutes:.0f} minutes"
    season.lasting(history, WAITS, takes.clear, lambda: len(takes) < before)


def lost_callbacks(season: Season, history: History) -> None:
    """The webhook is away, and what it is told is lost."""
    deployment = season.deployment
    deployment.loses_callbacks = True
    before = len(deployment.network.asked)

    def come_back() -> None:
        deployment.receive_callbacks()
        deployment.loses_callbacks = False

    season.lasting(history, HOUR, come_back, lambda: len(deployment.network.asked) > before)


def book_away(season: Season, history: History) -> None:
    """The book cannot be read, or its connection breaks in the middle."""
    season.book.is_down = True
    season.book.breaks_after = history.random.choice((0, 0, 7, 40))
    lasts = TICK * history.random.choice((1, 2, 4, 8, 16))
    history.detail = f"for {lasts}"

    def come_back() -> None:
        season.book.is_down = False

    season.struck(history)
    season.lasting(history, lasts, come_back)


def book_slips(season: Season, history: History) -> None:
    """The feed is wrong for a while: rows of an account are missing, or half of all is cancelled or moved."""
    random = history.random
    what = random.choice(("missing", "cancelled", "moved"))
    # Of a book that has changed too little nobody can tell that it is wrong: then people hear what it says.
    account, share = (
        (random.choice(list(season.book.accounts)), random.choice((2, 3, 12))) if what == "missing" else ("", 2)
    )
    history.detail = f"a {share}th of {account or 'all'} {what}"

    def slip(row: Row) -> Row | None:
        if account not in ("", row["account_id"]) or hash_of(row["appointment_id"]) % share:
            return row
        if what == "missing":
            return None
        if what == "cancelled":
            return {**row, "status": "cancelled"}
        return {**row, "starts_at": row["starts_at"] + HOUR, "ends_at": row["ends_at"] + HOUR}

    def repair() -> None:
        season.book.slip = None

    season.book.slip = slip
    season.struck(history)
    season.lasting(history, TICK * random.choice((1, 2, 6)), repair)


def hash_of(text: str) -> int:
    """The same number in every process."""
    return sum(place * ord(letter) for place, letter in enumerate(text, start=1))


def ledger_away(season: Season, history: History) -> None:
    """The ledger's server goes away at a point and comes back after a while."""
    lasts = TICK * history.random.choice((1, 2, 4, 8, 16))

    def come_back() -> None:
        season.deployment.is_ledger_down = False

    def go_away(_point: str) -> None:
        season.struck(history)
        season.deployment.cut_connection()
        season.deployment.is_ledger_down = True
        season.lasting(history, lasts, come_back)

    point, time = drawn_point(history, POINTS)
    history.detail += f" for {lasts}"
    season.trap(history, point, time, go_away)


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


def operator_hold(season: Season, history: History) -> None:
    """An operator stops something at any point of a run, and releases it later."""
    random, deployment = history.random, season.deployment
    scopes = (
        *(("all", ""), ("channel", random.choice(list(Channel)).value)),
        *(("account", random.choice(list(season.book.accounts))), ("cycle", "")),
    )
    scope, value = random.choice(scopes)
    lasts = TICK * random.choice((1, 3, 7, 24))

    def stop(_point: str) -> None:
        named = deployment.runs[-1].date.isoformat() if scope == "cycle" else value
        try:
            hold_id = deployment.operator.place(scope, named, "Ana", "a look", season.now, lasts)
        except HoldError:
            return
        season.struck(history)
        season.person.placed(hold_id, scope, named)
        season.lasting(history, lasts, lambda: season.person.lets_go(hold_id))

    point, time = drawn_point(history, BETWEEN)
    history.detail += f", {scope} {value} for {lasts}"
    season.trap(history, point, time, stop)


def drawn_point(history: History, points: tuple[str, ...] | list[str]) -> tuple[str, int]:
    """A point and the how manieth time that it is come to."""
    point = history.random.choice(points)
    time = history.random.randrange(1, 5) if point.partition(".")[0] in OFTEN else 1
    history.detail = f"at {point}" + (f", time {time}" if time > 1 else "")
    return point, time


Kind = Callable[["Season", History], None]
# How often each is drawn.
KINDS: dict[Kind, int] = {
    crash: 34,
    cut: 8,
    pause: 10,
    pause_in_transaction: 3,
    twin: 8,
    twin_dispatch: 4,
    twin_reconcile: 4,
    run_again: 8,
    backfill: 3,
    lie: 24,
    many_doubts: 2,
    outage: 8,
    stuck_texts: 3,
    long_calls: 2,
    lost_callbacks: 1,
    book_away: 5,
    book_slips: 3,
    ledger_away: 4,
    no_scheduler: 3,
    broken_deploy: 2,
    paused_dag: 2,
    operator_hold: 4,
}
