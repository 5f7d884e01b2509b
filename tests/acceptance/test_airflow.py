"""Real Airflow processes run cycles; the phone network's own log says who was contacted, and how often.

The tests stand in the order in which they act: each begins with what the one before has left.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.conftest import CANARY, Deployment

pytestmark = pytest.mark.acceptance

HOUR = timedelta(hours=1)
PHONES = {"text": "+442079460118", "call": "+442079460219", "later": "+442079460320"}


def reached(deployment: Deployment) -> Counter[tuple[str, str]]:
    """(channel, address) -> how often it was reached."""
    return Counter((event["channel"], event["to"]) for event in deployment.network.log())


EXPECTED = Counter(
    {
        ("email", "canary.mail@example.com"): 1,
        ("sms", PHONES["text"]): 1,
        ("call", PHONES["call"]): 1,
    }
)


def test_a_cycle_emails_texts_and_calls_once(deployment: Deployment) -> None:
    deployment.book("mail", "clinic", 40 * HOUR, email="canary.mail@example.com")
    deployment.book("text", "clinic", 23 * HOUR, phone=PHONES["text"])
    deployment.book("call", "calls-only", 3.5 * HOUR, phone=PHONES["call"])
    for dag_id in deployment.airflow.dag_ids():
        deployment.airflow.unpause(dag_id)
    run = deployment.by_hand()
    assert run.state == "success", deployment.airflow.tasks(run.run_id)
    assert reached(deployment) == EXPECTED


def test_run_again_by_hand_nobody_is_contacted_twice(deployment: Deployment) -> None:
    assert deployment.by_hand().state == "success"
    assert reached(deployment) == EXPECTED


def test_cleared_nobody_is_contacted_twice(deployment: Deployment) -> None:
    runs = deployment.airflow.runs()
    deployment.command("tasks", "clear", "--yes", "send_due_reminders")
    for run in runs:
        assert deployment.ended(run).state == "success"
    assert reached(deployment) == EXPECTED


def test_paused_and_resumed_what_is_due_goes_once(deployment: Deployment) -> None:
    deployment.command("dags", "pause", "--yes", "send_due_reminders")
    deployment.book("later", "clinic", 22 * HOUR, phone=PHONES["later"])
    deployment.airflow.unpause("send_due_reminders")
    assert deployment.by_hand().state == "success"
    assert reached(deployment) == EXPECTED + Counter({("sms", PHONES["later"]): 1})


def test_an_hour_of_last_week_backfilled_sends_nothing(deployment: Deployment) -> None:
    before = reached(deployment)
    known = {run.run_id for run in deployment.airflow.runs()}
    start = (datetime.now(UTC) - timedelta(days=7)).replace(minute=0, second=0, microsecond=0)
    deployment.command(
        "backfill", "create", "--dag-id", "send_due_reminders", "--max-active-runs", "2",
        "--from-date", start.isoformat(), "--to-date", (start + 15 * timedelta(minutes=1)).isoformat(),
    )  # fmt: skip
    fresh = [run for run in deployment.airflow.runs() if run.run_id not in known and run.run_type == "backfill"]
    assert len(fresh) >= 3
    assert [deployment.ended(run).state for run in fresh] == ["success"] * len(fresh)
    assert reached(deployment) == before
    kinds = dict(deployment.ledger("SELECT run_kind, count(*) FROM reminders.cycle GROUP BY run_kind"))
    assert kinds["backfill"] == len(fresh)


def test_without_the_booking_database_the_run_is_red_and_says_why(deployment: Deployment) -> None:
    with deployment.without_book():
        run = deployment.by_hand()
        assert run.state == "failed"
        states = {task.task_id: task.state for task in deployment.airflow.tasks(run.run_id)}
        assert (states["preflight"], states["extract_due"], states["close_cycle"]) == ("success", "failed", "failed")
    assert deployment.by_hand().state == "success", "the next one recovers by itself"


def test_no_personal_data_in_airflow(deployment: Deployment) -> None:
    """The canaries went through the book, the ledger and the network; Airflow has none of them."""
    assert any(CANARY in str(event) for event in deployment.network.log()), "the canary sang"
    secrets = [CANARY, "canary.mail", *PHONES.values(), *(phone.removeprefix("+") for phone in PHONES.values())]
    found = []
    for path in deployment.folder.rglob("*"):
        if path.is_file() and ("logs" in path.parts) and path.suffix == ".log":
            text = path.read_text(errors="replace")
            found += [(path.name, secret) for secret in secrets if secret in text]
    assert found == []
    dump = subprocess.run(
        [str(deployment.server.programs / "pg_dump"), deployment.server.conninfo("airflow")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "send_due_reminders" in dump
    assert [secret for secret in secrets if secret in dump] == []
