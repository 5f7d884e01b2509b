"""Small days under load: a dozen visits of one practice on Friday afternoon, and a family on one home line.

The emails come due on Tuesday afternoon, the texts on Thursday afternoon and the calls on Friday morning. More calls
come due than the practice's pace lets go. Every drill is clean while every guard is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any
from unittest.mock import patch

from psycopg.rows import dict_row

from local.sample_book import FIRST_NAMES, UNITED_KINGDOM, fictional_numbers
from reminders.cycle.preflight import ACCEPT
from reminders.model import Acceptance, Channel, Contact
from tests.chaos import strain
from tests.databases import TestDatabase
from tests.drill.book import DAY, HOUR, WEDNESDAY, Book, Booking, Row
from tests.drill.night import Schedule, run_ringonce
from tests.drill.ringonce import Act, Ringonce, Worker
from tests.simulator import network

TUESDAY, THURSDAY, FRIDAY = WEDNESDAY - DAY, WEDNESDAY + DAY, WEDNESDAY + 2 * DAY
CLIENTS, PACE, EMAILS_A_DAY = 12, 2, 5
SLOTS = [FRIDAY + 14 * HOUR + place * timedelta(minutes=15) for place in range(4)]
LONG_CALL = 4 * HOUR
# Fewer than hold the channel as failing.
DOUBTS = 5
REMINDERS = "SELECT account_id, appointment_id, slot_at, step, channel, state FROM reminders.reminder"
TRIES = "SELECT contact_id FROM reminders.attempt WHERE state <> 'not_contacted'"
PUT_OFF = """
UPDATE reminders.reminder r SET deferred_for = 'wait_until_not_before', not_before_at = %(until)s
FROM (SELECT max(m.reminder_id) AS reminder_id
      FROM reminders.contact_member m JOIN reminders.contact c USING (contact_id)
      WHERE c.batch_id = %(batch_id)s GROUP BY c.contact_id HAVING count(*) > 1) last_member
WHERE r.reminder_id = last_member.reminder_id AND r.state = 'pending'"""

# At these hours cycles run. Few, so that a drill takes seconds; the gate is told that such gaps are usual.
HOURS: dict[datetime, Sequence[float]] = {
    TUESDAY: (9, 14, 14.5, 15, 15.5, 17),
    WEDNESDAY: (9, 15, 22),
    THURSDAY: (9, 13, 14, 14.5, 15, 16.5, 18.5, 22),
    FRIDAY: (9, 10, 11, 12, 14.5, 15, 15.5, 16),
}
POLICY = (f"UPDATE reminders.account_policy SET call_pace = {PACE}, email_ceiling = {EMAILS_A_DAY}",)
WIDE_GATE = (
    "UPDATE reminders.gate_bound SET longest_gap = '1 day', overdue_after = '6 hours', least_of_account = 1000,"
    " least_in_all = 10000",
)
MANY_A_DAY = ("UPDATE reminders.account_policy SET phone_daily_cap = 10, phone_weekly_cap = 50",)
SHORT_GAP = ("UPDATE reminders.account_policy SET phone_gap = '1 minute', email_gap = '1 minute'",)
NO_PACE = ("UPDATE reminders.account_policy SET call_pace = 100",)


@dataclass(frozen=True, slots=True)
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
        return (day + hour * HOUR for day, hours in HOURS.items() for hour in hours)


@dataclass(frozen=True)
class Outage(Rounds):
    """As `Rounds`, but nothing is sent while the texts come due: from Thursday at one to ten at night."""

    outage: tuple[datetime, datetime] = (THURSDAY + 13 * HOUR, THURSDAY + 22 * HOUR)

    def is_broken(self, now: datetime) -> bool:
        return self.outage[0] <= now < self.outage[1]


def busy_book() -> Book:
    """`CLIENTS` of one practice, and a family of three on one line, one of whom is another practice's."""
    numbers = fictional_numbers(UNITED_KINGDOM, Random(13))
    names = FIRST_NAMES["en"].split()
    offices = {account_id: next(numbers) for account_id in ("smith", "paws")}
    home = next(numbers)
    clients = [("smith", SLOTS[place % 4], next(numbers)) for place in range(CLIENTS)]
    family = [("smith", SLOTS[1], home), ("smith", SLOTS[2], home), ("paws", SLOTS[3] + HOUR / 4, home)]
    bookings = [
        Booking(
            f"{account_id}-{place}",
            account_id,
            f"{names[place]} Sample",
            "home@example.com" if phone == home else f"{names[place].lower()}@example.net",
            phone,
            slot_at,
            "booked",
            slot_at + DAY,
        )
        for place, (account_id, slot_at, phone) in enumerate([*clients, *family])
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


def nothing(_system: Ringonce) -> None:
    """Nothing happens."""


def accept_the_ledger(system: Ringonce) -> None:
    """Of two runs that are the first of all, preflight refuses the one that finds the other's use of the ledger."""
    system.until_the_end.enter_context(patch.object(system, "_mark", ACCEPT))


def hold_email_and_texts(system: Ringonce) -> None:
    """An operator stops two channels, and nobody releases them."""
    for channel in (Channel.EMAIL, Channel.SMS):
        with system.owner.transaction():
            system.owner.execute("SET LOCAL ROLE reminders_operator")
            system.owner.execute(
                "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at)"
                " VALUES ('channel', %s, 'operator', 'a drill', %s, %s)",
                (channel.value, system.clock.now, system.clock.now + HOUR),
            )


def talk_for_hours(system: Ringonce) -> None:
    """Whoever is called stays on the line."""
    system.until_the_end.enter_context(patch.object(network, "_CALL_ENDED", LONG_CALL.total_seconds()))


def answer_with_the_first_id(system: Ringonce) -> None:
    """A cache before the provider answers every text with the first one's id, and only the first goes."""
    send, first = system.senders[Channel.SMS], []

    def cached(contact: Contact, now: datetime, last_check: Callable[[], None]) -> Acceptance:
        if not first:
            first.append(send(contact, now, last_check))
        return first[0]

    system.senders[Channel.SMS] = cached


def answer_with_a_500(system: Ringonce) -> None:
    """The first texts go out, and the provider's answer is no answer."""
    system.network.fault("sms", "accept_then_500", count=DOUBTS)


def run_tasks_again(system: Ringonce) -> None:
    """Airflow runs each dispatch task once more, five minutes later; in between a second visit of a contact that was
    put off becomes ready, which the contact may not name any more."""
    dispatch = system.dispatch

    def dispatch_twice(batch_id: int, worker: Worker) -> None:
        system.owner.execute(PUT_OFF, {"batch_id": batch_id, "until": system.clock.now + timedelta(minutes=2)})
        dispatch(batch_id, worker)
        system.clock.sleep(300)
        dispatch(batch_id, worker)

    system.until_the_end.enter_context(patch.object(system, "dispatch", dispatch_twice))


@dataclass(frozen=True)
class Drill:
    """`worst` is what each figure may come to; a figure that is not named may be 0. `begins` is what happens at the
    start, before any guard is removed."""

    name: str
    schedule: Schedule = Rounds()
    book: Book = BUSY_BOOK
    settings: tuple[str, ...] = (*POLICY, *WIDE_GATE)
    begins: Act = nothing
    planners: int = 1
    held: tuple[str, ...] = ()
    worst: tuple[tuple[str, int], ...] = ()

    def most(self, figure: str) -> int:
        usual = {
            "most_calls_at_once": 1,
            "calls_in_five_minutes": PACE,
            "by_phone_in_a_day": 1,
            "emails_in_a_day": EMAILS_A_DAY,
            # Emails wait for a day's ceiling here, and texts for the cap of the family's line.
            "backlog_unasked": 1000,
            "sent_after": 1000,
        }
        return {**usual, **dict(self.worst)}.get(figure, 0)

    def bad(self, found: dict[str, int]) -> dict[str, int]:
        """Those of the figures that are worse than they may be."""
        return {figure: value for figure, value in found.items() if value > self.most(figure)}

    def run(self, database: TestDatabase, sabotage: Act = nothing) -> dict[str, int]:
        """The figures of `strain.LABELS` after one run on the empty ledger in `database`."""
        with database.connect() as owner:
            for setting in self.settings:
                owner.execute(setting)
        ledger: list[dict[str, Any]] = []
        tries: list[dict[str, Any]] = []

        def start(system: Ringonce) -> None:
            system.until_the_end.callback(lambda: ledger.extend(rows(system, REMINDERS)))
            system.until_the_end.callback(lambda: tries.extend(rows(system, TRIES)))
            self.begins(system)
            sabotage(system)

        run = run_ringonce(database, self.book, self.schedule, sabotage=start, planners=self.planners)
        found = {**run.night, **strain.strain(run.heard, self.book)}
        found["after_hold"] = strain.sent_since(run.heard, self.schedule.starts_at, self.held)
        found["sent_after"] = strain.sent_since(
            run.heard, self.schedule.starts_at, [channel.value for channel in Channel]
        )
        found["falsely_delivered"] = strain.falsely_delivered(run.heard, self.book, ledger)
        found["rows_twice"] = strain.twice(ledger, "account_id", "appointment_id", "slot_at", "step")
        found["contacts_twice"] = strain.twice(tries, "contact_id")
        found["failed_cycles"] = sum(run.failures.values())
        return {name: found[name] for name in strain.LABELS}


def rows(system: Ringonce, query: str) -> list[dict[str, Any]]:
    with system.owner.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


BUSY = Drill("busy")
GENEROUS = Drill("many a day", settings=(*POLICY, *WIDE_GATE, *MANY_A_DAY), worst=(("by_phone_in_a_day", 10),))
LONG_CALLS = Drill(
    "long calls",
    settings=(*POLICY, *WIDE_GATE, *MANY_A_DAY, *SHORT_GAP, *NO_PACE),
    begins=talk_for_hours,
    worst=(("by_phone_in_a_day", 10), ("too_close", 1000), ("calls_in_five_minutes", 100)),
)
HELD = Drill("two channels held", begins=hold_email_and_texts, held=("email", "sms"))
NIGHT_OUTAGE = Drill("outage until ten at night", schedule=Outage())
BACKLOG = Drill(
    "outage, and nobody releases",
    schedule=Outage(),
    settings=(),
    worst=(("backlog_unasked", 0), ("emails_in_a_day", 1000), ("calls_in_five_minutes", 6)),
)
AGAIN = Drill("imported again", book=ImportedAgain(BUSY_BOOK.bookings, BUSY_BOOK.offices))
TWO_PLANNERS = Drill("two planners", begins=accept_the_ledger, planners=2)
SAME_ID = Drill("one id for all texts", begins=answer_with_the_first_id)
DOUBT = Drill(
    "texts answered by a 500",
    settings=(*POLICY, *WIDE_GATE, *MANY_A_DAY, *SHORT_GAP),
    begins=answer_with_a_500,
    worst=(("by_phone_in_a_day", 10), ("too_close", 1000)),
)
RUN_AGAIN = Drill(
    "tasks run again",
    settings=(*POLICY, *WIDE_GATE, *MANY_A_DAY, *SHORT_GAP),
    begins=run_tasks_again,
    worst=(("by_phone_in_a_day", 10), ("too_close", 1000)),
)
DRILLS = (BUSY, GENEROUS, LONG_CALLS, HELD, NIGHT_OUTAGE, BACKLOG, AGAIN, TWO_PLANNERS, SAME_ID, DOUBT, RUN_AGAIN)
