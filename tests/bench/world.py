"""A private PostgreSQL server, durable as in production, and ledgers and books of as many rows as a figure needs."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from local.postgres import Server
from reminders.store.ledger import Ledger
from reminders.store.logins import create_logins
from reminders.store.migrate import migrate

APP = "reminders_app"
BOOKING_SQL = Path(__file__).resolve().parents[2] / "local" / "booking.sql"
ACCOUNTS = 200

STAGE_APPOINTMENTS = """
INSERT INTO reminders.staged_appointment
SELECT %(logical_date)s, 'account-' || n %% %(accounts)s, 'appointment-' || n,
       date_trunc('minute', %(now)s) + interval '48 hours' + n %% 600 * interval '1 minute',
       date_trunc('minute', %(now)s) + interval '60 hours', 'booked', %(now)s - interval '30 days', 'UTC', false, 'en',
       'Client ' || n, '', 'Practice', '+442079460000', 'practice@example.com',
       'client' || n || '@example.com', sha256(('email' || n)::bytea), 'c•••@e•••.com', NULL,
       '+44207' || 1000000 + n, sha256(('phone' || n)::bytea), '+44•••••00', NULL, 'GB', 'fixed_line', %(now)s, 'UTC'
FROM generate_series(1, %(rows)s) n"""

STAGE_RUNGS = """
INSERT INTO reminders.staged_rung
SELECT logical_date, account_id, appointment_id, slot_at, 1, %(channel)s, %(now)s - interval '1 minute',
       slot_at - interval '2 hours', '0', false
FROM reminders.staged_appointment WHERE logical_date = %(logical_date)s"""

# Years of reminders that have ended: what a ledger mostly is.
FILL_LEDGER = """
INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, state, reason, ended_at,
    logical_date, adopted_by, due_at, expires_at, address_hash, address_masked, created_at)
SELECT 'account-' || n %% %(accounts)s, 'past-' || n, slot_at, 1, 'email', 'expired', 'too_late', slot_at,
       slot_at - interval '72 hours', slot_at - interval '72 hours', slot_at - interval '72 hours',
       slot_at - interval '24 hours', sha256(('email' || n)::bytea), 'c•••@e•••.com', slot_at - interval '72 hours'
FROM generate_series(%(first)s::int, %(last)s::int) n,
     LATERAL (SELECT date_trunc('minute', %(now)s) - n %% 500000 * interval '1 minute' AS slot_at) past"""

FILL_BOOK = """
INSERT INTO booking.appointment (appointment_id, account_id, client_id, starts_at, ends_at)
SELECT 'appointment-' || n, 'account-' || n %% %(accounts)s, 'client-' || n,
       date_trunc('minute', %(now)s) + interval '24 hours' + n %% 600 * interval '1 minute',
       date_trunc('minute', %(now)s) + interval '36 hours'
FROM generate_series(1, %(rows)s) n"""

FILL_CLIENTS = """
INSERT INTO booking.client
SELECT 'client-' || n, 'account-' || n %% %(accounts)s, 'Client ' || n, 'client' || n || '@example.com',
       '+44207' || 1000000 + n, 'Europe/London', 'en'
FROM generate_series(1, %(rows)s) n"""


class TimedConnection(psycopg.Connection[Any]):
    """A connection that keeps how long each statement took, in seconds, by its text."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.took: dict[str, float] = defaultdict(float)

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return super().execute(query, *arguments, **options)
        finally:
            self.took[str(query)] += time.perf_counter() - started


@dataclass
class Database:
    """One database of the run; `owner` is the superuser's connection."""

    server: Server
    name: str
    owner: psycopg.Connection[Any]
    password: str

    @property
    def conninfo(self) -> str:
        """libpq's connection string of the login that the tasks use."""
        return self.server.conninfo(self.name, APP, self.password)

    def ledger(self) -> Ledger:
        return Ledger(TimedConnection.connect(self.conninfo))

    def stage(self, rows: int, channel: str, logical_date: datetime) -> None:
        """Stage `rows` appointments, each with a rung of `channel` that is due, each with an address of its own."""
        values = {"rows": rows, "channel": channel, "logical_date": logical_date, "now": logical_date}
        for text in (STAGE_APPOINTMENTS, STAGE_RUNGS):
            self.owner.execute(text, {**values, "accounts": ACCOUNTS})
        self.owner.execute("ANALYZE reminders.staged_appointment, reminders.staged_rung")

    def fill(self, first: int, last: int, now: datetime) -> None:
        """Add the ended reminders numbered `first` to `last`, as the ledger's owner, with every trigger on."""
        values = {"first": first, "last": last, "now": now, "accounts": ACCOUNTS}
        with self.owner.transaction():
            self.owner.execute("SET LOCAL ROLE reminders_owner")
            self.owner.execute(FILL_LEDGER, values)
        self.owner.execute("VACUUM ANALYZE reminders.reminder")

    def lift_ceilings(self) -> None:
        """Let a day's ceilings and hours, which a benchmark exceeds, be wide; the guards themselves stay on."""
        self.owner.execute("UPDATE reminders.ceiling_in_all SET ceiling = 10000000")
        self.owner.execute(
            "UPDATE reminders.account_policy SET opens = '0:00', closes = '23:59:59', office_opens = '0:00',"
            " office_closes = '23:59:59', email_ceiling = 10000000, sms_ceiling = 10000000, call_ceiling = 10000000"
        )


class World:
    """The server of the run. `ledger_database` and `book_database` give a new database each time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.password = secrets.token_urlsafe(16)

    @contextmanager
    def _database(self) -> Iterator[Database]:
        name = f"bench_{secrets.token_hex(4)}"
        self.server.create_database(name)
        with psycopg.connect(self.server.conninfo(name), autocommit=True) as owner:
            yield Database(self.server, name, owner, self.password)
        with psycopg.connect(self.server.conninfo(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def ledger_database(self) -> Iterator[Database]:
        """A migrated ledger with every guard, and nothing in it; dropped at the end."""
        with self._database() as database:
            migrate(database.owner)
            create_logins(database.owner, {APP: self.password})
            yield database

    @contextmanager
    def book_database(self, rows: int) -> Iterator[Database]:
        """A book of `rows` appointments that start between 24 and 34 hours from now; dropped at the end."""
        with self._database() as database:
            database.owner.execute(BOOKING_SQL.read_bytes())
            database.owner.execute(
                "INSERT INTO booking.account SELECT 'account-' || n, 'Practice', 'Europe/London', '+442079460000',"
                " 'practice@example.com', 'en' FROM generate_series(0, %s) n",
                [ACCOUNTS - 1],
            )
            values = {"rows": rows, "accounts": ACCOUNTS, "now": datetime.now(UTC)}
            for text in (FILL_CLIENTS, FILL_BOOK):
                database.owner.execute(text, values)
            database.owner.execute("ANALYZE")
            yield database


@contextmanager
def world() -> Iterator[World]:
    """A server of its own in a temporary folder, fsync on, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ringonce-bench-") as folder:
        Path(folder).chmod(0o711)
        with Server(Path(folder) / "postgres") as server:
            yield World(server)
