"""Starting and ending real processes: all that was started goes, nothing else does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.processes import Group, ProcessDied, Processes, Stopped, end_groups, members

SLEEPER = "import time; time.sleep(60)"
# A child in a session of its own, whose number it prints; the parent may ignore SIGTERM.
PARENT = """
import signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session="away" in sys.argv)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path / "logs", tmp_path / "record.json")
    yield started
    started.is_stopping = lambda: False
    started.stop(grace_seconds=1)


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(processes: Processes, name: str, code: str, *arguments: str) -> int:
    processes.start(name, [sys.executable, "-c", code, *arguments], os.environ, Path.cwd())
    return processes.running[name].pid


def child_of(processes: Processes, name: str) -> int:
    log = processes.folder / f"{name}.log"
    until(lambda: log.read_text().strip())
    return int(log.read_text())


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("arguments", [(), ("away",), ("deaf",), ("deaf", "away")], ids=lambda given: "-".join(given))
def test_a_stop_ends_the_started_and_their_children(processes: Processes, arguments: tuple[str, ...]) -> None:
    parent = start(processes, "parent", PARENT, *arguments)
    child = child_of(processes, "parent")
    processes.stop(grace_seconds=1)
    assert not is_alive(parent)
    assert not is_alive(child)


def test_a_stop_leaves_others_alone(processes: Processes, tmp_path: Path) -> None:
    others = Processes(tmp_path / "others", tmp_path / "others.json")
    other = start(others, "other", SLEEPER)
    try:
        start(processes, "ours", SLEEPER)
        processes.stop(grace_seconds=1)
        assert is_alive(other)
    finally:
        others.stop(grace_seconds=1)


def test_workers_that_outlive_their_parent_are_ended_by_the_next_run(processes: Processes) -> None:
    parent = start(processes, "parent", PARENT)
    child = child_of(processes, "parent")
    processes.running["parent"].kill()
    processes.running["parent"].wait()
    assert is_alive(child)
    following = Processes(processes.folder, processes.record)
    assert following.end_leftovers() == 1
    assert not is_alive(child)
    assert not is_alive(parent)
    assert following.end_leftovers() == 0


def test_a_number_that_somebody_else_has_by_now_is_left_alone(processes: Processes) -> None:
    pid = start(processes, "ours", SLEEPER)
    later = Group(pid, psutil.Process(pid).create_time() + 60)
    assert members([later]) == []
    assert end_groups([later], 0.1) == 0
    assert is_alive(pid)


def test_a_part_that_dies_is_named_with_the_end_of_its_log(processes: Processes) -> None:
    start(processes, "calm", SLEEPER)
    start(processes, "scheduler", "print('no database'); raise SystemExit(7)")
    processes.running["scheduler"].wait()
    with pytest.raises(ProcessDied, match=r"(?s)scheduler died with exit status 7.*scheduler\.log.*no database"):
        processes.check()


def test_a_step_that_fails_says_so(processes: Processes) -> None:
    with pytest.raises(ProcessDied, match=r"(?s)migrate failed with exit status 3.*wrong"):
        processes.do("migrate", [sys.executable, "-c", "print('wrong'); raise SystemExit(3)"], os.environ, Path.cwd())
    assert processes.running == {}


def test_a_step_that_hangs_is_ended(processes: Processes) -> None:
    with pytest.raises(ProcessDied, match="slow did not end in 0 s"):
        processes.do("slow", [sys.executable, "-c", SLEEPER], os.environ, Path.cwd(), seconds=0.2)
    assert processes.running == {}


def test_a_stop_that_was_asked_for_ends_a_wait(processes: Processes) -> None:
    processes.is_stopping = lambda: True
    with pytest.raises(Stopped):
        processes.do("slow", [sys.executable, "-c", SLEEPER], os.environ, Path.cwd())
    with pytest.raises(Stopped):
        processes.wait_for("nothing", lambda: False, 60)
    assert processes.running == {}


def test_a_ctrl_c_at_the_terminal_does_not_reach_the_parts(processes: Processes) -> None:
    pid = start(processes, "part", SLEEPER)
    assert os.getsid(pid) == os.getpgid(pid) == pid
