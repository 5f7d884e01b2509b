"""The days of the drills: a storm at one practice on Friday at half past two, a family on one line, and the cycles.

The emails come due on Tuesday afternoon, the texts on Thursday afternoon and the calls on Friday morning. Sixty people
are asked to come at half past two, as where a vaccine is given: ten times the calls that the practice's pace lets go
in five minutes. It is as many as the practice otherwise has in fifteen hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

from local.sample_book import FIRST_NAMES, UNITED_KINGDOM, fictional_numbers
from tests.drill.book import DAY, HOUR, QUARTER, TICK, WEDNESDAY, Book, Booking, Row
from tests.drill.night import Schedule

TUESDAY, THURSDAY, FRIDAY = WEDNESDAY - DAY, WEDNESDAY + DAY, WEDNESDAY + 2 * DAY
# So many calls go out for an account in five minutes, unless it has a policy of its own.
PACE = 6
STORM = 10 * PACE
STORM_AT = FRIDAY + 14.5 * HOUR
# Beside the storm one client comes each quarter of an hour.
USUAL_SLOTS = [FRIDAY + 14 * HOUR + place * QUARTER for place in range(8)]


def busy_book() -> Book:
    """The practice's usual clients, its storm, and a family of three, one of whom is another practice's.

    The family comes before the storm, so that its calls are among those that the pace lets go.
    """
    numbers = fictional_numbers(UNITED_KINGDOM, Random(13))
    offices = {account_id: next(numbers) for account_id in ("smith", "paws")}
    home = next(numbers)
    places = [
        *(("smith", slot_at, next(numbers)) for slot_at in USUAL_SLOTS),
        *(("smith", STORM_AT, next(numbers)) for _ in range(STORM)),
        ("smith", FRIDAY + 14.25 * HOUR, home),
        ("smith", FRIDAY + 14.5 * HOUR, home),
        ("paws", FRIDAY + 15 * HOUR, home),
    ]
    names = FIRST_NAMES["en"].split()
    bookings = [
        Booking(
            f"{account_id}-{place}",
            account_id,
            f"{names[place % len(names)]} Sample",
            "home@example.com" if phone == home else f"{account_id}-{place}@example.net",
            phone,
            slot_at,
            "booked",
            slot_at + DAY,
        )
        for place, (account_id, slot_at, phone) in enumerate(places)
    ]
    return Book(tuple(bookings), offices)


BUSY_BOOK = busy_book()


@dataclass(frozen=True)
class ImportedAgain(Book):
    """A book that has every appointment under another id too, from Wednesday night on."""

    imported_at: datetime = WEDNESDAY + 22 * HOUR

    def read(self, now: datetime, from_at: datetime, until_at: datetime, ids: Sequence[str]) -> Iterator[Row]:
        for row in super().read(now, from_at, until_at, [name.removesuffix("-again") for name in ids]):
            yield row
            if now >= self.imported_at:
                yield {**row, "appointment_id": f"{row['appointment_id']}-again"}


def every_five_minutes(from_hour: float, until_hour: float) -> list[float]:
    """The hours of the ticks from one hour to another, both included."""
    return [from_hour + place * (TICK / HOUR) for place in range(round((until_hour - from_hour) * (HOUR / TICK)) + 1)]


# At these hours cycles run, few of them where nothing is due, so that a drill takes seconds.
HOURS: dict[datetime, Sequence[float]] = {
    TUESDAY: (9, 14, 14.5, 15, 15.5, 17),
    WEDNESDAY: (9, 15, 22),
    THURSDAY: (9, 13, 14, 14.5, 15, 16.5, 18.5, 22),
    FRIDAY: (9, 10, *every_five_minutes(10.5, 10.75), 11, 12, 14.5, 15, 15.5, 16),
}
# The canary's word is waited for, then the storm's texts go at the pace. Calls would be wanted two hours after them.
HOURS_OF_RELEASE = {**HOURS, FRIDAY: (8, *every_five_minutes(9, 10.5), 11, 11.5, 11.75, 12)}


def ticks(hours: Mapping[datetime, Sequence[float]]) -> Iterator[datetime]:
    return (day + hour * HOUR for day, of_day in hours.items() for hour in of_day)


@dataclass(frozen=True)
class Rounds(Schedule):
    """Cycles at the hours of `HOURS` and no others. Guards are removed as the first of them begins."""

    starts_at: datetime = TUESDAY + 9 * HOUR
    normal_from: datetime = TUESDAY
    normal_until: datetime = TUESDAY
    broken_at: datetime = TUESDAY + 9 * HOUR
    reverted_at: datetime = TUESDAY + 9 * HOUR
    morning_at: datetime = FRIDAY + 9 * HOUR
    ends_at: datetime = FRIDAY + DAY

    def fewer_ticks(self) -> Iterator[datetime]:
        return ticks(HOURS)


@dataclass(frozen=True)
class Outage(Rounds):
    """As `Rounds`, but nothing is sent while the texts come due: from Thursday at one to ten at night."""

    outage: tuple[datetime, datetime] = (THURSDAY + 13 * HOUR, THURSDAY + 22 * HOUR)

    def is_broken(self, now: datetime) -> bool:
        return self.outage[0] <= now < self.outage[1]


@dataclass(frozen=True)
class Release(Outage):
    """As `Outage`, and on Friday at eight, before texts may go out, an operator comes to the office."""

    morning_at: datetime = FRIDAY + 8 * HOUR

    def fewer_ticks(self) -> Iterator[datetime]:
        return ticks(HOURS_OF_RELEASE)
