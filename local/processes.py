"""The processes that `make run` starts: each in a process group of its own, its output in a log, ended by pid.

A record of them is kept in a file, so that what a killed run left behind is ended by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

GRACE_SECONDS = 20.0
# psutil reckons a process's start from the boot time, which shifts when the system's clock is set.
CLOCK_SHIFT = 2.0
POLL_SECONDS = 0.1
TAIL_LINES = 20


class ProcessDied(Exception):
    """A part ended by itself, or did not do its step; the message has its name, its exit status and its log's end."""


class Stopped(Exception):
    """Somebody asked for a stop."""


@dataclass(frozen=True, slots=True)
class Group:
    """A process group that we started: its number, which is its leader's pid, and its start (epoch seconds)."""

    pid: int
    created_at: float


@dataclass
class Processes:
    """Starts and stops processes.

    `folder` takes their logs (`<name>.log`), `record` the list of those that run. Every wait ends with `Stopped` as
    soon as `is_stopping` says so: a signal's handler only raises that flag, so that no process is started unrecorded.
    """

    folder: Path
    record: Path
    is_stopping: Callable[[], bool] = lambda: False
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        """Start `command` in a session of its own, so that a terminal's Ctrl-C reaches only the one who asked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # What they write may name people.
                umask=0o077,
            )
        self.running[name] = process
        # Until it is waited for, even a process that has ended keeps its number and its start.
        self.groups[name] = Group(process.pid, psutil.Process(process.pid).create_time())
        self._write_record()

    def do(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path, seconds: float = 300
    ) -> None:
        """Run `command` to its end; raise `ProcessDied` for a bad exit status, or when it takes over `seconds`."""
        self.start(name, command, environment, cwd)
        process = self.running[name]
        deadline = time.monotonic() + seconds
        try:
            while (status := process.poll()) is None:
                self._check_others(name)
                if time.monotonic() > deadline:
                    raise ProcessDied(f"{name} did not end in {seconds:.0f} s\n{self.tail(name)}")
                time.sleep(POLL_SECONDS)
        finally:
            self._end([name], GRACE_SECONDS)
        if status != 0:
            raise ProcessDied(f"{name} failed with exit status {status}\n{self.tail(name)}")

    def check(self) -> None:
        """Raise `Stopped` when a stop was asked for, `ProcessDied` for the first part that has ended by itself."""
        self._check_others("")

    def _check_others(self, but: str) -> None:
        if self.is_stopping():
            raise Stopped
        for name, process in self.running.items():
            status = process.poll()
            if status is not None and name != but:
                raise ProcessDied(f"{name} died with exit status {status}\n{self.tail(name)}")

    def wait_for(self, what: str, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `is_ready`; raise `ProcessDied` when a part dies meanwhile, or when it takes over `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessDied(f"{what} was not ready in {seconds:.0f} s; the logs are in {self.folder}")
            time.sleep(POLL_SECONDS)

    def tail(self, name: str) -> str:
        """The end of a part's log, headed by the log's path."""
        path = self.folder / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return "\n".join([f"--- the end of {path}", *lines[-TAIL_LINES:]])

    def kill(self, name: str) -> None:
        """SIGKILL to a part alone, as a crash does. What it started lives on, until `stop`; it may be started again."""
        process = self.running.pop(name)
        process.kill()
        process.wait()
        self.groups[f"{name}, killed as {process.pid}"] = self.groups.pop(name)
        self._write_record()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End all that run, with everything that they and those before them started."""
        self._end(list(self.groups), grace_seconds)

    def end_leftovers(self) -> int:
        """End what a run that was killed has left behind, by the record; return how many processes that were."""
        try:
            groups = [Group(**entry) for entry in json.loads(self.record.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return 0
        ended = end_groups(groups, GRACE_SECONDS)
        self.record.unlink(missing_ok=True)
        return ended

    def _end(self, names: Iterable[str], grace_seconds: float) -> None:
        names = list(names)
        end_groups([self.groups[name] for name in names], grace_seconds)
        for name in names:
            if process := self.running.pop(name, None):
                process.kill()
                process.wait()
            del self.groups[name]
        self._write_record()

    def _write_record(self) -> None:
        self.record.write_text(json.dumps([asdict(group) for group in self.groups.values()]), encoding="utf-8")


def members(groups: Sequence[Group]) -> list[psutil.Process]:
    """The living processes of these groups, and their descendants in whatever group.

    A group outlives its leader, as LocalExecutor's workers outlive a killed scheduler. A process older than the
    group's start belongs to somebody else: numbers are used again.
    """
    started = {group.pid: group.created_at for group in groups}
    living: dict[int, psutil.Process] = {}
    parents: dict[int, int] = {}
    found: set[int] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            group = os.getpgid(process.pid)
            if group in started and process.create_time() >= started[group] - CLOCK_SHIFT:
                found.add(process.pid)
            living[process.pid], parents[process.pid] = process, process.ppid()
    # Numbers go round: a child may have a lower one than its parent.
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return [living[pid] for pid in sorted(found)]


def end_groups(groups: Sequence[Group], grace_seconds: float) -> int:
    """SIGTERM to the groups' members, SIGKILL to those left after the grace; return how many members there were."""
    everyone = members(groups)
    for process in everyone:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(everyone, timeout=grace_seconds)
    # Some may have been started in the meantime.
    for process in {*left, *members(groups)}:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)
    return len(everyone)
