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
    "UPDATE reminders.cadence_step SET useful_until = '0', wait = '3 minutes' WHERE step = 3",
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
SLOTS = tuple(WEDNESDAY_2PM + ahead * HOUR for ahead in (2, 3, 4, 22, 48))
# A call that nobody reports on is over by then.
LONGEST_CALL = 2 * HOUR
ANSWERS: dict[str, Any] = {
    "accepted": lambda number: Acceptance(f"SM{number}", "queued"),
    "doubtful": lambda _number: Doubtful("timeout"),
    "never": lambda _number: NeverContacted("not_connected", retry_after=60),
    "refused": lambda _number: AddressRefused("bad_address", "21211"),
    "opted out": lambda _number: OptedOut("opted_out", "21610"),
    "misconfigured": lambda _number: Misconfigured("misconfigured", "21606"),
}
# What the provider may say of a contact that it has made, and of one that it has not.
AFTER_IT, WITHOUT_IT = ("accepted", "doubtful"), ("doubtful", "never", "refused", "opted out", "misconfigured")
STATUSES = (("delivered", "delivered"), ("undelivered", "busy"), ("undelivered", "unreachable"))
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
        self.now = WEDNESDAY_2PM
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
        self.ledgers[0].reserve_attempts(10_000, secret_fingerprint(SECRET))
        self.merge(0)
        self.triage(0)
        self.close(0)

    def _set_clock(self) -> None:
        self.owner.execute(SET_CLOCK, (self.now,))

    # The book

    @rule(account=st.sampled_from(ACCOUNTS), person=places, slot=places, again=st.booleans())
    def books(self, account: str, person: int, slot: int, again: bool) -> None:
        """An appointment, which may be another's under a new id."""
        slot_at, (email, phone) = SLOTS[slot % len(SLOTS)], PEOPLE[person % len(PEOPLE)]
        name = f"{account}-{person % len(PEOPLE)}-{slot % len(SLOTS)}" + ("-again" if again else "")
        self.book[name] = Booked(
            slot_at, name, account_id=account, client_email=email, client_phone=phone, client_name=f"N{len(self.book)}"
        )

    @precondition(lambda self: self.book)
    @rule(which=places, what=st.sampled_from(("confirmed", "cancelled", "booked", "gone", "moved")), slot=places)
    def changes(self, which: int, what: str, slot: int) -> None:
        name = sorted(self.book)[which % len(self.book)]
        if what == "gone":
            del self.book[name]
        elif what == "moved":
            self.book[name] = replace(self.book[name], starts_at=SLOTS[slot % len(SLOTS)])
        else:
            self.book[name] = replace(self.book[name], status=what)

    def _read(self, from_at: datetime, until_at: datetime, ids: list[str]) -> Iterator[dict[str, Any]]:
        for row in list(self.book.values()):
            if from_at <= row.starts_at < until_at or row.appointment_id in ids:
                yield row.row()

    # The cycle, step by step; each worker may do each

    @rule(worker=st.integers(0, 1))
    def merge(self, worker: int) -> None:
        self.date = self.now
        extract(self.ledgers[worker], self._read, self.date, self.now, SECRET)
        self.ledgers[worker].merge(self.date, "scheduled", True, self.now)
        self.is_judged = False

    @rule(worker=st.integers(0, 1))
    def triage(self, worker: int) -> None:
        self.ledgers[worker].triage(self.date, "scheduled", self.now)
        self.is_judged = True

    @rule(worker=st.integers(0, 1), share=st.integers(1, 3))
    def plan(self, worker: int, share: int) -> None:
        most = dict.fromkeys(Channel, 1000)
        self.batches += self.ledgers[worker].plan(
            self.date, self.now, {c.value: n for c, n in most.items()}, {c.value: share for c in Channel}
        )

    @rule(worker=st.integers(0, 1))
    def whole_cycle(self, worker: int) -> None:
        """What mostly happens: a cycle up to its plan, and its dispatch."""
        self.merge(worker)
        self.triage(worker)
        self.plan(worker, 1)
        for batch in range(len(self.batches) - 3, len(self.batches)):
            if batch >= 0:
                self.dispatch(worker, batch, [True])
        self.close(worker)

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

    @precondition(lambda self: self.in_flight)
    @rule(worker=st.integers(0, 1), which=places, answer=places, twice=st.booleans())
    def answers(self, worker: int, which: int, answer: int, twice: bool) -> None:
        """The worker hears of one contact, perhaps after everybody has given it up, and records it."""
        contact, made = self.in_flight.pop(which % len(self.in_flight))
        choices = AFTER_IT if made else WITHOUT_IT
        name = choices[answer % len(choices)]
        row = outcome(contact.attempt_id, ANSWERS[name](contact.attempt_id), self.now)
        for _ in range(1 + twice):
            self.ledgers[worker].record([row], self.now)
        if name == "accepted":
            self.accepted.append(contact)
        if name == "opted out":
            self.silent.add(contact.address)

    @precondition(lambda self: self.in_flight)
    @rule(which=places)
    def worker_dies(self, which: int) -> None:
        """Nobody will ever record what became of it."""
        self.in_flight.pop(which % len(self.in_flight))

    @precondition(lambda self: self.accepted)
    @rule(worker=st.integers(0, 1), which=places, status=st.sampled_from(STATUSES))
    def reports(self, worker: int, which: int, status: tuple[str, str]) -> None:
        """The provider tells how a contact ended."""
        contact = self.accepted.pop(which % len(self.accepted))
        self.lines.pop(contact.attempt_id, None)
        self.ledgers[worker].record([closing(contact.attempt_id, *status)], self.now)

    @rule(worker=st.integers(0, 1))
    def close(self, worker: int) -> None:
        """A run that has not come to the gate has failed."""
        self.ledgers[worker].close(self.date, self.is_judged, self.now)

    @rule(minutes=st.sampled_from((1, 2, 5, 5, 5, 15, 60, 150, 1200)))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self._set_clock()
        self.lines = {number: line for number, line in self.lines.items() if line.over_at > self.now}
        close_dead(self.ledgers[0], self.now)

    # The operator

    @rule(scope=st.sampled_from(("all", "channel", "account", "book")), which=places)
    def places_hold(self, scope: str, which: int) -> None:
        values = {"all": ("",), "channel": tuple(Channel), "account": ACCOUNTS, "book": (*ACCOUNTS, "*")}[scope]
        value = str(values[which % len(values)])
        try:
            hold_id = self.operator.place(scope, value, "Ana", "a look", self.now, HOUR)
        except HoldError:
            return
        self.stopped[hold_id] = scope, value

    @rule(which=places, how=st.sampled_from(("release", "release", "drop", "turn_down")))
    def lets_go(self, which: int, how: str) -> None:
        held = [hold["hold_id"] for hold in self.operator.in_force(self.now)]
        if not held:
            return
        hold_id = held[which % len(held)]
        try:
            getattr(self.operator, how)([hold_id], "Ana", self.now)
        except HoldError:
            return
        self.stopped.pop(hold_id, None)

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
