"""One PostgreSQL server for a whole test run, and a database of its own for each test, cloned from a template.

The run's first process leaves the name of its folder in the environment; whichever worker first needs the server
starts it there, under a file lock; the run's first process, which outlives its workers, stops it at the end.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from local.postgres import SUPERUSER, Server
from reminders.store.logins import LOGINS, MEMBERSHIPS, create_logins
from reminders.store.migrate import migrate
from tests.memory import IN_MEMORY, ON_DISK, roomy_place

FOLDER_VARIABLE = "RINGONCE_TEST_FOLDER"
BOOKING_SQL = Path(__file__).resolve().parents[1] / "local" / "booking.sql"
LOGIN_PASSWORD = "only for tests"
LOGIN_OF_ROLE = {role: login for login, roles in MEMBERSHIPS.items() for role in roles}

Connection = psycopg.Connection[Any]


@dataclass
class TestDatabase:
    """A database of one test. Connections that it gave out are closed with it."""

    __test__ = False

    name: str
    server: Server
    _given: list[Connection] = field(default_factory=list)

    @property
    def conninfo(self) -> str:
        """libpq's connection string of the server's superuser."""
        return self.server.conninfo(self.name)

    def connect(self, role: str | None = None, *, autocommit: bool = True) -> Connection:
        """A connection under `role`: None is the superuser; reminders_owner is the superuser acting as it; a login is
        itself; any other role of the system is acted as by the login that may (SET ROLE, for the whole session)."""
        if role is None or role == "reminders_owner":
            login, password = SUPERUSER, None
        else:
            login, password = LOGIN_OF_ROLE.get(role, role), LOGIN_PASSWORD
        conninfo = self.server.conninfo(self.name, login, password)
        connection: Connection = psycopg.connect(conninfo, autocommit=autocommit)
        self._given.append(connection)
        if role is not None and role != login:
            connection.execute("SELECT set_config('role', %s, false)", [role])
            if not autocommit:
                connection.commit()
        return connection

    def uri(self, login: str = SUPERUSER) -> str:
        """The database as an Airflow connection URI, for AIRFLOW_CONN_*."""
        password = self.server.password if login == SUPERUSER else LOGIN_PASSWORD
        return f"postgres://{login}:{quote(password, safe='')}@127.0.0.1:{self.server.port}/{self.name}"

    def airflow_connections(self) -> dict[str, str]:
        """The environment AIRFLOW_CONN_LEDGER_DB* of this database as the ledger, migrations' excepted."""
        return {f"AIRFLOW_CONN_{name.upper()}": self.uri(login) for name, (login, _) in LOGINS.items()}

    def close(self) -> None:
        for connection in self._given:
            connection.close()
        with psycopg.connect(self.server.conninfo(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


class SharedServer:
    """The server of the run, in `folder`, and its templates: each is made once, by the first test that needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o711, exist_ok=True)
        self.server = Server(folder / "postgres", fsync=False)
        with self._locked():
            self.server.start()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[TestDatabase]:
        """A new database, cloned from `template`, dropped at the end."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.server.conninfo(), autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        database = TestDatabase(name, self.server)
        try:
            yield database
        finally:
            database.close()

    def template(self, name: str, fill: Callable[[Connection], None]) -> str:
        """The template database `name`, filled by `fill` when it is not there yet; returns its name.

        A fill that failed is not tried again in this run: its error is raised as an `AssertionError` each time.
        """
        failure = self.folder / f"{name}.failed"
        with self._locked(), psycopg.connect(self.server.conninfo(), autocommit=True) as admin:
            if failure.exists():
                raise AssertionError(failure.read_text())
            if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                return name
            making = f"{name}_making"
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(making)))
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(making)))
            try:
                with psycopg.connect(self.server.conninfo(making), autocommit=True) as connection:
                    fill(connection)
            except Exception as error:
                failure.write_text(f"the template {name} could not be made: {error}")
                raise AssertionError(failure.read_text()) from error
            # Nobody may connect to it: a template in use cannot be cloned.
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(making)))
            admin.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(making), sql.Identifier(name))
            )
        return name


def fill_ledger(connection: Connection) -> None:
    """The ledger of this release, with every login."""
    migrate(connection)
    create_logins(connection, dict.fromkeys(MEMBERSHIPS, LOGIN_PASSWORD))
    connection.execute("VACUUM ANALYZE")


def fill_booking(connection: Connection) -> None:
    """An empty book."""
    connection.execute(BOOKING_SQL.read_bytes())


def claim_folder() -> None:
    """In the run's first process: name the folder of this run for its workers, and clear away what killed runs left."""
    prefix = f"ringonce-tests-{os.getuid()}-"
    for left in [*IN_MEMORY.glob(f"{prefix}*"), *ON_DISK.glob(f"{prefix}*")]:
        if not is_alive(int(left.name.removeprefix(prefix))):
            remove_folder(left)
    os.environ[FOLDER_VARIABLE] = str(roomy_place() / f"{prefix}{os.getpid()}")


def remove_folder(folder: Path) -> None:
    """Stop the server that runs in a run's folder, if one does, and remove the folder."""
    if not folder.exists():
        return
    server = Server(folder / "postgres")
    if server.attach():
        server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
