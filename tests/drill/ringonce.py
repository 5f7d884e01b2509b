"""Ringonce on a virtual clock: the real cycle, ledger, channels and reconciliation, and the simulated phone network."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from reminders.addresses import secret_fingerprint
from reminders.capacity import BATCHES, DISPATCH_TIME_LIMIT, RATES, most_contacts
from reminders.channels.mail import Mailer
from reminders.channels.telephony import Twilio, final_status
from reminders.cycle.audit import Provider, audit
from reminders.cycle.dispatch import Clock, HoldWatch, Send, dispatch
from reminders.cycle.extract import extract
from reminders.cycle.preflight import preflight
from reminders.errors import RemindersError
from reminders.model import Channel
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.deliveries import reconcile_deliveries
from tests.drill.book import Book
from tests.simulator.client import Simulator

SECRET = b"a secret for drills only"
SECOND = timedelta(seconds=1)
SENDER = "+15005550006"
MAIL_SENDER = "reminders@example.com"
TESTS = str(Path(__file__).resolve().parents[1])

SET_CLOCK = """
INSERT INTO reminders.clock (shift) VALUES (%s - clock_timestamp())
ON CONFLICT (is_only) DO UPDATE SET shift = EXCLUDED.shift"""


class Passing(Protocol):
    """What time passes for."""

    def advance(self, seconds: float) -> None: ...


@dataclass
class VirtualClock:
    """The one time of the ledger's own guards, of the cycle's policy and of the phone network."""

    owner: psycopg.Connection[Any]
    network: Passing
    now: datetime

    def __post_init__(self) -> None:
        self.started_at = self.now
        self._turn = threading.Lock()

    def set(self, now: datetime) -> None:
        """Move all to `now`; a time that has passed moves nothing."""
        with self._turn:
            if now > self.now:
                self.network.advance((now - self.now).total_seconds())
                self.now = now
            self.owner.execute(SET_CLOCK, (self.now,))

    def sleep(self, seconds: float) -> None:
        self.set(self.now + timedelta(seconds=seconds))

    def elapsed(self) -> float:
        """Seconds since the start."""
        return (self.now - self.started_at).total_seconds()


@dataclass(frozen=True)
class Worker:
    """The two connections of a run: the tasks' own, and the one that watches for holds."""

    ledger: Ledger
    watching: Ledger


class Ringonce:
    """One deployment with an empty ledger in `database`, started at `now`. Use it in `with`.

    `operator` is what a person may do. `is_dispatch_broken`: a deploy has broken the module of the dispatch task, and
    nothing else. `is_paused`: somebody has paused the DAG. `failures` counts, by what went wrong, the runs that
    failed for any other reason.
    """

    def __init__(self, database: TestDatabase, book: Book, now: datetime, planners: int = 1) -> None:
        self.book = book
        self.is_dispatch_broken = False
        self.is_paused = False
        self.failures: Counter[str] = Counter()
        self.until_the_end = ExitStack()
        mailer, self.twilio = self._start_network(now)
        self.owner = database.connect()
        self.clock = VirtualClock(self.owner, self.network, now)
        self.clock.set(now)
        self.workers = [Worker(*(Ledger(database.connect("reminders_app")) for _ in range(2))) for _ in range(planners)]
        self.operator = Holds(database.connect("reminders_operator_login"))
        self._mark: str | None = None
        self.senders: dict[Channel, Send] = {
            Channel.EMAIL: mailer.send,
            Channel.SMS: self.twilio.text,
            Channel.CALL: self.twilio.call,
        }

    def _start_network(self, now: datetime) -> tuple[Mailer, Twilio]:
        """Start the phone network as `network`; the channels that reach it."""
        self.network = self.until_the_end.enter_context(Simulator.start(speed=0, start=now))
        mailer = Mailer("127.0.0.1", self.network.smtp_port, None, None, MAIL_SENDER, starttls=False)
        sid, token, url = self.network.account_sid, self.network.auth_token, self.network.base_url
        return mailer, Twilio(sid, token, url, from_sms=SENDER, from_call=SENDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.until_the_end.close()

    def tick(self, now: datetime) -> None:
        """What Airflow starts at `now`: reconcile_deliveries, then a run of send_due_reminders for each worker."""
        self.clock.set(now)
        self.attempt(self.reconcile)
        if len(self.workers) == 1:
            self.attempt(partial(self.cycle, now, self.workers[0]))
            return
        with ThreadPoolExecutor(len(self.workers)) as pool:
            # Runs by hand beside the scheduled one: each has a date of its own.
            dates = [now - place * SECOND for place in range(len(self.workers))]
            cycles = [partial(self.cycle, date, worker) for date, worker in zip(dates, self.workers, strict=True)]
            list(pool.map(self.attempt, cycles))

    def attempt(self, run: Callable[[], object]) -> None:
        """A run that may fail: then it is red, and the next one begins from what the ledger holds."""
        try:
            run()
        except (RemindersError, psycopg.Error) as error:
            # The line of the run that failed: what the error itself says may be no more than its class.
            line = next(frame.line for frame in reversed(extract_tb(error.__traceback__)) if TESTS in frame.filename)
            self.failures[f"{type(error).__name__}: {error}; {line}"] += 1

    def cycle(self, date: datetime, worker: Worker, run_kind: str = "scheduled") -> None:
        """One run of send_due_reminders, task by task: the place to adapt when the DAG or the `Ledger` changes."""
        ledger, clock = worker.ledger, self.clock
        preflight(ledger, self._mark, self._keep_mark, secret_fingerprint(SECRET), clock.now)
        extract(ledger, lambda *window: self.book.read(clock.now, *window), date, clock.now, SECRET)
        ledger.merge(date, run_kind, True, clock.now)
        ledger.triage(date, run_kind, clock.now)
        batch_ids = [] if run_kind == "backfill" else ledger.plan(date, clock.now, most_contacts(), BATCHES)
        if not self.is_dispatch_broken:
            for batch_id in batch_ids:
                self.dispatch(batch_id, worker)
        # A run whose dispatch failed is closed too, and then red.
        closed = ledger.close(date, not self.is_dispatch_broken, clock.now)
        self.failures.update(closed["breaches"])

    def dispatch(self, batch_id: int, worker: Worker) -> None:
        """One dispatch task; its pauses are pauses of the virtual clock."""
        clock = self.clock
        dispatch(
            worker.ledger,
            HoldWatch(worker.watching.holds, clock.elapsed, lambda: clock.now),
            batch_id,
            self.senders,
            {Channel(channel): rate for channel, rate in RATES.items()},
            Clock(lambda: clock.now, clock.elapsed, clock.sleep),
            DISPATCH_TIME_LIMIT,
            lambda: self.is_paused,
        )

    def reconcile(self, worker: Worker | None = None) -> None:
        """One run of reconcile_deliveries, by the first worker where none is given."""
        ledger = (worker or self.workers[0]).ledger
        reconcile_deliveries(ledger, self.twilio, SECRET, lambda: self.clock.now)

    def audit(self, worker: Worker | None = None) -> dict[str, Any]:
        """One run of audit_ledger, by the first worker where none is given: what it found."""
        provider = Provider(self.twilio.listed, self.twilio.status, final_status)
        return audit((worker or self.workers[0]).ledger, provider, self.clock.now)

    def vacuum(self) -> None:
        """What autovacuum does on a server that is not a test's.

        A day's 288 readings of the book outnumber the common values that statistics list, and the few dozen of a drill
        do not: a shorter list lets the planner expect of the next reading what it expects in production.
        """
        self.owner.execute("SET default_statistics_target = 10")
        for (name,) in self.owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'reminders'").fetchall():
            self.owner.execute(sql.SQL("VACUUM (ANALYZE) reminders.{}").format(sql.Identifier(name)))

    def reminders(self) -> list[dict[str, Any]]:
        """Every row of the ledger: appointment_id, step, state, reason and ended_at."""
        with self.owner.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SELECT appointment_id, step, state, reason, ended_at FROM reminders.reminder")
            return cursor.fetchall()

    def _keep_mark(self, mark: str) -> None:
        self._mark = mark


Act = Callable[[Ringonce], None]
