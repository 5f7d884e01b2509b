"""The ledger's operations in any order, by two workers, an operator and time, against a log that is the machine's own.

Two accounts share people, telephones and slots; gaps are short and caps high, so that what keeps a line or a slot is
reached and not only the cap before it. Every contact is judged when it is made, by what the log has before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reminders.addresses import secret_fingerprint
from reminders.capacity import DISPATCH_TIME_LIMIT
from reminders.cycle.dispatch import LEASE, contacts, outcome
from reminders.cycle.extract import extract
from reminders.cycle.reconcile import close_dead, closing
from reminders.errors import AddressRefused, Doubtful, HoldError, Misconfigured, NeverContacted, OptedOut
from reminders.model import Acceptance, Channel, Contact
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from reminders.store.statements import statement
from tests.databases import SharedServer, fill_ledger
from tests.drill.ringonce import SET_CLOCK
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked

SETTINGS = (
    "UPDATE reminders.account_policy SET phone_daily_cap = 6, phone_weekly_cap = 20, phone_gap = '2 minutes',"
    " email_gap = '1 minute', email_daily_cap = 9, email_weekly_cap = 30",
    "UPDATE reminders.cadence_step SET useful_until = '1 hour', wait = '0' WHERE step = 1",
    "UPDATE reminders.cadence_step SET useful_until = '1 hour', wait = '3 minutes' WHERE step = 2",
    "UPDATE reminders.cadence_step SET useful_until = '0', wait = '3 minutes', lead = '20 hours' WHERE step = 3",
    # What waits for a person is not the subject here, and would be most of it.
    "UPDATE reminders.gate_bound SET longest_gap = '1 day', least_of_account = 1000, least_in_all = 10000",
    "INSERT INTO reminders.account_seen VALUES ('clinic', '2026-01-01'), ('vet', '2026-01-01')",
)
GAPS = {True: MINUTE, False: 2 * MINUTE}
CAPS = {True: 9, False: 6}
ACCOUNTS = ("clinic", "vet")
# Two of them share a telephone and a mailbox.
PEOPLE = (
    ("home@example.com", "+442079460001"),
    ("home@example.com", "+442079460001"),
    ("b@example.com", "+442079460002"),
)
OPENING = WEDNESDAY_2PM - 5 * HOUR
# How many hours ahead an appointment is booked.
AHEAD = (2, 3, 8, 8, 14)
# A call that nobody reports on is over by then.
LONGEST_CALL = 2 * HOUR
ANSWERS: dict[str, Any] = {
    "accepted": lambda each: Acceptance(f"ID{each.attempt_id}", "sent", is_delivered=each.channel is Channel.EMAIL),
    "doubtful": lambda _contact: Doubtful("timeout"),
    "never": lambda _contact: NeverContacted("not_connected", retry_after=60),
    "refused": lambda _contact: AddressRefused("bad_address", "21211"),
    "opted out": lambda _contact: OptedOut("opted_out", "21610"),
    "misconfigured": lambda _contact: Misconfigured("misconfigured", "21606"),
}
# What the provider may say of a contact that it has made, and of one that it has not.
AFTER_IT, WITHOUT_IT = (
    ("accepted", "accepted", "doubtful"),
    ("doubtful", "never", "refused", "opted out", "misconfigured"),
)
STATUSES = (("delivered", "delivered"), ("delivered", "delivered"), ("undelivered", "busy"))
places = st.integers(0, 11)


@dataclass(frozen=True)
class Sent:
    """One contact that was made; the machine knows, whatever the ledger is told."""

    at: datetime
    contact: Contact


@dataclass
class Line:
    """A call, until `over_at`."""

    to: str
    over_at: datetime


class LedgerMachine(RuleBasedStateMachine):
    """One ledger on `server` from its first cycle on."""

    def __init__(self, server: SharedServer) -> None:
        super().__init__()
        self.until_the_end = ExitStack()
        database = self.until_the_end.enter_context(server.database(server.template("ledger_template", fill_ledger)))
        self.owner = database.connect()
        self.ledgers = [Ledger(database.connect("reminders_app")) for _ in range(2)]
        self.operator = Holds(database.connect("reminders_operator_login"))
        self.now = OPENING
        self.book: dict[str, Booked] = {}
        self.log: list[Sent] = []
        self.lines: dict[int, Line] = {}
        self.in_flight: list[tuple[Contact, bool]] = []
        self.accepted: list[Contact] = []
        self.silent: set[str] = set()
        self.batches: list[int] = []
        self.date, self.is_judged = self.now, False
        self.stopped: dict[int, tuple[str, str]] = {}

    def teardown(self) -> None:
        self.until_the_end.close()

    @initialize()
    def first_cycle(self) -> None:
        for setting in SETTINGS:
            self.owner.execute(setting)
        self._set_clock()
        self.ledgers[0].reserve_attempts(10_000, secret_fingerprint(SECRET), self.ledgers[0].identity()["identity"])
        self.merge(0)
        self.triage(0)
        self.close(0)
        for place in range(4):
            self.books(ACCOUNTS[place % 2], place, place, again=False)

    def _set_clock(self) -> None:
        self.owner.execute(SET_CLOCK, (self.now,))

    # Each rule stands for several operations: it is drawn as often as any other, and whole cycles should be frequent.

    @rule(
        act=st.sampled_from(("books", "books", "confirmed", "cancelled", "booked", "gone", "moved")),
        account=st.sampled_from(ACCOUNTS),
        which=places,
        slot=places,
        again=st.booleans(),
    )
    def book_changes(self, act: str, account: str, which: int, slot: int, again: bool) -> None:
        name = sorted(self.book)[which % len(self.book)] if self.book else ""
        if act == "books" or not name:
            self.books(account, which, slot, again)
        elif act == "gone":
            del self.book[name]
        elif act == "moved":
            self.book[name] = replace(self.book[name], starts_at=self._slot(slot))
        else:
            self.book[name] = replace(self.book[name], status=act)

    def books(self, account: str, person: int, slot: int, again: bool) -> None:
        """An appointment, which may be another's under a new id."""
        slot_at, (email, phone) = self._slot(slot), PEOPLE[person % len(PEOPLE)]
        name = f"{account}-{person % len(PEOPLE)}-{slot_at:%d-%H}" + ("-again" if again else "")
        self.book[name] = Booked(
            slot_at, name, account_id=account, client_email=email, client_phone=phone, client_name=f"N{len(self.book)}"
        )

    def _slot(self, place: int) -> datetime:
        return self.now.replace(minute=0) + AHEAD[place % len(AHEAD)] * HOUR

    def _read(self, from_at: datetime, until_at: datetime, ids: list[str]) -> Iterator[dict[str, Any]]:
        for row in list(self.book.values()):
            if from_at <= row.starts_at < until_at or row.appointment_id in ids:
                yield row.row()

    @rule(
        worker=st.integers(0, 1),
        goes=st.lists(st.sampled_from((True, True, False)), min_size=1, max_size=3),
        answers=st.lists(places, min_size=1, max_size=3),
        minutes=st.sampled_from((3, 4, 5, 12)),
    )
    def whole_cycle(self, worker: int, goes: list[bool], answers: list[int], minutes: int) -> None:
        """What mostly happens: a cycle from its merge to its end, and what the provider says of it."""
        self.time_passes(minutes)
        self.merge(worker)
        self.triage(worker)
        planned = len(self.batches)
        self.plan(worker, 1)
        for batch in range(planned, len(self.batches)):
            self.dispatch(worker, batch, goes)
        for place in range(len(self.in_flight)):
            self.answers(worker, 0, answers[place % len(answers)], times=1)
        for place in range(len(self.accepted)):
            self.reports(worker, 0, answers[place % len(answers)])
        self.close(worker)

    @rule(step=st.sampled_from(("merge", "triage", "plan", "close")), worker=st.integers(0, 1), share=st.integers(1, 3))
    def part_of_a_cycle(self, step: str, worker: int, share: int) -> None:
        """One step, out of its turn, by either worker."""
        if step == "plan":
            self.plan(worker, share)
        else:
            getattr(self, step)(worker)

    def merge(self, worker: int) -> None:
        self.date = self.now
        extract(self.ledgers[worker], self._read, self.date, self.now, SECRET)
        self.ledgers[worker].merge(self.date, "scheduled", True, self.now)
        self.is_judged = False

    def triage(self, worker: int) -> None:
        self.ledgers[worker].triage(self.date, "scheduled", self.now)
        self.is_judged = True

    def plan(self, worker: int, share: int) -> None:
        most, batches = ({channel.value: count for channel in Channel} for count in (1000, share))
        self.batches += self.ledgers[worker].plan(self.date, self.now, most, batches)

    def close(self, worker: int) -> None:
        """A run that has not come to the gate has failed."""
        self.ledgers[worker].close(self.date, self.is_judged, self.now)

    @precondition(lambda self: self.batches)
    @rule(worker=st.integers(0, 1), batch=places, goes=st.lists(st.booleans(), min_size=1, max_size=3))
    def dispatch(self, worker: int, batch: int, goes: list[bool]) -> None:
        """The intents of a batch, and what leaves: a contact `goes`, or nothing of it does."""
        ledger = self.ledgers[worker]
        taken = ledger.claim(self.batches[batch % len(self.batches)], DISPATCH_TIME_LIMIT)
        rows = ledger.intend(taken["contact_ids"], taken["claim"], self.now, self.now + LEASE)
        for place, contact in enumerate(contacts(rows)):
            made = goes[place % len(goes)]
            if made:
                self._judge(contact)
                self.log.append(Sent(self.now, contact))
                if contact.channel is Channel.CALL:
                    self.lines[contact.attempt_id] = Line(contact.address, self.now + LONGEST_CALL)
            self.in_flight.append((contact, made))

    @precondition(lambda self: self.in_flight or self.accepted)
    @rule(worker=st.integers(0, 1), which=places, answer=places, times=st.integers(0, 2))
    def news(self, worker: int, which: int, answer: int, times: int) -> None:
        """Of one contact: its worker hears, perhaps after everybody has given it up, or dies; or its status comes."""
        if self.in_flight:
            self.answers(worker, which, answer, times)
        else:
            self.reports(worker, which, answer)

    def answers(self, worker: int, which: int, answer: int, times: int) -> None:
        """The worker records what it heard, so many `times`; never, if it has died."""
        contact, made = self.in_flight.pop(which % len(self.in_flight))
        choices = AFTER_IT if made else WITHOUT_IT
        name = choices[answer % len(choices)]
        row = outcome(contact.attempt_id, ANSWERS[name](contact), self.now)
        for _ in range(times):
            self.ledgers[worker].record([row], self.now)
        if times and name == "accepted" and contact.channel is not Channel.EMAIL:
            self.accepted.append(contact)
        if times and name == "opted out":
            self.silent.add(contact.address)

    def reports(self, worker: int, which: int, answer: int) -> None:
        """The provider tells how a contact ended."""
        contact = self.accepted.pop(which % len(self.accepted))
        self.lines.pop(contact.attempt_id, None)
        status = STATUSES[answer % len(STATUSES)]
        self.ledgers[worker].record([closing(contact.attempt_id, *status)], self.now)

    @rule(minutes=st.sampled_from((1, 2, 2, 5, 5, 15, 60, 150)))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self._set_clock()
        self.lines = {number: line for number, line in self.lines.items() if line.over_at > self.now}
        close_dead(self.ledgers[0], self.now)

    @rule(
        act=st.sampled_from(("place", "release all", "release", "drop", "turn_down")),
        scope=st.sampled_from(("all", "channel", "account", "book")),
        which=places,
    )
    def person_acts(self, act: str, scope: str, which: int) -> None:
        """An operator stops something, or lets something go."""
        in_force = [hold["hold_id"] for hold in self.operator.in_force()]
        try:
            if act == "place":
                values = {"all": ("",), "channel": tuple(Channel), "account": ACCOUNTS, "book": (*ACCOUNTS, "*")}[scope]
                value = str(values[which % len(values)])
                hold_id = self.operator.place(scope, value, "Ana", "a look", HOUR)
                self.stopped[hold_id] = scope, value
            elif act == "release all":
                self.operator.release(in_force, "Ana")
                self.stopped.clear()
            elif in_force:
                hold_id = in_force[which % len(in_force)]
                getattr(self.operator, act)([hold_id], "Ana")
                self.stopped.pop(hold_id, None)
        except HoldError:
            return

    # The judge

    def _judge(self, contact: Contact) -> None:
        """AssertionError when this contact should not have been made now, by the log."""
        is_mail = contact.channel is Channel.EMAIL
        before = [sent for sent in self.log if sent.contact.address == contact.address]
        for visit in contact.visits:
            slot = contact.account_id, visit.starts_at, contact.channel
            assert visit.starts_at > self.now, "after the start"
            for sent in before:
                theirs = {(sent.contact.account_id, v.starts_at, sent.contact.channel) for v in sent.contact.visits}
                assert slot not in theirs, "twice for a slot and channel"
        of_kind = [sent for sent in before if (sent.contact.channel is Channel.EMAIL) == is_mail]
        assert all(self.now - sent.at >= GAPS[is_mail] for sent in of_kind), "too soon after another"
        today = [sent for sent in of_kind if sent.at.date() == self.now.date()]
        assert len(today) < CAPS[is_mail], "too many in a day"
        assert is_mail or 9 <= self.now.hour < 20, "in quiet hours"
        assert contact.address not in self.silent, "to somebody who has opted out"
        if contact.channel is Channel.CALL:
            assert all(line.to != contact.address for line in self.lines.values()), "two calls at once"
        scopes = {("all", ""), ("channel", str(contact.channel)), ("account", contact.account_id)}
        scopes |= {("book", "*"), ("book", contact.account_id)}
        assert scopes.isdisjoint(self.stopped.values()), "on hold"

    @invariant()
    def no_promise_is_broken(self) -> None:
        broken = self.owner.execute(statement("broken_invariants"), {"now": self.now}).fetchall()
        assert broken == []

    @invariant()
    def nothing_is_called_delivered_that_was_not_made(self) -> None:
        made = {sent.contact.attempt_id for sent in self.log}
        told = self.owner.execute("SELECT attempt_id FROM reminders.attempt WHERE state = 'delivered'").fetchall()
        assert {attempt_id for (attempt_id,) in told} <= made
