"""The three databases of `make run` on one server: Airflow's metadata, the ledger, and the sample booking database."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from local.environment import AIRFLOW_LOGIN, BOOKING_LOGIN
from local.postgres import Server
from local.sample_book import load_book, sample_book
from local.sample_history import load_history

DATABASES = ("airflow", "ledger", "booking")
BOOKING_SCHEMA = Path(__file__).with_name("booking.sql")


def create_databases(server: Server, passwords: dict[str, str]) -> None:
    """Create the databases, Airflow's login with its own, and one that may only read the book. Safe to repeat."""
    for name in DATABASES:
        server.create_database(name)
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        for login in (AIRFLOW_LOGIN, BOOKING_LOGIN):
            give_login(connection, login, passwords[login])
        connection.execute(sql.SQL("ALTER DATABASE airflow OWNER TO {}").format(sql.Identifier(AIRFLOW_LOGIN)))
    with psycopg.connect(server.conninfo("booking")) as connection:
        create_booking_schema(connection)


def give_login(connection: psycopg.Connection[Any], login: str, password: str) -> None:
    """A login with this password and no right of its own; the server sees the password's SCRAM verifier only."""
    known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [login]).fetchone()
    if known is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login), sql.Literal(verifier)))


def create_booking_schema(connection: psycopg.Connection[Any]) -> None:
    """Schema `booking` with its tables, unless it is there, and the reader's right to read it; one transaction."""
    with connection.transaction():
        if connection.execute("SELECT FROM pg_namespace WHERE nspname = 'booking'").fetchone() is None:
            connection.execute(BOOKING_SCHEMA.read_bytes())
        reader = sql.Identifier(BOOKING_LOGIN)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA booking TO {}").format(reader))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA booking TO {}").format(reader))


def has_future(connection: psycopg.Connection[Any], now: datetime) -> bool:
    """Whether the book has an appointment after `now`."""
    row = connection.execute("SELECT EXISTS (SELECT FROM booking.appointment WHERE starts_at > %s)", [now]).fetchone()
    return row is not None and bool(row[0])


def load_sample(server: Server, now: datetime, address_secret: bytes, *, with_history: bool) -> int:
    """Load the sample book at `now` unless the book still has appointments ahead; return how many were loaded.

    `with_history` also writes what the ledger would hold, had it run for the last four weeks.
    """
    with psycopg.connect(server.conninfo("booking")) as booking:
        if has_future(booking, now):
            return 0
        book = sample_book(now)
        if with_history:
            # First the history: with the book alone, every past step of the ladder would be due.
            with psycopg.connect(server.conninfo("ledger")) as ledger:
                load_history(ledger, book, address_secret)
        load_book(booking, book)
        return len(book.appointments)


def ledger_counts(server: Server, cycle: datetime) -> list[tuple[str, str, int]]:
    """(channel, state, reminders) of the cycle with this key, from the analysts' view."""
    with psycopg.connect(server.conninfo("ledger")) as connection:
        return connection.execute(
            "SELECT channel, state, count(*) FROM analytics.delivery_ledger"
            " WHERE logical_date = %(cycle)s OR adopted_by = %(cycle)s GROUP BY channel, state ORDER BY channel, state",
            {"cycle": cycle},
        ).fetchall()
