"""The night of the 13 hours in small: Ringonce keeps every promise through it, and the predecessor none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.chaos.guards import IN_SMALL, Removal
from tests.chaos.layers import without
from tests.databases import SharedServer, TestDatabase, fill_ledger
from tests.drill.book import drill_book
from tests.drill.figures import broken_promises
from tests.drill.night import NIGHT, run_predecessor, run_ringonce

BOOK = drill_book(50, 13)
# Fewer cycles, to be quick: half an hour between two of them.
SHORT = replace(NIGHT, step=timedelta(minutes=30))


def test_ringonce_keeps_its_promises_through_the_night(ledger: TestDatabase) -> None:
    run = run_ringonce(ledger, BOOK, SHORT)
    assert run.failures == {}
    assert broken_promises(run.normal) == {}
    assert broken_promises(run.night) == {}
    assert run.normal["contacts"] > 10
    assert run.night["contacts"] > 10
    # what thirteen hours cost is told, not hidden
    assert run.night["unsent"] > 0


def test_the_predecessor_has_a_good_day_and_the_night_of_the_story() -> None:
    run = run_predecessor(BOOK)
    assert broken_promises(run.normal) == {}
    assert run.normal["contacts"] > 10
    assert run.night["most_calls_to_one"] == 156
    assert run.night["most_calls_at_once"] > 1
    for name in ("duplicates", "in_quiet_hours", "late_escalations", "too_late", "lost", "callbacks"):
        assert run.night[name] > 0, name


@pytest.mark.parametrize("removal", IN_SMALL, ids=lambda removal: removal.guard)
def test_a_guard_is_proved_by_its_absence(shared_server: SharedServer, removal: Removal) -> None:
    """Three of the guards of `make chaos`, without every layer of theirs."""
    template = shared_server.template("ledger_template", fill_ledger)
    with shared_server.database(template) as kept, shared_server.database(template) as removed:
        outcome = removal.drill.run(kept)
        assert removal.drill.bad(outcome.figures) == {}, outcome.failures
        outcome = removal.drill.run(removed, without(removal.removed))
        assert removal.figure in removal.drill.bad(outcome.figures), outcome
