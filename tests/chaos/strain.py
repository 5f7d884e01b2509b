"""What people and offices had to bear in a drill, beyond the figures of `make replay`: pure functions.

`heard` is the frame of tests/drill/figures.py, a row for each person whom a contact named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from reminders.model import Channel
from tests.drill.book import Book, rungs

# So many minutes lie between two contacts by phone (the house's policy).
GAP = timedelta(hours=2)
# The longest that the gate may be told to let a reminder be overdue.
BACKLOG_AFTER = timedelta(hours=6)
STOPS_WITHIN = timedelta(seconds=1)

LABELS = {
    "duplicates": "repeated (client, visit, channel)",
    "most_calls_at_once": "most calls at once on one line",
    "in_quiet_hours": "texts and calls in quiet hours",
    "late_escalations": "calls made only because it was late",
    "too_late": "contacts after the start or the answer",
    "calls_in_five_minutes": "most calls of an account in five minutes",
    "by_phone_in_a_day": "most texts and calls to a number in a day",
    "too_close": "texts and calls within two hours of another",
    "emails_in_a_day": "most emails of an account in a day",
    "before_hold": "contacts on a channel until it was held",
    "after_hold": "contacts on a channel that is held",
    "backlog_unasked": "contacts of a backlog nobody released",
    "released_in_five_minutes": "most of a released backlog for an account in five minutes",
    "before_canary": "texts of a released backlog before its canary arrived",
    "falsely_delivered": "delivered, says the ledger; nobody heard",
    "rows_twice": "reminders that the ledger has twice",
    "contacts_twice": "contacts that the ledger has made twice",
    "failed_runs": "runs that failed",
    "sent_after": "contacts after the change",
}


def strain(heard: pd.DataFrame, book: Book) -> dict[str, int]:
    """The figures of the log alone; no figure is of a single person's members where a contact is meant."""
    contacts = heard.drop_duplicates("contact_id")
    by_phone = contacts[contacts["channel"] != Channel.EMAIL.value]
    calls = contacts[contacts["channel"] == Channel.CALL.value]
    emails = contacts[contacts["channel"] == Channel.EMAIL.value]
    return {
        "calls_in_five_minutes": most_of(calls, "account_id", "5min"),
        "by_phone_in_a_day": most_of(by_phone, "to", "D"),
        "emails_in_a_day": most_of(emails, "account_id", "D"),
        "too_close": int((by_phone.sort_values("at").groupby("to")["at"].diff() < GAP).sum()),
        "backlog_unasked": backlog(heard, book),
    }


def most_of(contacts: pd.DataFrame, whose: str, period: str) -> int:
    """The most `contacts` of one account or number within one period of the clock."""
    if contacts.empty:
        return 0
    return int(contacts.groupby([whose, contacts["at"].dt.floor(period)]).size().max())


def due_times(book: Book) -> dict[tuple[str, str], datetime]:
    """When each rung was due, by client and channel."""
    return {
        (booking.client_id, rung.channel.value): rung.due_at for booking in book.bookings for rung in rungs(booking)
    }


def backlog(heard: pd.DataFrame, book: Book) -> int:
    """How many people heard of a rung more than `BACKLOG_AFTER` after it was due."""
    due = due_times(book)
    return sum(
        at - due[client_id, channel] > BACKLOG_AFTER
        for client_id, channel, at in zip(heard["client_id"], heard["channel"], heard["at"], strict=True)
    )


def released(heard: pd.DataFrame, book: Book, released_at: datetime | None) -> pd.DataFrame:
    """What a person let go: the contacts made since `released_at`, if anybody did, about rungs due before it."""
    if released_at is None:
        return heard[:0]
    due = due_times(book)
    named = zip(heard["client_id"], heard["channel"], strict=True)
    was_due = pd.Series([due[rung] < released_at for rung in named], heard.index, bool)
    return heard[(heard["at"] >= released_at) & was_due].drop_duplicates("contact_id")


def before_canary(released: pd.DataFrame, canary: int, takes: timedelta) -> int:
    """How many of the `released` texts, beyond the first `canary`, were made before those had been delivered, which
    `takes` so long."""
    times = sorted(released[released["channel"] == Channel.SMS.value]["at"])
    return sum(at < times[canary - 1] + takes for at in times[canary:])


def around_holds(heard: pd.DataFrame, holds: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many contacts were made on channels that were held: before the hold or as it came, and a second after it."""
    held_at = {hold["channel"]: hold["placed_at"] for hold in holds}
    made = heard[heard["channel"].isin(list(held_at))].drop_duplicates("contact_id")
    after = sum(at > held_at[channel] + STOPS_WITHIN for channel, at in zip(made["channel"], made["at"], strict=True))
    return {"before_hold": len(made) - after, "after_hold": after}


def falsely_delivered(heard: pd.DataFrame, book: Book, reminders: Iterable[Mapping[str, Any]]) -> int:
    """Reminders that the ledger calls delivered though the client heard nothing by that channel. Those of appointments
    that the book has under another id too are left out: the log cannot tell the two apart."""
    clients = {booking.client_id for booking in book.bookings}
    reached = set(zip(heard["client_id"], heard["channel"], strict=True))
    return sum(
        row["state"] == "delivered"
        and row["appointment_id"] in clients
        and (row["appointment_id"], row["channel"]) not in reached
        for row in reminders
    )


def twice(rows: Iterable[Mapping[str, Any]], *key: str) -> int:
    """How many of the ledger's rows there are beyond one for each key."""
    counted = Counter(tuple(row[column] for column in key) for row in rows)
    return sum(count - 1 for count in counted.values())
