"""Read the book and stage what it says: each appointment once, its addresses normalised and hashed, its due rungs."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from reminders import policy
from reminders.addresses import Address, key, mask, normalise_email, normalise_phone, region_of
from reminders.errors import BookError
from reminders.failpoints import reached
from reminders.model import Channel, Hours, Office, Rung
from reminders.store.book import CHUNK
from reminders.store.ledger import Ledger

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
LONGEST_TEXT = 500
LONGEST_ID = 2000
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True)
class Rules:
    """Ladders, hours for texts and calls, and hours of the office, by account; `*` serves those without their own."""

    ladders: Mapping[str, tuple[Rung, ...]]
    hours: Mapping[str, Hours]
    office_hours: Mapping[str, Hours]

    def ladder(self, account_id: str) -> tuple[Rung, ...]:
        return self.ladders.get(account_id) or self.ladders["*"]

    def hours_of(self, account_id: str) -> Hours:
        return self.hours.get(account_id) or self.hours["*"]

    def office_hours_of(self, account_id: str) -> Hours:
        return self.office_hours.get(account_id) or self.office_hours["*"]

    @property
    def horizon(self) -> timedelta:
        """How far ahead of now a rung can be due."""
        accounts = {*self.ladders, *self.office_hours}
        return max(policy.horizon(self.ladder(account), self.office_hours_of(account)) for account in accounts)


def read_rules(ledger: Ledger) -> Rules:
    ladders: dict[str, list[Rung]] = defaultdict(list)
    for row in ledger.cadences():
        rung = Rung(row["step"], Channel(row["channel"]), row["lead"], row["useful_until"], row["wait"])
        ladders[row["account_id"]].append(rung)
    rows = ledger.hours()
    return Rules(
        {account: tuple(rungs) for account, rungs in ladders.items()},
        {row["account_id"]: Hours(row["opens"], row["closes"]) for row in rows},
        {
            row["account_id"]: Hours(row["office_opens"], row["office_closes"], frozenset(row["office_days"]))
            for row in rows
        },
    )


@dataclass
class Stager:
    """Turns book rows into rows of the stage. `secret` keys the address hashes; `now` is when the book is read."""

    logical_date: datetime
    now: datetime
    rules: Rules
    secret: bytes = field(repr=False)
    seen: set[tuple[str, str]] = field(default_factory=set, repr=False)
    unjudged: int = 0

    def chunks(self, book: Iterable[Row]) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
        """Yield (appointment rows, rung rows) for a chunk of the book at a time; a repeated appointment counts once.

        A row that cannot be judged is left out and counted in `unjudged`: it must not stop everybody else's.
        """
        rows = iter(book)
        while chunk := list(islice(rows, CHUNK)):
            appointments: list[tuple[Any, ...]] = []
            rungs: list[tuple[Any, ...]] = []
            for row in chunk:
                identity = (row["account_id"], row["appointment_id"])
                if identity in self.seen or row["starts_at"] is None or None in identity:
                    continue
                self.seen.add(identity)
                check_times(row)
                try:
                    appointment, climbed = self._staged(row)
                except (ValueError, OverflowError, TypeError):
                    self.unjudged += 1
                    continue
                appointments.append(appointment)
                rungs.extend(climbed)
            yield appointments, rungs

    def _staged(self, row: Row) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
        if len(f"{row['account_id']}{row['appointment_id']}".encode()) > LONGEST_ID:
            raise ValueError("no index takes so long an id")
        zone = policy.zone_or(row["client_zone"], row["account_zone"])
        account_zone = policy.zone_or(row["account_zone"], zone) or "UTC"
        slot_at = policy.minute(row["starts_at"])
        office = Office(self.rules.office_hours_of(row["account_id"]), account_zone)
        return self._appointment(row, slot_at, zone, account_zone), list(
            self._rungs(row, slot_at, zone or "UTC", office)
        )

    def _appointment(self, row: Row, slot_at: datetime, zone: str | None, account_zone: str) -> tuple[Any, ...]:
        email = normalise_email(row["client_email"])
        # The office wrote the number: without a country code it is one of the office's country, wherever the client is.
        phone = normalise_phone(row["client_phone"], region_of((row["account_zone"] or "").strip()))
        return (
            self.logical_date,
            row["account_id"],
            row["appointment_id"],
            slot_at,
            max(row["ends_at"] or slot_at, slot_at),
            row["status"] or "",
            row["created_at"],
            zone or "UTC",
            zone is None,
            account_zone,
            ", ".join(filter(None, (text(row["client_locale"]), text(row["account_locale"])))),
            text(row["client_name"]),
            text(row["location"]),
            text(row["account_name"]),
            text(row["account_phone"]),
            text(row["account_email"]),
            *self._address(email),
            *self._address(phone),
            phone.country,
            phone.number_type,
            self.now,
        )

    def _address(self, address: Address) -> tuple[str | None, bytes | None, str | None, str | None]:
        if address.problem is not None:
            return None, None, None, address.problem
        return address.value, key(address, self.secret), mask(address), None

    def _rungs(self, row: Row, slot_at: datetime, zone: str, office: Office) -> Iterator[tuple[Any, ...]]:
        ladder = self.rules.ladder(row["account_id"])
        hours = self.rules.hours_of(row["account_id"])
        # No appointment was booked later than now, whatever the book says.
        booked_at = min(row["created_at"], self.now) if row["created_at"] else None
        # A book whose times of booking are always new must not put off what is due.
        since = min(booked_at, self.logical_date) if booked_at else None
        for rung in ladder:
            window = policy.window(slot_at, rung, hours, zone, office, since)
            if window.due_at > self.logical_date:
                continue
            if booked_at is not None and not policy.is_worth_creating(window, booked_at):
                continue
            yield (
                self.logical_date,
                row["account_id"],
                row["appointment_id"],
                slot_at,
                rung.step,
                rung.channel.value,
                window.due_at,
                window.expires_at,
                rung.wait,
                rung.step > ladder[0].step,
            )


def check_times(row: Row) -> None:
    """Raise `BookError` when a time of the book has no time zone: nobody could tell when it is."""
    for name in ("starts_at", "ends_at", "created_at"):
        if row[name] is not None and row[name].tzinfo is None:
            raise BookError(f"booking_db: appointment.{name} has no time zone: make it timestamptz in the view")


def text(value: str | None) -> str:
    """A value of the book as one line of bounded length; None is the empty text."""
    return UNPRINTABLE.sub(" ", value or "")[:LONGEST_TEXT].strip()


def extract(ledger: Ledger, read: Any, logical_date: datetime, now: datetime, secret: bytes) -> int:
    """Stage the book for `logical_date` and return how many appointments it had.

    `read(from_at, until_at, appointment_ids)` yields the book's rows.
    """
    rules = read_rules(ledger)
    stager = Stager(logical_date.astimezone(UTC), now, rules, secret)
    since = ledger.last_cycle(logical_date) or logical_date
    book = _read(read, since, logical_date + rules.horizon, ledger.open_appointments(logical_date))
    staged = ledger.stage(logical_date, now, stager.chunks(book))
    if stager.unjudged:
        log.warning("%d appointments of the book could not be judged and were left out", stager.unjudged)
    return staged


def _read(read: Any, *wanted: Any) -> Iterator[Row]:
    reached("read_book", "before")
    yield from read(*wanted)
    reached("read_book", "answered")
