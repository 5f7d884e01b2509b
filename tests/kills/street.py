"""What a test does to a deployment of real Airflow processes: holds a dispatch where it wants, breaks it, mends it.

Nothing here waits for a time: a dispatch is held by a lock in the ledger or by a provider that stands still, and a test
goes on when the ledger, the network's log or the process itself shows that it has come there.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg

from local.airflow import Run
from local.environment import ROOT, programs
from local.processes import POLL_SECONDS, ProcessDied, members
from local.sample_book import fictional_numbers
from reminders.cycle.dispatch import LEASE
from reminders.cycle.reconcile import close_dead
from reminders.model import Channel
from reminders.store.ledger import Ledger
from tests.acceptance.conftest import Deployment
from tests.kills.judge import REMINDERS, Entry, Owed, reached, violations
from tests.kills.line import NUMBERS

HOUR = timedelta(hours=1)
VISITS = {Channel.EMAIL: 40 * HOUR, Channel.SMS: 22 * HOUR, Channel.CALL: 3 * HOUR}
ACCOUNTS = {Channel.EMAIL: "clinic", Channel.SMS: "clinic", Channel.CALL: "calls-only"}
MOST_CYCLES = 2

# Locks of a superuser's, and where a dispatch then waits.
NO_INTENT = "LOCK TABLE reminders.attempt IN SHARE MODE"
NO_LOOK_AT_HOLDS = "LOCK TABLE reminders.hold IN ACCESS EXCLUSIVE MODE"
NO_RECORD = "SELECT FROM reminders.attempt WHERE state = 'sending' FOR UPDATE"
INTENDING, LOOKING_AT_HOLDS, RECORDING = "reminders.intend(", "reminders.active_hold", "reminders.record_outcomes("
WAITING = """
SELECT client_port FROM pg_stat_activity
WHERE datname = 'ledger' AND wait_event_type = 'Lock' AND strpos(query, %s) > 0 ORDER BY query_start
"""
CONTACTS = """
SELECT r.appointment_id, count(*) FROM reminders.contact_member m JOIN reminders.reminder r USING (reminder_id)
GROUP BY m.reminder_id, r.appointment_id
"""
ATTEMPTS = """
SELECT r.appointment_id, a.state FROM reminders.attempt a
JOIN reminders.contact_member m USING (contact_id) JOIN reminders.reminder r USING (reminder_id)
"""
DISPATCHING = "SELECT id FROM task_instance WHERE task_id = 'dispatch' AND state = 'running'"
HOLDS = "SELECT scope, scope_value, why FROM reminders.hold WHERE released_at IS NULL"
# As after the time in which Airflow gives up a run.
RUN_IS_OVER = "UPDATE dag_run SET start_date = start_date - interval '11 minutes' WHERE run_id = '{run_id}'"


@dataclass
class Street:
    """A deployment, and those whom its book owes a reminder."""

    deployment: Deployment
    due: list[Owed] = field(default_factory=list)
    numbers: Iterator[str] = field(default_factory=lambda: fictional_numbers(NUMBERS, Random(1)))

    def book(self, channel: Channel, count: int) -> list[Owed]:
        """Book clients whose reminder by this channel is due now."""
        booked = []
        for _ in range(count):
            name = f"visit-{len(self.due)}"
            address = f"{name}@example.com" if channel is Channel.EMAIL else next(self.numbers)
            place = {"email": address} if channel is Channel.EMAIL else {"phone": address}
            self.deployment.book(name, ACCOUNTS[channel], VISITS[channel], **place)
            booked.append(Owed(name, channel.value, address))
            self.due.append(booked[-1])
        return booked

    # A dispatch that is held: each begins a cycle and yields the task's process once it is there

    @contextmanager
    def in_its_intent(self) -> Iterator[psutil.Process]:
        """Nothing is committed yet."""
        with self.locked(NO_INTENT):
            self.deployment.airflow.trigger()
            yield self.waiting_in(INTENDING)

    @contextmanager
    def before_the_socket(self) -> Iterator[psutil.Process]:
        """Its intent is committed, and it asks for holds a last time."""
        ledger = self.deployment.server.conninfo("ledger")
        with ExitStack() as until_the_end, closing(psycopg.connect(ledger)) as next_in_line:
            pool = until_the_end.enter_context(ThreadPoolExecutor(1))
            with self.in_its_intent():
                # The intent has looked at the holds and keeps its own lock on them until it is committed.
                granted = pool.submit(next_in_line.execute, NO_LOOK_AT_HOLDS)
                self.deployment.wait_for("a lock after the intent's", lambda: self._waiting(NO_LOOK_AT_HOLDS) != [])
            granted.result(self.deployment.patience)
            yield self.waiting_in(LOOKING_AT_HOLDS)

    @contextmanager
    def at_the_provider(self) -> Iterator[psutil.Process]:
        """The provider has its request, and stands still: it acts on it when this is over."""
        with stopped(self.provider()):
            self.deployment.airflow.trigger()
            yield self.calling()

    @contextmanager
    def in_its_record(self) -> Iterator[psutil.Process]:
        """The provider has answered."""
        with ExitStack() as until_the_end:
            with stopped(self.provider()):
                self.deployment.airflow.trigger()
                self.calling()
                until_the_end.enter_context(self.locked(NO_RECORD))
            yield self.waiting_in(RECORDING)

    @contextmanager
    def stood_still(self, held: AbstractContextManager[psutil.Process]) -> Iterator[psutil.Process]:
        """The machine was suspended, say: the task that is held, and its supervisor, stand still until the end.

        What held it is over by then: Airflow gives the run up, and the next one goes. Yields the task.
        """
        with ExitStack() as until_woken:
            with held as task:
                run = self.running()
                # The task wakes first.
                for each in (task.parent(), task):
                    until_woken.enter_context(stopped(each))
            self.deployment.change("airflow", RUN_IS_OVER.format(run_id=run.run_id))
            assert self.deployment.by_hand().state == "success"
            yield task

    @contextmanager
    def locked(self, statement: str) -> Iterator[None]:
        with closing(psycopg.connect(self.deployment.server.conninfo("ledger"))) as connection:
            connection.execute(statement.encode())
            yield

    def waiting_in(self, query: str) -> psutil.Process:
        """The task that waits for a lock in a query with this text, as soon as one does."""
        self.deployment.wait_for(f"a task that waits in {query}", lambda: self._waiting(query) != [])
        [task] = self.processes_at(self._waiting(query)[0])
        return task

    def _waiting(self, query: str) -> list[int]:
        """The ports of the clients that wait for a lock in a query with this text, the first first."""
        with psycopg.connect(self.deployment.server.conninfo("ledger")) as connection:
            return [row[0] for row in connection.execute(WAITING, (query,)).fetchall()]

    def calling(self) -> psutil.Process:
        """The dispatch task that has a connection to the provider's API, as soon as one does."""
        found: list[psutil.Process] = []

        def calls() -> bool:
            # A task's process is named after it; those of reconcile_deliveries ask the provider too.
            names = [f"-- {task_id}" for (task_id,) in self.deployment.query("airflow", DISPATCHING)]
            at_provider = self.processes_at(self.deployment.network.http_port)
            found[:] = [each for each in at_provider if " ".join(each.cmdline()).strip().endswith(tuple(names))]
            return bool(found)

        self.deployment.wait_for("a task at the provider", calls)
        return found[0]

    def processes_at(self, port: int) -> list[psutil.Process]:
        """The processes of Airflow's that have a connection from this port, or to it."""
        found = []
        for process in members(list(self.deployment.airflow.processes.groups.values())):
            with suppress(psutil.NoSuchProcess):
                ends = [end.port for each in process.net_connections("tcp") for end in (each.laddr, each.raddr) if end]
                if port in ends:
                    found.append(process)
        return found

    def provider(self) -> psutil.Process:
        """The process of the provider and the relay."""
        for process in psutil.Process().children():
            listening = [each.laddr.port for each in process.net_connections("tcp") if not each.raddr]
            if self.deployment.network.http_port in listening:
                return process
        raise AssertionError("the network does not run")

    def gone(self, process: psutil.Process) -> None:
        """Wait for a process's end, whatever else ends."""
        deadline = time.monotonic() + self.deployment.patience
        while is_alive(process):
            assert time.monotonic() < deadline, f"{process} did not end"
            time.sleep(POLL_SECONDS)

    # Afterwards

    def running(self) -> Run:
        [run] = [run for run in self.deployment.airflow.runs() if run.state == "running"]
        return run

    def settle(self) -> None:
        """All leases are over, for the first task of reconcile_deliveries. No dispatch may run meanwhile."""
        uri = self.deployment.environment["AIRFLOW_CONN_LEDGER_DB"].replace("postgres://", "postgresql://")
        with closing(psycopg.connect(uri)) as connection:
            close_dead(Ledger(connection), datetime.now(UTC) + LEASE)

    def start_again_what_died(self) -> None:
        """What keeps services running does so."""
        airflow = self.deployment.airflow
        dead = [name for name, process in airflow.processes.running.items() if process.poll() is not None]
        for name in dead:
            airflow.processes.kill(name)
        if dead:
            airflow.start_again(*dead)

    def ended(self, run: Run) -> Run:
        """The run when it has ended, whatever of Airflow dies meanwhile; fails when that takes too long."""
        deadline = time.monotonic() + self.deployment.patience
        while True:
            try:
                self.start_again_what_died()
                return self.deployment.ended(run)
            except (ProcessDied, httpx.HTTPError):
                # Without its database one part dies sooner than another, and the API answers with an error.
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def back_to_normal(self, channel: Channel) -> None:
        """Fails unless one of the next two cycles is green and a client who is booked now hears of it, once."""
        since = datetime.now(UTC)
        [fresh] = self.book(channel, 1)
        for _ in range(MOST_CYCLES):
            if self.ended(self.deployment.airflow.trigger()).state == "success":
                break
        cycles = sorted((run.key, run.state) for run in self.deployment.airflow.runs() if run.key >= since)
        assert "success" in [state for _, state in cycles[:MOST_CYCLES]], cycles
        assert self.deployment.query("ledger", HOLDS) == []
        assert self.times([fresh]) == [1]

    def judge(self) -> None:
        """Fails for what the judge has to say about everybody who was ever due."""
        self.settle()
        entries = [Entry(*row) for row in self.deployment.query("ledger", REMINDERS)]
        network = self.deployment.network
        told = violations(self.due, entries, reached(network.log()), network.summary()["max_simultaneous_calls"])
        assert told == []

    def times(self, whose: Sequence[Owed]) -> list[int]:
        """How often each of these was reached."""
        found = reached(self.deployment.network.log())
        return [found[due.place] for due in whose]

    def attempts(self, whose: Sequence[Owed]) -> Counter[str]:
        """How many attempts about these are in which state."""
        names = {due.appointment_id for due in whose}
        return Counter(state for name, state in self.deployment.query("ledger", ATTEMPTS) if name in names)

    def planned_twice(self, whose: Sequence[Owed]) -> int:
        """How many of these are in more than one cycle's batches."""
        names = {due.appointment_id for due in whose}
        return sum(count > 1 for name, count in self.deployment.query("ledger", CONTACTS) if name in names)

    def in_a_shell(self, *arguments: str) -> subprocess.Popen[bytes]:
        """An `airflow` command that a person has begun, its output among the logs."""
        with (self.deployment.folder / "logs" / f"{'-'.join(arguments)}.log").open("wb") as log:
            command = [str(programs() / "airflow"), *arguments]
            return subprocess.Popen(command, env=self.deployment.environment, cwd=ROOT, stdout=log, stderr=log)


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@contextmanager
def stopped(process: psutil.Process) -> Iterator[psutil.Process]:
    """The process stands still for a while."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
