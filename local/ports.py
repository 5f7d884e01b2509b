"""Ports on loopback for the parts of `make run`: each part's usual one, or the next that nobody has."""

from __future__ import annotations

from local.postgres import free_ports


class PortsTaken(Exception):
    """No free port near the usual one; the message names the range."""


class Ports:
    """Hands out ports of 127.0.0.1, no port twice, stepping over those that somebody listens on."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self, first: int) -> int:
        """The first port from `first` on that is free and was not handed out before. Raises `PortsTaken`."""
        for port in free_ports(first):
            if port not in self._given:
                self._given.add(port)
                return port
        raise PortsTaken(f"no free port on 127.0.0.1 from {first} on: end what listens there, and run again")
