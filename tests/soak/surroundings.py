"""Faults around us: provider and relay lie or are away, so are the book and the ledger, and a person stops us."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from reminders.errors import HoldError
from reminders.model import Channel
from tests.drill.book import HOUR, TICK
from tests.simulator.faults import Fault as Lie
from tests.soak.book import Row
from tests.soak.history import BETWEEN, COMMON, WAITS, History, drawn_point

if TYPE_CHECKING:
    from tests.soak.season import Season

# What is only refused for our own configuration, about the address, or for now; and what fails later.
CODES = ("21606", "21211", "21614", "21610", "30001", "30003", "30005", "30006", "30007", "30008", "30034", "30036")
PHONE_LIES = (
    *("accept_then_500", "accept_then_hang", "accept_then_reset", "accept_then_truncate"),
    *("429", "refuse_503_without_accepting", "repeat_callbacks", "reorder_callbacks", "lists_late"),
)
EMAIL_LIES = ("reject_550", "reject_451", "drop_after_dot", "hang_after_dot")
# Appointments of which half must be more than the gate lets pass unseen, 4.
LEAST_AHEAD = 20
SIDES = ("email", "sms", "call", "status")


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
    if what != "missing" and len(season.book.ahead(season.now)) < LEAST_AHEAD:
        return
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

    point, time = drawn_point(history, COMMON)
    history.detail += f" for {lasts}"
    season.trap(history, point, time, go_away)


def restored_ledger(season: Season, history: History) -> None:
    """The ledger's database is put back as it was hours ago."""
    deployment = season.deployment
    if deployment.copied_with is not None:
        return
    ago = TICK * history.random.choice((4, 12, 40, 150))
    history.detail = f"from {ago} ago"
    deployment.copy_ledger()

    def restore() -> None:
        season.struck(history)
        deployment.restore_ledger()
        season.person.starts_over()
        season.over(history)

    season.want(season.now + ago)
    season.later(season.now + ago, restore)


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
            hold_id = deployment.operator.place(scope, named, "Ana", "a look", lasts)
        except HoldError:
            return
        season.struck(history)
        season.person.placed(hold_id, scope, named)
        season.lasting(history, lasts, lambda: season.person.lets_go(hold_id))

    point, time = drawn_point(history, BETWEEN)
    history.detail += f", {scope} {value} for {lasts}"
    season.trap(history, point, time, stop)
