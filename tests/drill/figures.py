"""What reached people, as figures: pure functions of the phone network's log. No ledger's word is taken for it.

`heard` is a frame with a row for each person whom a contact named:

    contact_id      int, one for each email, text or call
    at, ended_at    when it reached the phone or mailbox, and when the call ended (NaT for an email or a text)
    channel, to     `email`, `sms` or `call`, and the number or mailbox
    client_id, account_id
    is_duplicate    the client had heard of the appointment by this channel before
    is_unquiet      a text or call outside the permitted hours of the client's zone
    is_late_escalation   a call that only lateness asked for: outside the call's own window, or before anything quieter
    is_too_late     more than ten minutes after the appointment's start or the client's answer
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from reminders.model import Channel
from reminders.policy import DEFAULT_HOURS
from tests.clock import is_permitted
from tests.drill.book import ZONE, Book, Booking, Due, rungs

# What the ledger itself takes a book's row to be fresh for.
BOOK_IS_FRESH_FOR = timedelta(minutes=10)
# MODEL says it: a plain assumption, the same for both systems.
RINGS_BACK = 0.1
MARKS = ("is_duplicate", "is_unquiet", "is_late_escalation", "is_too_late")
COLUMNS = ("contact_id", "at", "ended_at", "channel", "to", "client_id", "account_id", *MARKS)

# The figures by their names, in the table's order.
LABELS = {
    "contacts": "emails, texts and calls",
    "duplicates": "repeated (client, visit, channel)",
    "most_repeated": "most times one client got one of them",
    "most_calls_at_once": "most calls at once on one line",
    "most_calls_to_one": "most calls to one client",
    "in_quiet_hours": "texts and calls in quiet hours",
    "late_escalations": "calls made only because it was late",
    "too_late": "contacts after the start or the answer",
    "callbacks": "clients who ring the office back*",
    "most_callbacks_an_hour": "most of them at one office in an hour*",
    "unsent": "reminders not sent, with a reason",
    "lost": "reminders lost without a reason",
}
MODEL = "* by a model: each call makes one client in ten ring back"
# More than that breaks a promise.
MUST_BE_ZERO = ("duplicates", "in_quiet_hours", "late_escalations", "too_late", "lost")
MUST_BE_AT_MOST_ONE = ("most_repeated", "most_calls_at_once")

Json = Mapping[str, Any]
# Client and step.
Explained = Set[tuple[str, int]]


def heard(events: Iterable[Json], calls: Iterable[Json], book: Book) -> pd.DataFrame:
    """The log's events and calls (as GET /_log and /_log/calls give them) as the frame above, oldest first.

    ValueError for a contact that names nobody whom the book has at its address.
    """
    at_address: dict[str, list[Booking]] = defaultdict(list)
    for booking in book.bookings:
        at_address[booking.phone].append(booking)
        at_address[booking.email].append(booking)
    ended = {call["sid"]: call["ended_at"] for call in calls}
    rows: list[dict[str, Any]] = []
    for contact_id, event in enumerate(sorted(events, key=lambda event: str(event["time"]))):
        named = _named(event["body"], at_address[event["to"]])
        if not named:
            raise ValueError(f"contact {contact_id} ({event['channel']}) names nobody whom the book has there")
        over_at = ended.get(event["sid"])
        for booking in named:
            rows.append(
                {
                    "contact_id": contact_id,
                    "at": datetime.fromisoformat(event["time"]),
                    "ended_at": datetime.fromisoformat(over_at) if over_at else None,
                    "channel": event["channel"],
                    "to": event["to"],
                    "client_id": booking.client_id,
                    "account_id": booking.account_id,
                }
            )
    return _marked(rows, {booking.client_id: booking for booking in book.bookings})


def _named(words: str, bookings: Sequence[Booking]) -> list[Booking]:
    spoken = set(re.findall(r"\w+", words))
    return [booking for booking in bookings if booking.first_name in spoken]


def _marked(rows: list[dict[str, Any]], bookings: Mapping[str, Booking]) -> pd.DataFrame:
    call_of = {
        client_id: next(rung for rung in rungs(booking) if rung.channel is Channel.CALL)
        for client_id, booking in bookings.items()
    }
    before: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        client_id, channel, at = row["client_id"], row["channel"], row["at"]
        booking, is_call = bookings[client_id], channel == Channel.CALL
        row["is_duplicate"] = channel in before[client_id]
        row["is_unquiet"] = channel != Channel.EMAIL and not is_permitted(at, DEFAULT_HOURS, ZONE)
        row["is_late_escalation"] = is_call and (
            not call_of[client_id].due_at <= at < call_of[client_id].expires_at
            or not before[client_id] - {Channel.CALL.value}
        )
        row["is_too_late"] = at > min(booking.slot_at, booking.answered_at) + BOOK_IS_FRESH_FOR
        before[client_id].add(channel)
    # An empty log has its types too.
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(MARKS, bool))
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True), ended_at=pd.to_datetime(frame["ended_at"], utc=True))


def between(frame: pd.DataFrame, from_at: datetime, until_at: datetime) -> pd.DataFrame:
    """What was heard in [from_at, until_at)."""
    return frame[(frame["at"] >= from_at) & (frame["at"] < until_at)]


def figures(part: pd.DataFrame) -> dict[str, int]:
    """The figures of a part of `heard`: those of LABELS but for the last two, which the log alone does not tell."""
    calls = part[part["channel"] == Channel.CALL.value]
    return {
        "contacts": int(part["contact_id"].nunique()),
        "duplicates": int(part["is_duplicate"].sum()),
        "most_repeated": int(part.groupby(["client_id", "channel"]).size().max()) if len(part) else 0,
        "most_calls_at_once": most_at_once(calls),
        "most_calls_to_one": int(calls.groupby("client_id").size().max()) if len(calls) else 0,
        "in_quiet_hours": int(part[part["is_unquiet"]]["contact_id"].nunique()),
        "late_escalations": int(part["is_late_escalation"].sum()),
        "too_late": int(part["is_too_late"].sum()),
        "callbacks": round(sum(_ring_backs(calls))),
        "most_callbacks_an_hour": most_ring_backs_an_hour(calls),
    }


def most_at_once(calls: pd.DataFrame) -> int:
    """The most calls that rang or were talked on at one number at the same time."""
    most = 0
    for _, line in calls.drop_duplicates("contact_id").groupby("to"):
        # One that ends as another begins is over: its -1 sorts before the other's +1.
        turns = sorted([(at, 1) for at in line["at"]] + [(at, -1) for at in line["ended_at"].dropna()])
        open_calls = 0
        for _, change in turns:
            open_calls += change
            most = max(most, open_calls)
    return most


def _ring_backs(calls: pd.DataFrame) -> pd.Series[float]:
    """How likely each person called is to ring the office back, having been called so often."""
    return 1 - (1 - RINGS_BACK) ** calls.groupby(["account_id", "client_id"]).size()


def most_ring_backs_an_hour(calls: pd.DataFrame) -> int:
    """The most people who ring one office back within an hour of being called."""
    if calls.empty:
        return 0
    by_hour = calls.assign(hour=calls["at"].dt.floor("h")).groupby(["account_id", "hour"])
    return round(max(_ring_backs(hour).sum() for _, hour in by_hour))


def unsent(due: Iterable[Due], frame: pd.DataFrame, end: datetime) -> list[Due]:
    """The reminders of which nothing reached the client between the time they were due and the appointment, without
    those that are still of use at `end`."""
    reached: dict[str, list[datetime]] = defaultdict(list)
    for client_id, at in zip(frame["client_id"], frame["at"], strict=True):
        reached[client_id].append(at)
    return [
        rung
        for rung in due
        if rung.expires_at <= end
        and not any(rung.due_at <= at < rung.booking.slot_at for at in reached[rung.booking.client_id])
    ]


def explanations(reminders: Iterable[Json]) -> Explained:
    """Client and step of the ledger's rows that ended without reaching anybody, and say why."""
    return {
        (row["appointment_id"], row["step"])
        for row in reminders
        if row["ended_at"] is not None and row["reason"] and row["state"] != "delivered"
    }


def broken_promises(found: Mapping[str, int]) -> dict[str, int]:
    """Those of the figures that are no better than they must be; empty when every promise was kept."""
    at_most = {**dict.fromkeys(MUST_BE_ZERO, 0), **dict.fromkeys(MUST_BE_AT_MOST_ONE, 1)}
    return {name: found[name] for name, most in at_most.items() if found[name] > most}


def table(columns: Mapping[tuple[str, str], Mapping[str, int]]) -> pd.DataFrame:
    """The figures side by side: a row for each of LABELS, a column for each (period, system)."""
    frame = pd.DataFrame({name: pd.Series(found) for name, found in columns.items()}).reindex(list(LABELS))
    return frame.rename(index=LABELS)
