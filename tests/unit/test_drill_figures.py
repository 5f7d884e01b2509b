"""The drill's figures come from the phone network's log alone, and each can be other than zero."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reminders.model import Channel
from tests.drill import figures
from tests.drill.book import DAY, HOUR, WEDNESDAY, Book, Booking, Due, drill_book, rungs

FRIDAY = WEDNESDAY + 2 * DAY
SLOT = FRIDAY + 14 * HOUR
TEXT_DUE, CALL_DUE = SLOT - 24 * HOUR, SLOT - 4 * HOUR
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
HOME = "+442079460100"


def booking(name: str, **changes: Any) -> Booking:
    given = {
        "client_id": name.lower(),
        "account_id": "smith",
        "name": f"{name} Sample",
        "email": "family@example.com",
        "phone": HOME,
        "slot_at": SLOT,
        "answer": "booked",
        "answered_at": SLOT + DAY,
    }
    return Booking(**{**given, **changes})


ADA, BEN = booking("Ada"), booking("Ben")
BOOK = Book((ADA, BEN), {"smith": "+442079460000"})

Log = list[tuple[str, Any, str]]


def heard(log: Log, book: Book = BOOK, lasting: timedelta = 15 * SECOND) -> Any:
    """The frame of a log of (channel, time, who is named); every call lasts as long."""
    events, calls = [], []
    for number, (channel, at, words) in enumerate(log):
        to = "family@example.com" if channel == "email" else HOME
        events.append({"time": at.isoformat(), "channel": channel, "to": to, "body": words, "sid": str(number)})
        if channel == "call":
            calls.append({"sid": str(number), "ended_at": (at + lasting).isoformat()})
    return figures.heard(events, calls, book)


EMAIL = ("email", SLOT - 72 * HOUR, "Hello Ada,")
TEXT = ("sms", TEXT_DUE, "appointment reminder for Ada, Fri")
CALL = ("call", CALL_DUE, "<Say>For Ada: Friday</Say>")
BEN_TOO = ("call", CALL_DUE + 5 * SECOND, "<Say>For Ben: Friday</Say>")
AFTER_IT = ("call", CALL_DUE + 15 * SECOND, "<Say>For Ben: Friday</Say>")
LADDER = [EMAIL, TEXT, CALL]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (LADDER, {"contacts": 3, "most_repeated": 1, "most_calls_at_once": 1, "most_calls_to_one": 1}),
        ([*LADDER, CALL], {"duplicates": 1, "most_repeated": 2, "most_calls_to_one": 2, "most_calls_at_once": 2}),
        ([EMAIL, TEXT, TEXT, TEXT], {"duplicates": 2, "most_repeated": 3}),
        # another person on the line: no repetition, but two phones at once
        ([*LADDER, BEN_TOO], {"duplicates": 0, "most_calls_at_once": 2, "most_calls_to_one": 1}),
        ([*LADDER, AFTER_IT], {"most_calls_at_once": 1}),
        # one contact that names both is one contact
        ([("sms", TEXT_DUE, "for Ada, 14:00; for Ben, 14:00")], {"contacts": 1, "duplicates": 0}),
        ([("sms", FRIDAY + 8 * HOUR, "for Ada")], {"in_quiet_hours": 1}),
        ([("sms", FRIDAY + 9 * HOUR, "for Ada")], {"in_quiet_hours": 0}),
        ([("email", FRIDAY + 3 * HOUR, "Hello Ada,")], {"in_quiet_hours": 0}),
        # nothing quieter came before the call
        ([CALL], {"late_escalations": 1}),
        # a text that had come due is made a call
        ([EMAIL, ("call", TEXT_DUE + 2 * HOUR, "Ada")], {"late_escalations": 1}),
        ([EMAIL, ("call", SLOT - HOUR, "Ada")], {"late_escalations": 1}),
        (LADDER, {"late_escalations": 0}),
        ([("email", SLOT + 10 * MINUTE, "Hello Ada,")], {"too_late": 0}),
        ([("email", SLOT + 11 * MINUTE, "Hello Ada,")], {"too_late": 1}),
        ([EMAIL, *[CALL] * 50], {"callbacks": 1, "most_callbacks_an_hour": 1}),
        ([], {name: 0 for name in figures.LABELS if name not in ("unsent", "lost")}),
    ],
)
def test_what_the_log_tells(log: Log, expected: dict[str, int]) -> None:
    found = figures.figures(heard(log))
    assert {name: found[name] for name in expected} == expected


def test_a_contact_after_the_clients_answer_is_too_late() -> None:
    answered = booking("Ada", answer="confirmed", answered_at=SLOT - 30 * HOUR)
    assert figures.figures(heard([TEXT], Book((answered,), {})))["too_late"] == 1


def test_what_came_before_a_part_is_remembered_in_it() -> None:
    frame = heard([EMAIL, TEXT, ("sms", TEXT_DUE + DAY / 2, "for Ada")])
    later = figures.between(frame, TEXT_DUE + HOUR, SLOT)
    assert figures.figures(later)["duplicates"] == 1
    assert figures.figures(later)["contacts"] == 1


def test_a_contact_that_names_nobody_of_its_address_is_no_figure_but_an_error() -> None:
    with pytest.raises(ValueError, match="names nobody"):
        heard([("sms", TEXT_DUE, "for Adam")])


TEXT_RUNG = next(rung for rung in rungs(ADA) if rung.channel is Channel.SMS)


@pytest.mark.parametrize(
    ("log", "end", "is_unsent"),
    [
        ([], SLOT, True),
        ([TEXT], SLOT, False),
        ([("call", TEXT_DUE, "Ada")], SLOT, False),
        ([EMAIL], SLOT, True),
        ([("sms", SLOT, "for Ada")], SLOT + HOUR, True),
        ([("sms", TEXT_DUE, "for Ben")], SLOT, True),
        # it can still be sent
        ([], TEXT_RUNG.expires_at - MINUTE, False),
    ],
)
def test_a_reminder_is_sent_when_its_client_hears_of_the_visit_before_it(log: Log, end: Any, is_unsent: bool) -> None:
    expected: list[Due] = [TEXT_RUNG] if is_unsent else []
    assert figures.unsent([TEXT_RUNG], heard(log), end) == expected


@pytest.mark.parametrize(
    ("state", "reason", "is_explained"),
    [
        ("expired", "too_late", True),
        ("failed", "bad_address", True),
        ("pending", None, False),
        # a ledger that calls it delivered has to be right
        ("delivered", "completed", False),
    ],
)
def test_only_an_end_with_a_reason_explains(state: str, reason: str | None, is_explained: bool) -> None:
    row = {"appointment_id": "ada", "step": 2, "state": state, "reason": reason, "ended_at": SLOT if reason else None}
    assert figures.explanations([row]) == ({("ada", 2)} if is_explained else set())


def test_promises_are_broken_by_anything_worse_than_they_allow() -> None:
    kept = {**dict.fromkeys(figures.LABELS, 0), "contacts": 9, "most_calls_at_once": 1, "most_repeated": 1}
    assert figures.broken_promises(kept) == {}
    worse = {name: kept[name] + 1 for name in (*figures.MUST_BE_ZERO, *figures.MUST_BE_AT_MOST_ONE)}
    assert figures.broken_promises({**kept, **worse}) == worse


def test_the_table_has_a_row_for_each_figure() -> None:
    found = dict.fromkeys(figures.LABELS, 7)
    table = figures.table({("night", "a"): found, ("night", "b"): found})
    assert list(table.index) == list(figures.LABELS.values())
    assert list(table.columns) == [("night", "a"), ("night", "b")]
    assert (table == 7).all(axis=None)


def test_a_seed_gives_one_book_whose_households_share_a_line() -> None:
    book = drill_book(200, 5)
    assert book == drill_book(200, 5)
    assert book != drill_book(200, 6)
    on_line: dict[str, set[str]] = {}
    for each in book.bookings:
        on_line.setdefault(each.phone, set()).add(each.first_name)
    sizes = [len(names) for names in on_line.values()]
    assert sum(sizes) == 200
    assert max(sizes) >= 3
    assert not on_line.keys() & set(book.offices.values())


def test_there_are_only_so_many_numbers_kept_free_for_fiction() -> None:
    with pytest.raises(ValueError, match="take fewer clients"):
        drill_book(5000, 1)
