"""What `make run` starts, run as a person does: at a terminal, beside a second one, until Ctrl-C, and again.

The tests stand in the order in which they act: each begins with what the one before has left.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.simulator.client import Simulator

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
# What a shell does before it starts a program: the terminal is the program's own, so that its Ctrl-C is a signal.
AT_A_TERMINAL = """
import fcntl, sys, termios
from pathlib import Path
from local.run import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main(Path(sys.argv[1])))
"""
BESIDE = "import sys; from pathlib import Path; from local.run import main; sys.exit(main(Path(sys.argv[1])))"
IS_UP = "Ctrl-C stops everything"
UP_SECONDS, STOP_SECONDS = 400.0, 90.0


def environment() -> dict[str, str]:
    """Ours without what would change the run."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BOOK", "ONCE"))}
    return {**own, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "TERM": "xterm"}


class Terminal:
    """A terminal at which a run with its data in `folder` is the only program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = ""
        self._screen, inside = os.openpty()
        self._settings = termios.tcgetattr(self._screen)
        self.program = subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL, str(folder)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,
        )
        os.close(inside)

    def wait_for(self, text: str, seconds: float) -> None:
        """Read until the terminal has shown `text`; fails when the program ends or takes too long."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in {seconds:.0f} s:\n{self.shown}"
            assert self._read(), f"ended without {text!r}:\n{self.shown}"

    def ctrl_c(self) -> int:
        """Type Ctrl-C; the program's exit status."""
        os.write(self._screen, b"\x03")
        return self._until_the_end()

    def is_as_before(self) -> bool:
        """Whether the terminal's settings are those it had, and its cursor is shown."""
        settings = termios.tcgetattr(self._screen)
        return settings == self._settings and self.shown.rfind("\x1b[?25h") > self.shown.rfind("\x1b[?25l")

    def close(self) -> None:
        """End the program if it still runs."""
        if self.program.poll() is None:
            self.program.terminate()
            self._until_the_end()
        self.vanish()

    def vanish(self) -> None:
        """The window is closed, or the line is cut. May be called twice."""
        if self._screen >= 0:
            os.close(self._screen)
            self._screen = -1

    def _until_the_end(self) -> int:
        # Unread, a full terminal would hold up what the program still has to say.
        deadline = time.monotonic() + STOP_SECONDS
        while self._read():
            assert time.monotonic() < deadline, f"not ended in {STOP_SECONDS:.0f} s:\n{self.shown}"
        return self.program.wait(STOP_SECONDS)

    def _read(self) -> bool:
        """Take what the terminal has to show, waiting a little; False when the program has left it."""
        if not select.select([self._screen], [], [], 0.2)[0]:
            return True
        try:
            fresh = os.read(self._screen, 65536)
        except OSError:
            return False
        self.shown += fresh.decode(errors="replace")
        return bool(fresh)


def started(folder: Path) -> list[psutil.Process]:
    """All that the run has started: the parts by its own record, what they started, and PostgreSQL."""
    pids = [group["pid"] for group in json.loads((folder / "processes.json").read_text())]
    postmaster = folder / "postgres" / "data" / "postmaster.pid"
    if postmaster.exists():
        pids.append(int(postmaster.read_text().split()[0]))
    parts = [psutil.Process(pid) for pid in pids]
    return [*parts, *(child for part in parts for child in part.children(recursive=True))]


def in_the_middle_of_the_start(terminal: Terminal) -> list[psutil.Process]:
    """What has been started when the simulator answers and Airflow has just begun to prepare its metadata."""
    terminal.wait_for("Airflow's metadata", UP_SECONDS)
    parts = started(terminal.folder)
    assert len(parts) > 2
    return parts


def left_of(parts: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still live. PostgreSQL is nobody's child: where no init reaps it, its number stays for ever."""
    return [part for part in parts if part.is_running() and part.status() != psutil.STATUS_ZOMBIE]


def exported(folder: Path) -> dict[str, str]:
    """What a shell has after it sourced the run's env file, and that `airflow` runs there."""
    script = '. "$1" && airflow dags list >&2 && env -0'
    told = subprocess.run(["/bin/sh", "-c", script, "sh", str(folder / "env")], capture_output=True, check=True)
    assert b"send_due_reminders" in told.stderr
    return dict(entry.split("=", 1) for entry in told.stdout.decode().split("\0") if "=" in entry)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ringonce-run-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def terminal(folder: Path) -> Iterator[Terminal]:
    opened = Terminal(folder)
    yield opened
    opened.close()


def test_the_first_cycle_reaches_phones_and_mailboxes(terminal: Terminal, folder: Path) -> None:
    terminal.wait_for(IS_UP, UP_SECONDS)
    assert "The first cycle: success" in terminal.shown
    added = exported(folder)
    network = Simulator(int(added["RINGONCE_SIMULATOR_URL"].rpartition(":")[2]), 0, "", "")
    assert set(network.summary()["by_channel"]) == {"email", "sms", "call"}
    assert network.summary()["max_simultaneous_calls"] == 1


def test_a_second_one_beside_it_says_so_and_stops(terminal: Terminal, folder: Path) -> None:
    before = started(folder)[:6]
    second = subprocess.run(
        [sys.executable, "-c", BESIDE, str(folder)], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert second.returncode == 1
    assert f"running already (pid {terminal.program.pid})" in second.stderr
    assert left_of(before) == before


def test_ctrl_c_ends_all_that_it_started_and_nothing_else(terminal: Terminal, folder: Path) -> None:
    parts = started(folder)
    assert len(parts) > 6
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert terminal.ctrl_c() == 0
        assert other.poll() is None
        other.kill()
    assert left_of(parts) == []
    assert not (folder / "env").exists()
    assert json.loads((folder / "processes.json").read_text()) == []
    assert terminal.is_as_before()


def test_started_again_it_keeps_its_data_and_ctrl_c_in_the_middle_of_the_start_ends_it(folder: Path) -> None:
    with closing(Terminal(folder)) as again:
        parts = in_the_middle_of_the_start(again)
        assert "kept from an earlier run" in again.shown
        assert again.ctrl_c() == 130
        assert again.is_as_before()
    assert left_of(parts) == []
    assert not (folder / "env").exists()


def test_a_terminal_that_is_closed_ends_it_as_well(folder: Path) -> None:
    with closing(Terminal(folder)) as closed:
        parts = in_the_middle_of_the_start(closed)
        closed.vanish()
        closed.program.wait(STOP_SECONDS)
    assert left_of(parts) == []
    assert not (folder / "env").exists()
