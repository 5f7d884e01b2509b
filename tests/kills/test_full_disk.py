"""The disk of the ledger's server is full, and then there is room again.

The server has a small filesystem of its own, which takes root to make. Its log is written in segments of 16 MB: on a
full disk a commit fails when it would begin the next one, and the server with it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import psycopg
import pytest

from local.postgres import Server
from reminders.failpoints import armed
from reminders.model import Channel
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase, fill_ledger
from tests.integration.scene import MINUTE, WEDNESDAY_2PM
from tests.kills.line import Line
from tests.kills.paths import Path, Paths
from tests.kills.proxy import Proxy
from tests.simulator.client import Simulator

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(os.geteuid() != 0, reason="a filesystem of a few megabytes takes root to make"),
]

SIZE = "400m"
SEGMENT = 16 << 20
# Too few bytes for the record of a commit.
ROOM_IN_SEGMENT = 24
# Hundreds of intents need new pages of their tables.
MANY = 600
MESSAGE = "SELECT pg_logical_emit_message(false, '', repeat('x', %s))"
PLACE = "SELECT pg_current_wal_insert_lsn() - '0/0'"
SEGMENTS_AHEAD = """
SELECT count(*) FROM pg_ls_waldir()
WHERE name ~ '^[0-9A-F]{24}$' AND name > pg_walfile_name(pg_current_wal_insert_lsn())"""


class Disk:
    """A small filesystem with a server on it, which has an empty ledger."""

    def __init__(self, folder: File) -> None:
        self._ballast = folder / "ballast"
        self.server = Server(folder / "postgres")
        self.server.start()
        self.server.create_database("ledger")
        self.ledger = TestDatabase("ledger", self.server)
        fill_ledger(self.ledger.connect())

    def fill(self) -> None:
        """To the last byte; the server's log has a whole segment."""
        with self.ledger.connect() as owner:
            new_segment(owner)
        self._fill()

    def fill_and_end_the_log(self) -> None:
        """To the last byte, and the log has no room for one more commit."""
        with self.ledger.connect() as owner:
            self._fill()
            while number(owner, SEGMENTS_AHEAD):
                new_segment(owner)
            # One that begins a page has that page's header too.
            overhead = min(written(owner, 1000) for _ in range(3)) - 1000
            while (left := SEGMENT - number(owner, PLACE) % SEGMENT) > 2000:
                # A message costs a few bytes more for each page.
                written(owner, left - left // 100 - 1000)
            written(owner, left - overhead - ROOM_IN_SEGMENT)
            assert SEGMENT - number(owner, PLACE) % SEGMENT == ROOM_IN_SEGMENT, "somebody else has written to the log"

    def _fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def give_room(self) -> None:
        self._ballast.unlink()

    def restart_with_room(self) -> None:
        # It may still be at its recovery, which cannot end either.
        self.server.stop(at_once=True)
        self.give_room()
        self.server.start()


def number(owner: psycopg.Connection[Any], query: str) -> int:
    row = owner.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def written(owner: psycopg.Connection[Any], length: int) -> int:
    """The bytes of the log that a message of this length takes."""
    before = number(owner, PLACE)
    owner.execute(MESSAGE, (length,))
    return number(owner, PLACE) - before


def new_segment(owner: psycopg.Connection[Any]) -> None:
    owner.execute("SELECT pg_switch_wal()")
    # The switch is to whatever is written next.
    owner.execute(MESSAGE, (1,))


@pytest.fixture
def disk(place: File) -> Iterator[Disk]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(place)], check=True)
    try:
        disk = Disk(place)
        try:
            yield disk
        finally:
            disk.server.stop()
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def line_on_disk(disk: Disk) -> Iterator[Line]:
    with Simulator.spawn(options=("--start", WEDNESDAY_2PM.isoformat())) as network, Proxy() as proxy:
        line = Line(*connections(disk), network=network, proxy=proxy).widened()
        line.at(WEDNESDAY_2PM)
        yield line


def connections(disk: Disk) -> tuple[Any, Ledger, Ledger]:
    worker, watching = (Ledger(disk.ledger.connect("reminders_app")) for _ in range(2))
    return disk.ledger.connect(), worker, watching


@pytest.mark.parametrize("work", ["intend", "record"])
def test_a_commit_for_which_the_disk_has_no_room_contacts_nobody_twice(
    disk: Disk, line_on_disk: Line, paths: Paths, work: str
) -> None:
    line = line_on_disk
    for _ in range(3):
        line.client(Channel.SMS)
    batches = line.prepare()

    def act(point: str) -> None:
        if point == f"{work}.before_commit":
            disk.fill_and_end_the_log()

    with armed(act), pytest.raises(psycopg.OperationalError):
        line.send(batches)
    assert "PANIC:  could not write to file" in (disk.server.folder / "log").read_text()
    disk.restart_with_room()
    line = replace(line, **dict(zip(("owner", "ledger", "watching"), connections(disk), strict=True)))
    found = line.outcomes()
    if work == "intend":
        assert found.total() == 0
        paths.reached(Path.NO_ROOM_FOR_INTENT, int(line.network.log() == []))
    else:
        assert set(found) == {("sending", 1)}
        paths.reached(Path.NO_ROOM_FOR_RECORD, found["sending", 1])
    line.recovered(Channel.SMS)
    assert line.violations() == []


def test_intents_for_which_the_disk_has_no_room_fail_and_the_rest_go_when_it_has(
    disk: Disk, line_on_disk: Line, paths: Paths
) -> None:
    line = line_on_disk
    for _ in range(MANY):
        line.client(Channel.SMS)
    batches = line.prepare()
    disk.fill()
    refused = 0
    for batch_id in batches:
        try:
            line.send([batch_id], rate=20)
        except psycopg.errors.DiskFull:
            refused += 1
    paths.reached(Path.NO_ROOM_FOR_DATA, refused)
    disk.give_room()
    line.later(MINUTE).recovered(Channel.SMS)
    assert line.violations() == []
