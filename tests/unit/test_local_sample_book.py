"""The sample book: at any hour email, text and call are due, with the proof that each needs, and nobody is real."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import phonenumbers
import pytest

from local.sample_book import Appointment, Book, business_places, sample_book
from local.sample_history import Past, history, tick_after
from reminders import policy
from reminders.cycle.extract import Rules
from reminders.model import Channel, Hours, Office, Rung

SECRET = b"not a secret, but long enough"
HOURS = Hours(time(9), time(20))
LADDER = (
    Rung(1, Channel.EMAIL, timedelta(hours=72), timedelta(hours=24), timedelta(0)),
    Rung(2, Channel.SMS, timedelta(hours=24), timedelta(hours=2), timedelta(hours=4)),
    Rung(3, Channel.CALL, timedelta(hours=4), timedelta(hours=1), timedelta(hours=1)),
)
RULES = Rules({"*": LADDER}, {"*": HOURS}, {"*": HOURS})

# 555-01xx in North America, the drama numbers of the United Kingdom, the fictitious ones of Australia.
FICTIONAL = re.compile(r"\+1\d{3}55501\d\d|\+442079460\d{3}|\+441134960\d{3}|\+61[28](?:5550|7010)\d{4}")

AN_AUTUMN_DAY = datetime(2026, 11, 24, 0, 3, tzinfo=UTC)
# The nights on which North America, Europe and Australia change their clocks.
DST_NIGHTS = [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC)]
EVERY_HOUR = [AN_AUTUMN_DAY + timedelta(hours=hour) for hour in range(24)]
WHEN = [*EVERY_HOUR, *(night + timedelta(hours=hour) for night in DST_NIGHTS for hour in range(2, 24, 8))]


def due_by(book: Book, pasts: set[tuple[str, int]], at: datetime) -> list[tuple[Appointment, Rung, bool]]:
    """The rungs that a cycle with the logical date `at` finds due, still useful, not past; and if each may go then."""
    zones = {(client.account_id, client.client_id): client.timezone for client in book.clients}
    homes = {account.account_id: account.timezone for account in book.accounts}
    found = []
    for appointment in book.appointments:
        if appointment.status != "booked" or appointment.starts_at < at:
            continue
        own = zones[appointment.account_id, appointment.client_id]
        zone = policy.zone_or(own, homes[appointment.account_id]) or "UTC"
        office = Office(HOURS, homes[appointment.account_id])
        for rung in LADDER:
            window = policy.window(appointment.starts_at, rung, HOURS, zone, office)
            if window.due_at <= at < window.expires_at and (appointment.appointment_id, rung.step) not in pasts:
                found.append((appointment, rung, is_permitted(rung, at, zone, office.zone)))
    return found


def is_permitted(rung: Rung, at: datetime, zone: str, office_zone: str) -> bool:
    asked = {Channel.EMAIL: (), Channel.SMS: (zone,), Channel.CALL: (zone, office_zone)}[rung.channel]
    return all(HOURS.opens <= at.astimezone(ZoneInfo(name)).time() < HOURS.closes for name in asked)


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(minutes=15)], ids=["at once", "a slow start"])
@pytest.mark.parametrize("now", WHEN, ids=lambda now: f"{now:%m-%d_%H}")
def test_at_any_hour_every_channel_has_come_due_with_the_proof_that_it_needs(now: datetime, wait: timedelta) -> None:
    book = sample_book(now)
    pasts = {(past.appointment_id, past.step): past for past in history(book, RULES, SECRET)}
    at = now.replace(minute=now.minute - now.minute % 5) + wait
    ready: Counter[Channel] = Counter()
    for appointment, rung, may_go in due_by(book, set(pasts), at):
        lower = pasts.get((appointment.appointment_id, rung.step - 1))
        was_answered_for = lower is not None and lower.delivered_at is not None and lower.delivered_at < at - rung.wait
        if may_go and (rung.channel is Channel.EMAIL or was_answered_for):
            ready[rung.channel] += 1
    assert ready[Channel.EMAIL] >= 12
    assert ready[Channel.SMS] >= 10
    assert ready[Channel.CALL] >= 4


def test_the_same_now_gives_the_same_book_and_history() -> None:
    first, again = sample_book(AN_AUTUMN_DAY), sample_book(AN_AUTUMN_DAY)
    assert first == again
    assert list(history(first, RULES, SECRET)) == list(history(again, RULES, SECRET))
    assert sample_book(AN_AUTUMN_DAY, seed=1) != first


def test_a_later_book_is_beside_an_earlier_one() -> None:
    first = {appointment.appointment_id for appointment in sample_book(AN_AUTUMN_DAY).appointments}
    later = {appointment.appointment_id for appointment in sample_book(AN_AUTUMN_DAY + timedelta(days=9)).appointments}
    assert not first & later


@pytest.mark.parametrize("now", EVERY_HOUR, ids=lambda now: f"{now:%H}")
def test_nobody_is_real_and_no_number_belongs_to_two(now: datetime) -> None:
    book = sample_book(now)
    numbers = [client.phone for client in book.clients if client.phone and client.phone.startswith("+")]
    numbers += [account.phone for account in book.accounts]
    assert [number for number, times in Counter(numbers).items() if times > 1] == [
        client.phone for client in book.clients if client.client_id == "smith-family0"
    ]
    for number in numbers:
        assert phonenumbers.is_valid_number(phonenumbers.parse(number)), number
        assert "55501" in number or number.startswith(
            ("+4420794600", "+4420794601", "+44207946", "+441134960", "+61")
        ), number
    mails = [client.email for client in book.clients if client.email and "@" in client.email]
    assert all(mail.endswith(("example.com", "example.net", "example.org")) for mail in mails)


def test_the_book_has_what_real_books_have() -> None:
    book = sample_book(AN_AUTUMN_DAY)
    assert "Dr. Smith's office" in {account.name for account in book.accounts}
    assert len({account.timezone for account in book.accounts}) >= 3
    assert {account.locale for account in book.accounts} == {"en", "es", "ja"}
    ahead = [appointment for appointment in book.appointments if appointment.starts_at > AN_AUTUMN_DAY]
    assert len(ahead) > 150
    by_client = Counter(appointment.client_id for appointment in ahead)
    assert by_client["paws-twice"] == 2
    odd = [client for client in book.clients if client.client_id.startswith("smith-odd")]
    assert {None, ""} <= {client.name for client in odd}
    assert "Mars/Olympus_Mons" in {client.timezone for client in odd}
    assert any(client.phone and not client.phone.startswith("+") for client in odd)


def test_every_row_of_the_history_could_have_been_written_by_the_ledger() -> None:
    book = sample_book(AN_AUTUMN_DAY)
    pasts = list(history(book, RULES, SECRET))
    keys = Counter((past.account_id, past.appointment_id, past.slot_at, past.step) for past in pasts)
    assert max(keys.values()) == 1
    for past in pasts:
        assert past.due_at <= past.logical_date
        assert past.due_at < past.expires_at <= past.slot_at
        assert past.ended_at <= book.now
        assert (past.state == "delivered") == (past.delivered_at is not None)
        assert_contact(past)
    assert {"delivered", "superseded", "cancelled", "suppressed", "failed", "undelivered"} <= {p.state for p in pasts}
    assert max(past.slot_at for past in pasts) - min(past.slot_at for past in pasts) > timedelta(days=28)


def assert_contact(past: Past) -> None:
    was_contacted = past.state in ("delivered", "undelivered", "failed", "unknown")
    assert was_contacted == (past.sent_at is not None)
    if was_contacted:
        assert past.address_hash is not None


def test_no_address_of_the_history_is_there_in_clear() -> None:
    book = sample_book(AN_AUTUMN_DAY)
    addresses = {client.phone for client in book.clients} | {client.email for client in book.clients}
    assert not {past.address_masked for past in history(book, RULES, SECRET)} & (addresses - {None})


@pytest.mark.parametrize(
    ("due", "tick"),
    [("09:00:00", "09:00"), ("09:00:01", "09:05"), ("09:04:59", "09:05"), ("23:57:00", "00:00")],
)
def test_the_cycle_that_finds_a_reminder_is_the_next_tick(due: str, tick: str) -> None:
    at = datetime.combine(datetime(2026, 5, 1, tzinfo=UTC).date(), time.fromisoformat(due), UTC)
    assert f"{tick_after(at):%H:%M}" == tick


def test_somewhere_it_is_always_business_hours() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for step in range(0, 365 * 24 * 2):
        assert business_places(first + timedelta(minutes=30 * step))
