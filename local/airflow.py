"""Airflow on this machine: its four components as processes of their own, and what its REST API says of a run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from local.environment import ROOT, programs
from local.processes import Processes

CYCLE = "send_due_reminders"
DAG_IDS = (CYCLE, "reconcile_deliveries", "audit_ledger")
READY_SECONDS = 180.0
FIRST_RUN_SECONDS = 20.0
ENDED = ("success", "failed")
WORST_FIRST = ("failed", "upstream_failed", "running", "up_for_retry", "queued", "scheduled", "skipped", "success")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a DAG as the API shows it. `key` is what the ledger calls the cycle: logical date or run-after."""

    run_id: str
    state: str
    run_type: str
    key: datetime

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task of a run, its mapped instances taken together: the worst state, and seconds from first start to end."""

    task_id: str
    state: str
    instances: int
    seconds: float | None


class Airflow:
    """Airflow's processes among `processes`, with `environment`, its API on `url`. No login: loopback only."""

    def __init__(self, processes: Processes, environment: Mapping[str, str], url: str) -> None:
        self.processes = processes
        self.environment = environment
        self.url = url

    def migrate(self) -> None:
        """Bring the metadata database to this Airflow, and its DAGs to those of the folder."""
        self._do("airflow-db-migrate", "db", "migrate")
        self._do("airflow-dags-reserialize", "dags", "reserialize")

    def start_api_server(self) -> None:
        self._start("api-server", "api-server")
        self.processes.wait_for("the api-server", lambda: self._health() is not None, READY_SECONDS)

    def start_scheduling(self) -> None:
        """The scheduler, the dag-processor and the triggerer, until all three say that they are well."""
        for component in ("scheduler", "dag-processor", "triggerer"):
            self._start(component, component)
        self.processes.wait_for("Airflow", self._is_well, READY_SECONDS)

    def start_again(self, *components: str) -> None:
        """Those that were killed or have died, until all say that they are well."""
        for component in components:
            self._start(component, component)
        self.processes.wait_for("Airflow", self._is_well, READY_SECONDS)

    def dag_ids(self) -> list[str]:
        """Those of our DAGs that are there."""
        with self._client() as client:
            return [dag for dag in DAG_IDS if client.get(f"/dags/{dag}").status_code == httpx.codes.OK]

    def unpause(self, dag_id: str) -> None:
        self._set_paused(dag_id, False)

    def pause(self, dag_id: str) -> None:
        """As the switch in Airflow's own pages does: it holds when this returns."""
        self._set_paused(dag_id, True)

    def _set_paused(self, dag_id: str, is_paused: bool) -> None:
        with self._client() as client:
            client.patch(f"/dags/{dag_id}", json={"is_paused": is_paused}).raise_for_status()

    def runs(self, dag_id: str = CYCLE) -> list[Run]:
        """The newest runs of a DAG, newest first."""
        with self._client() as client:
            answer = client.get(f"/dags/{dag_id}/dagRuns", params={"order_by": "-id", "limit": 20})
            return [run_of(row) for row in answer.raise_for_status().json()["dag_runs"]]

    def trigger(self, dag_id: str = CYCLE, **parameters: Any) -> Run:
        """A run by hand without a logical date, with the DAG's `parameters`."""
        with self._client() as client:
            answer = client.post(f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": parameters})
            return run_of(answer.raise_for_status().json())

    def first_run(self, known: set[str]) -> Run:
        """The first run that is not among `known`: the scheduler's, or, when it makes none, one by hand."""
        deadline = time.monotonic() + FIRST_RUN_SECONDS
        while time.monotonic() < deadline:
            self.processes.check()
            fresh = [run for run in self.runs() if run.run_id not in known]
            if fresh:
                return fresh[-1]
            time.sleep(0.5)
        return self.trigger()

    def run(self, run_id: str, dag_id: str = CYCLE) -> Run:
        with self._client() as client:
            return run_of(client.get(f"/dags/{dag_id}/dagRuns/{run_id}").raise_for_status().json())

    def tasks(self, run_id: str, dag_id: str = CYCLE) -> list[TaskState]:
        """The run's tasks in the order in which they started, those that have not started last."""
        with self._client() as client:
            answer = client.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 100})
            return task_states(answer.raise_for_status().json()["task_instances"])

    def _do(self, name: str, *arguments: str) -> None:
        self.processes.do(name, [str(programs() / "airflow"), *arguments], self.environment, ROOT)

    def _start(self, name: str, *arguments: str) -> None:
        self.processes.start(name, [str(programs() / "airflow"), *arguments], self.environment, ROOT)

    def _health(self) -> dict[str, Any] | None:
        try:
            answer = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def _is_well(self) -> bool:
        health = self._health() or {}
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        # trust_env: a proxy of the environment is not for loopback.
        with httpx.Client(timeout=30, trust_env=False) as client:
            token = client.get(f"{self.url}/auth/token").raise_for_status().json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            client.base_url = httpx.URL(f"{self.url}/api/v2")
            yield client


def run_of(row: Mapping[str, Any]) -> Run:
    """A run from the API's row."""
    key = datetime.fromisoformat(row["logical_date"] or row["run_after"])
    return Run(row["dag_run_id"], row["state"], row["run_type"], key)


def task_states(rows: list[dict[str, Any]]) -> list[TaskState]:
    """The rows of task instances, those of a mapped task taken together."""
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["start_date"] is None, row["start_date"] or "", row["task_id"])):
        by_task[row["task_id"]].append(row)
    found = []
    for task_id, instances in by_task.items():
        states = [row["state"] or "none" for row in instances]
        worst = min(states, key=lambda state: WORST_FIRST.index(state) if state in WORST_FIRST else 0)
        starts = [datetime.fromisoformat(row["start_date"]) for row in instances if row["start_date"]]
        ends = [datetime.fromisoformat(row["end_date"]) for row in instances if row["end_date"]]
        seconds = (max(ends) - min(starts)).total_seconds() if starts and ends else None
        found.append(TaskState(task_id, worst, len(instances), seconds))
    return found
