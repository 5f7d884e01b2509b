"""Each drill is clean with every guard; without a guard its figure turns bad, or the layer named still holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reminders.store.guards import CONSTRAINTS, TRIGGERS, UNIQUE_INDEXES
from tests.chaos import layers
from tests.chaos.drills import DRILLS, Drill
from tests.chaos.guards import ELSEWHERE, FENCES, REMOVALS, REMOVED, Removal
from tests.databases import TestDatabase

pytestmark = pytest.mark.chaos
Note = Callable[[str, object], None]


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_a_drill_with_every_guard(ledger: TestDatabase, drill: Drill, record_property: Note) -> None:
    found = drill.run(ledger)
    record_property("drill", [drill.name, found])
    assert drill.bad(found) == {}


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.name)
def test_a_drill_without_a_guard(ledger: TestDatabase, removal: Removal, record_property: Note) -> None:
    sabotage = layers.without if removal.is_recorded else layers.unrecorded
    found = removal.drill.run(ledger, sabotage(removal.removed))
    record_property("removal", [removal.name, found])
    bad = removal.drill.bad(found)
    if removal.figure is None:
        assert bad == {}, f"{removal.held_by} does not hold alone"
    else:
        assert removal.figure in bad, f"nothing notices it: {found}"
    if not removal.is_recorded:
        assert found["sent_after"] == 0


def test_every_guard_of_the_release_is_removed_in_a_drill_or_proved_row_by_row() -> None:
    assert {*CONSTRAINTS, *UNIQUE_INDEXES, *TRIGGERS} == REMOVED | FENCES | set(ELSEWHERE)


def test_every_removal_has_a_name_of_its_own() -> None:
    assert len({removal.name for removal in REMOVALS}) == len(REMOVALS)
