"""A practice's day on the simulated network, task by task as Airflow runs them, with one fault at a named point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from reminders.addresses import secret_fingerprint
from reminders.channels.mail import Mailer
from reminders.cycle.extract import extract
from reminders.cycle.preflight import preflight
from reminders.failpoints import POINTS, armed
from reminders.model import Acceptance, Channel, Contact
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from tests.crash import Crash
from tests.databases import TestDatabase
from tests.deliveries import reconcile_tasks
from tests.integration.phones import SENDER, Phones
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene
from tests.simulator.client import Simulator

SECOND = timedelta(seconds=1)
VISIT = WEDNESDAY_2PM + 23 * HOUR
MOST_CYCLES = 2
LATE = timedelta(seconds=90)
BATCHES = {"email": 1, "sms": 1, "call": 1}
# The client of whose contact the provider's answer is lost, and the one who cancels.
UNLUCKY, CANCELLING = "b", "d"
LIES = {Channel.EMAIL: "drop_after_dot", Channel.SMS: "accept_then_500", Channel.CALL: "accept_then_500"}
LADDER = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, %s, '24 hours', '1 hour', '0')"""
EVENT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, received_at)
SELECT a.provider_id, 'sent', c.reference, %s FROM reminders.attempt a JOIN reminders.contact c USING (contact_id)
WHERE a.provider_id IS NOT NULL ORDER BY a.attempt_id LIMIT 1"""


# What a person's command does.
Decision = Callable[[Holds], None]


class Injected(Exception):
    """An error that nobody foresaw."""


@dataclass
class PointFault:
    """`effect` at the first reaching of `point`: crash, error, or a pause past the lease. `reached` counts all."""

    point: str
    effect: str
    pause: Callable[[], None] = lambda: None
    reached: int = 0

    def __call__(self, point: str) -> None:
        assert point in POINTS, f"{point} is not in the list, so that no fault is tried there"
        if point != self.point:
            return
        self.reached += 1
        if self.reached > 1:
            return
        if self.effect == "crash":
            raise Crash
        if self.effect == "error":
            raise Injected
        self.pause()


def phone(name: str) -> str:
    return f"+4420794600{ord(name[0]) - ord('a') + 10 * len(name):02d}"


@dataclass
class Practice:
    """The practice with its tasks; use `opened`. `failed` names the tasks that failed, in order. `cycles_to_normal`:
    after the fault, or the release that follows it, until a client who is booked then is reached."""

    database: TestDatabase
    channel: Channel
    phones: Phones
    fault: PointFault
    mark: str | None = None
    failed: list[str] = field(default_factory=list)
    cycles_to_normal: int | None = None
    is_to_be_held: bool = False
    # Whose reminder a person has turned down to email.
    turned_down: set[str] = field(default_factory=set)
    batch_ids: list[int] = field(default_factory=list)

    @property
    def scene(self) -> Scene:
        return self.phones.scene

    def book(self, *names: str) -> None:
        """Clients who book now, and whose only step is due at once, by the practice's channel."""
        before = VISIT - self.scene.now
        self.scene.booked(
            *(
                Booked(VISIT, name, client_email=f"{name}@example.com", client_phone=phone(name), booked_before=before)
                for name in names
            )
        )

    def later(self, by: timedelta) -> None:
        self.phones.at(self.scene.now + by)

    # The tasks

    def run(self, *tasks: tuple[str, Callable[[], Any]]) -> bool:
        """The tasks in turn, as Airflow runs them: after one that fails the rest do not run. Whether all succeeded."""
        for name, task in tasks:
            try:
                task()
            except (Crash, Exception) as error:
                self.failed.append(f"{name}: {type(error).__name__}")
                self._restart()
                return False
        return True

    def _restart(self) -> None:
        """The process of the next task: what the last one's connections had not committed is gone."""
        for ledger in (self.scene.ledger, self.scene.watching):
            ledger.connection.close()
        self.scene.ledger, self.scene.watching = (Ledger(self.database.connect("reminders_app")) for _ in range(2))

    def cycle(self) -> None:
        """A run of send_due_reminders; `close_cycle` runs whatever happened before it."""
        scene, date = self.scene, self.scene.now
        self.batch_ids = []
        kept: Callable[[str], None] = partial(setattr, self, "mark")
        ledger = lambda: self.scene.ledger  # noqa: E731
        succeeded = self.run(
            ("preflight", lambda: preflight(ledger(), self.mark, kept, secret_fingerprint(SECRET), scene.now)),
            ("extract_due", lambda: extract(ledger(), scene.read, date, scene.now, SECRET)),
            ("merge_ledger", lambda: ledger().merge(date, "scheduled", True, scene.now)),
            ("triage", lambda: ledger().triage(date, "scheduled", scene.now)),
            ("plan_batches", lambda: self._plan(date)),
            ("dispatch", lambda: scene.send(self.batch_ids, rate=1.0, clock=scene.flowing())),
        )
        self.run(("close_cycle", lambda: ledger().close(date, succeeded, scene.now)))
        self._back_to_normal()

    def _plan(self, date: Any) -> None:
        most = {channel.value: 1000 for channel in Channel}
        self.batch_ids = self.scene.ledger.plan(date, self.scene.now, most, BATCHES)

    def reconcile(self) -> None:
        """A run of reconcile_deliveries."""
        scene = self.scene
        self.run(*reconcile_tasks(scene.ledger, self.phones.twilio, SECRET, lambda: scene.now).items())
        self._back_to_normal()

    def _back_to_normal(self) -> None:
        """Once, as soon as the fault has happened and nothing is to be held."""
        if self.cycles_to_normal is None and self.fault.reached and not self.is_to_be_held:
            self.cycles_to_normal = 0
            self.cycles_to_normal = self.cycles_until_heard("e", MOST_CYCLES)

    def audit(self) -> None:
        self.run(("audit", self.phones.audit))

    def decide(self, act: Decision) -> None:
        """A person's command; she who has heard no answer gives it again, unless the holds show that it was done."""
        if not self.run(("operate", lambda: act(self._holds()))):
            was_placed = bool(self._holds().in_force())
            if was_placed is not (act is place):
                self.run(("operate", lambda: act(self._holds())))

    def _holds(self) -> Holds:
        return Holds(self.database.connect("reminders_operator_login"))

    # What the log says

    def heard(self) -> list[str]:
        """The names of the clients who were reached, as often as they were."""
        by_address = {phone(name): name for name in self.scene.book}
        return [by_address.get(event["to"], event["to"].partition("@")[0]) for event in self.phones.network.log()]

    def cycles_until_heard(self, name: str, most: int) -> int:
        """How many cycles it takes until a client who is booked now is reached; more than `most` when it does not."""
        self.book(name)
        for number in range(1, most + 1):
            self.later(5 * MINUTE)
            self.reconcile()
            self.cycle()
            if name in self.heard():
                return number
        return most + 1

    def to_the_end(self) -> None:
        """Past every doubt, the appointment, and the last answer that the provider could give."""
        for at in (self.scene.now + 125 * MINUTE, VISIT + MINUTE, VISIT + 51 * HOUR):
            self.phones.at(at)
            self.reconcile()
            self.cycle()


@contextmanager
def opened(database: TestDatabase, channel: Channel, fault: PointFault) -> Iterator[Practice]:
    """A practice whose clients are contacted by this channel only, on an empty ledger, with the fault to come."""
    owner = database.connect()
    scene = Scene(owner, *(Ledger(database.connect("reminders_app")) for _ in range(2))).at(WEDNESDAY_2PM)
    owner.execute(LADDER, (channel.value,))
    owner.execute("INSERT INTO reminders.account_seen VALUES ('clinic', %s)", (scene.now - timedelta(days=7),))
    owner.execute("UPDATE reminders.gate_bound SET longest_gap = '1 day'")
    with ExitStack() as until_the_end:
        network = until_the_end.enter_context(Simulator.start(speed=0, start=scene.now))
        phones = Phones(scene, network)
        mailer = Mailer("127.0.0.1", network.smtp_port, None, None, SENDER_ADDRESS, starttls=False, answer_timeout=2.0)
        practice = Practice(database, channel, phones, fault)
        fault.pause = lambda: practice.later(LATE)

        def send(contact: Contact) -> Acceptance:
            if contact.channel is Channel.EMAIL:
                return mailer.send(contact, scene.now, lambda: None)
            return phones.send(contact)

        scene.answer = send
        # A ledger that has never had a good cycle holds what is due already.
        practice.cycle()
        practice.later(5 * MINUTE)
        until_the_end.enter_context(armed(fault))
        yield practice


SENDER_ADDRESS = "reminders@example.com"
History = Callable[[Practice], None]


def in_force(holds: Holds) -> list[int]:
    return [hold["hold_id"] for hold in holds.in_force()]


def place(holds: Holds) -> None:
    holds.place("all", "", "Ana", "a look", HOUR)


def release(holds: Holds) -> None:
    if ids := in_force(holds):
        holds.release(ids, "Ana")


def drop(holds: Holds) -> None:
    holds.drop(in_force(holds), "Ana")


def turn_down(holds: Holds) -> None:
    holds.turn_down(in_force(holds), "Ana")


def ordinary(practice: Practice) -> None:
    """A day with one lost answer, one cancellation while the contact waits at the provider, and one report."""
    to = f"{UNLUCKY}@example.com" if practice.channel is Channel.EMAIL else phone(UNLUCKY)
    practice.phones.network.fault(practice.channel.value, LIES[practice.channel], to=to)
    practice.book("a", UNLUCKY, "c", CANCELLING)
    practice.cycle()
    practice.scene.changed(CANCELLING, status="cancelled")
    practice.scene.owner.execute(EVENT, (practice.scene.now,))
    practice.later(SECOND)
    practice.cycle()
    practice.reconcile()
    for minutes in (4, 6, 6):
        practice.later(minutes * MINUTE)
        practice.reconcile()
        practice.cycle()


def refused(practice: Practice) -> None:
    """A guard refuses the contacts of one cycle."""
    practice.book("a", "c")
    unjudged = "UPDATE reminders.cycle SET judged_at = NULL WHERE closed_at IS NULL"
    act, refused_at = practice.fault, practice.scene.now

    def then_refused(point: str) -> None:
        if point == "plan.committed" and practice.scene.now == refused_at:
            practice.scene.owner.execute(unjudged)
        act(point)

    with armed(then_refused):
        practice.cycle()
        practice.later(5 * MINUTE)
        practice.cycle()


def lost(practice: Practice) -> None:
    """The ledger has forgotten a contact: the provider has it, and the mark is ahead."""
    practice.is_to_be_held = True
    practice.book("a")
    if practice.channel is not Channel.EMAIL:
        contact_by_somebody(practice, phone("a"))
    kept = json.loads(practice.mark or "{}")
    practice.mark = json.dumps({**kept, "reserved_to": kept.get("reserved_to", 0) + 1_000_000})
    recovered(practice)


def audited(practice: Practice) -> None:
    """The night's audit finds a contact of the day before that the ledger does not know."""
    practice.is_to_be_held = True
    contact_by_somebody(practice, phone("a"))
    practice.phones.at(WEDNESDAY_2PM + 20 * HOUR)
    practice.audit()
    practice.audit()
    recovered(practice)


def contact_by_somebody(practice: Practice, to: str) -> None:
    """A contact from our number that the ledger knows nothing of."""
    client = practice.phones.twilio._client
    if practice.channel is Channel.CALL:
        client.calls.create(to=to, from_=SENDER, twiml="<Response/>")
    else:
        client.messages.create(to=to, from_=SENDER, body="of somebody")


def recovered(practice: Practice) -> None:
    """Cycles go on, the list is read when it is settled, and a person releases what can be released."""
    for minutes in (5, 5, 6, 5, 5):
        practice.later(minutes * MINUTE)
        practice.cycle()
        practice.reconcile()
    practice.later(5 * MINUTE)
    practice.cycle()
    practice.decide(release)
    practice.is_to_be_held = False
    practice.reconcile()


def stopped(practice: Practice) -> None:
    """A person stops everything before a cycle, and releases it."""
    practice.is_to_be_held = True
    practice.book("a", "c")
    practice.decide(place)
    practice.cycle()
    assert practice.heard() == []
    practice.later(5 * MINUTE)
    practice.decide(release)
    practice.is_to_be_held = False
    practice.cycle()


def dropped(practice: Practice) -> None:
    """After two hours without a cycle a person ends what the gate has held."""
    overdue(practice, drop)


def turned_down(practice: Practice) -> None:
    """After two hours without a cycle a person turns down to email what the gate has held."""
    overdue(practice, turn_down)
    practice.turned_down = {"a"}


def overdue(practice: Practice, decision: Decision) -> None:
    practice.is_to_be_held = True
    practice.book("a")
    practice.later(2 * HOUR)
    practice.scene.owner.execute("UPDATE reminders.gate_bound SET longest_gap = '1 hour'")
    practice.cycle()
    assert practice.heard() == []
    practice.scene.owner.execute("UPDATE reminders.gate_bound SET longest_gap = '1 day'")
    practice.later(5 * MINUTE)
    practice.cycle()
    practice.decide(decision)
    practice.is_to_be_held = False
    practice.later(5 * MINUTE)
    practice.cycle()


def histories_of(channel: Channel) -> Sequence[History]:
    """The histories that this channel can have: an email is in no list of the provider's."""
    everywhere = (ordinary, refused, lost, stopped, dropped, turned_down)
    return everywhere if channel is Channel.EMAIL else (*everywhere, audited)
