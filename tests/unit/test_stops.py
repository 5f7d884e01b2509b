"""Who asks whether the DAG is paused, how often, and what an answer counts for that is late or does not come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reminders.cycle import stops
from reminders.cycle.stops import PauseWatch

NOON = datetime(2026, 2, 11, 12, tzinfo=UTC)


@dataclass
class Airflow:
    """Answers `answer`, or raises it, after `takes` seconds of the clock `now`; keeps who asked.

    The wall clock shows only for how long the machine was `suspended`.
    """

    answer: Any = False
    takes: float = 0.0
    now: float = 100.0
    suspended: float = 0.0
    asked_by: list[int] = field(default_factory=list)

    def is_paused(self) -> Any:
        self.asked_by.append(threading.get_ident())
        self.now += self.takes
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def watch(self) -> PauseWatch:
        return PauseWatch(self.is_paused, lambda: self.now, lambda: NOON + timedelta(seconds=self.suspended))


def in_a_thread(work: Callable[[], bool]) -> bool:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


@pytest.mark.parametrize(
    ("answer", "is_stopped"),
    [(False, False), (True, True), (None, True), ("no", True), (0, True), (RuntimeError("gone"), True)],
)
def test_only_a_clear_no_lets_anybody_be_contacted(answer: Any, is_stopped: bool) -> None:
    assert Airflow(answer).watch().stops() is is_stopped


def test_a_second_is_the_longest_that_an_answer_serves() -> None:
    airflow = Airflow()
    watch = airflow.watch()
    for moment, asked in ((0.0, 1), (1.0, 1), (1.1, 2), (1.9, 2), (2.3, 3)):
        airflow.now = 100.0 + moment
        assert not watch.stops()
        assert len(airflow.asked_by) == asked
    airflow.now, airflow.answer = 103.5, True
    assert watch.stops()


def test_an_answer_from_before_the_machine_was_suspended_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock stood still meanwhile; a wall clock that is put back makes nothing young."""
    monkeypatch.setattr(stops, "ANSWER_COUNTS_FOR", 0.2)
    airflow = Airflow()
    watch = airflow.watch()
    assert not watch.stops()
    airflow.suspended = 25.0
    assert in_a_thread(watch.stops)
    assert not watch.stops()
    airflow.now, airflow.suspended = 103.5, -3600.0
    assert in_a_thread(watch.stops)


@pytest.mark.parametrize(("takes", "is_stopped"), [(2.9, False), (3.1, True)])
def test_an_answer_that_was_long_in_coming_is_none(takes: float, is_stopped: bool) -> None:
    assert Airflow(takes=takes).watch().stops() is is_stopped


def test_before_the_first_answer_a_thread_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "ANSWER_COUNTS_FOR", 0.2)
    airflow = Airflow()
    assert in_a_thread(airflow.watch().stops)
    assert airflow.asked_by == []


def test_a_thread_does_not_wait_for_ever_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "ANSWER_COUNTS_FOR", 0.2)
    airflow = Airflow()
    watch = airflow.watch()
    assert not watch.stops()
    airflow.now += 5
    assert in_a_thread(watch.stops)


def test_a_thread_takes_the_answer_that_the_first_one_gets_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "ANSWER_COUNTS_FOR", 30.0)
    airflow = Airflow()
    watch = airflow.watch()
    assert not watch.stops()
    for answer in (True, False):
        airflow.answer = answer
        airflow.now += 2
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(watch.stops)
            while not told.done():
                watch.answer_waiting()
            assert told.result() is answer
    assert airflow.asked_by == [threading.get_ident()] * 3


def test_nobody_asks_for_threads_that_do_not_wait() -> None:
    airflow = Airflow()
    watch = airflow.watch()
    watch.stops()
    airflow.now += 2
    watch.answer_waiting()
    assert len(airflow.asked_by) == 1
