"""Seasons of faults keep every promise, the seeds that once did not do so now, and the judge notices what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos import layers
from tests.chaos.layers import without
from tests.databases import SharedServer
from tests.drill.book import DAY
from tests.simulator.journal import Event
from tests.soak.book import MINUTE
from tests.soak.deployment import Failed
from tests.soak.history import History
from tests.soak.judge import Judge
from tests.soak.people import Stop
from tests.soak.report import trace
from tests.soak.running import remembering, run_season
from tests.soak.season import Season

DAYS = 10
IN_TEST, IN_CHAOS = (1, 2), range(101, 121)
# Fewer than this, and ten days would show little.
LEAST_HISTORIES = 15


def known_seeds() -> Iterator[object]:
    """(seed, days, days until it failed) of each line of seeds.txt."""
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines():
        if not line.startswith("#"):
            seed, days, until, what = line.split(maxsplit=3)
            yield pytest.param(int(seed), int(days), int(until), id=f"{seed}: {what}")


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with remembering():
        yield


def breaks_nothing(server: SharedServer, seed: int) -> None:
    _, _, report = run_season(server, seed, DAYS)
    assert not report.failures, report.failures[seed]
    assert report.histories >= LEAST_HISTORIES
    assert report.contacts > 100


@pytest.mark.parametrize("seed", IN_TEST)
def test_twenty_days_of_faults_break_no_promise(shared_server: SharedServer, seed: int) -> None:
    breaks_nothing(shared_server, seed)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", IN_CHAOS)
def test_two_hundred_days_of_faults_break_no_promise(shared_server: SharedServer, seed: int) -> None:
    breaks_nothing(shared_server, seed)


@pytest.mark.chaos
@pytest.mark.parametrize(("seed", "days", "until"), list(known_seeds()))
def test_a_seed_that_once_failed_does_not_again(shared_server: SharedServer, seed: int, days: int, until: int) -> None:
    _, _, report = run_season(shared_server, seed, days, until)
    assert not report.failures, report.failures[seed]


def test_a_seed_gives_the_same_season_each_time(shared_server: SharedServer) -> None:
    first, second = (run_season(shared_server, 3, DAYS, until=2)[0] for _ in range(2))
    assert told(first) == told(second)
    assert len(told(first)) > 50


def told(season: Season) -> list[tuple[object, ...]]:
    """What happened and what was asked of the provider, without the ids that the provider draws."""
    asked = season.deployment.network.asked
    return [*season.diary, *((each.at, each.channel, each.to, each.body, each.answer) for each in asked)]


def test_a_doubtful_contact_that_is_tried_again_is_reported_with_its_seed(shared_server: SharedServer) -> None:
    sabotage = without((layers.TOLD_APART,))
    _, judge, report = run_season(shared_server, 1, DAYS, until=6, sabotage=sabotage)
    assert "duplicate" in promises(judge)
    assert "duplicate at " in report.failures[1]
    assert "strikes" in report.failures[1]


@pytest.fixture(scope="module")
def short_season(shared_server: SharedServer) -> Season:
    """Three days that break no promise, for the judge to be misled about."""
    with remembering():
        season, judge, _ = run_season(shared_server, 4, 3)
    assert judge.violations() == []
    return season


def promises(judge: Judge) -> set[str]:
    return {violation.promise for violation in judge.violations()}


@contextmanager
def heard_besides(season: Season, *events: Event) -> Iterator[Judge]:
    """The judge of a season whose log has these events too."""
    log = season.deployment.network.journal.events
    log.extend(events)
    try:
        yield Judge(season)
    finally:
        del log[-len(events) :]


def later(event: Event, passed: timedelta) -> Event:
    return replace(event, at=(datetime.fromisoformat(event.at) + passed).isoformat(), sid=f"{event.sid} again")


def last(season: Season, channel: str) -> Event:
    return [event for event in season.deployment.network.journal.events if event.channel == channel][-1]


MISLED: dict[str, Callable[[Season], list[Event]]] = {
    "duplicate": lambda season: [later(last(season, "sms"), timedelta(minutes=1))],
    "too close": lambda season: [later(last(season, "sms"), timedelta(hours=1))],
    "too many": lambda season: [later(last(season, "sms"), timedelta(minutes=1))],
    "two calls at once": lambda season: [later(last(season, "call"), timedelta(seconds=5))],
    "after the start": lambda season: [later(last(season, "email"), timedelta(days=5))],
    "at the wrong time": lambda season: [later(last(season, "sms"), timedelta(days=-2))],
    "in quiet hours": lambda season: [later(last(season, "call"), timedelta(hours=12))],
    "unwanted": lambda season: [replace(last(season, "sms"), to="+442079460999")],
    "a call without proof": lambda season: [later(last(season, "call"), timedelta(days=-6))],
    "hurried": lambda season: [replace(last(season, "sms"), channel="call")],
    "nameless": lambda season: [replace(last(season, "sms"), body="Hello")],
}


@pytest.mark.parametrize("promise", MISLED)
def test_the_judge_reports_what_the_log_must_not_have(short_season: Season, promise: str) -> None:
    with heard_besides(short_season, *MISLED[promise](short_season)) as judge:
        found = [violation for violation in judge.violations() if violation.promise == promise]
    assert found
    assert trace(short_season, found[0]).startswith(promise)


Rows = list[dict[str, Any]]


def without_a_row(rows: Rows) -> Rows:
    delivered = next(row for row in rows if row["state"] == "delivered" and row["step"] > 0)
    return [row for row in rows if row is not delivered]


def without_an_end(rows: Rows) -> Rows:
    return [{**rows[0], "ended_at": None, "reason": None}, *rows[1:]]


@pytest.mark.parametrize("change", [without_a_row, without_an_end])
def test_the_judge_reports_a_due_reminder_without_a_row_or_an_end(
    short_season: Season, monkeypatch: pytest.MonkeyPatch, change: Callable[[Rows], Rows]
) -> None:
    monkeypatch.setattr(short_season, "reminders", change(short_season.reminders))
    assert "lost" in promises(Judge(short_season))


def test_the_judge_reports_what_is_called_delivered_and_did_not_arrive(
    short_season: Season, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, gone = short_season.deployment.network.journal, last(short_season, "sms")
    monkeypatch.setattr(journal, "events", [event for event in journal.events if event is not gone])
    assert "falsely delivered" in promises(Judge(short_season))


def just_before(event: Event) -> datetime:
    return datetime.fromisoformat(event.at) - MINUTE


# By its violation: what goes wrong, as an attribute (of the season, its deployment or its person) and its value.
SPOILT: dict[str, Callable[[Season], tuple[object, str, object]]] = {
    "to the silent": lambda s: (s.deployment, "opted_out_at", {last(s, "sms").to: just_before(last(s, "sms"))}),
    "slow recovery": lambda s: (s, "slow", [History("slow", s.now, Random(0), over_at=s.now, wrong=["still waits"])]),
    "broken invariant": lambda s: (s.deployment, "failures", {"called_together": 1}),
    "audit": lambda s: (s.deployment, "breaches", {"unknown_to_ledger": 1}),
    "unexpected failure": lambda s: (s.deployment, "failed", [Failed(s.now + DAY, "merge_ledger fails")]),
    "held without a gap": lambda s: (s, "holds", [held_at(s.deployment.good[-1].ended_at + MINUTE)]),
}


def held_at(placed_at: datetime) -> dict[str, object]:
    return {"scope_value": "*", "why": "no good cycle since noon", "placed_at": placed_at}


@pytest.mark.parametrize("promise", SPOILT)
def test_the_judge_reports_a_season_that_goes_wrong(
    short_season: Season, monkeypatch: pytest.MonkeyPatch, promise: str
) -> None:
    monkeypatch.setattr(*SPOILT[promise](short_season))
    assert promises(Judge(short_season)) == {promise}


@pytest.mark.parametrize("scope", ["all", "channel", "account", "cycle"])
@pytest.mark.parametrize("is_its_own", [True, False])
def test_the_judge_reports_what_went_under_a_persons_hold(
    short_season: Season, monkeypatch: pytest.MonkeyPatch, scope: str, is_its_own: bool
) -> None:
    heard = Judge(short_season).heard[-1]
    [(visit, slot_at), *_] = heard.visits
    [date] = {
        row["logical_date"]
        for row in short_season.reminders
        if (row["account_id"], row["slot_at"], row["channel"]) == (visit.account.account_id, slot_at, heard.channel)
    }
    its_own = {"all": "", "channel": heard.channel, "account": visit.account.account_id, "cycle": date.isoformat()}
    value = its_own[scope] if is_its_own else (date + DAY).isoformat() if scope == "cycle" else "another"
    stop = Stop(scope, value, heard.at - heard.delay - MINUTE, heard.at + MINUTE)
    monkeypatch.setattr(short_season.person, "past_stops", [stop])
    assert promises(Judge(short_season)) == ({"on hold"} if is_its_own or scope == "all" else set())
