"""The mark is read by Airflow's Task SDK, to which a failing API server looks like a Variable that was never set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from reminders.errors import ConfigurationError, PreflightError

SECRET = b"a secret for tests only"
KEPT = '{"reserved_to": 1}'


class Server:
    """An API server's Variables as the supervisor hands them on; `fails` names the requests that end in a 500."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables
        self.fails: set[str] = set()

    def send(self, message: Any) -> Any:
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time import comms

        if message.type in self.fails:
            return comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500})
        if message.type == "GetVariableKeys":
            names = [name for name in self.variables if name.startswith(message.prefix)]
            return comms.VariableKeysResult(keys=names, total_entries=len(names))
        if message.type == "PutVariable":
            self.variables[message.key] = message.value
            return comms.OKResponse(ok=True)
        if message.key in self.variables:
            return comms.VariableResult(key=message.key, value=self.variables[message.key])
        return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": message.key})


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[[Server], Any]:
    """The tasks' module in a task of this server's."""
    monkeypatch.delenv("AIRFLOW_VAR_REMINDERS_MARK", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/unused.db")
    from airflow.sdk.execution_time import task_runner

    from reminders import tasks

    def tasks_on(server: Server) -> Any:
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", server, raising=False)
        return tasks

    return tasks_on


def test_the_mark_that_was_kept(on: Any) -> None:
    assert on(Server(reminders_mark=KEPT)).kept_mark() == KEPT


def test_a_mark_that_was_never_kept(on: Any) -> None:
    assert on(Server(reminders_mark_of_another="it")).kept_mark() is None


@pytest.mark.parametrize(
    "fails", [{"GetVariable"}, {"GetVariable", "GetVariableKeys"}, {"GetVariableKeys"}], ids=["it", "both", "the names"]
)
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_mark_that_airflow_could_not_read_is_not_taken_for_none(on: Any, fails: set[str], is_kept: bool) -> None:
    """Once: one failed request, and everything was held as in a ledger that has forgotten."""
    server = Server(**({"reminders_mark": KEPT} if is_kept else {}))
    server.fails = fails
    if (is_kept, fails) in ((True, {"GetVariableKeys"}), (False, {"GetVariable"})):
        assert on(server).kept_mark() == (KEPT if is_kept else None)
    else:
        with pytest.raises(ConfigurationError, match="Variable reminders_mark"):
            on(server).kept_mark()


@pytest.fixture
def preflight(on: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], list[str | None]]:
    """The task on a sound ledger, which keeps KEPT; returns the marks with which the ledger was compared."""

    def run(server: Server) -> list[str | None]:
        tasks, compared = on(server), []

        def check(_ledger: Any, kept: str | None, keep: Callable[[str], None], *_: Any) -> None:
            compared.append(kept)
            keep(KEPT)

        monkeypatch.setattr(tasks, "get_current_context", lambda: {"params": {}})
        monkeypatch.setattr(tasks, "address_secret", lambda: SECRET)
        monkeypatch.setattr(tasks, "ledger_db", lambda: nullcontext(SimpleNamespace(check_schema=lambda: None)))
        monkeypatch.setattr("reminders.cycle.preflight.preflight", check)
        assert tasks.preflight.function() is True
        return compared

    return run


def test_preflight_compares_what_was_kept_and_keeps_what_it_finds(preflight: Any) -> None:
    server = Server()
    assert [preflight(server) for _ in range(2)] == [[None], [KEPT]]
    assert server.variables == {"reminders_mark": KEPT}


def test_preflight_fails_where_airflow_does_not_say(preflight: Any) -> None:
    server = Server(reminders_mark=KEPT)
    server.fails = {"GetVariable"}
    with pytest.raises(ConfigurationError):
        preflight(server)


def test_preflight_fails_where_the_environment_says_something_else(
    preflight: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_REMINDERS_MARK", "accept")
    with pytest.raises(PreflightError, match="AIRFLOW_VAR_REMINDERS_MARK"):
        preflight(Server())
