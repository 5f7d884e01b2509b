"""The table of guards: what is taken away, in which drill, and which figure turns bad; or which layer still holds.

A guard is often kept twice: a verdict of the decision table, for a good explanation, and a constraint or trigger that
enforces it. Then a row takes away all but one layer, to prove that this one holds alone, and the last row takes all.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos import drills, layers
from tests.chaos.drills import Drill
from tests.chaos.layers import Layer
from tests.integration.test_row_guards import EFFECTS, REFUSALS


@dataclass(frozen=True)
class Removal:
    """`figure` turns bad without the layers `removed`. None: no figure does, because of `held_by`."""

    guard: str
    removed: tuple[Layer, ...]
    drill: Drill
    figure: str | None
    held_by: str = ""
    is_recorded: bool = True

    @property
    def would_be(self) -> str:
        """The figure that turns bad once every layer of the guard is gone."""
        return [other.figure for other in REMOVALS if other.guard == self.guard and other.figure][-1]

    @property
    def name(self) -> str:
        return f"{self.guard}: without {self.what}"

    @property
    def what(self) -> str:
        return " + ".join(layer.name for layer in self.removed)


def kept_by(guard: str, drill: Drill, figure: str, *kept: Layer) -> list[Removal]:
    """A guard of these layers: each holds alone, and without all of them the figure turns bad."""
    alone = [
        Removal(guard, tuple(other for other in kept if other is not layer), drill, None, layer.name)
        for layer in kept
        if len(kept) > 1
    ]
    return [*alone, Removal(guard, kept, drill, figure)]


DOUBT, ASKED = "the doubtful is not tried again", "the gate is asked"
ONCE, ONE_ROW, CEILING = "once, also imported again", "one row for a reminder", "ceiling of a day"
ONCE_LAYERS = (layers.CONTACTED, layers.CONTACTED_ONCE, layers.SKIPPING)
EXPIRY_LAYERS = (layers.TOO_LATE, layers.PLAN_TIME, layers.NOT_TOO_LATE, layers.LAST_CHECK)
QUIET_LAYERS = (layers.HOURS, layers.NOT_QUIET, layers.LAST_CHECK)
CAP_LAYERS = (layers.DAY_AND_WEEK, layers.CAP_KEPT)
CEILING_LAYERS = (layers.WAIT_FOR_CEILING, layers.CHOSEN, layers.CEILING_KEPT)

REMOVALS = [
    Removal(ONCE, ONCE_LAYERS[:1], drills.AGAIN, None, "index contacted_once"),
    Removal(ONCE, ONCE_LAYERS[1:2], drills.AGAIN, "failed_runs"),
    Removal(ONCE, ONCE_LAYERS[1:], drills.AGAIN, None, "verdict slot_already_contacted"),
    Removal(ONCE, ONCE_LAYERS, drills.AGAIN, "duplicates"),
    Removal(DOUBT, (layers.IN_DOUBT,), drills.DOUBT, "failed_runs"),
    Removal(DOUBT, ONCE_LAYERS, drills.DOUBT, None, layers.IN_DOUBT.name),
    Removal(DOUBT, (layers.IN_DOUBT, *ONCE_LAYERS), drills.DOUBT, "duplicates"),
    Removal("doubt is no proof", (layers.TOLD_APART,), drills.DOUBT, "duplicates"),
    *kept_by("a contact is made once", drills.RUN_AGAIN, "contacts_twice", layers.NOT_MADE, layers.MADE_ONCE),
    Removal(ONE_ROW, (layers.REMINDER_ONCE,), drills.TWO_PLANNERS, None, layers.LOCK.name),
    Removal("cycles take turns", (layers.LOCK,), drills.TWO_PLANNERS, "failed_runs"),
    Removal(ONE_ROW, (layers.LOCK, layers.REMINDER_ONCE), drills.TWO_PLANNERS, "rows_twice"),
    *kept_by("expiry", drills.UNGATED, "late_escalations", *EXPIRY_LAYERS),
    # No window ends after the start (window_runs_forward).
    Removal("nothing after the start", (layers.STARTED,), drills.UNGATED, None, "verdict too_late"),
    Removal("nothing after the start", EXPIRY_LAYERS, drills.UNGATED, "too_late"),
    *kept_by("quiet hours", drills.NIGHT_OUTAGE, "in_quiet_hours", *QUIET_LAYERS),
    *kept_by("silence rule", drills.HELD, "late_escalations", layers.PROOF, layers.CALL_HAS_PROOF),
    *kept_by("hold", drills.STOPPED, "after_hold", layers.ON_HOLD, layers.NO_HOLD, layers.SOCKET),
    *kept_by("volume gate", drills.BACKLOG, "backlog_unasked", layers.JUDGED),
    Removal(ASKED, (layers.ASKED,), drills.BACKLOG, "failed_runs"),
    Removal(ASKED, (layers.WAS_JUDGED, layers.GOOD_IS_JUDGED), drills.BACKLOG, None, layers.ASKED.name),
    Removal(ASKED, (layers.ASKED, layers.GOOD_IS_JUDGED), drills.BACKLOG, None, layers.WAS_JUDGED.name),
    Removal(ASKED, (layers.ASKED, layers.WAS_JUDGED, layers.GOOD_IS_JUDGED), drills.BACKLOG, "backlog_unasked"),
    *kept_by("pace of calls", drills.BUSY, "calls_in_five_minutes", layers.CALL_PACE),
    *kept_by("canary of what is released", drills.RELEASED, "before_canary", layers.CANARY),
    *kept_by("pace of what is released", drills.RELEASED, "released_in_five_minutes", layers.RELEASED_PACE),
    Removal("quiet hours for what is released", QUIET_LAYERS, drills.RELEASED, "in_quiet_hours"),
    Removal("cap for what is released", CAP_LAYERS, drills.RELEASED, "by_phone_in_a_day"),
    *kept_by("cap of an address", drills.BUSY, "by_phone_in_a_day", *CAP_LAYERS),
    *kept_by("gap of an address", drills.GENEROUS, "too_close", layers.WAIT_FOR_GAP, layers.GAP_KEPT),
    Removal(CEILING, (layers.WAIT_FOR_CEILING, layers.CEILING_KEPT), drills.CEILING, None, layers.CHOSEN.name),
    Removal(CEILING, (layers.WAIT_FOR_CEILING, layers.CHOSEN), drills.CEILING, None, layers.CEILING_KEPT.name),
    # The verdict sees what was counted before the batch, and not the batch.
    Removal(CEILING, (layers.CHOSEN, layers.CEILING_KEPT), drills.CEILING, "emails_in_a_day"),
    Removal(CEILING, CEILING_LAYERS, drills.CEILING, "emails_in_a_day"),
    *kept_by("contacts are counted", drills.BUSY, "by_phone_in_a_day", layers.COUNTED),
    *kept_by("one call at a time", drills.LONG_CALLS, "most_calls_at_once", layers.WAIT_FOR_LINE, layers.ONE_OPEN_CALL),
    *kept_by("a provider's id once", drills.SAME_ID, "falsely_delivered", layers.ID_ONCE),
    Removal("preflight", (layers.CAP_KEPT,), drills.BUSY, "failed_runs", is_recorded=False),
]

# Those that `make test` runs too, without every layer.
IN_SMALL = [
    max((each for each in REMOVALS if each.guard == guard), key=lambda each: len(each.removed))
    for guard in (ONCE, "silence rule", "pace of calls")
]

# Taken away check by check, in the table's rows of their fence.
FENCES = {"attempt.fenced", "attempt.gated"}
REMOVED = {layer.listed for removal in REMOVALS for layer in removal.removed} - {""}
# No drill shows these to be missing: most refuse a row that the code as it is never writes. Needed for the code that is
# not written yet, and proved row by row.
ELSEWHERE = {row.guard: row for row in (*REFUSALS, *EFFECTS) if row.guard not in REMOVED | FENCES}
