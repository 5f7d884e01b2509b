"""One safeguard taken away at a time: what the drill, or a harder one, then shows, and in which figure.

A safeguard is often kept twice, by a verdict that gives a good message and by a constraint or the fence that enforces
it. `Absence.layers` says what is taken away; where a layer is left, and holds, the figure stays good, and the row of
the table says which layer that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pandas as pd

from reminders.store import ledger
from reminders.store.migrate import record_definitions
from reminders.store.statements import statement
from tests.drill.book import HOUR, Book, drill_book
from tests.drill.night import NIGHT, Run, Schedule
from tests.drill.ringonce import Act, Ringonce

Layer = Callable[[Ringonce], None]
Figure = Callable[[Run, "Drill"], int]
MINUTE = timedelta(minutes=1)
SEED = 13
# Wednesday noon to Friday noon, half an hour between two cycles: long enough for everything that is drilled.
SHORT = replace(NIGHT, step=30 * MINUTE, ends_at=NIGHT.reverted_at + 15 * HOUR)


# What is taken away


def database(*statements: str) -> Layer:
    """The superuser changes the ledger."""

    def act(system: Ringonce) -> None:
        for text in statements:
            system.owner.execute(text)

    return act


def function(name: str, *edits: tuple[str, str]) -> Layer:
    """In the text of a function each fragment, which is there exactly once, is replaced."""

    def act(system: Ringonce) -> None:
        row = system.owner.execute(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'reminders'::regnamespace"
            " AND proname = %s",
            (name,),
        ).fetchone()
        assert row is not None, name
        system.owner.execute(edited(row[0], name, edits))

    return act


def query(name: str, *edits: tuple[str, str]) -> Layer:
    """In a statement of the code each fragment, which is there exactly once, is replaced."""

    def act(system: Ringonce) -> None:
        original = ledger.statement
        changed = edited(statement(name), name, edits)
        system.until_the_end.enter_context(
            patch.object(ledger, "statement", lambda asked: changed if asked == name else original(asked))
        )

    return act


def edited(text: str, name: str, edits: Sequence[tuple[str, str]]) -> str:
    for fragment, instead in edits:
        assert text.count(fragment) == 1, f"{name} has {text.count(fragment)} of: {fragment}"
        text = text.replace(fragment, instead)
    return text


def recorded(system: Ringonce) -> None:
    """Whoever deployed the change has also made preflight take it as meant, and forget the release's own list."""
    with system.owner.transaction():
        record_definitions(system.owner)
    for name in ("CONSTRAINTS", "UNIQUE_INDEXES", "TRIGGERS"):
        system.until_the_end.enter_context(patch.object(ledger, name, ()))


# What it shows


def night(name: str) -> Figure:
    """A figure of the drill's table."""
    return lambda run, _drill: run.night[name]


def failed_cycles(run: Run, _drill: Drill) -> int:
    """Cycles that failed for another reason than the broken drain."""
    return sum(run.failures.values())


def unreleased(run: Run, drill: Drill) -> int:
    """Contacts of rungs that had come due over an hour before, while the drain was broken; nobody has released them."""
    schedule = drill.schedule
    late = [
        rung
        for rung in drill.bookings().due()
        if schedule.broken_at <= rung.due_at < schedule.reverted_at - HOUR
        and len(
            run.heard[
                (run.heard["client_id"] == rung.booking.client_id)
                & (run.heard["channel"] == rung.channel)
                & (run.heard["at"] > schedule.reverted_at)
            ]
        )
    ]
    return len(late)


def after_the_stop(run: Run, drill: Drill) -> int:
    """Contacts after a person has stopped everything."""
    return len(contacts(run.heard, drill.schedule.morning_at, drill.schedule.ends_at))


def most_calls_of_an_account(run: Run, _drill: Drill) -> int:
    """The most calls that one account's clients got in five minutes, beyond its pace of 6."""
    calls = run.heard[run.heard["channel"] == "call"].drop_duplicates("contact_id")
    if calls.empty:
        return 0
    return max(0, int(calls.groupby(["account_id", calls["at"].dt.floor("5min")]).size().max()) - 6)


def most_on_a_day(run: Run, _drill: Drill) -> int:
    """The most texts and calls that one number got on one day, beyond its cap of 1."""
    phones = run.heard[run.heard["channel"] != "email"].drop_duplicates("contact_id")
    return max(0, int(phones.groupby(["to", phones["at"].dt.date]).size().max()) - 1) if len(phones) else 0


def contacts(heard: pd.DataFrame, from_at: datetime, until_at: datetime) -> pd.DataFrame:
    return heard[(heard["at"] >= from_at) & (heard["at"] < until_at)].drop_duplicates("contact_id")


# How hard the night is


def released(system: Ringonce) -> None:
    """A person releases everything at once."""
    system.owner.execute(
        "UPDATE reminders.hold SET released_at = reminders.ledger_clock(), released_by = 'an operator'"
        " WHERE released_at IS NULL"
    )


def stopped(system: Ringonce) -> None:
    """A person stops everything, after having released what was held."""
    released(system)
    system.owner.execute(
        "INSERT INTO reminders.hold (scope, placed_by, why, review_at)"
        " VALUES ('all', 'an operator', 'drill', reminders.ledger_clock())"
    )


class Reimported(Book):
    """The book, which the feed has imported anew under other ids since `at`."""

    at: datetime = NIGHT.reverted_at + 10 * HOUR

    def read(
        self, now: datetime, from_at: datetime, until_at: datetime, ids: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        old = [name.removeprefix("again-") for name in ids]
        for row in super().read(now, from_at, until_at, old):
            yield {**row, "appointment_id": f"again-{row['appointment_id']}"} if now >= self.at else row


class WithoutMailboxes(Book):
    """The book of clients who have no email address: the text is their lowest rung."""

    def read(
        self, now: datetime, from_at: datetime, until_at: datetime, ids: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        for row in super().read(now, from_at, until_at, ids):
            yield {**row, "client_email": None}


def as_a(kind: type[Book]) -> Callable[[Book], Book]:
    """The same bookings, as a book of another kind."""
    return lambda book: kind(**{name: getattr(book, name) for name in book.__dataclass_fields__})


@dataclass(frozen=True)
class Drill:
    """What the night is like: its schedule, what a person does at `morning_at`, the runs at each tick, and the book."""

    name: str
    schedule: Schedule = SHORT
    operator: Act = lambda _system: None
    planners: int = 1
    book: Callable[[Book], Book] = lambda book: book
    clients: int = 50

    def bookings(self) -> Book:
        """The book of the drill; the same each time."""
        return self.book(drill_book(self.clients, SEED))


PLAIN = Drill("the night")
RELEASED_AT_NIGHT = Drill(
    "all released at half past ten at night",
    replace(SHORT, morning_at=NIGHT.reverted_at + 30 * MINUTE),
    released,
)
RELEASED = Drill("all released in the morning", SHORT, released)
STOPPED = Drill("all stopped in the morning", SHORT, stopped)
UNMAILED = Drill("nobody has an email address", SHORT, book=as_a(WithoutMailboxes))
TWO_AT_ONCE = Drill("two runs at each tick", SHORT, planners=2)
# That all ids are new looks like a book that has lost everything: a person has to say that it is right.
REIMPORTED = Drill(
    "the book imported anew under other ids, and all released",
    replace(SHORT, morning_at=Reimported.at + HOUR, ends_at=Reimported.at + 6 * HOUR),
    released,
    book=as_a(Reimported),
)
STORM = Drill("ten times the clients, all released in the morning", SHORT, released, clients=500)


@dataclass(frozen=True)
class Absence:
    """`guard` without its `layers`, in `drill`: `figure` turns bad, unless another layer, `held_by`, still holds."""

    guard: str
    removed: str
    drill: Drill
    figure_name: str
    figure: Figure
    layers: tuple[Layer, ...] = field(repr=False)
    held_by: str = ""
