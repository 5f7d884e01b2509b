"""The dispatch task asks Airflow's own Task SDK whether its DAG is paused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[[bool, str], tuple[bool, list[Any]]]:
    """Answers the SDK's request as a supervisor of the named class would; returns what was understood and requested."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/unused.db")
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import DagResult

    from reminders import tasks

    def ask(is_paused: bool, supervisor: str) -> tuple[bool, list[Any]]:
        requests: list[Any] = []

        def send(_comms: Any, msg: Any) -> DagResult:
            requests.append(msg)
            return DagResult.model_construct(dag_id=msg.dag_id, is_paused=is_paused)

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", type(supervisor, (), {"send": send})(), raising=False)
        instance = SimpleNamespace(dag_id="send_due_reminders", get_dag=task_runner.RuntimeTaskInstance.get_dag)
        monkeypatch.setattr(tasks, "get_current_context", lambda: {"ti": instance})
        return tasks.pause_question()(), requests

    return ask


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_task_asks_for_its_own_dag(asked: Any, is_paused: bool) -> None:
    understood, requests = asked(is_paused, "CommsDecoder")
    assert understood is is_paused
    assert [(request.type, request.dag_id) for request in requests] == [("GetDag", "send_due_reminders")]


def test_a_dag_that_a_person_tests_runs_though_it_is_paused(asked: Any) -> None:
    """Every new DAG is paused: `dag.test()` would send nothing and say success."""
    assert asked(True, "InProcessSupervisorComms") == (False, [])


def test_the_name_by_which_such_a_run_is_known_is_airflow_s() -> None:
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    assert InProcessSupervisorComms.__name__ == "InProcessSupervisorComms"
