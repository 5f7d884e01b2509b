"""A practice to act on: a book, a ledger on real Postgres, a clock that is set by hand, and phones that keep a log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reminders.addresses import secret_fingerprint
from reminders.cycle.dispatch import Clock, dispatch
from reminders.cycle.extract import extract
from reminders.cycle.preflight import ACCEPT, preflight
from reminders.cycle.stops import HoldWatch
from reminders.cycle.triage import triage
from reminders.model import Acceptance, Channel, Contact
from reminders.store.ledger import Ledger

SECRET = b"a secret for tests only"
# A Wednesday in February: no daylight saving time within a week of it in any zone used here.
WEDNESDAY_2PM = datetime(2026, 2, 11, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
# The appointment whose email is due then.
EMAIL_IS_DUE = WEDNESDAY_2PM + 72 * HOUR
MINUTE = timedelta(minutes=1)

# Scenes that act at once on one ledger each have unseen cycles of their own.
scenes = itertools.count(1)

GOOD_CYCLE = """
INSERT INTO reminders.cycle (logical_date, run_kind, has_own_date, started_at, judged_at, closed_at, is_good)
VALUES (%(date)s, 'scheduled', true, %(date)s, %(date)s, %(date)s, true)
"""
PLACE = """
INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at)
VALUES (%(scope)s, %(value)s, 'Ana', 'a look', %(now)s, %(now)s::timestamptz + interval '1 hour')
"""
RELEASE = "UPDATE reminders.hold SET released_at = %(now)s, released_by = 'Ana' WHERE released_at IS NULL"
KNOWN_ACCOUNTS = """
INSERT INTO reminders.account_seen SELECT DISTINCT account_id, %(seen_at)s::timestamptz
FROM reminders.staged_appointment ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Booked:
    """One row of the book, as `read_book` yields it."""

    starts_at: datetime
    appointment_id: str = "appointment-1"
    account_id: str = "clinic"
    status: str = "booked"
    client_name: str | None = "Ada Sample"
    client_email: str | None = "ada@example.com"
    client_phone: str | None = "+442079460018"
    client_zone: str | None = "UTC"
    client_locale: str | None = "en"
    account_zone: str | None = "UTC"
    booked_before: timedelta = timedelta(days=30)

    def row(self) -> dict[str, Any]:
        columns = {name: value for name, value in vars(self).items() if name != "booked_before"}
        return {
            **columns,
            "ends_at": self.starts_at + timedelta(minutes=30),
            "location": "",
            "created_at": self.starts_at - self.booked_before,
            "updated_at": None,
            "account_name": "Sample Clinic",
            "account_phone": "+442079460000",
            "account_email": "",
            "account_locale": "en",
        }


@dataclass
class Scene:
    """`reached` is the log of the phones and mailboxes: what tests judge by.

    `before_check` happens to each contact between its intent and its last check.
    """

    owner: Any
    ledger: Ledger
    watching: Ledger
    now: datetime = WEDNESDAY_2PM
    book: dict[str, Booked] = field(default_factory=dict)
    reached: list[Contact] = field(default_factory=list)
    answer: Callable[[Contact], Acceptance] | None = None
    before_check: Callable[[Contact], None] = lambda _contact: None
    is_paused: Callable[[], bool] = lambda: False
    # Between two moments of a test cycles go on unseen, and every account is known, unless the test says otherwise.
    has_gap: bool = False
    has_new_accounts: bool = False
    number: int = field(default_factory=lambda: next(scenes))

    def at(self, now: datetime) -> Scene:
        """Set every clock to `now`: the policy's, and the one that the database's own guards read."""
        self.now = now
        self.owner.execute("DELETE FROM reminders.clock")
        self.owner.execute("INSERT INTO reminders.clock (shift) VALUES (%s - clock_timestamp())", (now,))
        return self

    def with_a_wide_gate(self) -> Scene:
        """The gate lets pass as much as its bounds allow: for what a practice has in a day, at once."""
        self.owner.execute("UPDATE reminders.gate_bound SET least_of_account = 1000, least_in_all = 10000")
        return self

    def booked(self, *rows: Booked) -> Scene:
        for row in rows:
            self.book[row.appointment_id] = row
        return self

    def changed(self, appointment_id: str = "appointment-1", **changes: Any) -> Scene:
        self.book[appointment_id] = replace(self.book[appointment_id], **changes)
        return self

    def read(self, from_at: datetime, until_at: datetime, appointment_ids: list[str]) -> Iterator[dict[str, Any]]:
        for row in self.book.values():
            if from_at <= row.starts_at < until_at or row.appointment_id in appointment_ids:
                yield row.row()

    def prepare(self, logical_date: datetime | None = None, kind: str = "scheduled") -> list[int]:
        """A cycle up to its plan; returns the batch ids."""
        preflight(self.ledger, ACCEPT, lambda _: None, secret_fingerprint(SECRET), self.now)
        return self.go_on(logical_date or self.now, kind)

    def go_on(self, date: datetime, kind: str = "scheduled") -> list[int]:
        """A cycle after its preflight, up to its plan; returns the batch ids."""
        extract(self.ledger, self.read, date, self.now, SECRET)
        if not self.has_new_accounts:
            self.owner.execute(KNOWN_ACCOUNTS, {"seen_at": self.now - timedelta(days=7)})
        self.ledger.merge(date, kind, True, self.now)
        with self._cycles_that_went_on():
            triage(self.ledger, date, kind, self.now)
        if kind == "backfill":
            return []
        return self.ledger.plan(date, self.now, {c.value: 1000 for c in Channel}, {"email": 2, "sms": 2, "call": 1})

    def flowing(self) -> Clock:
        """Clocks that a sleep sets forward: all else takes no time."""
        begun = self.now

        def sleep(seconds: float) -> None:
            self.at(self.now + timedelta(seconds=seconds))

        return Clock(lambda: self.now, lambda: (self.now - begun).total_seconds(), sleep)

    @contextmanager
    def _cycles_that_went_on(self) -> Iterator[None]:
        """For the gate there was a good cycle five minutes ago; extraction looks back to those that the test ran."""
        unseen = {"date": self.now - 5 * MINUTE - timedelta(microseconds=self.number)}
        if not self.has_gap:
            self.owner.execute(GOOD_CYCLE, unseen)
        yield
        self.owner.execute("DELETE FROM reminders.cycle WHERE logical_date = %(date)s", unseen)

    def send(self, batch_ids: list[int], rate: float = 1000.0, clock: Clock | None = None) -> None:
        """Dispatch the batches one after the other, on clocks that stand still unless others are given."""
        clock = clock or Clock(lambda: self.now, lambda: 0.0, lambda _: None)
        for batch_id in batch_ids:
            dispatch(
                self.ledger,
                HoldWatch(self.watching.holds, clock.monotonic, clock.now),
                batch_id,
                {channel: self._deliver for channel in Channel},
                {channel: rate for channel in Channel},
                clock,
                timedelta(minutes=4),
                self.is_paused,
            )

    def _deliver(self, contact: Contact, _now: datetime, last_check: Callable[[], None]) -> Acceptance:
        self.before_check(contact)
        last_check()
        if self.answer is not None:
            return self.answer(contact)
        self.reached.append(contact)
        return Acceptance(f"provider-{contact.attempt_id}", "sent", is_delivered=True)

    def cycle(self, logical_date: datetime | None = None, kind: str = "scheduled") -> list[Contact]:
        """One whole cycle; returns the contacts that reached somebody in it."""
        before = len(self.reached)
        self.send(self.prepare(logical_date, kind))
        return self.reached[before:]

    def hold(self, scope: str = "all", value: str = "") -> None:
        """A person stops a scope."""
        self.owner.execute(PLACE, {"scope": scope, "value": value, "now": self.now})

    def release(self) -> None:
        """A person releases every hold that is in force."""
        self.owner.execute(RELEASE, {"now": self.now})

    def hold_in_force(self, named: str = "%") -> str:
        """The number of the one hold in force whose scope and value are `named` (SQL's LIKE)."""
        ((hold_id,),) = self.owner.execute(
            "SELECT hold_id FROM reminders.hold"
            " WHERE released_at IS NULL AND concat_ws(' ', scope, scope_value) LIKE %s",
            (named,),
        ).fetchall()
        return str(hold_id)

    def look_up_in_vain(self) -> None:
        """The provider's list is read for each doubt, and has none of them."""
        self.owner.execute("UPDATE reminders.attempt SET polled_at = %s WHERE ended_at IS NULL", (self.now,))

    def last_attempt(self) -> int:
        (attempt_id,) = self.owner.execute("SELECT max(attempt_id) FROM reminders.attempt").fetchone()
        return int(attempt_id)

    def cycles(self, count: int, every: timedelta = 5 * MINUTE) -> list[Contact]:
        """`count` cycles, the first of them now; returns the contacts that reached somebody in them."""
        reached = self.cycle()
        for _ in range(count - 1):
            reached += self.at(self.now + every).cycle()
        return reached

    def addresses(self) -> list[str]:
        """Whoever was reached, as often as they were."""
        return sorted(contact.address for contact in self.reached)

    def holds(self) -> list[tuple[str, str]]:
        """(what is stopped, why) of every hold in force, in order."""
        found: list[tuple[str, str]] = self.owner.execute(
            "SELECT scope_value, why FROM reminders.hold WHERE released_at IS NULL ORDER BY 1"
        ).fetchall()
        return found

    def states(self) -> dict[tuple[str, int], tuple[str, str | None]]:
        """(appointment, step) -> (state, reason or what it waits for) of every reminder in the ledger."""
        found = self.owner.execute(
            "SELECT appointment_id, step, state, coalesce(reason, deferred_for) FROM reminders.reminder"
        ).fetchall()
        return {(row[0], row[1]): (row[2], row[3]) for row in found}


def clients(count: int, starts_at: datetime, prefix: str = "fresh", **changes: Any) -> list[Booked]:
    """`count` clients who come at the same time, each with an address of their own."""
    return [
        Booked(starts_at, f"{prefix}-{i}", client_email=f"{prefix}{i}@example.com", **changes) for i in range(count)
    ]


def channels(contacts: list[Contact]) -> list[str]:
    return sorted(contact.channel.value for contact in contacts)


def raising(error: Exception) -> Callable[[Contact], Acceptance]:
    """A provider that answers every contact with this error."""

    def answer(_contact: Contact) -> Acceptance:
        raise error

    return answer
