"""The dispatch path: intents and outcomes durable, every guard on, a provider in this process."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from reminders.cycle.dispatch import Clock, dispatch
from reminders.cycle.stops import HoldWatch
from reminders.model import Acceptance, Channel, Contact
from reminders.store.ledger import Ledger
from tests.bench.world import Database, World

GROUP = 1000
CHILD_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Sent:
    """`contacts` sent in `seconds`."""

    contacts: int
    seconds: float

    @property
    def rate(self) -> float:
        """Contacts a second."""
        return self.contacts / self.seconds


def at_once(contact: Contact, _now: datetime, last_check: Any) -> Acceptance:
    """A provider that answers at once: mail is delivered, texts and calls are accepted."""
    last_check()
    return Acceptance(f"provider-{contact.attempt_id}", "sent", is_delivered=contact.channel is Channel.EMAIL)


def after_200_ms(contact: Contact, now: datetime, last_check: Any) -> Acceptance:
    """A provider that answers after 200 ms."""
    time.sleep(0.2)
    return at_once(contact, now, last_check)


def plan(database: Database, rows: int, channel: str, batches: int) -> list[int]:
    """A ledger with `rows` ready reminders, each to an address of its own, in `batches` batches; returns their ids."""
    now = datetime.now(UTC)
    database.lift_ceilings()
    database.stage(rows, channel, now)
    ledger = database.ledger()
    ledger.reserve_attempts(2 * rows, "bench", ledger.identity()["identity"])
    ledger.merge(now, "scheduled", True, now)
    database.owner.execute("ANALYZE")
    ledger.triage(now, "scheduled", now)
    planned = ledger.plan(now, now, {channel: rows}, {channel: batches})
    ledger.connection.close()
    database.owner.execute("ANALYZE")
    return planned


def send(conninfo: str, batch_id: int, channel: Channel, is_limited: bool, rate: float) -> Sent:
    """Dispatch one batch on connections of its own. `rate` (contacts a second) sets the size of the groups; only with
    `is_limited` does it hold the sender back too, and has the provider its latency."""
    ledger = Ledger(psycopg.connect(conninfo))
    watching = Ledger(psycopg.connect(conninfo))
    clock = Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep if is_limited else lambda _: None)
    provider = after_200_ms if is_limited else at_once
    started = time.perf_counter()
    counts = dispatch(
        ledger,
        HoldWatch(watching.holds, clock.monotonic, clock.now),
        batch_id,
        {channel: provider},
        {channel: rate},
        clock,
        timedelta(minutes=10),
        lambda: False,
    )
    seconds = time.perf_counter() - started
    return Sent(counts.get("accepted", 0) + counts.get("delivered", 0), seconds)


def unlimited(world: World, rows: int, channel: Channel, batches: int) -> Sent:
    """Send `rows` reminders in `batches` batches at the same time, each in a process of its own as a mapped task is."""
    with world.ledger_database() as database:
        planned = plan(database, rows, channel.value, batches)
        share = str(GROUP * batches)
        children = [start(database.conninfo, "send", str(batch), channel.value, share) for batch in planned]
        for child in children:
            read(child)
        started = time.perf_counter()
        for child in children:
            go(child)
        contacts = sum(int(read(child)) for child in children)
        seconds = time.perf_counter() - started
        for child in children:
            child.wait(CHILD_SECONDS)
    if contacts != rows:
        raise RuntimeError(f"{contacts} of {rows} reminders were sent")
    return Sent(contacts, seconds)


def limited(world: World, rate: int, seconds: int) -> Sent:
    """Send texts for some `seconds` to a provider with latency, at a limit of `rate` a second."""
    with world.ledger_database() as database:
        (batch_id,) = plan(database, rate * seconds, Channel.SMS.value, 1)
        return send(database.conninfo, batch_id, Channel.SMS, True, float(rate))


def start(conninfo: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of tests.bench.child, which reads `conninfo` from its standard input."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(conninfo + "\n")
    child.stdin.flush()
    return child


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def read(child: subprocess.Popen[str]) -> str:
    """The child's next line; RuntimeError when it ended without one."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"a measured process ended with {child.wait(CHILD_SECONDS)}")
    return line.strip()
