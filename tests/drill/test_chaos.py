"""Each safeguard is missed when it is gone: `make chaos` runs every row, `make test` three of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.databases import SharedServer, fill_ledger
from tests.drill.absences import ABSENCES
from tests.drill.chaos import Absence, Drill, Layer, recorded
from tests.drill.night import Run, run_ringonce
from tests.drill.ringonce import Ringonce

IN_EVERY_TEST_RUN = ("the gate", "the silence rule", "the hold check")
ROWS = [
    pytest.param(
        absence,
        id=f"{absence.guard}: {absence.removed}",
        marks=[] if absence.guard in IN_EVERY_TEST_RUN else pytest.mark.chaos,
    )
    for absence in ABSENCES
]

# The drills with every safeguard, by name: the same for every row.
untouched: dict[str, Run] = {}


def run(server: SharedServer, drill: Drill, layers: tuple[Layer, ...]) -> Run:
    """The drill without `layers`, on a new ledger."""

    def sabotage(system: Ringonce) -> None:
        for take_away in layers:
            take_away(system)
        if layers:
            recorded(system)

    with server.database(server.template("ledger_template", fill_ledger)) as database:
        return run_ringonce(
            database,
            drill.bookings(),
            drill.schedule,
            sabotage=sabotage,
            operator=drill.operator,
            planners=drill.planners,
        )


@pytest.mark.parametrize("absence", ROWS)
def test_a_safeguard_that_is_gone_is_missed(
    absence: Absence, shared_server: SharedServer, record_property: Callable[[str, object], None]
) -> None:
    drill = absence.drill
    if drill.name not in untouched:
        untouched[drill.name] = run(shared_server, drill, ())
    kept = absence.figure(untouched[drill.name], drill)
    gone = absence.figure(run(shared_server, drill, absence.layers), drill)
    shows = f"nothing: {absence.held_by} holds it" if absence.held_by else f"{gone} {absence.figure_name}"
    record_property("absence", (absence.guard, absence.removed, drill.name, shows))
    assert kept == 0, f"{absence.figure_name}, with every safeguard"
    if absence.held_by:
        assert gone == 0, f"{absence.figure_name}: {absence.held_by} should hold it"
    else:
        assert gone > 0, f"{absence.figure_name}: nobody misses {absence.guard} ({absence.removed})"
