"""The logins of the running system: which roles each may act as, and the connections that name them.

The roles themselves come with the migrations and cannot log in. reminders_app holds no right of its own: each of its
transactions does SET LOCAL ROLE. A login with one role acts as it from the moment that it connects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from reminders.errors import ConfigurationError

# connection id -> (the login's usual name, the roles that it may act as)
LOGINS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ledger_db": ("reminders_app", ("reminders_planner", "reminders_dispatcher")),
    "ledger_db_operator": ("reminders_operator_login", ("reminders_operator",)),
    "ledger_db_webhook": ("reminders_webhook_login", ("reminders_webhook",)),
    "ledger_db_analyst": ("reminders_analyst_login", ("reminders_analyst",)),
}
MEMBERSHIPS: Mapping[str, tuple[str, ...]] = dict(LOGINS.values())

# libpq finds a server that is gone within a minute, where the system's own settings take two hours; what a connection's
# extras say goes before these.
KEEPALIVES: Mapping[str, int] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

POSTGRES_TYPES = ("postgres", "postgresql")
# What libpq understands of a connection's extras; PostgresHook's own (cursor, iam, ...) mean nothing here.
EXTRAS = (
    "application_name",
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
)


def create_logins(
    connection: psycopg.Connection[Any],
    passwords: Mapping[str, str],
    memberships: Mapping[str, Sequence[str]] = MEMBERSHIPS,
) -> None:
    """Create each login of `passwords`, or bring it to this state: its password, NOINHERIT, and exactly its roles of
    `memberships`. Safe to repeat, in one transaction; passwords reach the server as SCRAM verifiers only.

    Raises `ConfigurationError` for a login without memberships, an empty password, a role that does not exist, or a
    login that already has rights which no login of the running system may have.
    """
    for login, password in passwords.items():
        if not memberships.get(login):
            raise ConfigurationError(f"the login {login} has no roles to act as")
        if not password:
            raise ConfigurationError(f"the login {login} needs a password")
    with connection.transaction():
        for login, password in passwords.items():
            _create_login(connection, login, password)
            _grant_exactly(connection, login, memberships[login])


def _create_login(connection: psycopg.Connection[Any], login: str, password: str) -> None:
    with connection.cursor(row_factory=tuple_row) as cursor:
        existing = cursor.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
            " FROM pg_roles WHERE rolname = %s",
            [login],
        ).fetchone()
    if existing is None:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(login)))
    elif existing[0]:
        raise ConfigurationError(f"the login {login} exists and may do more than its roles: take those rights away")
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    connection.execute(
        sql.SQL("ALTER ROLE {} LOGIN NOINHERIT PASSWORD {}").format(sql.Identifier(login), sql.Literal(verifier))
    )


def _grant_exactly(connection: psycopg.Connection[Any], login: str, roles: Sequence[str]) -> None:
    with connection.cursor(row_factory=tuple_row) as cursor:
        granted = {
            name
            for (name,) in cursor.execute(
                "SELECT pg_get_userbyid(roleid) FROM pg_auth_members WHERE pg_get_userbyid(member) = %s", [login]
            )
        }
    try:
        for role in roles:
            connection.execute(
                sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE, ADMIN FALSE").format(
                    sql.Identifier(role), sql.Identifier(login)
                )
            )
    except psycopg.errors.UndefinedObject as error:
        raise ConfigurationError(f"{error.diag.message_primary}: migrate the ledger first") from error
    for role in granted.difference(roles):
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(login)))
    if len(roles) == 1:
        acting = sql.SQL("ALTER ROLE {} SET role = {}").format(sql.Identifier(login), sql.Identifier(roles[0]))
    else:
        acting = sql.SQL("ALTER ROLE {} RESET role").format(sql.Identifier(login))
    connection.execute(acting)


def logins_from_environment(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The passwords and memberships, by login, of those AIRFLOW_CONN_LEDGER_DB* that are set.

    Raises `ConfigurationError` for one that cannot be read, has no login or no password, or shares another's login.
    """
    passwords: dict[str, str] = {}
    memberships: dict[str, tuple[str, ...]] = {}
    for connection_id, (_, roles) in LOGINS.items():
        if not environment.get(variable_of(connection_id)):
            continue
        parameters = connection_parameters(connection_id, environment)
        login = str(parameters.get("user", ""))
        if not login or not parameters.get("password"):
            raise ConfigurationError(f"{variable_of(connection_id)} needs a login and a password")
        if login in passwords:
            raise ConfigurationError(f"{variable_of(connection_id)} has the login of another connection: {login}")
        passwords[login] = str(parameters["password"])
        memberships[login] = roles
    return passwords, memberships


def variable_of(connection_id: str) -> str:
    """The environment variable in which Airflow keeps the connection `connection_id`."""
    return f"AIRFLOW_CONN_{connection_id.upper()}"


def connection_parameters(connection_id: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """psycopg's connection parameters for an Airflow connection in `environment`, as URI or as JSON.

    Source of both forms: Airflow, "Managing Connections", storing connections in environment variables. Raises
    `ConfigurationError` naming the variable, never its value, when it is missing, malformed or not PostgreSQL's.
    """
    variable = variable_of(connection_id)
    value = environment.get(variable, "").strip()
    if not value:
        raise ConfigurationError(f"{variable} is not set: give it the connection {connection_id}")
    try:
        parameters = _from_json(value) if value.startswith("{") else _from_uri(value)
    except (ValueError, AttributeError):
        # `from None`: the parsers quote what they could not read, which here is a password.
        raise ConfigurationError(f"{variable} is not a PostgreSQL connection, as a URI or as JSON") from None
    return {name: part for name, part in parameters.items() if part not in (None, "")}


def _from_uri(value: str) -> dict[str, Any]:
    parts = urlsplit(value)
    if parts.scheme not in POSTGRES_TYPES:
        raise ValueError(parts.scheme)
    extras = dict(parse_qsl(parts.query))
    nested = extras.pop("__extra__", None)
    return {
        "host": unquote(parts.hostname or ""),
        "port": parts.port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.removeprefix("/")),
        **_understood(extras),
        **_understood(nested),
    }


def _from_json(value: str) -> dict[str, Any]:
    fields = json.loads(value)
    if fields.get("conn_type") not in POSTGRES_TYPES:
        raise ValueError("conn_type")
    port = fields.get("port")
    return {
        "host": fields.get("host"),
        "port": int(port) if port else None,
        "user": fields.get("login"),
        "password": fields.get("password"),
        "dbname": fields.get("schema"),
        **_understood(fields.get("extra")),
    }


def _understood(extras: Any) -> dict[str, Any]:
    """Those of a connection's extras, as an object or as JSON, that libpq understands."""
    found = json.loads(extras) if isinstance(extras, str) and extras else extras
    if found and not isinstance(found, dict):
        raise ValueError("extra")
    return {name: found[name] for name in EXTRAS if name in found} if found else {}
