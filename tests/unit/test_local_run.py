"""`make run`: one at a time, what it makes of Airflow's and the simulator's answers, and what it says."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, Any, cast

import httpx
import pytest
from rich.console import Console

from local.airflow import Run, TaskState, run_of, task_states
from local.environment import Ports
from local.ports import Ports as Claims
from local.postgres import Server
from local.processes import ProcessDied
from local.report import Reached, Screen, UntilItIsGone, missing_channels, reached_of
from local.run import Runner, free_ports, handled, main, only_one

ROOT = Path(__file__).parents[2]
SUMMARY = {
    "total": 6,
    "by_channel": {"email": 1, "sms": 3, "call": 2},
    "numbers": {
        "+12125550100": {"calls": 1, "texts": 1},
        "+12125550101": {"calls": 1, "texts": 0},
        "+12125550102": {"calls": 0, "texts": 2},
    },
    "mailboxes": {"a@example.com": {"emails": 1}},
}
HOLD_THE_LOCK = """
import sys
from pathlib import Path
from local.run import only_one
with only_one(Path(sys.argv[1])) as lock:
    print("held" if lock else "refused", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"},
    )


def test_a_second_run_beside_a_running_one_says_so_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(tmp_path / "lock") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        assert main(tmp_path) == 1
        told = capsys.readouterr()
        assert f"running already (pid {first.pid})" in told.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]
        first.kill()


def test_the_lock_of_a_run_that_was_killed_is_free(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
        first.wait()
    with only_one(tmp_path / "lock") as lock:
        assert lock is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_of_these_signals_asks_for_a_stop(number: signal.Signals) -> None:
    asked: list[bool] = []
    before = signal.getsignal(number)
    with handled(lambda: asked.append(True)):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert len(asked) == 2
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("logical_date", "run_after", "key"),
    [
        ("2026-11-24T07:00:00Z", "2026-11-24T07:05:00Z", datetime(2026, 11, 24, 7, 0, tzinfo=UTC)),
        (None, "2026-11-24T07:05:01.250000Z", datetime(2026, 11, 24, 7, 5, 1, 250000, tzinfo=UTC)),
    ],
    ids=["scheduled", "by hand"],
)
def test_the_key_of_a_run(logical_date: str | None, run_after: str, key: datetime) -> None:
    row = {
        "dag_run_id": "r",
        "state": "running",
        "run_type": "x",
        "logical_date": logical_date,
        "run_after": run_after,
    }
    assert run_of(row).key == key
    assert not run_of(row).has_ended


def instance(task_id: str, state: str | None, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    day = "2026-11-24T07:00:"
    return {
        "task_id": task_id,
        "state": state,
        "start_date": start and f"{day}{start}Z",
        "end_date": end and f"{day}{end}Z",
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([instance("a", "success", "01", "03")], [TaskState("a", "success", 1, 2.0)]),
        ([instance("a", None)], [TaskState("a", "none", 1, None)]),
        (
            [instance("d", "success", "05", "09"), instance("d", "failed", "04", "08")],
            [TaskState("d", "failed", 2, 5.0)],
        ),
        (
            [instance("z", "upstream_failed"), instance("b", "success", "02", "03"), instance("a", "running", "04")],
            [
                TaskState("b", "success", 1, 1.0),
                TaskState("a", "running", 1, None),
                TaskState("z", "upstream_failed", 1, None),
            ],
        ),
    ],
    ids=["none", "one", "not started", "mapped", "in order"],
)
def test_the_states_of_a_runs_tasks(rows: list[dict[str, Any]], expected: list[TaskState]) -> None:
    assert task_states(rows) == expected


def test_what_the_simulators_log_says_of_who_was_reached() -> None:
    assert reached_of(SUMMARY) == Reached({"email": 1, "sms": 3, "call": 2}, {"email": 1, "sms": 2, "call": 2})


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        ((0, 0, 0), (1, 1, 1), []),
        ((0, 0, 0), (1, 0, 1), ["sms"]),
        ((5, 5, 5), (6, 6, 5), ["call"]),
        ((5, 5, 5), (5, 5, 5), ["email", "sms", "call"]),
    ],
)
def test_a_channel_on_which_nothing_arrived(
    before: tuple[int, ...], after: tuple[int, ...], missing: list[str]
) -> None:
    channels = ("email", "sms", "call")
    then, now = (Reached(dict(zip(channels, counts, strict=True)), {}) for counts in (before, after))
    assert missing_channels(then, now) == missing


@pytest.fixture
def shown() -> Screen:
    return Screen(Console(file=io.StringIO(), width=100, highlight=False))


def text_of(screen: Screen) -> str:
    file = screen.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_table_of_the_first_cycle(shown: Screen) -> None:
    run = Run("r", "success", "scheduled", datetime(2026, 11, 24, 7, 5, tzinfo=UTC))
    tasks = [TaskState("triage", "success", 1, 0.52), TaskState("dispatch", "success", 6, 16.2)]
    counts = [("email", "delivered", 29), ("email", "expired", 1), ("sms", "accepted", 33)]
    shown.first_cycle(run, tasks, counts, reached_of(SUMMARY))
    told = text_of(shown)
    for part in ("2026-11-24 07:05 UTC: success", "dispatch x 6", "16.2", "29 delivered, 1 expired", "33 accepted"):
        assert part in told
    assert "+1212" not in told


@pytest.mark.parametrize("fails", [False, True])
def test_a_stage_says_how_it_ended_and_how_long_it_took(shown: Screen, fails: bool) -> None:
    with pytest.raises(ValueError) if fails else shown.stage("Before"), shown.stage("PostgreSQL [18]") as stage:
        stage.note = "127.0.0.1:15432"
        if fails:
            raise ValueError
    line = text_of(shown).splitlines()[0]
    assert line.startswith("✗ PostgreSQL" if fails else "✓ PostgreSQL")
    assert line.endswith(" s")
    assert ("127.0.0.1:15432" in line) is not fails


class ClosedTerminal(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def isatty(self) -> bool:
        return True


def test_nobody_there_to_read_is_no_reason_to_fail() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        Screen(Console(file=ClosedTerminal())).say("somebody?")
    screen = Screen(Console(file=cast(IO[str], UntilItIsGone(ClosedTerminal()))))
    screen.say("Ctrl-C stops everything")
    with screen.stage("Stopping"):
        pass


@pytest.mark.parametrize(
    ("own", "named", "warned_of_sample"),
    [
        ({}, [], False),
        ({"AIRFLOW_CONN_TWILIO_DEFAULT": "{}"}, ["twilio_default"], True),
        ({"AIRFLOW_CONN_TWILIO_DEFAULT": "{}", "BOOK": "none"}, ["twilio_default"], False),
        ({"AIRFLOW_CONN_SMTP_DEFAULT": "{}", "AIRFLOW_CONN_BOOKING_DB": "postgres://x"}, ["smtp_default"], False),
        (
            {"AIRFLOW_CONN_TWILIO_DEFAULT": "{}", "AIRFLOW_CONN_SMTP_DEFAULT": "{}"},
            ["twilio_default and smtp_default"],
            True,
        ),
    ],
    ids=["simulator", "twilio", "twilio, empty book", "smtp, own book", "both"],
)
def test_a_real_provider_is_said_loudly(
    own: dict[str, str],
    named: list[str],
    warned_of_sample: bool,
    shown: Screen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("local.run.READING_SECONDS", 0.0)
    Runner(own, tmp_path, shown)._warn_of_real_providers()
    told = text_of(shown)
    assert ("REAL" in told) is bool(named)
    assert all(name in told for name in named)
    assert ("sample book" in told) is warned_of_sample


class Stranger(BaseHTTPRequestHandler):
    """Some other program's server."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def strangers() -> Iterator[Callable[[int], None]]:
    """Call it with a port to have a stranger listen there until the test's end."""
    with ExitStack() as every:

        def listen(port: int) -> None:
            server = every.enter_context(HTTPServer(("127.0.0.1", port), Stranger))
            Thread(target=server.serve_forever, daemon=True).start()
            every.callback(server.shutdown)

        yield listen


def starting_only_the_simulator(tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Runner:
    for step in ("_migrate", "_load_book", "_start_airflow"):
        monkeypatch.setattr(Runner, step, lambda _: None)
    monkeypatch.setattr(Server, "password", "pw")
    return Runner({**os.environ, "AIRFLOW_CONN_TWILIO_DEFAULT": ""}, tmp_path, screen)


def test_a_port_that_a_stranger_takes_after_it_was_chosen_is_replaced(
    tmp_path: Path, shown: Screen, monkeypatch: pytest.MonkeyPatch, strangers: Callable[[int], None]
) -> None:
    runner = starting_only_the_simulator(tmp_path, shown, monkeypatch)
    chosen: list[int] = []

    def taken_at_once(claims: Claims, postgres: int) -> Ports:
        ports = free_ports(claims, postgres)
        if not chosen:
            strangers(ports.simulator)
        chosen.append(ports.simulator)
        return ports

    monkeypatch.setattr("local.run.free_ports", taken_at_once)
    with ExitStack() as stack:
        stack.callback(runner.processes.stop)
        stack.callback(runner.claims.release)
        runner._start_parts()
        first, second = chosen
        assert second > first
        assert runner.simulator_url == f"http://127.0.0.1:{second}"
        assert httpx.get(f"{runner.simulator_url}/_health", trust_env=False).json()["status"] == "ok"
        assert f"taken port {first}" in text_of(shown)
        assert f":{second}" in (tmp_path / "env").read_text()


def test_a_part_that_dies_though_nobody_took_its_port_is_not_started_again(
    tmp_path: Path, shown: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = starting_only_the_simulator(tmp_path, shown, monkeypatch)
    starts: list[int] = []

    def fail(_: Runner) -> None:
        starts.append(1)
        raise ProcessDied("migrate failed")

    monkeypatch.setattr(Runner, "_migrate", fail)
    with pytest.raises(ProcessDied, match="migrate failed"):
        runner._start_parts()
    runner.claims.release()
    assert len(starts) == 1
