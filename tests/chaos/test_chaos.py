"""Each drill is clean with every guard; without a guard its figure turns bad, or the layer named still holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from reminders.model import Channel
from reminders.store.guards import CONSTRAINTS, TRIGGERS, UNIQUE_INDEXES
from tests.chaos import layers
from tests.chaos.drills import CANARY, DRILLS, EMAILS_A_DAY, Drill
from tests.chaos.guards import ELSEWHERE, FENCES, REMOVALS, REMOVED, Removal
from tests.chaos.storm import BUSY_BOOK, PACE, STORM_AT
from tests.databases import TestDatabase
from tests.drill.book import HOUR, Due

FIVE_MINUTES = timedelta(minutes=5)
pytestmark = pytest.mark.chaos
Note = Callable[[str, object], None]


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_a_drill_with_every_guard(ledger: TestDatabase, drill: Drill, record_property: Note) -> None:
    outcome = drill.run(ledger)
    record_property("drill", [drill.name, outcome.figures])
    assert drill.bad(outcome.figures) == {}, outcome.failures
    assert drill.missed(outcome.figures) == {}, "the drill reaches nothing"


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.name)
def test_a_drill_without_a_guard(ledger: TestDatabase, removal: Removal, record_property: Note) -> None:
    sabotage = layers.without if removal.is_recorded else layers.unrecorded
    outcome = removal.drill.run(ledger, sabotage(removal.removed))
    record_property("removal", [removal.name, outcome.figures])
    bad = removal.drill.bad(outcome.figures)
    if removal.figure is None:
        assert bad == {}, f"{removal.held_by} does not hold alone: {outcome.failures}"
    else:
        assert removal.figure in bad, f"nothing notices it: {outcome}"
    if not removal.is_recorded:
        assert outcome.figures["sent_after"] == 0


def test_the_storm_is_ten_times_what_the_pace_lets_go(ledger: TestDatabase) -> None:
    """By the book: of the calls that nobody answers, as many as ten times the product's own pace come due at once."""
    with ledger.connect() as owner:
        policy = owner.execute("SELECT call_pace, email_ceiling FROM reminders.account_policy").fetchall()
        canary = owner.execute("SELECT canary FROM reminders.gate_bound").fetchall()
    assert (policy, canary) == ([(PACE, EMAILS_A_DAY)], [(CANARY,)])
    due = [rung.due_at for rung in BUSY_BOOK.due() if rung.channel is Channel.CALL and of_practice(rung)]
    assert most_within(due, FIVE_MINUTES) >= 10 * PACE
    usual = [due_at for due_at in due if due_at != STORM_AT - 4 * HOUR]
    assert most_within(due, HOUR) >= 10 * most_within(usual, HOUR)
    assert len({booking.phone for booking in BUSY_BOOK.bookings}) > 50


def most_within(times: Sequence[datetime], span: timedelta) -> int:
    """The most of `times` that lie within one `span`, wherever it begins."""
    return max(sum(begins <= at < begins + span for at in times) for begins in times)


def of_practice(rung: Due) -> bool:
    return rung.booking.account_id == "smith"


def test_every_guard_of_the_release_is_removed_in_a_drill_or_proved_row_by_row() -> None:
    assert {*CONSTRAINTS, *UNIQUE_INDEXES, *TRIGGERS} == REMOVED | FENCES | set(ELSEWHERE)


def test_every_removal_has_a_name_of_its_own() -> None:
    assert len({removal.name for removal in REMOVALS}) == len(REMOVALS)
