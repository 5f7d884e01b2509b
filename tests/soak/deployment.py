"""Ringonce on the in-process network, as processes that die, hang and run twice: still the product's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch
from uuid import UUID

import psycopg
from psycopg import sql

from reminders.channels.mail import Mailer
from reminders.channels.telephony import Twilio
from reminders.cycle import dispatch as dispatch_module
from reminders.errors import RemindersError
from reminders.failpoints import armed
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from tests.crash import Crash
from tests.databases import TestDatabase
from tests.drill.ringonce import MAIL_SENDER, SENDER, Ringonce, Worker
from tests.soak.book import Row, SeasonBook
from tests.soak.history import STRUCK
from tests.soak.network import Network

OPTED_OUT = "21610"
WEBHOOK = "http://webhook.invalid/status"
STORE_EVENT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, provider_code, received_at)
VALUES (%(id)s, %(status)s, %(reference)s, %(code)s, %(now)s) ON CONFLICT DO NOTHING"""
SET_POLICY = """
INSERT INTO reminders.account_policy (account_id, opens, closes, office_opens, office_closes, office_days,
                                      has_cancellation_notice)
VALUES (%(account_id)s, %(opens)s, %(closes)s, %(office_opens)s, %(office_closes)s, %(office_days)s, %(has_notice)s)"""
SET_STEP = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES (%(account_id)s, %(step)s, %(channel)s, %(lead)s, %(useful_until)s, %(wait)s)"""
# They look at the catalogue alone, which no cycle changes: asked once for each deployment.
GUARD_CHECKS = ("missing_guards", "excessive_rights", "changed_guards")
# Tables of the catalogue that each cycle's temporary table leaves rows in.
CATALOGUE = ("pg_attribute", "pg_class", "pg_depend", "pg_statistic", "pg_type")


class OneAfterTheOther:
    """A pool whose work is done at once, in the caller's thread, so that a season happens the same way each time."""

    def __init__(self, max_workers: int) -> None:
        del max_workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to wait for."""

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args))
        except BaseException as error:
            done.set_exception(error)
        return done


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of the book that a cycle has merged. `is_true` is False when a slip of the feed was in it."""

    date: datetime
    read_at: datetime
    from_at: datetime
    is_true: bool


@dataclass
class Run:
    """One run of a DAG that is under way, by the `place`th process."""

    name: str
    date: datetime
    place: int
    reading: Reading | None = None
    # How many requests the network had when the last intent was committed.
    asked_before: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Good:
    """A cycle of that date that was good when it ended."""

    date: datetime
    ended_at: datetime


class SeasonDeployment(Ringonce):
    """A deployment for one season. `reached` is called at each failpoint; `note` keeps what happened, for a trace."""

    def __init__(
        self, database: TestDatabase, season: SeasonBook, reached: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        self.season, self.note, self._reached = season, note, reached
        self.database = database
        self.runs: list[Run] = []
        self.merged: list[Reading] = []
        self.batches: list[int] = []
        self.good: list[Good] = []
        self.failed: list[Failed] = []
        self.opted_out_at: dict[str, datetime] = {}
        self.is_ledger_down = False
        self._cut: set[int] = set()
        self.loses_callbacks = False
        self.breaches: Counter[str] = Counter()
        # When the ledger was copied: the readings that were merged, the good cycles, and who had opted out.
        self.copied_with: tuple[int, int, dict[str, datetime]] | None = None
        self._settle_plans()
        # A second process is there for whatever runs beside the first.
        super().__init__(database, self, season.starts_at, planners=2)
        self.workers = [self._prepared(worker) for worker in self.workers]
        self.network.sleep = self.clock.sleep
        self.webhook = database.connect("reminders_webhook")
        self.until_the_end.callback(self._drop_copy)
        self._set_up_accounts()
        self.until_the_end.enter_context(patch.object(dispatch_module, "ThreadPoolExecutor", OneAfterTheOther))
        for name in GUARD_CHECKS:
            self.until_the_end.enter_context(patch.object(Ledger, name, asked_once(getattr(Ledger, name))))
        self.until_the_end.enter_context(armed(self._at_point))

    def _start_network(self, now: datetime) -> tuple[Mailer, Twilio]:
        self.network: Network = Network(now)
        network = self.network
        mailer = Mailer("relay.invalid", 25, None, None, MAIL_SENDER, starttls=False, smtp_factory=network.smtp)
        return mailer, Twilio(
            network.account_sid,
            network.auth_token,
            network.base_url,
            from_sms=SENDER,
            from_call=SENDER,
            status_callback_base=WEBHOOK if self.season.has_webhook else None,
            transport=network.transport,
        )

    def _set_up_accounts(self) -> None:
        for account in self.season.accounts.values():
            self.owner.execute(
                SET_POLICY,
                {
                    "account_id": account.account_id,
                    "opens": account.hours.opens,
                    "closes": account.hours.closes,
                    "office_opens": account.office.opens,
                    "office_closes": account.office.closes,
                    "office_days": sorted(account.office.days),
                    "has_notice": account.has_cancellation_notice,
                },
            )
            if account.has_own_ladder:
                with self.owner.transaction():
                    for rung in account.ladder:
                        self.owner.execute(SET_STEP, {"account_id": account.account_id, **rung_columns(rung)})

    # Runs

    def scheduled(self, now: datetime, place: int, has_open: bool = True) -> None:
        """What Airflow starts at `now`, in the `place`th process: both DAGs, one after the other; deliveries are
        reconciled where the ledger `has_open` ones."""
        self.clock.set(now)
        self.receive_callbacks()
        if has_open:
            self.reconciled(place)
        self.cycled(now, place)

    def reconciled(self, place: int) -> None:
        """A run of reconcile_deliveries by the `place`th process."""
        self._run(Run("reconcile", self.clock.now, place), lambda: self.reconcile(self.workers[place]))

    def cycled(self, date: datetime, place: int, run_kind: str = "scheduled") -> None:
        """A run of send_due_reminders for `date`, by the `place`th process."""
        run = Run(run_kind, date, place)
        if self._run(run, lambda: self.cycle(date, self.workers[place], run_kind)) and not self.is_dispatch_broken:
            self.good.append(Good(date, self.clock.now))

    def audited(self) -> None:
        """The night's audit; what it finds is kept."""

        def work() -> None:
            self.breaches.update(self.audit()["breaches"])

        self._run(Run("audit", self.clock.now, 0), work)

    def dispatched_again(self, batch_ids: Sequence[int], place: int) -> None:
        """Dispatch tasks that Airflow has lost sight of and starts once more."""
        for batch_id in batch_ids:
            run = Run("dispatch", self.clock.now, place)
            self._run(run, lambda batch_id=batch_id: self.dispatch(batch_id, self.workers[place]))

    def _run(self, run: Run, work: Callable[[], None]) -> bool:
        self.runs.append(run)
        try:
            if self.workers[run.place].ledger.connection.closed or run.place in self._cut:
                self.start_anew(run.place)
            if self.is_ledger_down:
                raise psycopg.OperationalError("the ledger's server is down")
            work()
        except Crash as crash:
            self._failed(f"{run.name} of {run.date:%d %H:%M} dies: {crash}")
            self.start_anew(run.place)
        except (RemindersError, psycopg.Error) as error:
            self._failed(f"{run.name} of {run.date:%d %H:%M} fails: {type(error).__name__} {error}")
        else:
            return True
        finally:
            self.runs.pop()
        return False

    def _failed(self, what: str) -> None:
        self.note(what)
        self.failed.append(Failed(self.clock.now, what))

    def start_anew(self, place: int) -> None:
        """A new process, with connections of its own, in the place of one that has died or lost its own."""
        self._cut.discard(place)
        worker = self.workers[place]
        for ledger in (worker.ledger, worker.watching):
            ledger.connection.close()
        self.workers[place] = self._prepared(
            Worker(*(Ledger(self.database.connect("reminders_app")) for _ in range(2)))
        )

    @staticmethod
    def _prepared(worker: Worker) -> Worker:
        """Its statements are planned at their first use, and not anew at each of the first few."""
        for ledger in (worker.ledger, worker.watching):
            ledger.connection.prepare_threshold = 0
        return worker

    def cut_connection(self) -> None:
        """The server ends the connection of the run that is under way, which does not know yet."""
        place = self.runs[-1].place
        self._cut.add(place)
        connection = self.workers[place].ledger.connection
        self.owner.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])

    # A copy of the database, and what a restore forgets

    def copy_ledger(self) -> None:
        """Keep the ledger's database as it is now."""
        with self._apart() as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(self._copy, sql.Identifier(self.database.name))
            )
        # By what there is, and not by the time: a cycle of the same moment may come after the copy.
        self.copied_with = len(self.merged), len(self.good), dict(self.opted_out_at)

    def restore_ledger(self) -> None:
        """Put the copy in the database's place; what was witnessed since is what the ledger cannot know."""
        assert self.copied_with is not None
        with self._apart() as admin:
            name = sql.Identifier(self.database.name)
            admin.execute(sql.SQL("DROP DATABASE {}").format(name))
            admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(self._copy, name))
        merged, good, self.opted_out_at = self.copied_with
        self.merged, self.good, self.copied_with = self.merged[:merged], self.good[:good], None
        self.batches.clear()

    @property
    def _copy(self) -> sql.Identifier:
        return sql.Identifier(f"{self.database.name}_copy")

    @contextmanager
    def _apart(self) -> Iterator[psycopg.Connection[Any]]:
        """Nobody is connected to the ledger's database meanwhile."""
        for connection in (self.owner, self.webhook, *self._sessions()):
            connection.close()
        with psycopg.connect(self.database.server.conninfo(), autocommit=True) as admin:
            yield admin
        self._settle_plans()
        self.owner = self.clock.owner = self.database.connect()
        self.operator = Holds(self.database.connect("reminders_operator_login"))
        self.webhook = self.database.connect("reminders_webhook")
        for place in range(len(self.workers)):
            self.start_anew(place)
        self.clock.set(self.clock.now)

    def _sessions(self) -> Iterator[psycopg.Connection[Any]]:
        yield self.operator.connection
        for worker in self.workers:
            yield from (worker.ledger.connection, worker.watching.connection)

    def _drop_copy(self) -> None:
        with psycopg.connect(self.database.server.conninfo(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(self._copy))

    def _settle_plans(self) -> None:
        """Plans are made once for each statement, as on a server whose connections live long."""
        with psycopg.connect(self.database.conninfo, autocommit=True) as admin:
            for setting in ("plan_cache_mode = force_generic_plan", "jit = off"):
                admin.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(sql.Identifier(self.database.name)))

    def dispatch(self, batch_id: int, worker: Worker) -> None:
        self.batches.append(batch_id)
        super().dispatch(batch_id, worker)

    # What the runs see

    def read(self, now: datetime, from_at: datetime, until_at: datetime, ids: Sequence[str]) -> Iterator[Row]:
        """The season's book; the run that reads it is noted with what it read."""
        run = self.runs[-1]
        run.reading = Reading(run.date, now, from_at, self.season.slip is None)
        return self.season.read(now, from_at, until_at, ids)

    def _at_point(self, point: str) -> None:
        if point not in STRUCK:
            return
        run = self.runs[-1]
        if point == "merge.committed" and run.reading is not None:
            self.merged.append(run.reading)
        if point == "intend.committed":
            run.asked_before = len(self.network.asked)
        if point == "record.before_commit":
            self.network.next_delay = 0.0
        if point == "record.committed" and run.name != "reconcile":
            # What the provider has answered is known to the ledger once it is recorded.
            for asked in self.network.asked[run.asked_before :]:
                if asked.answer == OPTED_OUT:
                    self.opted_out_at.setdefault(asked.to, self.clock.now)
        self._reached(point)

    def receive_callbacks(self) -> None:
        """The webhook stores what the network tells it, each event once."""
        waiting, self.network.mailbag.waiting = self.network.mailbag.waiting, []
        if self.loses_callbacks or self.is_ledger_down:
            return
        for url, told in waiting:
            values = {
                "id": told.get("MessageSid") or told["CallSid"],
                "status": told.get("MessageStatus") or told["CallStatus"],
                "reference": UUID(url.rpartition("/")[2]),
                "code": told.get("ErrorCode"),
                "now": self.clock.now,
            }
            self.webhook.execute(STORE_EVENT, values)

    def vacuum(self) -> None:
        super().vacuum()
        for name in CATALOGUE:
            self.owner.execute(sql.SQL("VACUUM pg_catalog.{}").format(sql.Identifier(name)))


def asked_once(check: Callable[[Ledger], list[str]]) -> Callable[[Ledger], list[str]]:
    """The check, whose first answer stands."""
    answers: list[list[str]] = []

    def answered(ledger: Ledger) -> list[str]:
        if not answers:
            answers.append(check(ledger))
        return answers[0]

    return answered


def rung_columns(rung: Any) -> dict[str, Any]:
    return {
        "step": rung.step,
        "channel": rung.channel.value,
        "lead": rung.lead,
        "useful_until": rung.useful_until,
        "wait": rung.wait,
    }
