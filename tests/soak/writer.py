"""Draws the book of a season from its seed. Its first days are the same however long it is.

Slots are on the hour, at some practices also on the half hour, so that reminders come due together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from random import Random
from zoneinfo import ZoneInfo

from local.sample_book import UNITED_KINGDOM, US_EAST, US_WEST, fictional_numbers
from reminders.model import Channel, Hours, Rung
from tests.drill.book import DAY, HOUR, TICK
from tests.soak.book import Account, Person, SeasonBook, Version, Visit

# Ten times that is a storm.
VISITS_A_DAY = 22
PEOPLE = 170
# Days in whose weeks some clock changes, and a few without.
FIRST_DAYS = (
    *(date(2026, 2, 9), date(2026, 3, 5), date(2026, 3, 25), date(2026, 4, 2)),
    *(date(2026, 6, 15), date(2026, 10, 1), date(2026, 10, 21), date(2026, 10, 28)),
)
ZONES = ("Europe/London", "Europe/Madrid", "America/New_York", "America/Los_Angeles", "Australia/Sydney", "Asia/Tokyo")
WEEKDAYS = Hours(time(9), time(18), frozenset(range(1, 6)))
# Ladders that some account has instead of the house's.
LADDERS: tuple[tuple[Rung, ...], ...] = (
    (Rung(1, Channel.CALL, 28 * HOUR, 2 * HOUR, timedelta(0)),),
    (Rung(1, Channel.SMS, 24 * HOUR, 2 * HOUR, timedelta(0)), Rung(2, Channel.CALL, 4 * HOUR, HOUR, HOUR)),
    (Rung(1, Channel.EMAIL, 48 * HOUR, 12 * HOUR, timedelta(0)),),
)
NUMBERS_THAT_END = ("+61255500404", "+61255500480", "+61255500486")
SYLLABLES = tuple(consonant + vowel for consonant in "bcdfghklmnprst" for vowel in "aeiou")


def written(seed: int, days: int) -> SeasonBook:
    """The season of a seed."""
    return Writer(seed, days).write()


class Writer:
    """Draws one season."""

    def __init__(self, seed: int, days: int) -> None:
        self.seed, self.days = seed, days
        self.random = Random(f"{seed} people")
        self.zone = self.random.choice(ZONES)
        self.first_day = self.random.choice(FIRST_DAYS)
        self.starts_at = self._local(self.first_day, 0)
        # A quarter of the practices begin with nothing due yet.
        self.lead_in = 80 * HOUR if self.random.random() < 0.25 else timedelta(0)
        self.has_half_hours = self.random.random() < 0.2
        # Without a public address the ladder goes by what is polled.
        self.has_webhook = self.random.random() < 0.5
        numbers = chain(
            fictional_numbers(UNITED_KINGDOM, self.random), fictional_numbers(US_EAST + US_WEST, self.random)
        )
        self.numbers = numbers
        self.accounts = self._accounts()
        self.people = self._people()
        self.passers_by: list[Person] = []
        self.visits: list[Visit] = []
        self.names = self._names()

    def write(self) -> SeasonBook:
        for day in range(self.days):
            self.random = Random(f"{self.seed} book {day}")
            self._day(self.first_day + day * DAY)
        return SeasonBook(
            self.seed, self.days, self.accounts, self.starts_at - self.lead_in, self.visits, self.has_webhook
        )

    def _local(self, day: date, hours: float) -> datetime:
        local = datetime.combine(day, time(), ZoneInfo(self.zone)) + timedelta(hours=hours)
        return local.astimezone(UTC)

    def _names(self) -> Iterator[str]:
        random = Random(f"{self.seed} names")
        seen: set[str] = set()
        while True:
            name = "Z" + "".join(random.choices(SYLLABLES, k=3))
            if name not in seen:
                seen.add(name)
                yield name

    def _accounts(self) -> dict[str, Account]:
        found = {}
        for place, name in enumerate(("Smith", "Paws", "Aurora", "Linden")):
            account = Account(name.lower(), name, self.zone, next(self.numbers))
            if place == 1:
                account = replace(account, has_cancellation_notice=self.random.random() < 0.7)
            if place == 2 and self.random.random() < 0.5:
                account = replace(account, office=WEEKDAYS, hours=Hours(time(8), time(19)))
            if place == 3 and self.random.random() < 0.5:
                account = replace(account, ladder=self.random.choice(LADDERS))
            found[account.account_id] = account
        return found

    def _people(self) -> list[Person]:
        people: list[Person] = []
        while len(people) < PEOPLE:
            person = self._person(len(people))
            # Some homes share a telephone and a mailbox.
            people.extend([person] * (self.random.choice((3, 4)) if self.random.random() < 0.04 else 1))
        return people

    def _person(self, number: int) -> Person:
        random = self.random
        zone = random.choice((*(None,) * 4, *(self.zone,) * 15, random.choice(ZONES)))
        email, phone = f"p{number}@example.com", next(self.numbers)
        match random.random():
            case drawn if drawn < 0.04:
                email = ""
            case drawn if drawn < 0.06:
                phone = ""
            case drawn if drawn < 0.07:
                email = "nobody at home"
            case drawn if drawn < 0.08:
                phone = "12"
            case drawn if drawn < 0.10:
                email = f"p{number}+550@example.com"
            case drawn if drawn < 0.12:
                phone = random.choice(NUMBERS_THAT_END)
        return Person(email or None, phone or None, zone, random.choice(("en",) * 9 + ("es",)))

    def _day(self, day: date) -> None:
        random = self.random
        for _ in range(VISITS_A_DAY):
            hours = random.randrange(9, 18) + (0.5 if self.has_half_hours and random.random() < 0.2 else 0)
            self._visit(day, hours, self._open_account(day), random.choice(self.people))
        match random.random():
            case drawn if drawn < 1 / 60:
                for _ in range(9 * VISITS_A_DAY):
                    self._visit(day, random.randrange(9, 18), self._open_account(day), self._passer_by())
            case drawn if drawn < 1 / 15:
                hours, account = random.randrange(9, 18), self._open_account(day)
                for _ in range(VISITS_A_DAY):
                    self._visit(day, hours, account, self._passer_by())

    def _open_account(self, day: date) -> Account:
        return self.random.choice([a for a in self.accounts.values() if day.isoweekday() in a.office.days])

    def _passer_by(self) -> Person:
        number = f"+1{self.random.choice((212, 202, 305, 617, 917))}55501{self.random.randrange(100):02d}"
        person = Person(f"s{len(self.passers_by)}@example.com", number, None, "en")
        self.passers_by.append(person)
        return person

    def _visit(self, day: date, hours: float, account: Account, person: Person) -> None:
        random = self.random
        slot_at = self._local(day, hours)
        created_at = slot_at - random.choice((20 * DAY,) * 8 + (2 * DAY, 20 * HOUR, 5 * HOUR))
        ids = (f"{account.account_id}-{len(self.visits)}",)
        first = Version(created_at, ids, slot_at, "booked", person, next(self.names))
        versions = [first, *self._changes(first)]
        self.visits.append(Visit(account, created_at, [self._shown(each, account, created_at) for each in versions]))

    def _changes(self, first: Version) -> list[Version]:
        """What becomes of it later; most appointments are kept, or missed."""
        random = self.random
        earliest, latest = max(first.from_at, self.starts_at) + TICK, first.slot_at - HOUR / 2
        if latest <= earliest:
            return [self._over(first)]
        at = latest - TICK * random.randrange(min((latest - earliest) // TICK, 90 * HOUR // TICK) + 1)
        later = at + (latest - at) / 2
        (change,) = random.choices(list(CHANGES), list(CHANGES.values()))
        return list(CHANGE[change](self, first, at, later))

    def _over(self, version: Version) -> Version:
        status = self.random.choice(("completed",) * 5 + ("no_show",))
        return replace(version, from_at=version.slot_at + HOUR, status=status)

    def _kept(self, first: Version, _at: datetime, _later: datetime) -> Iterator[Version]:
        yield self._over(first)

    def _confirmed(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        yield replace(first, from_at=at, status="confirmed")
        yield self._over(first)

    def _cancelled(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        yield replace(first, from_at=at, status="cancelled")

    def _reinstated(self, first: Version, at: datetime, later: datetime) -> Iterator[Version]:
        yield replace(first, from_at=at, status="cancelled")
        yield replace(first, from_at=later)
        yield self._over(first)

    def _deleted(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        yield replace(first, from_at=at, ids=())

    def _moved(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        slot_at = first.slot_at + self.random.choice((-DAY, DAY, DAY, 2 * DAY, HOUR, -HOUR, 3 * HOUR))
        # Nobody moves an appointment into the past.
        if slot_at <= at + HOUR:
            slot_at = first.slot_at + DAY
        moved = replace(first, from_at=at, slot_at=slot_at, name=next(self.names))
        yield moved
        yield self._over(moved)

    def _moved_back(self, first: Version, at: datetime, later: datetime) -> Iterator[Version]:
        yield replace(first, from_at=at, slot_at=first.slot_at + DAY, name=next(self.names))
        yield replace(first, from_at=later)
        yield self._over(first)

    def _imported_again(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        yield from self._under_other_ids(first, at, ())

    def _imported_twice(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        yield from self._under_other_ids(first, at, first.ids)

    def _under_other_ids(self, first: Version, at: datetime, kept: tuple[str, ...]) -> Iterator[Version]:
        again = replace(first, from_at=at, ids=kept + tuple(f"{name}-again" for name in first.ids))
        yield again
        yield self._over(again)

    def _readdressed(self, first: Version, at: datetime, _later: datetime) -> Iterator[Version]:
        changed = replace(first, from_at=at, person=replace(first.person, email=f"new-{first.ids[0]}@example.com"))
        yield changed
        yield self._over(changed)

    def _shown(self, version: Version, account: Account, created_at: datetime) -> Version:
        row = {
            "account_id": account.account_id,
            "status": version.status,
            "location": "",
            "starts_at": version.slot_at,
            "ends_at": version.slot_at + HOUR / 2,
            "created_at": created_at,
            "client_name": f"{version.name} Sample",
            "client_email": version.person.email,
            "client_phone": version.person.phone,
            "client_zone": version.person.zone,
            "client_locale": version.person.locale,
            "account_name": account.name,
            "account_phone": account.phone,
            "account_email": f"office@{account.account_id}.example.com",
            "account_zone": account.zone,
            "account_locale": "en",
        }
        return replace(version, rows=tuple({"appointment_id": name, **row} for name in version.ids))


# What becomes of appointments, and what share of them.
CHANGES = {
    "kept": 0.64,
    "confirmed": 0.12,
    "cancelled": 0.06,
    "reinstated": 0.015,
    "deleted": 0.015,
    "moved": 0.06,
    "moved_back": 0.015,
    "imported_again": 0.025,
    "imported_twice": 0.025,
    "readdressed": 0.025,
}
CHANGE: dict[str, Callable[[Writer, Version, datetime, datetime], Iterator[Version]]] = {
    change: getattr(Writer, f"_{change}") for change in CHANGES
}
