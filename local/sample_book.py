"""A booking database to look at: accounts in several zones, their clients, and appointments around a given now.

Every number belongs to a range kept free for fiction, every mail address to a domain kept free for examples. The same
`now` and `seed` give the same book. Whatever the hour, an email, a text and a call have just come due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import cycle
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql

PAST = timedelta(days=28)
AHEAD = timedelta(days=7)
SEED = 20
CLIENTS_OF_AN_ACCOUNT = 30
DUE_EMAILS, DUE_TEXTS, DUE_CALLS = 12, 10, 4

# Ranges that the regulators keep free for fiction. North America: 555-0100 to 555-0199 of each area code
# (ATIS-0300115). United Kingdom: 020 7946 0000 to 0999 and 0113 496 0000 to 0999 (Ofcom, "Numbers for drama use").
# Australia: 5550 and 7010 in the area codes 02 and 08 (ACMA, "Fictitious numbers").
US_EAST = tuple(f"+1{area}55501" for area in (212, 202, 305, 617, 917))
US_WEST = tuple(f"+1{area}55501" for area in (213, 310, 415, 206))
HAWAII = ("+180855501", *US_WEST)
UNITED_KINGDOM = ("+442079460", "+441134960")
AUSTRALIA_EAST = ("+612555000", "+612701000")
AUSTRALIA_WEST = ("+618555000", "+618701000")
# Characters of a number in E.164, the plus sign with them.
BRITISH_LENGTH, OTHER_LENGTH = 13, 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where an account can be: its zone, its street, and the ranges of its clients' numbers."""

    zone: str
    street: str
    numbers: tuple[str, ...]


# Between them it is always late morning or afternoon somewhere.
PLACES = (
    Place("Pacific/Honolulu", "12 Plumeria Lane, Honolulu", HAWAII),
    Place("America/Los_Angeles", "480 Alder Street, Los Angeles", US_WEST),
    Place("America/New_York", "31 Linden Avenue, New York", US_EAST),
    Place("Europe/London", "7 Juniper Row, London", UNITED_KINGDOM),
    Place("Asia/Dubai", "Palm Court 3, Dubai", UNITED_KINGDOM),
    Place("Australia/Perth", "66 Banksia Road, Perth", AUSTRALIA_WEST),
    Place("Australia/Sydney", "9 Wattle Close, Sydney", AUSTRALIA_EAST),
)
EARLIEST, NOON, LATEST = time(10, 15), time(12, 30), time(16, 45)

FIRST_NAMES = {
    "en": "Ada Ben Chloe Dev Ella Finn Grace Hugo Iris Jack Kira Liam Maya Noah Olive Priya Quinn Rosa Sam Tess",
    "es": "Álvaro Beatriz Carmen Diego Elena Fermín Gloria Héctor Inés Javier Lucía Marta Nicolás Olga Pablo",
    "ja": "葵 健太 結衣 翔太 さくら 大輔 美咲 陽菜 蓮 直樹",
}
LAST_NAMES = {
    "en": "Abbott Baker Chen Doyle Evans Foster Gupta Hughes Ito Jones Khan Lewis Moore Novak Okafor Price Reed",
    "es": "Aguilar Blanco Castro Domínguez Espinosa Fuentes García Herrera Iglesias Jiménez Muñoz Ortega",
    "ja": "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村",
}
STATUSES_AHEAD = ("booked",) * 8 + ("confirmed", "cancelled")
STATUSES_PAST = ("completed",) * 17 + ("no_show", "cancelled", "cancelled")


@dataclass(frozen=True, slots=True)
class Account:
    account_id: str
    name: str
    timezone: str
    phone: str
    email: str
    locale: str


@dataclass(frozen=True, slots=True)
class Client:
    client_id: str
    account_id: str
    name: str | None
    email: str | None
    phone: str | None
    timezone: str | None = None
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class Appointment:
    appointment_id: str
    account_id: str
    client_id: str
    starts_at: datetime
    ends_at: datetime
    status: str
    service: str
    location: str
    created_at: datetime
    updated_at: datetime


@dataclass
class Book:
    """The rows of the three tables of schema `booking`, and when they were made."""

    now: datetime
    accounts: list[Account] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    appointments: list[Appointment] = field(default_factory=list)


def business_places(now: datetime) -> list[Place]:
    """The places where it is between late morning and afternoon at `now`, the nearest to noon first; never empty."""

    def from_noon(place: Place) -> tuple[int, str]:
        local = now.astimezone(ZoneInfo(place.zone))
        return abs((local.hour - NOON.hour) * 60 + local.minute - NOON.minute), place.zone

    open_now = [place for place in PLACES if EARLIEST <= now.astimezone(ZoneInfo(place.zone)).time() <= LATEST]
    return sorted(open_now, key=from_noon)


def sample_book(now: datetime, seed: int = SEED) -> Book:
    """The book at `now` (aware): four weeks past, a week ahead, and what has come due within the last hour or so."""
    return Writer(now, seed).write()


@dataclass
class Writer:
    """Fills one book. Each client gets a number that no other has."""

    now: datetime
    seed: int

    def __post_init__(self) -> None:
        self.now = self.now.astimezone(UTC)
        # Appointments begin on the minutes that people book; what is due by this tick is due by the first cycle.
        self.tick = self.now.replace(minute=self.now.minute - self.now.minute % 5, second=0, microsecond=0)
        self.random = Random(self.seed)
        self.book = Book(self.now)
        self._numbers: dict[tuple[str, ...], Iterator[str]] = {}
        self._given: set[str] = set()

    def write(self) -> Book:
        busy = cycle(business_places(self.now))
        by_zone = {place.zone: place for place in PLACES}
        smith = self._account("smith", "Dr. Smith's office", next(busy), "en")
        paws = self._account("paws", "Paws & Whiskers", next(busy), "en")
        accounts = [
            (smith, "Check-up"),
            (paws, "Vaccination"),
            (self._account("aurora", "Salón Aurora", by_zone["America/Los_Angeles"], "es"), "Corte y color"),
            (self._account("sakura", "さくら歯科", by_zone["Pacific/Honolulu"], "ja"), "定期検診"),
            (self._account("thames", "Thames Physiotherapy", by_zone["Europe/London"], "en"), "Session"),
            (self._account("wattle", "Wattle Eye Care", by_zone["Australia/Sydney"], "en"), "Eye test"),
        ]
        for (account, place), service in accounts:
            regulars = [self._client(account, place, number) for number in range(CLIENTS_OF_AN_ACCOUNT)]
            self._weeks(account, place, regulars, service)
        for account, place in (smith, paws):
            self._just_due(account, place)
        self._family(*smith)
        self._two_at_once(*paws)
        self._bad_rows(*smith)
        return self.book

    def _account(self, account_id: str, name: str, place: Place, locale: str) -> tuple[Account, Place]:
        account = Account(account_id, name, place.zone, self._number(place), f"office@{account_id}.example.com", locale)
        self.book.accounts.append(account)
        return account, place

    def _number(self, place: Place) -> str:
        """The next number of the place's ranges, drawn without replacement over the whole book."""
        if place.numbers not in self._numbers:
            self._numbers[place.numbers] = fictional_numbers(place.numbers, self.random)
        number = next(number for number in self._numbers[place.numbers] if number not in self._given)
        self._given.add(number)
        return number

    def _client(self, account: Account, place: Place, number: int | str, **other: str | None) -> Client:
        first = self.random.choice(FIRST_NAMES[account.locale].split())
        last = self.random.choice(LAST_NAMES[account.locale].split())
        name = f"{last} {first}" if account.locale == "ja" else f"{first} {last}"
        client_id = f"{account.account_id}-{number}"
        domain = self.random.choice(("example.com", "example.net", "example.org"))
        columns: dict[str, str | None] = {"name": name, "email": f"{client_id}@{domain}"}
        columns["phone"] = other["phone"] if "phone" in other else self._number(place)
        client = Client(client_id, account.account_id, **{**columns, **other})
        self.book.clients.append(client)
        return client

    def _appointment(
        self, client: Client, starts_at: datetime, status: str, service: str, location: str, booked_before: int = 21
    ) -> None:
        created_at = min(starts_at, self.now) - timedelta(days=booked_before, minutes=self.random.randrange(600))
        self.book.appointments.append(
            Appointment(
                # The book's own time is part of the id: a later book is beside this one, not over it.
                f"{self.tick:%y%m%d%H%M}-{len(self.book.appointments):04d}",
                client.account_id,
                client.client_id,
                starts_at,
                starts_at + timedelta(minutes=30),
                status,
                service,
                location,
                created_at,
                created_at,
            )
        )

    def _weeks(self, account: Account, place: Place, clients: list[Client], service: str) -> None:
        zone = ZoneInfo(account.timezone)
        day = (self.now - PAST).astimezone(zone).date()
        last = (self.now + AHEAD).astimezone(zone).date()
        while day <= last:
            if day.weekday() < 5:
                for half_hour in sorted(self.random.sample(range(18), 5)):
                    opens = datetime.combine(day, time(9), zone).astimezone(UTC)
                    starts_at = opens + timedelta(minutes=30 * half_hour)
                    statuses = STATUSES_PAST if starts_at < self.now else STATUSES_AHEAD
                    status = self.random.choice(statuses)
                    self._appointment(self.random.choice(clients), starts_at, status, service, place.street)
            day += timedelta(days=1)

    def _just_due(self, account: Account, place: Place) -> None:
        """Appointments whose email, text or call has come due within the last hour, each of a client of its own."""
        for kind, count, lead in (
            ("email", DUE_EMAILS, timedelta(hours=71)),
            ("text", DUE_TEXTS, timedelta(hours=23)),
            ("call", DUE_CALLS, timedelta(hours=3, minutes=30)),
        ):
            for number in range(count):
                client = self._client(account, place, f"{kind}{number}")
                starts_at = self.tick + lead + timedelta(minutes=5 * (number % 4))
                self._appointment(client, starts_at, "booked", "Visit", place.street)

    def _family(self, account: Account, place: Place) -> None:
        """Two children on their parent's phone and address, one after the other: one contact names both."""
        phone = self._number(place)
        for place_in_line, name in enumerate(("Mia Lopez", "Leo Lopez")):
            client = self._client(
                account, place, f"family{place_in_line}", name=name, phone=phone, email="lopez@example.com"
            )
            starts_at = self.tick + timedelta(hours=23, minutes=5 * place_in_line)
            self._appointment(client, starts_at, "booked", "Visit", place.street)

    def _two_at_once(self, account: Account, place: Place) -> None:
        """One client with two appointments on the same morning."""
        client = self._client(account, place, "twice")
        for minutes in (0, 15):
            starts_at = self.tick + timedelta(hours=23, minutes=minutes)
            self._appointment(client, starts_at, "booked", "Visit", place.street)

    def _bad_rows(self, account: Account, place: Place) -> None:
        """What real books hold too: none of it may stop a cycle."""
        texts_due = self.tick + timedelta(hours=23)
        rows: tuple[dict[str, str | None], ...] = (
            {"phone": "ask at the front desk"},
            {"phone": None},
            {"phone": None, "email": None},
            {"email": "not an address", "timezone": "Mars/Olympus_Mons"},
            {"name": ""},
            {"name": None, "locale": "tlh"},
            {"name": 'Eve\n<b>{name}</b> "O\'Hara"'},
            {"name": "x" * 10_000},
        )
        for number, columns in enumerate(rows):
            client = self._client(account, place, f"odd{number}", **columns)
            self._appointment(client, texts_due, "booked", "Visit", place.street)
        client = self._client(account, place, "tentative")
        self._appointment(client, texts_due, "tentative", "Visit", place.street)


def fictional_numbers(prefixes: Iterable[str], random: Random) -> Iterator[str]:
    """The numbers of the ranges, each once, in a shuffled order."""
    numbers = []
    for prefix in prefixes:
        digits = (BRITISH_LENGTH if prefix.startswith("+44") else OTHER_LENGTH) - len(prefix)
        numbers += [f"{prefix}{number:0{digits}d}" for number in range(10**digits)]
    random.shuffle(numbers)
    return iter(numbers)


def load_book(connection: psycopg.Connection[Any], book: Book) -> None:
    """Write the book into schema `booking`, in one transaction; rows that are there already stay."""
    with connection.transaction(), connection.cursor() as cursor:
        for table, rows in (
            ("account", book.accounts),
            ("client", book.clients),
            ("appointment", book.appointments),
        ):
            width = len(astuple(rows[0]))
            cursor.executemany(
                sql.SQL("INSERT INTO {} VALUES ({}) ON CONFLICT DO NOTHING").format(
                    sql.Identifier("booking", table), sql.SQL(", ").join([sql.Placeholder()] * width)
                ),
                [astuple(row) for row in rows],
            )
