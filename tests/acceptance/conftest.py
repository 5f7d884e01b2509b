"""A whole deployment for the acceptance tests: PostgreSQL, the simulated phone network, Airflow's real processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.airflow import Airflow, Run
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


def zone_where_it_is_midday(now: datetime) -> str:
    """A zone without daylight saving time in which `now` lies between noon and one."""
    ahead = (12 - now.astimezone(UTC).hour + 24) % 24
    ahead = ahead - 24 if ahead > 12 else ahead
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


@dataclass
class Deployment:
    """`network` is what tests judge by; `airflow` what they act on; `server` holds the book and the ledger."""

    airflow: Airflow
    network: Simulator
    server: Server
    environment: dict[str, str]
    folder: Path

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
                " now() + %(in)s + interval '30 minutes', 'booked', now() - interval '30 days', now())",
                {"id": appointment_id, "account": account_id, "in": starts_in},
            )

    def ended(self, run: Run) -> Run:
        """The run when it has ended; fails, with its tasks, when that takes too long."""
        found = [run]

        def has_ended() -> bool:
            found[0] = self.airflow.run(run.run_id)
            return found[0].has_ended

        self.airflow.processes.wait_for(f"run {run.run_id}", has_ended, RUN_SECONDS)
        return found[0]

    def by_hand(self) -> Run:
        """One cycle without a logical date, to its end."""
        return self.ended(self.airflow.trigger())

    def command(self, *arguments: str) -> None:
        """An `airflow` command, to its end."""
        name = "-".join(arguments[:2])
        command = [str(programs() / "airflow"), *arguments]
        self.airflow.processes.do(name, command, self.environment, Path(__file__).parents[2])

    @contextmanager
    def without_book(self) -> Iterator[None]:
        """The book's appointments are gone for a while."""
        with psycopg.connect(self.server.conninfo("booking"), autocommit=True) as connection:
            connection.execute("ALTER TABLE booking.appointment RENAME TO appointment_away")
            try:
                yield
            finally:
                connection.execute("ALTER TABLE booking.appointment_away RENAME TO appointment")

    def ledger(self, query: str) -> list[Any]:
        with psycopg.connect(self.server.conninfo("ledger")) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    folder = Path(tempfile.mkdtemp(prefix="ringonce-acceptance-"))
    folder.chmod(0o755)
    processes = Processes(folder / "logs", folder / "processes.json")
    with (
        Server(folder / "postgres", fsync=False) as server,
        Simulator.spawn(log=folder / "network.jsonl") as network,
        Ports() as free,
    ):
        try:
            yield started(folder, processes, server, network, free)
        finally:
            processes.stop()
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
            " VALUES ('calls-only', 1, 'call', '4 hours', '1 hour', '0')"
        )
    with psycopg.connect(server.conninfo("booking")) as connection:
        connection.execute(
            "INSERT INTO booking.account (account_id, name, timezone, phone, email, locale) VALUES"
            " ('clinic', 'Sample Clinic', 'Etc/UTC', '+442079460000', 'clinic@example.com', 'en'),"
            " ('calls-only', 'Sample Vet', 'Etc/UTC', '+442079460001', 'vet@example.com', 'en')"
        )
    environment = for_components(own, whole_environment(own, ports, kept, server.password, folder))
    airflow = Airflow(processes, environment, ports.airflow_url)
    airflow.migrate()
    airflow.start_api_server()
    airflow.start_scheduling()
    return Deployment(airflow, network, server, environment, folder)
