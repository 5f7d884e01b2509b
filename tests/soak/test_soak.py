"""Seasons of faults keep every promise, the seeds that once did not do so now, and the judge notices what is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import layers
from tests.chaos.layers import Layer, without
from tests.databases import SharedServer
from tests.soak.running import remembering, run_season
from tests.soak.season import Season

pytestmark = pytest.mark.chaos

DAYS = 10
IN_TEST, IN_CHAOS = (1, 2), range(101, 121)
# Fewer than this, and a season of ten days would show little.
LEAST_HISTORIES = 15


def known_seeds() -> Iterator[object]:
    """(seed, days, days until it failed) of each line of seeds.txt."""
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines():
        if not line.startswith("#"):
            seed, days, until, what = line.split(maxsplit=3)
            yield pytest.param(int(seed), int(days), int(until), id=f"{seed}: {what}")


@pytest.fixture(autouse=True)
def cached() -> Iterator[None]:
    with remembering():
        yield


def season_breaks_nothing(server: SharedServer, seed: int) -> None:
    _, _, report = run_season(server, seed, DAYS)
    assert not report.failures, report.failures[seed]
    assert report.histories >= LEAST_HISTORIES
    assert report.contacts > 0


@pytest.mark.parametrize("seed", IN_TEST)
def test_twenty_days_of_faults_break_no_promise(shared_server: SharedServer, seed: int) -> None:
    season_breaks_nothing(shared_server, seed)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", IN_CHAOS)
def test_two_hundred_days_of_faults_break_no_promise(shared_server: SharedServer, seed: int) -> None:
    season_breaks_nothing(shared_server, seed)


@pytest.mark.parametrize(("seed", "days", "until"), known_seeds())
def test_a_seed_that_once_failed_does_not_again(shared_server: SharedServer, seed: int, days: int, until: int) -> None:
    _, _, report = run_season(shared_server, seed, days, until)
    assert not report.failures, report.failures[seed]


def test_a_seed_gives_the_same_season_each_time(shared_server: SharedServer) -> None:
    (first, _, _), (second, _, _) = (run_season(shared_server, 3, DAYS, until=2) for _ in range(2))
    assert told(first) == told(second)
    assert len(told(first)) > 50


def told(season: Season) -> list[tuple[object, ...]]:
    """What happened and what was asked of the provider, without the ids that the provider draws."""
    asked = season.deployment.network.asked
    return [*season.diary, *((each.at, each.channel, each.to, each.body, each.answer) for each in asked)]


# What is taken away, and the promise that is broken without it.
SABOTAGE = {
    "duplicate": (layers.TOLD_APART,),
}


@pytest.mark.parametrize(("promise", "removed"), SABOTAGE.items(), ids=SABOTAGE)
def test_a_guard_that_is_missing_breaks_a_promise(
    shared_server: SharedServer, promise: str, removed: tuple[Layer, ...]
) -> None:
    _, judge, report = run_season(shared_server, 1, DAYS, until=5, sabotage=without(removed))
    assert promise in {violation.promise for violation in judge.violations()}
    assert f"{promise} at " in report.failures[1]
