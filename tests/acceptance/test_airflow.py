"""Real Airflow processes run cycles; the phone network's own log says who was contacted, and how often.

The tests stand in the order in which they act: each begins with what the one before has left.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from local.airflow import Run
from tests.acceptance.conftest import CANARY, Deployment

pytestmark = pytest.mark.acceptance

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
PACE = 6


def phone(number: int) -> str:
    """A number that nobody can have: https://www.ofcom.org.uk/phones-and-broadband/phone-numbers/numbers-for-drama/"""
    return f"+442079460{number:03d}"


TEXT, CALL, LATER, LEDGER, NETWORK, TOKEN, HUNG, DEAD, ORPHAN, MARK = (phone(100 + n) for n in range(10))
OVERDUE, FRESH = phone(110), phone(111)
WAITING = [phone(200 + n) for n in range(PACE + 2)]
# At ten texts a second they take eight seconds.
MANY = [phone(400 + n) for n in range(80)]


def reached(deployment: Deployment) -> Counter[tuple[str, str]]:
    """(channel, address) -> how often it was reached."""
    return Counter((event["channel"], event["to"]) for event in deployment.network.log())


def was_reached_once(deployment: Deployment, *addresses: tuple[str, str]) -> bool:
    """Whether these were reached, and nobody in all the log more than once."""
    found = reached(deployment)
    return set(found.values()) == {1} and set(addresses) <= set(found)


def fresh_runs(deployment: Deployment, known: set[str], run_type: str) -> list[Run]:
    return [run for run in deployment.airflow.runs() if run.run_id not in known and run.run_type == run_type]


EXPECTED = Counter({("email", "canary.mail@example.com"): 1, ("sms", TEXT): 1, ("call", CALL): 1})


def test_a_cycle_emails_texts_and_calls_once(deployment: Deployment) -> None:
    deployment.book("mail", "clinic", 40 * HOUR, email="canary.mail@example.com")
    deployment.book("text", "clinic", 23 * HOUR, phone=TEXT)
    deployment.book("call", "calls-only", 3.5 * HOUR, phone=CALL)
    for dag_id in ("send_due_reminders", "reconcile_deliveries"):
        deployment.airflow.unpause(dag_id)
    run = deployment.by_hand()
    assert run.state == "success", deployment.airflow.tasks(run.run_id)
    assert reached(deployment) == EXPECTED


def test_the_audit_finds_nothing_to_hold(deployment: Deployment) -> None:
    deployment.airflow.unpause("audit_ledger")
    assert deployment.by_hand("audit_ledger").state == "success"
    deployment.airflow.pause("audit_ledger")


def test_run_again_by_hand_nobody_is_contacted_twice(deployment: Deployment) -> None:
    assert deployment.by_hand().state == "success"
    assert reached(deployment) == EXPECTED


def test_cleared_nobody_is_contacted_twice(deployment: Deployment) -> None:
    runs = deployment.airflow.runs()
    deployment.command("tasks", "clear", "--yes", "send_due_reminders")
    for run in runs:
        assert deployment.ended(run).state == "success"
    assert reached(deployment) == EXPECTED


def test_paused_for_forty_minutes_and_resumed_the_scheduler_catches_up_once(deployment: Deployment) -> None:
    """Eight calls of one account came due meanwhile: they go at its pace, however many runs follow each other."""
    deployment.pause()
    deployment.let_pass(40)
    deployment.book("later", "clinic", 24 * HOUR - 20 * MINUTE, phone=LATER)
    for number, waiting in enumerate(WAITING):
        deployment.book(f"waiting-{number}", "calls-only", 4 * HOUR - (35 - number) * MINUTE, phone=waiting)
    known, resumed_at = {run.run_id for run in deployment.airflow.runs()}, datetime.now(UTC)
    deployment.airflow.unpause("send_due_reminders")

    def has_caught_up() -> bool:
        # Asked before the runs are: a run may be made in between.
        awaited = "SELECT next_dagrun_create_after > now() FROM dag WHERE dag_id = 'send_due_reminders'"
        is_waiting = deployment.query("airflow", awaited) == [(True,)]
        fired = fresh_runs(deployment, known, "scheduled")
        return is_waiting and bool(fired) and all(run.has_ended for run in fired)

    deployment.wait_for("the scheduler's own run", has_caught_up)
    fired = [run for run in fresh_runs(deployment, known, "scheduled") if run.key <= resumed_at]
    assert 1 <= len(fired) <= 2, fired
    assert {run.state for run in (*fired, deployment.by_hand())} == {"success"}
    assert was_reached_once(deployment, ("sms", LATER))
    assert [("call", number) in reached(deployment) for number in WAITING] == [True] * PACE + [False] * 2


def test_paused_for_ninety_minutes_what_is_overdue_waits_for_a_person(deployment: Deployment) -> None:
    """A rehearsal says so before anything is sent; what is fresh goes, and the rest when it is released."""
    deployment.pause()
    deployment.let_pass(90)
    deployment.book("overdue", "clinic", 24 * HOUR - 80 * MINUTE, phone=OVERDUE)
    deployment.book("fresh", "clinic", 24 * HOUR - 2 * MINUTE, phone=FRESH)
    known = {run.run_id for run in deployment.airflow.runs()}
    rehearsal = deployment.airflow.trigger(rehearse=True)
    deployment.airflow.unpause("send_due_reminders")
    assert deployment.ended(rehearsal).state == "success"
    states = deployment.states(rehearsal)
    assert (states.pop("preflight"), set(states.values())) == ("success", {"skipped"})
    assert "Nothing was sent or changed." in deployment.logs(rehearsal)
    for run in fresh_runs(deployment, known, "scheduled"):
        assert deployment.ended(run).state == "success"
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, ("sms", FRESH))
    assert ("sms", OVERDUE) not in reached(deployment)
    held = deployment.query("ledger", "SELECT scope_value, why FROM reminders.hold WHERE released_at IS NULL")
    assert "no good cycle since" in dict(held)["clinic 2 to 6 hours"]
    deployment.release_all()
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, ("sms", OVERDUE))


def test_an_hour_of_last_week_backfilled_fills_the_ledger_and_sends_nothing(deployment: Deployment) -> None:
    before = reached(deployment)
    known = {run.run_id for run in deployment.airflow.runs()}
    start = (datetime.now(UTC) - timedelta(days=7)).replace(minute=0, second=0, microsecond=0)
    deployment.book(
        "last-week", "clinic", start + 3 * HOUR - datetime.now(UTC), phone=phone(300), email="canary.week@example.com"
    )
    deployment.command(
        "backfill", "create", "--dag-id", "send_due_reminders", "--max-active-runs", "2",
        "--from-date", start.isoformat(), "--to-date", (start + 55 * MINUTE).isoformat(),
    )  # fmt: skip
    fresh = fresh_runs(deployment, known, "backfill")
    assert len(fresh) == 12
    assert [deployment.ended(run).state for run in fresh] == ["success"] * 12
    history = deployment.query(
        "ledger", "SELECT step, state, reason, logical_date FROM reminders.reminder WHERE appointment_id = 'last-week'"
    )
    assert {row[0]: row[1:3] for row in history} == dict.fromkeys((1, 2, 3), ("expired", "started"))
    assert {row[3] for row in history} <= {run.key for run in fresh}
    assert deployment.query(
        "ledger", "SELECT run_kind, count(*) FROM reminders.cycle GROUP BY 1 HAVING run_kind = 'backfill'"
    ) == [("backfill", 12)]
    assert not [to for _, to in reached(deployment) - before if to in (phone(300), "canary.week@example.com")]


def test_without_the_booking_database_the_run_is_red_and_says_why(deployment: Deployment) -> None:
    with deployment.without_book():
        run = deployment.by_hand()
        assert run.state == "failed"
        states = deployment.states(run)
        assert (states["preflight"], states["extract_due"], states["close_cycle"]) == ("success", "failed", "failed")
    assert deployment.by_hand().state == "success", "the next one recovers by itself"


def test_without_the_ledger_nothing_is_sent_and_the_next_cycle_catches_up(deployment: Deployment) -> None:
    with deployment.without_ledger():
        deployment.book("ledger", "clinic", 23 * HOUR, phone=LEDGER)
        run = deployment.by_hand()
        assert (run.state, deployment.states(run)["preflight"]) == ("failed", "failed")
        assert "ledger_db does not answer" in deployment.logs(run)
        assert ("sms", LEDGER) not in reached(deployment)
    assert deployment.by_hand().state == "success", "the next one recovers by itself"
    assert was_reached_once(deployment, ("sms", LEDGER))


def test_without_the_network_what_is_due_waits_and_goes_once(deployment: Deployment) -> None:
    with deployment.without_network():
        deployment.book("network", "clinic", 23 * HOUR, phone=NETWORK)
        deployment.book("relay", "clinic", 40 * HOUR, email="canary.relay@example.com")
        deployment.by_hand()
        waiting = "SELECT channel FROM reminders.reminder WHERE state = 'pending' AND deferred_for = '{}' ORDER BY 1"
        patience = "wait_until_not_before"
        assert deployment.query("ledger", waiting.format(patience)) == [("email",), ("sms",)]
    deployment.change(
        "ledger", f"UPDATE reminders.reminder SET not_before_at = now() WHERE deferred_for = '{patience}'"
    )
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, ("sms", NETWORK), ("email", "canary.relay@example.com"))


def test_a_login_that_the_provider_refuses_holds_the_channel_until_a_person_releases_it(deployment: Deployment) -> None:
    with deployment.with_another_token():
        deployment.book("token", "clinic", 23 * HOUR, phone=TOKEN)
        deployment.by_hand()
        assert deployment.query("ledger", "SELECT scope_value, why FROM reminders.hold WHERE released_at IS NULL") == [
            ("sms", "the provider refused our configuration: 20003")
        ]
    assert deployment.by_hand().state == "success"
    assert ("sms", TOKEN) not in reached(deployment), "the provider's yes is no release"
    deployment.release_all()
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, ("sms", TOKEN))


def test_a_hung_cycle_is_ended_and_the_next_one_goes(deployment: Deployment) -> None:
    deployment.network.fault("call", "accept_then_hang", to=HUNG)
    deployment.book("hung", "calls-too", 2 * HOUR, phone=HUNG)
    hung = run_that_hangs_at(deployment, HUNG)
    deployment.change(
        "airflow", f"UPDATE dag_run SET start_date = start_date - interval '11 minutes' WHERE run_id = '{hung.run_id}'"
    )
    assert deployment.by_hand().state == "success"
    assert deployment.ended(hung).state == "failed"
    assert was_reached_once(deployment, ("call", HUNG))


def test_what_a_killed_worker_left_is_adopted_by_the_next_cycle(deployment: Deployment) -> None:
    deployment.network.fault("call", "accept_then_hang", to=DEAD)
    deployment.pause()
    deployment.book("dead", "calls-too", 2 * HOUR, phone=DEAD)
    deployment.book("orphan", "calls-too", 3 * HOUR, phone=ORPHAN)
    deployment.airflow.unpause("send_due_reminders")
    run = run_that_hangs_at(deployment, DEAD)
    worker_at(deployment, deployment.network.http_port).kill()
    assert ("call", ORPHAN) not in reached(deployment)
    assert deployment.ended(run).state == "failed"
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, ("call", DEAD), ("call", ORPHAN))


def run_that_hangs_at(deployment: Deployment, number: str) -> Run:
    """The run that waits for the answer to a call to this number: one by hand, or the scheduler's own."""
    deployment.airflow.trigger()
    deployment.wait_for("the call that hangs", lambda: ("call", number) in reached(deployment))
    [run] = [run for run in deployment.airflow.runs() if run.state == "running"]
    return run


def test_a_pause_stops_a_running_dispatch_and_the_rest_goes_once_it_is_resumed(deployment: Deployment) -> None:
    for number in MANY:
        deployment.book(f"many-{number}", "clinic", 24 * HOUR - 5 * MINUTE, phone=number)
    deployment.airflow.unpause("send_due_reminders")
    deployment.airflow.trigger()
    deployment.wait_for("the first texts", lambda: len(arrivals(deployment, MANY)) >= 5)
    deployment.airflow.pause("send_due_reminders")
    paused_at = datetime.now(UTC)
    [run] = [run for run in deployment.airflow.runs() if run.state == "running"]
    deployment.wait_for("its end", lambda: deployment.states(run)["dispatch"] not in ("queued", "running"))
    arrived = arrivals(deployment, MANY)
    assert max(arrived.values()) <= paused_at + 5 * SECOND
    assert len(arrived) < len(MANY) - 10
    assert "contacts left for the next cycle" in deployment.logs(run)
    deployment.airflow.unpause("send_due_reminders")
    assert deployment.ended(run).state == "success"
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, *(("sms", number) for number in MANY))


def arrivals(deployment: Deployment, numbers: list[str]) -> dict[str, datetime]:
    """When each of these numbers that was reached was reached last, by the network's log."""
    events = [event for event in deployment.network.log() if event["to"] in numbers]
    return {event["to"]: datetime.fromisoformat(event["time"]) for event in events}


def worker_at(deployment: Deployment, port: int) -> psutil.Process:
    """The process among Airflow's that waits for an answer of this port."""
    ours = [psutil.Process(group.pid) for group in deployment.airflow.processes.groups.values()]
    for process in [child for parent in ours for child in parent.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            remote = [connection.raddr.port for connection in process.net_connections("tcp") if connection.raddr]
            if port in remote:
                return process
    raise AssertionError("no task waits for the network")


def test_without_its_mark_all_is_held_until_the_provider_was_asked_and_a_person_says_so(deployment: Deployment) -> None:
    deployment.pause()
    deployment.change("airflow", "DELETE FROM variable WHERE key = 'reminders_mark'")
    deployment.book("mark", "clinic", 23 * HOUR, phone=MARK)
    deployment.airflow.unpause("send_due_reminders")
    run = deployment.by_hand()
    assert run.state == "success"
    assert "everything is held until the provider's list has been read" in deployment.logs(run)
    assert ("sms", MARK) not in reached(deployment)
    with pytest.raises(psycopg.errors.CheckViolation, match="provider's list"):
        deployment.release_all()
    deployment.change("ledger", "UPDATE reminders.recovery SET begun_at = begun_at - interval '11 minutes'")
    assert deployment.by_hand("reconcile_deliveries").state == "success"
    assert deployment.by_hand().state == "success"
    deployment.release_all()
    assert deployment.by_hand().state == "success"
    assert was_reached_once(deployment, ("sms", MARK))


def test_no_personal_data_and_no_secret_in_airflow(deployment: Deployment) -> None:
    """The canaries went through the book, the ledger and the network; Airflow has none of them."""
    assert any(CANARY in str(event) for event in deployment.network.log()), "the canary sang"
    numbers = {to.removeprefix("+") for channel, to in reached(deployment) if channel != "email"}
    hidden = [CANARY, "canary.", *numbers]
    logs = deployment.logs()
    assert [secret for secret in (*hidden, *deployment.secrets) if secret in logs] == []
    dump = subprocess.run(
        [str(deployment.server.programs / "pg_dump"), deployment.server.conninfo("airflow")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "send_due_reminders" in dump
    assert [secret for secret in hidden if secret in dump] == []
