"""Airflow's connections in the environment, as psycopg's parameters, and the logins that they name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reminders.errors import ConfigurationError
from reminders.store.logins import connection_parameters, logins_from_environment

FULL = {"host": "db.example", "port": 5433, "user": "me@x", "password": "p/w:%", "dbname": "ledger"}
AS_JSON = {"host": "db.example", "port": 5433, "login": "me@x", "password": "p/w:%", "schema": "ledger"}

CONNECTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "URI": ("postgres://me%40x:p%2Fw%3A%25@db.example:5433/ledger", FULL),
    "the other scheme": ("postgresql://me%40x:p%2Fw%3A%25@db.example:5433/ledger", FULL),
    "extras": ("postgres://db.example/ledger?sslmode=require&cursor=dictcursor", {"sslmode": "require"}),
    "nested extras": (
        "postgres://db.example/ledger?__extra__=%7B%22sslmode%22%3A+%22require%22%7D",
        {"sslmode": "require"},
    ),
    "little": ("postgres://db.example/ledger", {}),
    "JSON": (json.dumps({"conn_type": "postgres", **AS_JSON}), FULL),
    "JSON with words": (json.dumps({"conn_type": "postgresql", **AS_JSON, "port": "5433"}), FULL),
    "JSON extras": (
        json.dumps({"conn_type": "postgres", **AS_JSON, "extra": {"sslmode": "require", "iam": False}}),
        {**FULL, "sslmode": "require"},
    ),
    "JSON extras in JSON": (
        json.dumps({"conn_type": "postgres", **AS_JSON, "extra": '{"sslmode": "require"}'}),
        {**FULL, "sslmode": "require"},
    ),
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_both_forms_are_read(case: str) -> None:
    value, expected = CONNECTIONS[case]
    least = {"host": "db.example", "dbname": "ledger"}
    assert connection_parameters("ledger_db", {"AIRFLOW_CONN_LEDGER_DB": value}) == {**least, **expected}


@pytest.mark.parametrize(
    "value",
    [
        "mysql://me:hush@db.example/ledger",
        "me:hush@db.example/ledger",
        "postgres://me:hush@db.example:port/ledger",
        "postgres://me:hush@[db.example/ledger",
        "postgres://me:hush@db.example/ledger?__extra__=hush",
        '{"conn_type": "mysql", "password": "hush"}',
        '{"conn_type": "postgres", "port": "hush"}',
        '{"conn_type": "postgres", "extra": "[1]", "password": "hush"}',
        '{"password": "hush"',
    ],
)
def test_what_cannot_be_read_is_refused_by_name_without_its_value(value: str) -> None:
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_LEDGER_DB is not a PostgreSQL connection") as refused:
        connection_parameters("ledger_db", {"AIRFLOW_CONN_LEDGER_DB": value})
    assert "hush" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("environment", [{}, {"AIRFLOW_CONN_LEDGER_DB": ""}, {"AIRFLOW_CONN_LEDGER_DB": " "}])
def test_a_missing_connection_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_LEDGER_DB is not set"):
        connection_parameters("ledger_db", environment)


def test_the_logins_are_those_of_the_connections_that_are_set() -> None:
    environment = {
        "AIRFLOW_CONN_LEDGER_DB": "postgres://app:one@h/d",
        "AIRFLOW_CONN_LEDGER_DB_ANALYST": "postgres://reader:two@h/d",
        "AIRFLOW_CONN_LEDGER_DB_MIGRATE": "postgres://owner:three@h/d",
    }
    assert logins_from_environment(environment) == (
        {"app": "one", "reader": "two"},
        {"app": ("reminders_planner", "reminders_dispatcher"), "reader": ("reminders_analyst",)},
    )


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ("postgres://h/d", "AIRFLOW_CONN_LEDGER_DB_OPERATOR needs a login and a password"),
        ("postgres://op@h/d", "AIRFLOW_CONN_LEDGER_DB_OPERATOR needs a login and a password"),
        ("postgres://app:two@h/d", "AIRFLOW_CONN_LEDGER_DB_OPERATOR has the login of another connection: app"),
    ],
)
def test_a_login_is_whole_and_its_own(operator: str, message: str) -> None:
    environment = {
        "AIRFLOW_CONN_LEDGER_DB": "postgres://app:one@h/d",
        "AIRFLOW_CONN_LEDGER_DB_OPERATOR": operator,
    }
    with pytest.raises(ConfigurationError, match=message):
        logins_from_environment(environment)
