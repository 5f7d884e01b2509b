"""A fault history: one fault that struck, and the way back to normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from reminders.failpoints import DECISIONS, POINTS
from tests.drill.book import TICK

# A fault that has not struck in this time does not.
WAITS = 3 * TICK
# What few days come to: traps lie there for a whole season.
RARE = (
    *("begin_recovery", "note_refusal", "note_found", "note_looked_up", "hold_everything", "list", "cancel"),
    *("note_status",),
)
# What a season's faults strike at: one more here, and every seed is another season.
STRUCK = tuple(point for point in POINTS if point.partition(".")[0] not in (*DECISIONS, "read_book", "keep_mark"))
COMMON = tuple(point for point in STRUCK if point.partition(".")[0] not in RARE)
# Where a process that stands still, or another run, leaves no transaction open: others can go on meanwhile.
BETWEEN = tuple(point for point in COMMON if not point.endswith("before_commit"))
# Points that many contacts of a cycle come to; at the others the first time counts.
OFTEN = ("intend", "send", "record", "status")


@dataclass
class History:
    """One fault and its recovery. `entangled`: another fault struck before this one's recovery was seen."""

    kind: str
    at: datetime
    random: Random
    detail: str = ""
    struck_at: datetime | None = None
    over_at: datetime | None = None
    cycles: int = 0
    is_entangled: bool = False
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()


def drawn_point(history: History, points: Sequence[str]) -> tuple[str, int]:
    """A point and the how manieth time that it is come to."""
    point = history.random.choice(points)
    time = history.random.randrange(1, 5) if point.partition(".")[0] in OFTEN else 1
    history.detail = f"at {point}" + (f", time {time}" if time > 1 else "")
    return point, time
