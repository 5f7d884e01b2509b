"""Ports: taken ones are stepped over."""

from __future__ import annotations

import socket

import pytest

from local.ports import Ports, PortsTaken


def test_a_taken_port_is_stepped_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert Ports().take(port) > port


def test_no_port_is_handed_out_twice() -> None:
    ports = Ports()
    given = [ports.take(23400) for _ in range(5)]
    assert len(set(given)) == 5
    assert given == sorted(given)


def test_no_free_port_is_said() -> None:
    ports = Ports()
    with pytest.raises(PortsTaken, match="65535"):
        for _ in range(3):
            ports.take(65535)
