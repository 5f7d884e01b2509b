"""The migrations' runner on a real PostgreSQL: what it applies, what it refuses, and what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from local.postgres import Server
from reminders.errors import ConfigurationError, SchemaError
from reminders.store.logins import MEMBERSHIPS, create_logins
from reminders.store.migrate import check_schema, main, migrate, read_migrations
from tests.databases import LOGIN_PASSWORD, TestDatabase

FIRST = "CREATE SCHEMA IF NOT EXISTS reminders; CREATE TABLE reminders.first (a int); SELECT 5 % 3;"
SECOND = "INSERT INTO reminders.first VALUES (1); CREATE TABLE reminders.second (a int);"
THIRD = "CREATE TABLE reminders.third (a int);"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_migrations(*texts: str) -> Path:
        for number, text in enumerate(texts, start=1):
            (tmp_path / f"{number:04d}_part.sql").write_text(text)
        return tmp_path

    return write_migrations


def tables(database: TestDatabase) -> list[str]:
    rows = database.connect().execute(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'reminders' AND relkind = 'r' ORDER BY 1"
    )
    return [name for (name,) in rows]


def test_migrations_are_applied_in_order_once_and_recorded(blank_database: TestDatabase, write: Write) -> None:
    connection = blank_database.connect()
    folder = write(FIRST, SECOND)
    assert [m.version for m in migrate(connection, folder)] == [1, 2]
    assert migrate(connection, folder) == []
    write(FIRST, SECOND, THIRD)
    assert [m.version for m in migrate(connection, folder)] == [3]
    check_schema(connection, folder)
    rows = connection.execute("SELECT version, name, checksum, applied_at IS NOT NULL FROM reminders.schema_migration")
    assert rows.fetchall() == [(m.version, "part", m.checksum, True) for m in read_migrations(folder)]
    assert connection.execute("SELECT count(*) FROM reminders.first").fetchone() == (1,)


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("SELECT 1 / 0;", "division by zero"),
        # It runs to its end, and only its record is refused.
        ("INSERT INTO reminders.schema_migration VALUES (2, 'x', 'x');", "duplicate key value"),
    ],
)
def test_a_failing_migration_leaves_nothing_behind_and_those_before_it_stay(
    blank_database: TestDatabase, write: Write, failing: str, reason: str
) -> None:
    connection = blank_database.connect(autocommit=False)
    folder = write(FIRST, "CREATE TABLE reminders.second (a int);" + failing, THIRD)
    with pytest.raises(SchemaError, match=f"0002_part failed and left nothing behind: {reason}"):
        migrate(connection, folder)
    assert tables(blank_database) == ["first", "schema_migration"]
    with pytest.raises(SchemaError, match=r"older than this release: it lacks 0002_part, 0003_part"):
        check_schema(connection, folder)
    connection.rollback()
    write(FIRST, SECOND, THIRD)
    assert [m.version for m in migrate(connection, folder)] == [2, 3]
    assert not connection.autocommit, "the connection is given back as it came"


REFUSED = {
    "downgrade": ("DELETE FROM reminders.first", (FIRST,), "newer than this release: it has 0002_part"),
    "edited": ("DELETE FROM reminders.first", (FIRST, SECOND + " "), "0002_part was edited after it was applied"),
    "gap in the record": (
        "DELETE FROM reminders.schema_migration WHERE version = 1",
        (FIRST, SECOND),
        "0002_part is recorded but 0001 is not",
    ),
    "tables without their record": (
        "DROP TABLE reminders.schema_migration",
        (FIRST, SECOND),
        "half-applied: reminders.first exists but no migration is recorded",
    ),
    "an empty record": (
        "DELETE FROM reminders.schema_migration",
        (FIRST, SECOND),
        "half-applied: reminders.first exists but no migration is recorded",
    ),
    "another record": (
        "ALTER TABLE reminders.schema_migration DROP COLUMN checksum",
        (FIRST, SECOND),
        "not the record that this release writes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_schema_that_is_not_ours_to_continue_is_refused_and_kept(
    blank_database: TestDatabase, write: Write, tmp_path: Path, case: str
) -> None:
    damage, texts, message = REFUSED[case]
    connection = blank_database.connect()
    migrate(connection, write(FIRST, SECOND))
    connection.execute(damage.encode())
    (tmp_path / "0002_part.sql").unlink()
    folder = write(*texts)
    before = tables(blank_database)
    for attempt in (migrate, check_schema):
        with pytest.raises(SchemaError, match=message):
            attempt(connection, folder)
    assert tables(blank_database) == before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0002_b.sql"], "0002_b comes where 0001 is missing"),
        (["0001_a.sql", "0003_c.sql"], "0003_c comes where 0002 is missing"),
        (["0001_a.sql", "0001_b.sql"], "0001_b is there twice"),
        (["1_a.sql"], "called NNNN_name"),
        (["0001-a.sql"], "called NNNN_name"),
    ],
)
def test_a_folder_with_a_gap_or_a_stray_name_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(SchemaError, match=message):
        read_migrations(tmp_path)


@pytest.mark.parametrize("statement", ["COMMIT;", "BEGIN;", "rollback;", "START TRANSACTION READ WRITE;"])
def test_a_migration_that_ends_its_own_transaction_is_refused(write: Write, statement: str) -> None:
    body = "DO $$\nBEGIN\n    NULL;\nEND $$;\n"
    assert len(read_migrations(write(body))) == 1
    with pytest.raises(SchemaError, match=r"0001_part\.sql: a migration must not end its transaction"):
        read_migrations(write(body + statement))


def test_line_endings_do_not_make_another_migration(tmp_path: Path) -> None:
    file = tmp_path / "0001_a.sql"
    file.write_bytes(b"SELECT 1;\n")
    unix = read_migrations(tmp_path)
    file.write_bytes(b"SELECT 1;\r\n")
    assert read_migrations(tmp_path) == unix


def test_two_at_once_wait_for_each_other_and_apply_each_migration_once(
    blank_database: TestDatabase, write: Write
) -> None:
    folder = write(FIRST, SECOND, THIRD)
    barrier = threading.Barrier(2, timeout=30)

    def run() -> list[int]:
        connection = blank_database.connect()
        barrier.wait()
        return [m.version for m in migrate(connection, folder)]

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run) for _ in range(2)]
    assert sorted(run.result() for run in runs) == [[], [1, 2, 3]]


def test_the_release_itself_migrates_and_the_tasks_may_check_it(ledger: TestDatabase) -> None:
    for role in (None, "reminders_owner", "reminders_planner", "reminders_dispatcher", "reminders_operator"):
        check_schema(ledger.connect(role))
    app = ledger.connect("reminders_app", autocommit=False)
    app.row_factory = dict_row
    check_schema(app)
    assert app.execute("SELECT current_user").fetchone() == {"current_user": "reminders_app"}
    with pytest.raises(SchemaError, match="may not read"):
        check_schema(ledger.connect("reminders_analyst"))


def test_a_login_that_may_make_roles_but_is_no_superuser_migrates_and_makes_the_logins(place: Path) -> None:
    with Server(place / "postgres", fsync=False) as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute("CREATE ROLE reminders_owner")
            admin.execute("CREATE ROLE reminders_migrate LOGIN CREATEROLE PASSWORD 'm'")
            admin.execute("GRANT reminders_owner TO reminders_migrate WITH INHERIT TRUE, SET TRUE")
            admin.execute("CREATE DATABASE ledger_db OWNER reminders_migrate")
        with psycopg.connect(server.conninfo("ledger_db", "reminders_migrate", "m"), autocommit=True) as connection:
            for _ in range(2):
                migrate(connection)
                create_logins(connection, dict.fromkeys(MEMBERSHIPS, "p"))
        with psycopg.connect(server.conninfo("ledger_db", "reminders_app", "p")) as app:
            check_schema(app)


def test_logins_act_as_their_roles_and_no_other(ledger: TestDatabase) -> None:
    owner = ledger.connect()
    rows = owner.execute(
        "SELECT member::regrole::text, array_agg(roleid::regrole::text ORDER BY 1), bool_or(inherit_option),"
        " bool_or(admin_option) FROM pg_auth_members WHERE member::regrole::text = ANY (%s) GROUP BY 1",
        [list(MEMBERSHIPS)],
    )
    assert {login: (set(roles), inherits, admin) for login, roles, inherits, admin in rows} == {
        login: (set(roles), False, False) for login, roles in MEMBERSHIPS.items()
    }
    for login, roles in MEMBERSHIPS.items():
        acting = ledger.connect(login).execute("SELECT current_user, session_user").fetchone()
        assert acting == (roles[0] if len(roles) == 1 else login, login)
    for forbidden in ("reminders_owner", "reminders_operator", "reminders_webhook"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ledger.connect("reminders_app").execute("SELECT set_config('role', %s, false)", [forbidden])


def test_a_login_is_brought_back_to_its_password_and_its_roles(blank_database: TestDatabase) -> None:
    connection = blank_database.connect()
    tag = blank_database.name
    login, wanted, other = f"{tag}_login", f"{tag}_wanted", f"{tag} other"
    for role in (wanted, other):
        connection.execute(f'CREATE ROLE "{role}"'.encode())
    try:
        create_logins(connection, {login: "before"}, {login: [other]})
        create_logins(connection, {login: "it's % after"}, {login: [wanted]})
        conninfo = blank_database.server.conninfo(tag, login, "it's % after")
        with psycopg.connect(conninfo) as mine:
            assert mine.execute("SELECT current_user::text").fetchone() == (wanted,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mine.execute("SELECT set_config('role', %s, false)", [other])
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(blank_database.server.conninfo(tag, login, "before"))
        connection.execute(f'ALTER ROLE "{login}" CREATEDB'.encode())
        with pytest.raises(ConfigurationError, match="may do more"):
            create_logins(connection, {login: "x"}, {login: [wanted]})
    finally:
        for role in (login, wanted, other):
            connection.execute(f'DROP ROLE "{role}"'.encode())


@pytest.mark.parametrize(
    ("passwords", "memberships", "message"),
    [
        ({"someone": "x"}, {}, "no roles"),
        ({"someone": ""}, {"someone": ["pg_monitor"]}, "needs a password"),
        ({"someone": "x"}, {"someone": ["no_such_role"]}, "migrate the ledger first"),
    ],
)
def test_a_login_without_password_or_roles_is_refused(
    blank_database: TestDatabase, passwords: dict[str, str], memberships: dict[str, list[str]], message: str
) -> None:
    connection = blank_database.connect()
    with pytest.raises(ConfigurationError, match=message):
        create_logins(connection, passwords, memberships)
    assert connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'someone'").fetchone() is None


def test_the_command_migrates_checks_and_names_what_is_missing_without_secrets(
    ledger: TestDatabase,
    blank_database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variable = "AIRFLOW_CONN_LEDGER_DB_MIGRATE"
    monkeypatch.delenv(variable, raising=False)
    assert main([]) == 1
    assert variable in capsys.readouterr().err
    monkeypatch.setenv(variable, blank_database.uri())
    assert main(["--check"]) == 1
    assert "older than this release" in capsys.readouterr().err
    assert main([]) == 0
    assert "applied 0001_" in capsys.readouterr().out
    for name, uri in ledger.airflow_connections().items():
        monkeypatch.setenv(name, uri)
    assert main(["--logins"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(["--check"]) == 0
    assert ledger.connect("reminders_app").execute("SELECT 1").fetchone() == (1,)
    monkeypatch.setenv(
        variable, f"postgres://postgres:secret-word@127.0.0.1:{blank_database.server.port}/{ledger.name}"
    )
    capsys.readouterr()
    assert main([]) == 1
    told = capsys.readouterr()
    assert "ledger_db" in told.err and "secret-word" not in told.err + told.out
    assert LOGIN_PASSWORD not in told.err + told.out
