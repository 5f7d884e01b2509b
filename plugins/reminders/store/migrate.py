"""Bring the ledger's schema to this release, or refuse in clear words: `python -m reminders.store.migrate [--logins]`.

Migrations are include/sql/migrations/NNNN_name.sql, numbered from 0001 without a gap. Each is applied in one
transaction together with its record in reminders.schema_migration, so a migration is there whole or not at all.
The command connects with AIRFLOW_CONN_LEDGER_DB_MIGRATE. With `--logins` it also creates the logins that the other
AIRFLOW_CONN_LEDGER_DB* variables name, with their passwords.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

from reminders.errors import RemindersError, SchemaError
from reminders.store.logins import connection_parameters, create_logins, logins_from_environment
from reminders.store.statements import sql_folder, statement

__all__ = ["Migration", "check_schema", "create_logins", "migrate", "read_migrations"]

Connection = psycopg.Connection[Any]

FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
OWN_TRANSACTION = re.compile(r"^(BEGIN|START TRANSACTION|COMMIT|ROLLBACK)\b[^\n]*;", re.IGNORECASE | re.MULTILINE)
RUN = "run `python -m reminders.store.migrate`"
LOCK_TIMEOUT = "5min"


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration: of a file, or of the database's record (where `text` is empty)."""

    version: int
    name: str
    checksum: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


def migrate(connection: Connection, folder: Path | None = None) -> list[Migration]:
    """Apply what is missing, in order, each in a transaction of its own; return what was applied (empty: up to date).

    `connection` is idle and logs in as a role that may create roles and schemas; `folder` is the migrations' folder,
    by default include/sql/migrations. Safe to repeat, and to run in two places at once: one waits for the other.
    Raises `SchemaError` for every state that it will not touch, and for a migration that fails: the failed one has
    left nothing behind, those before it stay.
    """
    migrations = read_migrations(folder)
    applied = []
    with _one_at_a_time(connection):
        for migration in missing_migrations(migrations, _recorded(connection)):
            _apply(connection, migration)
            applied.append(migration)
    return applied


def record_definitions(connection: Connection) -> None:
    """Write down how every guard, function and right is defined now: preflight refuses whatever differs from it."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statement("guard_definitions")).fetchall()
        cursor.execute(statement("forget_definitions"))
        cursor.executemany(statement("record_definition"), found)


def check_schema(connection: Connection, folder: Path | None = None) -> None:
    """Raise `SchemaError` unless the database has exactly this release's migrations. Reads only.

    The connection's role has SELECT on reminders.schema_migration, or may act as reminders_planner, which has: it does
    so for the moment, as reminders_app holds no right of its own.
    """
    # Rolled back, so that the role ends here even inside a transaction of the caller's.
    with connection.transaction(force_rollback=True):
        with connection.cursor(row_factory=scalar_row) as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_namespace n, pg_roles r"
                " WHERE n.nspname = 'reminders' AND NOT has_schema_privilege(n.oid, 'USAGE')"
                " AND r.rolname = 'reminders_planner' AND pg_has_role(r.oid, 'SET'))"
            )
            if cursor.fetchone():
                cursor.execute("SET LOCAL ROLE reminders_planner")
        missing = missing_migrations(read_migrations(folder), _recorded(connection))
    if missing:
        names = ", ".join(str(migration) for migration in missing)
        raise SchemaError(f"the ledger is older than this release: it lacks {names}; {RUN}")


def read_migrations(folder: Path | None = None) -> list[Migration]:
    """The migrations of `folder` by version. Raises `SchemaError` for a bad file, a gap or a repeat."""
    folder = folder or sql_folder() / "migrations"
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise SchemaError(f"{path.name}: a migration is called NNNN_name.sql")
        # A checkout with other line endings is the same migration.
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        if OWN_TRANSACTION.search(text):
            raise SchemaError(f"{path.name}: a migration must not end its transaction, or half of it could stay")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match[1]), match[2], checksum, text))
    for expected, migration in enumerate(found, start=1):
        if migration.version != expected:
            what = "is there twice" if migration.version < expected else f"comes where {expected:04d} is missing"
            raise SchemaError(f"the release's migrations have a gap: {migration} {what}")
    return found


def missing_migrations(migrations: Sequence[Migration], recorded: Sequence[Migration]) -> list[Migration]:
    """Those of `migrations` that come after `recorded`, both in order of version.

    Raises `SchemaError` when the record is not the beginning of the release's migrations: newer, with a gap, or edited.
    """
    for expected, record in enumerate(recorded, start=1):
        if record.version != expected:
            raise SchemaError(
                f"the ledger's record has a gap: {record} is recorded but {expected:04d} is not; restore the database"
            )
    if len(recorded) > len(migrations):
        raise SchemaError(
            f"the ledger is newer than this release: it has {recorded[-1]}, this release knows {len(migrations)} "
            "migrations; a schema is never taken back, so deploy the newer release"
        )
    for migration, record in zip(migrations, recorded, strict=False):
        if (migration.name, migration.checksum) != (record.name, record.checksum):
            raise SchemaError(
                f"{migration} was edited after it was applied to the ledger (as {record}): "
                "put the file back and write a new migration"
            )
    return list(migrations[len(recorded) :])


@contextmanager
def _one_at_a_time(connection: Connection) -> Iterator[None]:
    was_autocommit = connection.autocommit
    connection.autocommit = True
    try:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
        try:
            connection.execute("SELECT pg_advisory_lock(hashtextextended('reminders.migrate', 0))")
        except psycopg.errors.LockNotAvailable as error:
            raise SchemaError(
                f"another migration has been running for {LOCK_TIMEOUT}; wait for it and repeat"
            ) from error
        try:
            yield
        finally:
            if not connection.broken:
                connection.execute("SELECT pg_advisory_unlock(hashtextextended('reminders.migrate', 0))")
                connection.execute("RESET lock_timeout")
    finally:
        if not connection.broken:
            connection.autocommit = was_autocommit


def _recorded(connection: Connection) -> list[Migration]:
    """The database's own record, by version; empty when fresh. Raises `SchemaError` when half-applied."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        # The catalogue is read by name, because a role without USAGE on the schema could not even ask for the table.
        cursor.execute(
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'reminders' AND c.relkind IN ('r', 'p', 'v', 'm')"
            " OR n.nspname = 'analytics' AND c.relname = 'delivery_ledger' ORDER BY 1"
        )
        ours = cursor.fetchall()
    recorded: list[Migration] = []
    if "reminders.schema_migration" in ours:
        ours.remove("reminders.schema_migration")
        with connection.cursor(row_factory=class_row(Migration)) as cursor:
            try:
                cursor.execute("SELECT version, name, checksum FROM reminders.schema_migration ORDER BY version")
            except psycopg.errors.InsufficientPrivilege as error:
                raise SchemaError("this role may not read reminders.schema_migration") from error
            except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable) as error:
                raise SchemaError("reminders.schema_migration is not the record that this release writes") from error
            recorded = cursor.fetchall()
    if ours and not recorded:
        raise SchemaError(
            f"the ledger is half-applied: {ours[0]} exists but no migration is recorded; "
            "restore the database whole, or begin with an empty one"
        )
    return recorded


def _apply(connection: Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            # Without parameters psycopg sends the text as it is, and a file may hold many statements.
            connection.execute(migration.text.encode())
            connection.execute("RESET ROLE")
            _make_record(connection)
            connection.execute(
                "INSERT INTO reminders.schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
                [migration.version, migration.name, migration.checksum],
            )
            if _has_definitions(connection):
                record_definitions(connection)
    except psycopg.Error as error:
        reason = error.diag.message_primary or type(error).__name__
        raise SchemaError(f"{migration} failed and left nothing behind: {reason}") from error


def _has_definitions(connection: Connection) -> bool:
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute("SELECT to_regclass('reminders.guard_definition') IS NOT NULL")
        return bool(cursor.fetchone())


def _make_record(connection: Connection) -> None:
    """Create the record, if need be, as the owner of the schema, so that grants on all its tables cover it."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS reminders")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS reminders.schema_migration ("
        " version integer PRIMARY KEY CHECK (version > 0), name text NOT NULL, checksum char(64) NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    connection.execute(
        "DO $$ BEGIN EXECUTE format('ALTER TABLE reminders.schema_migration OWNER TO %I',"
        " (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'reminders')); END $$"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 when the schema is this release's, 1 with one line on stderr when it is refused."""
    parser = argparse.ArgumentParser(prog="python -m reminders.store.migrate", description="Migrate the ledger.")
    parser.add_argument("--logins", action="store_true", help="also create the logins of AIRFLOW_CONN_LEDGER_DB*")
    parser.add_argument("--record", action="store_true", help="take the guards as they are now for what they should be")
    parser.add_argument("--check", action="store_true", help="change nothing; fail unless the schema is current")
    chosen = parser.parse_args(arguments)
    try:
        parameters = connection_parameters("ledger_db_migrate", os.environ)
        with psycopg.connect(**parameters, autocommit=True) as connection:
            if chosen.check:
                check_schema(connection)
                applied = []
            else:
                applied = migrate(connection)
                if chosen.record:
                    record_definitions(connection)
            if chosen.logins and not chosen.check:
                passwords, memberships = logins_from_environment(os.environ)
                create_logins(connection, passwords, memberships)
                print(f"ledger_db: logins {', '.join(passwords) or 'none'}")
    except (RemindersError, psycopg.OperationalError) as error:
        print(f"ledger_db: {error}", file=sys.stderr)
        return 1
    print("ledger_db: " + (", ".join(f"applied {migration}" for migration in applied) or "up to date"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
