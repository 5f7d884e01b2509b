"""A whole deployment for the acceptance tests: PostgreSQL, the simulated phone network, Airflow's real processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.airflow import CYCLE, Airflow, Run
from local.databases import create_databases
from local.environment import PERSONS, for_components, kept_secrets, programs, whole_environment
from local.environment import Ports as PortNumbers
from local.ports import Ports
from local.postgres import Server
from local.processes import Processes
from reminders.store.logins import create_logins
from reminders.store.migrate import migrate
from tests.simulator.client import Simulator

RUN_SECONDS = 120.0
CANARY = "Canary"
NETWORK_LOG = "network.jsonl"

# The triggers are off: no reminder changes its state, the world only becomes older.
ALL_EARLIER = """
DO $$
DECLARE earlier text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR earlier IN
        SELECT format('UPDATE %I.%I SET %s', table_schema, table_name,
                      string_agg(format('%1$I = %1$I - %2$L::interval', column_name, '{minutes} minutes'), ', '))
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema IN ('reminders', 'booking') AND table_type = 'BASE TABLE'
          AND data_type = 'timestamp with time zone'
          -- its times are whole hours
          AND table_name <> 'volume'
        GROUP BY table_schema, table_name
    LOOP
        EXECUTE earlier;
    END LOOP;
END $$
"""
# A scheduled run's id holds its tick: under another name it does not stand in the way of a tick that comes again.
RUNS_RENAMED = """
DO $$
DECLARE renamed text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR renamed IN
        SELECT format('UPDATE %I SET run_id = %L || run_id WHERE dag_id = %L AND run_id LIKE %L',
                      table_name, '{minutes}_earlier__', 'send_due_reminders', 'scheduled__%')
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND column_name IN ('dag_id', 'run_id')
        GROUP BY table_name HAVING count(*) = 2
    LOOP
        EXECUTE renamed;
    END LOOP;
END $$
"""
RUNS_EARLIER = """
WITH past AS (SELECT '{minutes} minutes'::interval AS time)
UPDATE dag_run SET logical_date = logical_date - time, data_interval_start = data_interval_start - time,
    data_interval_end = data_interval_end - time, run_after = run_after - time, queued_at = queued_at - time,
    start_date = start_date - time, end_date = end_date - time
FROM past WHERE dag_id = 'send_due_reminders'
"""
NEXT_EARLIER = """
WITH past AS (SELECT '{minutes} minutes'::interval AS time)
UPDATE dag SET next_dagrun = next_dagrun - time, next_dagrun_create_after = next_dagrun_create_after - time,
    next_dagrun_data_interval_start = next_dagrun_data_interval_start - time,
    next_dagrun_data_interval_end = next_dagrun_data_interval_end - time
FROM past WHERE dag_id = 'send_due_reminders'
"""


def zone_where_it_is_midday(now: datetime) -> str:
    """A zone without daylight saving time in which `now` lies between noon and one."""
    ahead = (12 - now.astimezone(UTC).hour + 24) % 24
    ahead = ahead - 24 if ahead > 12 else ahead
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


@dataclass
class Deployment:
    """`network` is what tests judge by; `airflow` what they act on; `server` holds the book and the ledger.

    `secrets` are passwords, tokens and keys, none of which any log may have. `patience` is how many seconds a wait may
    take.
    """

    airflow: Airflow
    network: Simulator
    server: Server
    environment: dict[str, str]
    folder: Path
    secrets: Collection[str]
    patience: float = RUN_SECONDS

    def book(self, appointment_id: str, account_id: str, starts_in: timedelta, **client: str | None) -> None:
        """Book a client whose name, address and number carry the canary."""
        with psycopg.connect(self.server.conninfo("booking")) as connection:
            connection.execute(
                "INSERT INTO booking.client (client_id, account_id, name, email, phone, timezone, locale)"
                " VALUES (%(id)s, %(account)s, %(name)s, %(email)s, %(phone)s, %(zone)s, 'en')",
                {
                    "id": appointment_id,
                    "account": account_id,
                    "name": f"{CANARY} {appointment_id}",
                    "zone": zone_where_it_is_midday(datetime.now(UTC)),
                    "email": client.get("email"),
                    "phone": client.get("phone"),
                },
            )
            connection.execute(
                "INSERT INTO booking.appointment (appointment_id, account_id, client_id, starts_at, ends_at, status,"
                " created_at, updated_at) VALUES (%(id)s, %(account)s, %(id)s, now() + %(in)s,"
                " now() + %(in)s + interval '30 minutes', 'booked', now() + %(in)s - interval '30 days', now())",
                {"id": appointment_id, "account": account_id, "in": starts_in},
            )

    def wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        self.airflow.processes.wait_for(what, is_so, self.patience)

    def ended(self, run: Run, dag_id: str = CYCLE) -> Run:
        """The run when it has ended; fails when that takes too long."""
        found = [run]

        def has_ended() -> bool:
            found[0] = self.airflow.run(run.run_id, dag_id)
            return found[0].has_ended

        self.wait_for(f"run {run.run_id}", has_ended)
        return found[0]

    def by_hand(self, dag_id: str = CYCLE) -> Run:
        """One cycle, or run of another DAG, without a logical date, to its end."""
        return self.ended(self.airflow.trigger(dag_id), dag_id)

    def command(self, *arguments: str) -> None:
        """An `airflow` command, to its end."""
        name = "-".join(arguments[:2])
        command = [str(programs() / "airflow"), *arguments]
        self.airflow.processes.do(name, command, self.environment, Path(__file__).parents[2])

    def pause(self) -> None:
        """Pause the cycle between two runs: one that has begun would not end before the DAG is resumed."""

        def is_between_two() -> bool:
            self.command("dags", "pause", "--yes", "send_due_reminders")
            if all(run.has_ended for run in self.airflow.runs()):
                return True
            self.airflow.unpause("send_due_reminders")
            return False

        self.wait_for("a moment between two runs", is_between_two)

    def states(self, run: Run) -> dict[str, str]:
        """The state of each task of a run."""
        return {task.task_id: task.state for task in self.airflow.tasks(run.run_id)}

    def logs(self, run: Run | None = None) -> str:
        """What all the processes have logged, or the tasks of one run."""
        part = "**" if run is None else f"**/run_id={run.run_id}/**"
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob(f"{part}/*.log"))

    def query(self, database: str, query: str) -> list[Any]:
        with psycopg.connect(self.server.conninfo(database)) as connection:
            return connection.execute(query).fetchall()

    def change(self, database: str, statement: str) -> None:
        """A change by the superuser, committed at once."""
        with psycopg.connect(self.server.conninfo(database), autocommit=True) as connection:
            connection.execute(statement)

    def release_all(self) -> None:
        """A person releases all that is held."""
        self.change(
            "ledger",
            "UPDATE reminders.hold SET released_at = now(), released_by = 'a person' WHERE released_at IS NULL",
        )

    def let_pass(self, minutes: int) -> None:
        """While paused: make it so that all in the ledger and the book, and every run, was `minutes` earlier."""
        for database in ("ledger", "booking"):
            self.change(database, ALL_EARLIER.format(minutes=minutes))
        for statement in (RUNS_RENAMED, RUNS_EARLIER, NEXT_EARLIER):
            self.change("airflow", statement.format(minutes=minutes))

    @contextmanager
    def without_book(self) -> Iterator[None]:
        """The book's appointments are gone for a while."""
        self.change("booking", "ALTER TABLE booking.appointment RENAME TO appointment_away")
        try:
            yield
        finally:
            self.change("booking", "ALTER TABLE booking.appointment_away RENAME TO appointment")

    @contextmanager
    def without_ledger(self) -> Iterator[None]:
        """The ledger ends its connections and takes none for a while."""
        self.change("postgres", "ALTER DATABASE ledger ALLOW_CONNECTIONS false")
        try:
            self.change("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ledger'")
            yield
        finally:
            self.change("postgres", "ALTER DATABASE ledger ALLOW_CONNECTIONS true")

    @contextmanager
    def without_network(self) -> Iterator[None]:
        """Nobody listens where the provider and the relay were, for a while."""
        self.network.stop()
        try:
            yield
        finally:
            self._start_network()

    @contextmanager
    def with_another_token(self) -> Iterator[None]:
        """The provider takes another token than `twilio_default` has, for a while."""
        token = self.network.auth_token
        self.network.stop()
        self._start_network("a-token-that-only-the-provider-knows")
        try:
            yield
        finally:
            self.network.stop()
            self._start_network(token)

    def _start_network(self, token: str = "") -> None:
        """The network again on its ports, with the log that it kept."""
        ports = ("--http-port", str(self.network.http_port), "--smtp-port", str(self.network.smtp_port))
        token = token or self.network.auth_token
        self.network = Simulator.spawn(log=self.folder / NETWORK_LOG, options=ports, auth_token=token)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed() as whole:
        yield whole


@contextmanager
def deployed(*, fsync: bool = False) -> Iterator[Deployment]:
    """A deployment, ended with all its processes and data. `fsync`: what was committed outlives the server's crash."""
    folder = Path(tempfile.mkdtemp(prefix="ringonce-acceptance-"))
    folder.chmod(0o755)
    processes = Processes(folder / "logs", folder / "processes.json")
    with ExitStack() as every:
        server = every.enter_context(Server(folder / "postgres", fsync=fsync))
        network = every.enter_context(Simulator.spawn(log=folder / NETWORK_LOG))
        free = every.enter_context(Ports())
        every.callback(processes.stop)
        whole = started(folder, processes, server, network, free)
        every.callback(lambda: whole.network.stop())
        yield whole
    shutil.rmtree(folder, ignore_errors=True)


def started(folder: Path, processes: Processes, server: Server, network: Simulator, free: Ports) -> Deployment:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    ports = PortNumbers(
        postgres=server.port,
        airflow=free.take(28080),
        worker_logs=free.take(28180),
        triggerer_logs=free.take(28280),
        simulator=network.http_port,
        smtp=network.smtp_port,
    )
    kept = kept_secrets(folder / "secrets.json")
    kept = type(kept)(
        **{
            **{name: getattr(kept, name) for name in kept.__slots__},
            "simulator_sid": network.account_sid,
            "simulator_token": network.auth_token,
        }
    )
    create_databases(server, dict(kept.passwords))
    with psycopg.connect(server.conninfo("ledger"), autocommit=True) as connection:
        migrate(connection)
        create_logins(connection, {name: kept.passwords[name] for name in ("reminders_app", *PERSONS.values())})
        connection.execute(
            "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)"
            " SELECT account, 1, 'call', '4 hours', '1 hour', '0'"
            " FROM unnest(ARRAY['calls-only', 'calls-too']) AS account"
        )
        # The clients' zones are chosen for the hour of the day; the accounts' offices are in UTC.
        connection.execute("UPDATE reminders.account_policy SET office_opens = '0:00', office_closes = '23:59:59'")
        # As after a week of good cycles: a new ledger would hold what these accounts have overdue.
        connection.execute(
            "INSERT INTO reminders.account_seen SELECT account, now() - interval '7 days'"
            " FROM unnest(ARRAY['clinic', 'calls-only', 'calls-too']) AS account"
        )
        connection.execute(
            "INSERT INTO reminders.cycle (logical_date, run_kind, has_own_date, started_at, judged_at, closed_at,"
            " is_good) VALUES (now() - interval '1 minute', 'scheduled', true, now(), now(), now(), true)"
        )
    with psycopg.connect(server.conninfo("booking")) as connection:
        connection.execute(
            "INSERT INTO booking.account (account_id, name, timezone, phone, email, locale) VALUES"
            " ('clinic', 'Sample Clinic', 'Etc/UTC', '+442079460000', 'clinic@example.com', 'en'),"
            " ('calls-only', 'Sample Vet', 'Etc/UTC', '+442079460001', 'vet@example.com', 'en'),"
            " ('calls-too', 'Sample Salon', 'Etc/UTC', '+442079460002', 'salon@example.com', 'en')"
        )
    environment = for_components(own, whole_environment(own, ports, kept, server.password, folder))
    airflow = Airflow(processes, environment, ports.airflow_url)
    airflow.migrate()
    airflow.start_api_server()
    airflow.start_scheduling()
    hidden = (*kept.passwords.values(), server.password, kept.simulator_token, kept.address_secret, kept.jwt_secret)
    return Deployment(airflow, network, server, environment, folder, hidden)
