"""What a test does to a deployment of real Airflow processes: holds a dispatch, breaks it, brings it back.

Nothing here waits for a time: a dispatch is held by a lock in the ledger or by a provider that stands still, and a test
goes on when the ledger or the network's log shows that it has come there.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from local.processes import members
from local.sample_book import fictional_numbers
from reminders.cycle.dispatch import LEASE
from reminders.cycle.reconcile import close_dead
from reminders.model import Channel
from reminders.store.ledger import Ledger
from tests.acceptance.conftest import Deployment
from tests.kills.judge import REMINDERS, Due, Entry, complaints, reached
from tests.kills.line import NUMBERS

HOUR = timedelta(hours=1)
VISITS = {Channel.EMAIL: 40 * HOUR, Channel.SMS: 22 * HOUR, Channel.CALL: 3 * HOUR}
ACCOUNTS = {Channel.EMAIL: "clinic", Channel.SMS: "clinic", Channel.CALL: "calls-only"}
MOST_CYCLES = 2
WAITING = """
SELECT client_port FROM pg_stat_activity
WHERE datname = 'ledger' AND wait_event_type = 'Lock' AND strpos(query, %s) > 0 ORDER BY query_start
"""
HOLDS = "SELECT scope, scope_value, why FROM reminders.hold WHERE released_at IS NULL"
NO_INTENT = "LOCK TABLE reminders.attempt IN SHARE MODE"
NO_LOOK_AT_HOLDS = "LOCK TABLE reminders.hold IN ACCESS EXCLUSIVE MODE"
NO_RECORD = "SELECT FROM reminders.attempt WHERE state = 'sending' FOR UPDATE"


@dataclass
class Street:
    """A deployment and those whom its book owes a reminder."""

    deployment: Deployment
    due: list[Due] = field(default_factory=list)
    numbers: Iterator[str] = field(default_factory=lambda: fictional_numbers(NUMBERS, Random(1)))

    def book(self, channel: Channel, count: int) -> list[Due]:
        """Book clients whose reminder by this channel is due now."""
        booked = []
        for _ in range(count):
            name = f"visit-{len(self.due)}"
            address = f"{name}@example.com" if channel is Channel.EMAIL else next(self.numbers)
            place = {"email": address} if channel is Channel.EMAIL else {"phone": address}
            self.deployment.book(name, ACCOUNTS[channel], VISITS[channel], **place)
            booked.append(Due(name, channel.value, address))
            self.due.append(booked[-1])
        return booked

    # Holding a dispatch

    @contextmanager
    def locked(self, statement: str) -> Iterator[psycopg.Connection[Any]]:
        """A lock in the ledger, by the superuser, until this ends or its connection rolls back."""
        with closing(psycopg.connect(self.deployment.server.conninfo("ledger"))) as connection:
            connection.execute(statement)
            yield connection

    def waiting(self, query: str) -> psutil.Process:
        """The task that waits for a lock in a query with this text, as soon as one does."""
        ports: list[Any] = []

        def waits() -> bool:
            with psycopg.connect(self.deployment.server.conninfo("ledger")) as connection:
                ports[:] = connection.execute(WAITING, (query,)).fetchall()
            return bool(ports)

        self.deployment.wait_for(f"a task that waits in {query}", waits)
        [task] = self.tasks_at(ports[0][0])
        return task

    def calling(self) -> psutil.Process:
        """The task that has a connection to the provider's API, as soon as one does."""
        found: list[psutil.Process] = []

        def calls() -> bool:
            found[:] = self.tasks_at(self.deployment.network.http_port)
            return bool(found)

        self.deployment.wait_for("a task at the provider", calls)
        return found[0]

    def tasks_at(self, port: int) -> list[psutil.Process]:
        """The processes of Airflow's that have a connection from this port, or to it."""
        found = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                ends = [end.port for each in process.net_connections("tcp") for end in (each.laddr, each.raddr) if end]
                if port in ends:
                    found.append(process)
        return found

    def processes(self) -> list[psutil.Process]:
        """Airflow's processes, those that run tasks among them; also those whose parent was killed."""
        return members(list(self.deployment.airflow.processes.groups.values()))

    @contextmanager
    def provider_paused(self) -> Iterator[None]:
        """The provider and the relay take connections and do nothing else, for a while."""
        with stopped(listener(self.deployment.network.http_port)):
            yield

    # Afterwards

    def settle(self) -> None:
        """The leases of all attempts are over, for reconcile_deliveries' first task. No dispatch may run meanwhile."""
        with closing(self._as_app()) as connection:
            close_dead(Ledger(connection), datetime.now(UTC) + LEASE)

    def _as_app(self) -> psycopg.Connection[Any]:
        uri = self.deployment.environment["AIRFLOW_CONN_LEDGER_DB"]
        return psycopg.connect(uri.replace("postgres://", "postgresql://"))

    def back_to_normal(self, channel: Channel) -> None:
        """Fails unless one of the next two cycles is green and a client who is booked now hears of it."""
        since = datetime.now(UTC)
        fresh = self.book(channel, 1)
        for _ in range(MOST_CYCLES):
            if self.deployment.by_hand().state == "success":
                break
        ended = sorted((run.key, run.state) for run in self.deployment.airflow.runs() if run.key >= since)
        assert "success" in [state for _, state in ended[:MOST_CYCLES]], ended
        assert reached(self.deployment.network.log())[fresh[0].place] == 1
        assert self.deployment.query("ledger", HOLDS) == []

    def complaints(self) -> list[str]:
        """What the judge has to say about everybody who was due."""
        entries = [Entry(*row) for row in self.deployment.query("ledger", REMINDERS)]
        summary = self.deployment.network.summary()
        log = self.deployment.network.log()
        return complaints(self.due, entries, reached(log), summary["max_simultaneous_calls"])

    def states(self, whose: list[Due]) -> dict[str, int]:
        """How many of these reminders are in which state."""


def listener(port: int) -> psutil.Process:
    """The process that we started and that listens on this port."""
    for process in psutil.Process().children():
        listening = [c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        if port in listening:
            return process
    raise AssertionError(f"none of our processes listens on port {port}")


@contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """The processes stand still for a while."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
