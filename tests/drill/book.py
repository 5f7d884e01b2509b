"""The drill's book: clients with one appointment each, the same for every run of a seed.

Days are those of one week in February, when London's clock shows UTC. Half of Friday's visits are before ten, as
where blood is taken: they come due when the day opens on Thursday. Some clients live in households that share one
telephone and one mailbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from random import Random
from typing import Any

from local.sample_book import FIRST_NAMES, LAST_NAMES, UNITED_KINGDOM, US_EAST, US_WEST, fictional_numbers
from reminders.model import Channel
from reminders.policy import DEFAULT_HOURS, DEFAULT_LADDER, window

ZONE = "Europe/London"
WEDNESDAY = datetime(2026, 2, 11, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
QUARTER = timedelta(minutes=15)
Row = dict[str, Any]
TICK = timedelta(minutes=5)

ACCOUNTS = {
    "smith": "Dr. Smith's office",
    "paws": "Paws and Whiskers",
    "aurora": "Aurora Salon",
    "thames": "Thames Physiotherapy",
    "wattle": "Wattle Eye Care",
    "linden": "Linden Dental",
}
# Days after Wednesday, and what share of the appointments each has: the story is about Friday.
SHARES = {0: 0.18, 1: 0.18, 2: 0.34, 3: 0.12, 4: 0.08, 5: 0.10}
FRIDAY, SATURDAY = 2, 3
OPENS, CLOSES, EARLY_UNTIL = 8 * HOUR, 18 * HOUR, 10 * HOUR
HOUSEHOLD_SHARE, HOUSEHOLD_SIZES = 0.15, (3, 4)
CONFIRMED_SHARE, CANCELLED_SHARE = 0.10, 0.04


@dataclass(frozen=True, slots=True)
class Booking:
    """A client and the one appointment that the client has. `answer` is the status that the book shows from
    `answered_at` on: `confirmed`, `cancelled`, or `booked` for a client who never answers."""

    client_id: str
    account_id: str
    name: str
    email: str
    phone: str
    slot_at: datetime
    answer: str
    answered_at: datetime

    @property
    def first_name(self) -> str:
        return self.name.split()[0]

    def status(self, now: datetime) -> str:
        return self.answer if now >= self.answered_at else "booked"


@dataclass(frozen=True, slots=True)
class Due:
    """A rung of the ladder that a booking is due. Nothing is due once the client has answered."""

    booking: Booking
    step: int
    channel: Channel
    due_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Book:
    """`offices` are the accounts' telephone numbers by account."""

    bookings: tuple[Booking, ...]
    offices: dict[str, str]

    def read(
        self, now: datetime, from_at: datetime, until_at: datetime, ids: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """The rows of `read_book` as they are at `now`."""
        named = set(ids)
        for booking in self.bookings:
            if from_at <= booking.slot_at < until_at or booking.client_id in named:
                yield self._row(booking, now)

    def _row(self, booking: Booking, now: datetime) -> Row:
        return {
            "appointment_id": booking.client_id,
            "account_id": booking.account_id,
            "status": booking.status(now),
            "location": "",
            "starts_at": booking.slot_at,
            "ends_at": booking.slot_at + QUARTER,
            "created_at": booking.slot_at - 21 * DAY,
            "client_name": booking.name,
            "client_email": booking.email,
            "client_phone": booking.phone,
            "client_zone": ZONE,
            "client_locale": "en",
            "account_name": ACCOUNTS[booking.account_id],
            "account_phone": self.offices[booking.account_id],
            "account_email": f"office@{booking.account_id}.example.com",
            "account_zone": ZONE,
            "account_locale": "en",
        }

    def due(self) -> list[Due]:
        """Every rung that comes due and whose client had not answered by the time it was over."""
        return [rung for booking in self.bookings for rung in rungs(booking) if booking.answered_at > rung.expires_at]


def rungs(booking: Booking) -> list[Due]:
    """The house's ladder for one booking."""
    found = []
    for rung in DEFAULT_LADDER:
        useful = window(booking.slot_at, rung, DEFAULT_HOURS, ZONE)
        found.append(Due(booking, rung.step, rung.channel, useful.due_at, useful.expires_at))
    return found


def drill_book(clients: int, seed: int) -> Book:
    """A book of `clients` bookings; the same `clients` and `seed` give the same book. ValueError when there are more
    clients than numbers kept free for fiction."""
    return Writer(clients, Random(seed)).write()


class Writer:
    """Fills one book from `random`."""

    def __init__(self, clients: int, random: Random) -> None:
        self.clients = clients
        self.random = random
        self.numbers = chain(fictional_numbers(UNITED_KINGDOM, random), fictional_numbers((*US_EAST, *US_WEST), random))
        self.offices = {account_id: self._number() for account_id in ACCOUNTS}
        self.bookings: list[Booking] = []

    def write(self) -> Book:
        while len(self.bookings) < self.clients * HOUSEHOLD_SHARE:
            self._household(min(self.random.choice(HOUSEHOLD_SIZES), self.clients - len(self.bookings)))
        while len(self.bookings) < self.clients:
            (name,) = self._names(1)
            (day,) = self.random.choices(list(SHARES), list(SHARES.values()))
            self._book(name, self.random.choice(list(ACCOUNTS)), day, self._quarter(day), self._number())
        return Book(tuple(self.bookings), self.offices)

    def _number(self) -> str:
        number = next(self.numbers, None)
        if number is None:
            raise ValueError("there are not so many numbers kept free for fiction: take fewer clients")
        return number

    def _names(self, count: int) -> list[str]:
        last = self.random.choice(LAST_NAMES["en"].split())
        return [f"{first} {last}" for first in self.random.sample(FIRST_NAMES["en"].split(), count)]

    def _quarter(self, day: int) -> timedelta:
        """A quarter of an hour in the account's day; half of Friday's are early."""
        until = EARLY_UNTIL if day == FRIDAY and self.random.random() < 0.5 else CLOSES
        return OPENS + QUARTER * self.random.randrange((until - OPENS) // QUARTER)

    def _household(self, size: int) -> None:
        """One telephone and mailbox: the family is seen in a row early on Friday, the last of them elsewhere and on
        another day, so that two accounts share the telephone too."""
        phone, email = self._number(), f"household{len(self.bookings)}@example.com"
        account_id, elsewhere = self.random.sample(list(ACCOUNTS), 2)
        first = OPENS + QUARTER * self.random.randrange((EARLY_UNTIL - OPENS) // QUARTER - size)
        for place, name in enumerate(self._names(size)):
            if place == size - 1 and size > 1:
                self._book(name, elsewhere, SATURDAY, self._quarter(SATURDAY), phone, email)
            else:
                self._book(name, account_id, FRIDAY, first + place * QUARTER, phone, email)

    def _book(
        self, name: str, account_id: str, day: int, opens_in: timedelta, phone: str, email: str | None = None
    ) -> None:
        client_id = f"{account_id}-{len(self.bookings)}"
        slot_at = WEDNESDAY + day * DAY + opens_in
        answer = self._answer()
        # Between the email and the call, when a cycle reads: as people answer.
        ago = TICK * self.random.randrange(5 * HOUR // TICK, 70 * HOUR // TICK)
        answered_at = slot_at - ago if answer != "booked" else slot_at + DAY
        self.bookings.append(
            Booking(
                client_id, account_id, name, email or f"{client_id}@example.net", phone, slot_at, answer, answered_at
            )
        )

    def _answer(self) -> str:
        drawn = self.random.random()
        if drawn < CONFIRMED_SHARE:
            return "confirmed"
        return "cancelled" if drawn < CONFIRMED_SHARE + CANCELLED_SHARE else "booked"
