"""Ports: taken ones are stepped over, and two runs that start together share none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import Ports, PortsTaken

ROOT = Path(__file__).parents[2]
TAKE_WHEN_TOLD = """
import sys
from local.ports import Ports
ports = Ports()
print("ready", flush=True)
for first in sys.stdin:
    print(*(ports.take(int(first)) for _ in range(5)), flush=True)
"""


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Ports() as taking:
        yield taking


def test_a_taken_port_is_stepped_over(ports: Ports) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.take(port) > port


def test_no_port_is_handed_out_twice(ports: Ports) -> None:
    given = [ports.take(23400) for _ in range(5)]
    assert len(set(given)) == 5
    assert given == sorted(given)


def test_no_free_port_is_said(ports: Ports) -> None:
    with pytest.raises(PortsTaken, match="65535"):
        for _ in range(3):
            ports.take(65535)


def test_a_port_is_claimed_before_anybody_listens_there_and_until_it_is_given_back(ports: Ports) -> None:
    port = ports.take(23500)
    with Ports() as other:
        assert other.take(port) > port
    ports.release()
    ports.release()
    with Ports() as other:
        assert other.take(port) == port


def test_those_in_use_are_those_that_somebody_listens_on(ports: Ports) -> None:
    first, second = ports.take(23600), ports.take(23600)
    assert ports.in_use() == []
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", second))
        stranger.listen()
        assert ports.in_use() == [second]
    assert first not in ports.in_use()


def test_a_link_that_somebody_has_put_there_is_not_followed(ports: Ports, tmp_path: Path) -> None:
    (tmp_path / "ringonce-port-23700.lock").symlink_to(tmp_path / "precious")
    assert ports.take(23700) > 23700
    assert not (tmp_path / "precious").exists()


def test_processes_that_choose_at_the_same_time_share_no_port_and_a_killed_one_gives_back(tmp_path: Path) -> None:
    everyone = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_WHEN_TOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        )
        for _ in range(4)
    ]
    try:
        assert [answer(one) for one in everyone] == ["ready"] * 4
        for one in everyone:
            tell(one, 23800)
        given = [int(port) for one in everyone for port in answer(one).split()]
        assert len(set(given)) == 20
        for one in everyone[:3]:
            one.kill()
            one.wait()
        tell(everyone[3], 23800)
        again = [int(port) for port in answer(everyone[3]).split()]
        assert set(again) <= set(given[:15])
    finally:
        for one in everyone:
            with one:
                one.kill()


def tell(process: subprocess.Popen[str], first: int) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{first}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
