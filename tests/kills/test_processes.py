"""Real Airflow processes are killed and stopped in the middle of a dispatch, and PostgreSQL with them.

The tests stand in the order in which they act: each begins with what the one before has left.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import psutil  # type: ignore[import-untyped]
import pytest

from local.airflow import CYCLE, Run
from local.environment import ROOT, programs
from local.ports import Ports
from reminders.model import Channel
from tests.acceptance.conftest import deployed
from tests.kills.paths import Path, Paths
from tests.kills.street import Street, is_alive, stopped

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("processes")]

# A machine that does other things too.
PATIENCE = 600.0
# Cycles follow each other within a minute here, and the pace is one of five minutes.
NO_PACE = "UPDATE reminders.account_policy SET call_pace = 1000"
# As after the time in which Airflow gives up a task that it hears nothing of, or a scheduler.
NO_HEARTBEAT = """
UPDATE task_instance SET last_heartbeat_at = last_heartbeat_at - interval '10 minutes'
WHERE task_id = 'dispatch' AND state = 'running'"""
NO_SCHEDULER = """
UPDATE job SET latest_heartbeat = latest_heartbeat - interval '10 minutes'
WHERE job_type = 'SchedulerJob' AND state = 'running'"""
TRIES = "SELECT max(try_number) FROM task_instance WHERE task_id = 'dispatch' AND run_id = '{run_id}'"
IN_A_TRANSACTION = """
SELECT client_port FROM pg_stat_activity WHERE datname = 'airflow' AND state <> 'idle'"""
QUEUED_BY = """
SELECT DISTINCT queued_by_job_id FROM task_instance WHERE run_id IN ({ids}) AND queued_by_job_id IS NOT NULL"""
LEASE_IS_OVER = "SELECT bool_and(deadline_at < now()) FROM reminders.attempt WHERE state = 'sending'"


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with deployed(fsync=True) as deployment:
        deployment.patience = PATIENCE
        deployment.change("ledger", NO_PACE)
        for dag_id in (CYCLE, "reconcile_deliveries"):
            deployment.airflow.unpause(dag_id)
        yield Street(deployment)


def test_a_task_killed_in_its_intent_has_contacted_nobody_and_all_go_in_the_next_cycle(
    street: Street, paths: Paths
) -> None:
    due = street.book(Channel.CALL, 2)
    with street.in_its_intent() as task:
        run = street.running()
        task.kill()
        street.gone(task)
    assert street.ended(run).state == "failed"
    paths.reached(Path.KILLED_IN_INTENT, int(street.attempts(due).total() == 0))
    street.back_to_normal(Channel.CALL)
    assert street.times(due) == [1, 1]
    street.judge()


def test_a_task_killed_between_its_intent_and_the_socket_has_contacted_nobody_and_nobody_tries_again(
    street: Street, paths: Paths
) -> None:
    due = street.book(Channel.CALL, 2)
    with street.before_the_socket() as task:
        run = street.running()
        task.kill()
        street.gone(task)
    assert street.ended(run).state == "failed"
    paths.reached(Path.KILLED_BEFORE_SOCKET, street.attempts(due)["sending"])
    street.back_to_normal(Channel.CALL)
    # The one is on a person's list, the other went in the next cycle.
    assert sorted(street.times(due)) == [0, 1]
    street.judge()


def test_a_task_killed_after_the_provider_accepted_calls_nobody_again(street: Street, paths: Paths) -> None:
    due = street.book(Channel.CALL, 2)
    for each in due:
        street.deployment.network.fault("call", "accept_then_hang", to=each.address)
    street.deployment.airflow.trigger()
    street.deployment.wait_for("a call without an answer", lambda: sum(street.times(due)) > 0)
    run, task = street.running(), street.calling()
    task.kill()
    assert street.ended(run).state == "failed"
    paths.reached(Path.KILLED_BEFORE_ANSWER, street.attempts(due)["sending"])
    # The second's answer is not worth waiting for either.
    street.back_to_normal(Channel.SMS)
    assert street.times(due) == [1, 1]
    street.judge()


def test_a_task_killed_in_its_record_texts_nobody_again(street: Street, paths: Paths) -> None:
    due = street.book(Channel.SMS, 3)
    with street.in_its_record() as task:
        run = street.running()
        task.kill()
        street.gone(task)
    assert street.ended(run).state == "failed"
    paths.reached(Path.KILLED_IN_RECORD, street.attempts(due)["sending"])
    street.back_to_normal(Channel.SMS)
    assert street.times(due) == [1, 1, 1]
    street.judge()


def test_a_task_killed_while_its_request_waits_at_the_provider_texts_nobody_again(street: Street, paths: Paths) -> None:
    due = street.book(Channel.SMS, 3)
    with street.at_the_provider() as task:
        task.kill()
        street.gone(task)
        run = street.running()
    assert street.ended(run).state == "failed"
    killed = [each for each in due if street.attempts([each])["sending"]]
    street.deployment.wait_for("the provider to act", lambda: sum(street.times(killed)) > 0)
    paths.reached(Path.KILLED_BEFORE_ACCEPTED, sum(street.times(killed)))
    street.back_to_normal(Channel.SMS)
    street.judge()


def test_a_task_whose_supervisor_is_killed_records_its_calls_and_stops_within_seconds(
    street: Street, paths: Paths
) -> None:
    due = street.book(Channel.CALL, 10)
    with street.in_its_record() as task:
        run = street.running()
        task.parent().kill()
    street.gone(task)
    made = street.attempts(due)
    assert made["sending"] == 0
    paths.reached(Path.ORPHAN_STOPPED, int(0 < made.total() < len(due)))
    street.deployment.change("airflow", NO_HEARTBEAT)
    assert street.ended(run).state == "failed"
    street.back_to_normal(Channel.CALL)
    assert street.times(due) == [1] * len(due)
    street.judge()


def test_a_dispatch_that_runs_twice_at_once_after_its_scheduler_was_killed_calls_nobody_twice(
    street: Street, paths: Paths
) -> None:
    due = street.book(Channel.CALL, 4)
    airflow = street.deployment.airflow
    with ExitStack() as until_released:
        task = until_released.enter_context(street.in_its_record())
        run = street.running()
        kill_scheduler_when_it_is_idle(street)
        street.deployment.change("airflow", NO_SCHEDULER)
        # What would end the task as soon as the new scheduler starts another.
        with stopped(task.parent()):
            airflow.start_again("scheduler")
            street.deployment.wait_for("the other's calls", lambda: sum(street.times(due)) > 1)
            paths.reached(Path.DISPATCHED_TWICE_AT_ONCE, int(is_alive(task)))
            until_released.close()
            street.deployment.wait_for("the first's record", lambda: street.attempts(due)["sending"] == 0)
    street.ended(run)
    [(tries,)] = street.deployment.query("airflow", TRIES.format(run_id=run.run_id))
    assert tries == 2, "a dispatch that is not to be tried again was"
    street.back_to_normal(Channel.CALL)
    assert street.times(due) == [1, 1, 1, 1]
    street.judge()


def kill_scheduler_when_it_is_idle(street: Street, name: str = "scheduler") -> None:
    """SIGKILL to a scheduler alone, at a moment when it holds no lock in its database.

    Its workers inherit its connections, so that a lock which it held would stay, and stop the run, until they end.
    """
    processes = street.deployment.airflow.processes
    scheduler = psutil.Process(processes.running[name].pid)

    def was_idle() -> bool:
        scheduler.send_signal(signal.SIGSTOP)
        busy = {port for (port,) in street.deployment.query("postgres", IN_A_TRANSACTION)}
        if busy.isdisjoint(each.laddr.port for each in scheduler.net_connections("tcp")):
            processes.kill(name)
            return True
        scheduler.send_signal(signal.SIGCONT)
        return False

    street.deployment.wait_for("a moment between two transactions", was_idle)


def test_without_the_api_server_a_task_records_its_call_and_stops_within_seconds(street: Street, paths: Paths) -> None:
    due = street.book(Channel.CALL, 6)
    airflow = street.deployment.airflow
    with street.at_the_provider() as task:
        run = street.running()
        airflow.processes.kill("api-server")
    street.gone(task)
    made = street.attempts(due)
    assert made["sending"] == 0
    paths.reached(Path.STOPPED_WITHOUT_API, int(0 < made.total() < len(due)))
    airflow.start_again("api-server")
    assert street.ended(run).state == "failed"
    street.back_to_normal(Channel.CALL)
    assert street.times(due) == [1] * len(due)
    street.judge()


def test_a_task_that_stood_still_past_its_lease_before_the_socket_contacts_nobody_when_it_wakes(
    street: Street, paths: Paths
) -> None:
    due = street.book(Channel.CALL, 2)
    with street.stood_still(street.before_the_socket()) as task:
        assert sorted(street.times(due)) == [0, 1], "the cycle meanwhile has the one who was not yet on his way"
        street.deployment.wait_for("the end of the lease", lambda: lease_is_over(street))
        assert street.deployment.by_hand("reconcile_deliveries").state == "success"
        paths.reached(Path.WOKE_PAST_LEASE, street.attempts(due)["in_doubt"])
    street.gone(task)
    assert sorted(street.times(due)) == [0, 1]
    street.back_to_normal(Channel.CALL)
    street.judge()


def test_a_task_that_stood_still_past_its_lease_records_what_the_provider_answered(
    street: Street, paths: Paths
) -> None:
    due = street.book(Channel.CALL, 2)
    with street.stood_still(street.at_the_provider()) as task:
        assert street.times(due) == [1, 1]
        street.settle()
        assert street.attempts(due)["in_doubt"] == 1
        # The task alone: its supervisor would end it.
        task.send_signal(signal.SIGCONT)
        street.deployment.wait_for("its record", lambda: street.attempts(due)["in_doubt"] == 0)
        paths.reached(Path.RECORDED_PAST_LEASE, 1)
        assert task.parent().status() == psutil.STATUS_STOPPED
    street.gone(task)
    street.back_to_normal(Channel.CALL)
    street.judge()


def lease_is_over(street: Street) -> bool:
    # Nothing is being sent any more once the two minutes' own run has closed it.
    return street.deployment.query("ledger", LEASE_IS_OVER) != [(False,)]


def test_postgres_stopped_at_once_keeps_the_intents_and_nobody_is_contacted_twice(street: Street, paths: Paths) -> None:
    due = street.book(Channel.SMS, 4)
    deployment = street.deployment
    with street.at_the_provider() as task:
        run = street.running()
        deployment.server.stop(at_once=True)
    # The provider acts, and its answer finds no ledger.
    street.gone(task)
    deployment.server.start()
    paths.reached(Path.INTENT_SURVIVED, street.attempts(due)["sending"])
    street.ended(run)
    street.back_to_normal(Channel.SMS)
    # Those whose requests were not at the provider yet are on a person's list.
    times = street.times(due)
    assert set(times) <= {0, 1}
    assert 1 in times
    street.judge()


def test_postgres_stopped_at_once_in_an_intent_has_contacted_nobody(street: Street, paths: Paths) -> None:
    due = street.book(Channel.EMAIL, 3)
    with street.in_its_intent() as task:
        run = street.running()
        street.deployment.server.stop(at_once=True)
        street.gone(task)
        street.deployment.server.start()
    paths.reached(Path.INTENT_ROLLED_BACK, int(street.attempts(due).total() == 0))
    street.ended(run)
    street.back_to_normal(Channel.EMAIL)
    assert street.times(due) == [1, 1, 1]
    street.judge()


def test_two_cycles_at_once_contact_nobody_twice(street: Street, paths: Paths) -> None:
    """One that somebody triggered, and one that somebody else runs in a shell."""
    due = street.book(Channel.CALL, 4)
    airflow = street.deployment.airflow
    with street.in_its_record():
        run = street.running()
        # The scheduler would take the tasks of the shell's run, and fail it, before it calls anybody.
        airflow.pause(CYCLE)
        try:
            other = street.in_a_shell("dags", "test", CYCLE)
            street.deployment.wait_for("the other's calls", lambda: sum(street.times(due)) > 1)
        finally:
            airflow.unpause(CYCLE)
    # Now it may take the last of them: how the shell's run ends says nothing.
    other.wait(PATIENCE)
    assert street.ended(run).state == "success"
    paths.reached(Path.PLANNED_TWICE, street.planned_twice(due))
    assert street.times(due) == [1, 1, 1, 1]
    street.back_to_normal(Channel.CALL)
    street.judge()


def test_two_schedulers_at_once_contact_nobody_twice(street: Street, paths: Paths) -> None:
    airflow = street.deployment.airflow
    with Ports() as ports:
        # Its workers' logs have a port.
        own = {**airflow.environment, "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports.take(28380))}
        airflow.processes.start("second scheduler", [str(programs() / "airflow"), "scheduler"], own, ROOT)
        due = [each for channel in Channel for each in street.book(channel, 4)]
        runs: list[Run] = []

        def have_both_worked() -> bool:
            runs.append(street.deployment.by_hand())
            return len(schedulers_of(street, runs)) > 1

        street.deployment.wait_for("a run of both schedulers", have_both_worked)
        paths.reached(Path.TWO_SCHEDULERS, len(schedulers_of(street, runs)) - 1)
        assert {run.state for run in runs} == {"success"}
        assert street.times(due) == [1] * len(due)
        kill_scheduler_when_it_is_idle(street, "second scheduler")
        street.deployment.change("airflow", NO_SCHEDULER)
        street.back_to_normal(Channel.SMS)
        street.judge()


def schedulers_of(street: Street, runs: list[Run]) -> set[int]:
    """Those that had tasks of these runs executed."""
    ids = ", ".join(f"'{run.run_id}'" for run in runs)
    return {job for (job,) in street.deployment.query("airflow", QUEUED_BY.format(ids=ids))}
