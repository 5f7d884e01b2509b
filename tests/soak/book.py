"""The book of a season: what each appointment looked like at every moment, and what it is due.

Each appointment bears a name of its own for each slot that it ever had (`Zabacad`), so that what a phone or mailbox
received tells which slot it was about, whatever id the book had for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from reminders import policy
from reminders.errors import BookError
from reminders.model import Hours, Office, Rung, Window
from tests.drill.book import DAY

MINUTE = timedelta(minutes=1)
Row = dict[str, Any]
Key = tuple[str, str, datetime, int]
NEVER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Account:
    account_id: str
    name: str
    zone: str
    phone: str
    hours: Hours = policy.DEFAULT_HOURS
    office: Hours = policy.DEFAULT_HOURS
    ladder: tuple[Rung, ...] = policy.DEFAULT_LADDER
    has_cancellation_notice: bool = False

    @property
    def has_own_ladder(self) -> bool:
        return self.ladder is not policy.DEFAULT_LADDER

    def window(self, rung: Rung, slot_at: datetime, zone: str, since: datetime | None = None) -> Window:
        return policy.window(slot_at, rung, self.hours, zone, Office(self.office, self.zone), since)


@dataclass(frozen=True, slots=True)
class Person:
    email: str | None
    phone: str | None
    zone: str | None
    locale: str


@dataclass(frozen=True, slots=True)
class Version:
    """What the book shows of an appointment from `from_at` until the next version: a row for each of `ids`."""

    from_at: datetime
    ids: tuple[str, ...]
    slot_at: datetime
    status: str
    person: Person
    name: str
    rows: tuple[Row, ...] = field(repr=False, default=())


@dataclass(eq=False)
class Visit:
    """One appointment through all its versions, oldest first."""

    account: Account
    created_at: datetime
    versions: list[Version]

    def shown(self, now: datetime) -> Version | None:
        """What the book shows at `now`; None before it was booked."""
        for version in reversed(self.versions):
            if version.from_at <= now:
                return version
        return None

    def spans(self) -> Iterator[tuple[Version, datetime]]:
        """Each version and until when it is shown."""
        ends = [*(version.from_at for version in self.versions[1:]), NEVER]
        return zip(self.versions, ends, strict=True)

    def zone(self, version: Version) -> str:
        return version.person.zone or self.account.zone

    def zone_of(self, slot_at: datetime) -> str:
        return next(self.zone(version) for version in self.versions if version.slot_at == slot_at)

    def rungs(self, version: Version) -> Iterator[tuple[Rung, Window]]:
        """What the version is due, had it been there since it was booked."""
        for rung in self.account.ladder:
            window = self.account.window(rung, version.slot_at, self.zone(version), self.created_at)
            if policy.is_worth_creating(window, self.created_at):
                yield rung, window


@dataclass
class SeasonBook:
    """A book of `days` days from midnight of `starts_at` on. `has_webhook`: the provider can report to us.

    `slip` makes a reading wrong; `is_down`: it fails, after `breaks_after` rows.
    """

    seed: int
    days: int
    accounts: dict[str, Account]
    starts_at: datetime
    visits: list[Visit]
    has_webhook: bool
    is_down: bool = False
    breaks_after: int = 0
    slip: Callable[[Row], Row | None] | None = None

    def __post_init__(self) -> None:
        self.named: dict[str, tuple[Visit, datetime]] = {}
        self._of_day: dict[date, list[Visit]] = defaultdict(list)
        self._by_id: dict[str, Visit] = {}
        for visit in self.visits:
            for day in {version.slot_at.date() for version in visit.versions}:
                self._of_day[day].append(visit)
            for version in visit.versions:
                self.named[version.name] = visit, version.slot_at
                self._by_id.update(dict.fromkeys(version.ids, visit))

    @property
    def ends_at(self) -> datetime:
        """When the last appointment has begun."""
        return max(version.slot_at for visit in self.visits for version in visit.versions)

    def read(self, now: datetime, from_at: datetime, until_at: datetime, ids: Sequence[str]) -> Iterator[Row]:
        """The rows of `read_book` as they are at `now`."""
        found = {id(visit): visit for visit in self.around(from_at, until_at)}
        found.update((id(visit), visit) for visit in map(self._by_id.__getitem__, ids))
        wanted, count = set(ids), 0
        for visit in found.values():
            version = visit.shown(now)
            if version is None:
                continue
            is_in_window = from_at <= version.slot_at < until_at
            for row in version.rows:
                if not (is_in_window or row["appointment_id"] in wanted):
                    continue
                if self.is_down and count >= self.breaks_after:
                    raise BookError("booking_db: reading the book failed (OperationalError)")
                count += 1
                shown = self.slip(row) if self.slip else row
                if shown is not None:
                    yield shown
        if self.is_down:
            raise BookError("booking_db: reading the book failed (OperationalError)")

    def around(self, from_at: datetime, until_at: datetime) -> list[Visit]:
        """The visits that have, or had, a slot on the days between."""
        found: dict[int, Visit] = {}
        for offset in range((until_at.date() - from_at.date()).days + 1):
            found.update((id(visit), visit) for visit in self._of_day.get(from_at.date() + offset * DAY, ()))
        return list(found.values())

    def ahead(self, now: datetime) -> list[Visit]:
        """The visits whose slots are still to come by the book at `now`, in the next five days."""
        shown = ((visit, visit.shown(now)) for visit in self.around(now, now + 5 * DAY))
        return [visit for visit, version in shown if version is not None and version.slot_at > now]

    def due_keys(self, visit: Visit, read_at: datetime, date: datetime) -> Iterator[Key]:
        """(account, appointment, slot, step) of what the visit, as it is read at `read_at`, is due by `date`."""
        version = visit.shown(read_at)
        if version is None or version.status in ("confirmed", "cancelled"):
            return
        for rung, window in visit.rungs(version):
            if window.due_at <= date:
                for name in version.ids:
                    yield visit.account.account_id, name, version.slot_at, rung.step

    def moments(self) -> set[datetime]:
        """When some rung comes due of an appointment that is booked at that time already."""
        return {
            window.due_at
            for visit in self.visits
            for version, until in visit.spans()
            if version.status == "booked"
            for _, window in visit.rungs(version)
            if version.from_at < window.due_at < until
        }
