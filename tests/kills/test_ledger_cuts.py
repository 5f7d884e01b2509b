"""The network between a dispatch and its ledger is cut: after every byte of a commit, and anywhere in its conversation.

Each cut is a dispatch task of its own with one text to send, whose connection is gone afterwards; then two cycles go.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from types import FrameType
from unittest.mock import patch

import psycopg
import pytest

from reminders.failpoints import armed
from reminders.model import Channel
from reminders.store.ledger import Ledger
from tests.databases import LOGIN_PASSWORD, TestDatabase
from tests.integration.scene import MINUTE
from tests.kills.line import Line
from tests.kills.paths import Path, Paths
from tests.kills.proxy import Cut, End, Link, Way

pytestmark = pytest.mark.chaos

# Of what a dispatch says to its ledger, and hears, in bytes: prime, so that the cuts fall anywhere in its messages.
STEP = 23
NEVER = 1 << 40
SILENT_FOR = 0.2


class TimeIsUp(BaseException):
    """What Airflow raises in a task whose execution timeout is over: nothing of the product catches it."""


@contextmanager
def time_limit(link: Link) -> Iterator[None]:
    """As Airflow's, a signal in the main thread: a moment after the network has been cut, for whom it left waiting."""
    is_over = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        if not is_over.is_set():
            raise TimeIsUp

    def watch() -> None:
        # It may be over without a cut.
        while not link.happened.wait(0.05):
            if is_over.is_set():
                return
        if not is_over.wait(SILENT_FOR):
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, end)
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def far_from_the_ledger(line: Line, database: TestDatabase, cut: Cut | None = None) -> Iterator[Link]:
    """The worker's connection to its ledger is new, and goes over a link."""
    server = database.server
    with line.proxy.link(server.port) as link:
        conninfo = server.conninfo(database.name, "reminders_app", LOGIN_PASSWORD)
        connection = psycopg.connect(conninfo, port=link.port, autocommit=True)
        near, line.ledger = line.ledger, Ledger(connection)
        link.cut(cut or Cut(Way.REQUEST, NEVER, End.RESET))
        try:
            yield link
        finally:
            line.ledger = near
            connection.close()


def one_by_one(line: Line, count: int) -> list[int]:
    """A cycle up to its plan, in which each of so many clients has a batch of their own."""
    for _ in range(count):
        line.client(Channel.SMS)
    plan = line.ledger.plan
    with patch.object(
        line.ledger, "plan", lambda date, now, most, _: plan(date, now, most, dict.fromkeys(most, count))
    ):
        return line.prepare()


def dispatched(line: Line, batch_id: int, link: Link) -> None:
    """One dispatch task, which fails when its ledger is gone, and is ended when it hears nothing."""
    with suppress(psycopg.OperationalError, TimeIsUp), time_limit(link):
        line.send([batch_id])


def commit_of(link: Link, work: str, cut: Cut) -> object:
    """Cuts when the next transaction of this work is about to be committed."""

    def act(point: str) -> None:
        if point == f"{work}.before_commit":
            link.cut(cut)

    return armed(act)


def measured(line: Line, database: TestDatabase, work: str | None) -> dict[Way, int]:
    """The bytes of a commit of this work, or of a whole dispatch, when nothing is cut."""
    [batch_id] = one_by_one(line, 1)
    passed: dict[Way, int] = {}
    with far_from_the_ledger(line, database) as link:

        def act(point: str) -> None:
            if point == f"{work}.before_commit":
                link.cut(Cut(Way.REQUEST, NEVER, End.RESET))
            if point == f"{work}.committed":
                passed.update(link.passed)

        with armed(act):
            dispatched(line, batch_id, link)
        return passed or dict(link.passed)


@pytest.mark.parametrize("work", ["intend", "record"])
def test_cut_after_every_byte_of_a_commit_nobody_is_contacted_twice_and_nobody_is_lost(
    line: Line, ledger: TestDatabase, paths: Paths, work: str
) -> None:
    lengths = measured(line, ledger, work)
    cuts = [Cut(Way.REQUEST, after, end) for after in range(lengths[Way.REQUEST] + 1) for end in End]
    # Not after the last byte: then the answer was heard.
    cuts += [Cut(Way.ANSWER, after, end) for after in range(lengths[Way.ANSWER]) for end in End]
    before = line.outcomes()
    batches = one_by_one(line.later(MINUTE), len(cuts))
    assert len(batches) == len(cuts)
    for batch_id, cut in zip(batches, cuts, strict=True):
        with far_from_the_ledger(line, ledger) as link, commit_of(link, work, cut):
            dispatched(line, batch_id, link)
            assert link.is_cut
    found = line.outcomes() - before
    not_intended = len(cuts) - found.total()
    if work == "intend":
        # Not even where the commit arrived, and only its answer did not.
        assert set(found) == {("sending", 0)}, found
        paths.reached(Path.INTENT_LOST, not_intended)
        paths.reached(Path.INTENT_UNHEARD, found["sending", 0])
    else:
        assert set(found) == {("sending", 1), ("accepted", 1)}, found
        assert not_intended == 0
        paths.reached(Path.RECORD_LOST, found["sending", 1])
        paths.reached(Path.RECORD_UNHEARD, found["accepted", 1])
    line.recovered(Channel.SMS)
    assert line.violations() == []


def test_cut_anywhere_in_a_dispatch_nobody_is_contacted_twice_and_nobody_is_lost(
    line: Line, ledger: TestDatabase, paths: Paths
) -> None:
    lengths = measured(line, ledger, None)
    in_turn = cycle(End)
    cuts = [
        Cut(way, after, next(in_turn)) for way, length in lengths.items() for after in range(0, length + STEP, STEP)
    ]
    before = line.outcomes()
    for batch_id, cut in zip(one_by_one(line.later(MINUTE), len(cuts)), cuts, strict=True):
        with far_from_the_ledger(line, ledger, cut) as link:
            dispatched(line, batch_id, link)
    found = line.outcomes() - before
    # One that is still being sent may be anybody's; one that has not begun has reached nobody.
    assert set(found) <= {("sending", 0), ("sending", 1), ("accepted", 1)}, found
    paths.reached(Path.INTENT_LOST, len(cuts) - found.total())
    paths.reached(Path.RECORD_LOST, found["sending", 1])
    line.recovered(Channel.SMS)
    assert line.violations() == []
