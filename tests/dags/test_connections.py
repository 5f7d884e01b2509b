"""A connection that is missing or wrong ends a task in words that name it, and never its password."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from reminders.errors import ConfigurationError
from reminders.operate import connected
from tests.databases import TestDatabase

PASSWORD = "pass-word-that-nobody-sees"
FROM = {"from_sms": "+15005550006", "from_call": "+15005550006"}


@pytest.fixture
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tasks' module in an environment without any connection or Variable."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("airflow")
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "AIRFLOW_VAR_"))]:
        patch.delenv(name)
    patch.setenv("AIRFLOW_HOME", str(home))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home}/unused.db")
    from reminders import tasks as module

    yield module
    patch.undo()


def refused(work: Callable[[], Any]) -> str:
    """The words of the refusal; the whole traceback, as a task's log shows it, holds no password."""
    with pytest.raises(ConfigurationError) as caught:
        work()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def opened(tasks: Any, conn_id: str) -> Callable[[], Any]:
    def work() -> None:
        with tasks.database(conn_id):
            raise AssertionError("it opened")

    return work


@pytest.mark.parametrize("conn_id", ["ledger_db", "booking_db"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        f"postgres://me:{PASSWORD}@127.0.0.1:1/ledger",
        f"postgres://me:{PASSWORD}/x@127.0.0.1:1/ledger",
        f"mysql://me:{PASSWORD}@127.0.0.1:1/ledger",
        json.dumps({"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "password": PASSWORD}),
        f'{{"conn_type": "postgres", "password": "{PASSWORD}"',
        PASSWORD,
    ],
    ids=["missing", "nobody listens", "not escaped", "not PostgreSQL's", "as JSON", "not JSON", "nothing at all"],
)
def test_a_database_that_cannot_be_reached(
    tasks: Any, monkeypatch: pytest.MonkeyPatch, conn_id: str, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
    assert conn_id in refused(opened(tasks, conn_id))


def test_a_wrong_password(tasks: Any, monkeypatch: pytest.MonkeyPatch, ledger: TestDatabase) -> None:
    uri = f"postgres://reminders_app:{PASSWORD}@127.0.0.1:{ledger.server.port}/{ledger.name}"
    monkeypatch.setenv("AIRFLOW_CONN_LEDGER_DB", uri)
    words = refused(opened(tasks, "ledger_db"))
    assert "ledger_db" in words and "password" in words


def test_a_ledger_that_takes_no_connections(tasks: Any, monkeypatch: pytest.MonkeyPatch, ledger: TestDatabase) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LEDGER_DB", ledger.uri("reminders_app"))
    with psycopg.connect(ledger.server.conninfo(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {ledger.name} ALLOW_CONNECTIONS false")
    assert "ledger_db does not answer" in refused(opened(tasks, "ledger_db"))


@pytest.mark.parametrize(("said", "idle"), [("", "30"), ("?keepalives_idle=90", "90")])
def test_a_server_that_is_gone_is_noticed_within_a_minute(
    tasks: Any, monkeypatch: pytest.MonkeyPatch, ledger: TestDatabase, said: str, idle: str
) -> None:
    """By a task and by a person's command, unless the connection says otherwise."""
    monkeypatch.setenv("AIRFLOW_CONN_LEDGER_DB", ledger.uri("reminders_app") + said)
    with tasks.database("ledger_db") as of_task, connected("ledger_db", os.environ) as of_command:
        for connection in (of_task, of_command):
            parameters = connection.info.get_parameters()
            assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == (idle, "60000")


TWILIO = {"conn_type": "twilio", "login": "AC1", "password": PASSWORD, "extra": FROM}
SMTP = {"conn_type": "smtp", "host": "127.0.0.1", "password": PASSWORD, "extra": {"from_email": "us@example.com"}}


@pytest.mark.parametrize(
    ("conn_id", "connection", "lacks"),
    [
        ("twilio_default", None, "is missing"),
        ("twilio_default", {**TWILIO, "login": None}, "login"),
        ("twilio_default", {**TWILIO, "login": PASSWORD, "password": None}, "password"),
        ("twilio_default", {**TWILIO, "extra": {}}, "from_sms"),
        ("twilio_default", {**TWILIO, "extra": {"from_sms": "+15005550006"}}, "from_call"),
        ("twilio_default", {**TWILIO, "extra": {"messaging_service_sid": "MG1"}}, "from_call"),
        ("twilio_default", {**TWILIO, "host": f"ftp://{PASSWORD}"}, "host"),
        ("smtp_default", None, "is missing"),
        ("smtp_default", {**SMTP, "host": None}, "host"),
        ("smtp_default", {**SMTP, "extra": {}}, "from_email"),
        ("smtp_default", {**SMTP, "extra": {"from_email": "nobody"}}, "from_email"),
    ],
)
def test_a_provider_s_connection_that_lacks_something(
    tasks: Any, monkeypatch: pytest.MonkeyPatch, conn_id: str, connection: dict[str, Any] | None, lacks: str
) -> None:
    whole = {"twilio_default": TWILIO, "smtp_default": SMTP, conn_id: connection}
    for name, fields in whole.items():
        if fields is not None:
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
    words = refused(lambda: tasks.senders(lambda _account_id: None))
    assert conn_id in words and lacks in words


@pytest.mark.parametrize("value", [None, "short"])
def test_the_key_of_the_address_hashes(tasks: Any, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET", value)
    assert "reminders_address_secret" in refused(tasks.address_secret)


def test_a_backfill_plans_nothing(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection even, so that it cannot."""
    monkeypatch.setattr(tasks, "cycle_key", lambda: (datetime(2026, 2, 4, tzinfo=UTC), "backfill", True))
    assert tasks.plan_batches.function() == []
