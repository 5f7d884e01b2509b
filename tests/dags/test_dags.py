"""The DAG files load, hold the DAGs that they should, and are wired as their runbooks say."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).parents[2] / "dags"
EXPECTED = {"send_due_reminders", "reconcile_deliveries", "audit_ledger"}


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("airflow")
    patch.setenv("AIRFLOW_HOME", str(home))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home}/unused.db")
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(dag_folder=str(DAGS))
    patch.undo()


def test_the_expected_dags_load(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == EXPECTED


def test_the_cycle_goes_in_the_design_s_order(bag: Any) -> None:
    dag = bag.dags["send_due_reminders"]
    order = ["preflight", "extract_due", "merge_ledger", "triage", "plan_batches", "dispatch", "close_cycle"]
    assert [task.task_id for task in dag.topological_sort()] == order
    for earlier, later in pairwise(order):
        assert later in dag.get_task(earlier).downstream_task_ids


def test_a_hung_run_never_blocks_the_next(bag: Any) -> None:
    dag = bag.dags["send_due_reminders"]
    assert (dag.catchup, dag.max_active_runs, dag.dagrun_timeout) == (False, 1, timedelta(minutes=10))
    assert dag.get_task("dispatch").execution_timeout == timedelta(minutes=4)
    assert all(task.execution_timeout for task in dag.tasks)


def test_dispatch_is_never_retried_and_the_leaf_always_runs(bag: Any) -> None:
    dag = bag.dags["send_due_reminders"]
    assert dag.get_task("dispatch").retries == 0
    assert dag.get_task("close_cycle").trigger_rule == "all_done"
    assert [task.task_id for task in dag.leaves] == ["close_cycle"]
    assert [asset.name for asset in dag.get_task("close_cycle").outlets] == ["delivery_ledger"]


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_a_dag_file_is_wiring_under_a_runbook(path: Path) -> None:
    import ast

    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    loops = (ast.If, ast.For, ast.While, ast.Try, ast.With)
    assert not [node for node in ast.walk(tree) if isinstance(node, loops)]


def test_every_task_is_in_the_runbook(bag: Any) -> None:
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert f"`{task.task_id}`" in dag.doc_md
