"""Ports on loopback for the parts of `make run`: each part's usual one, or the next that nobody has."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType

from local.postgres import free_ports, is_free


class PortsTaken(Exception):
    """No free port near the usual one; the message names the range."""


class Ports:
    """Hands out ports of 127.0.0.1, no port twice, stepping over those that somebody listens on.

    A part binds its port long after it was chosen. So each is claimed, by a lock on a file of the machine's temporary
    folder, until `release` or the end of the process: no other `Ports` of this machine hands it out meanwhile.
    """

    def __init__(self) -> None:
        self._claims: dict[int, int] = {}

    def __enter__(self) -> Ports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def take(self, first: int) -> int:
        """The first port from `first` on that is free and is claimed by nobody. Raises `PortsTaken`."""
        for port in free_ports(first):
            if port not in self._claims and (claim := claimed(port)) is not None:
                self._claims[port] = claim
                return port
        raise PortsTaken(f"no free port on 127.0.0.1 from {first} on: end what listens there, and run again")

    def in_use(self) -> list[int]:
        """Those handed out that somebody listens on now."""
        return [port for port in self._claims if not is_free(port)]

    def release(self) -> None:
        """Give all ports back. May be called twice."""
        while self._claims:
            _, claim = self._claims.popitem()
            os.close(claim)


def claimed(port: int) -> int | None:
    """A descriptor whose being open claims the port; None when another claims it, or its file cannot be opened."""
    try:
        file = opened(Path(tempfile.gettempdir()) / f"ringonce-port-{port}.lock")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def opened(path: Path) -> int:
    """A descriptor of the empty file at `path`, made if need be, that every user of the machine may lock."""
    # Nothing is ever written; a link or a pipe that somebody has put there must not lead or keep us anywhere.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # In a sticky folder Linux may refuse O_CREAT for another user's file (proc_sys_fs(5), protected_regular).
        return os.open(path, flags)
    except FileNotFoundError:
        file = os.open(path, flags | os.O_CREAT, 0o444)
        os.fchmod(file, 0o444)
        return file
