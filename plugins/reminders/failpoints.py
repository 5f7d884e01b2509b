"""Named points at every step of input and output, at which a test crashes, fails or pauses the process.

A transaction that writes has two, `<work>.before_commit` and `<work>.committed`; a call of a provider, the reading of
the book and the keeping of the mark have two, `<call>.before` (nothing has left yet, and no check is made any more) and
`<call>.answered` (nothing of the answer is kept yet). In production nobody arms them, and reaching one costs the
comparison with None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Act = Callable[[str], None]

# The work of the tasks' transactions that write, in the order in which a cycle comes to them.
TRANSACTIONS = (
    "begin_recovery",
    "reserve_attempts",
    "stage",
    "merge",
    "triage",
    "plan",
    "claim",
    "intend",
    "note_refusal",
    "record",
    "close",
    "attempts_past_deadline",
    "attempts_without_proof",
    "attempts_without_final_status",
    "attempts_to_poll",
    "note_status",
    "note_applied",
    "note_looked_up",
    "note_found",
    "hold_everything",
)
# What a person's transactions write.
DECISIONS = ("place_hold", "release", "drop", "turn_down")
# What a task asks of the provider, of the book and of Airflow.
CALLS = ("send", "status", "list", "cancel", "read_book", "keep_mark")
POINTS = tuple(
    f"{work}.{point}"
    for works, points in (
        (TRANSACTIONS + DECISIONS, ("before_commit", "committed")),
        (CALLS, ("before", "answered")),
    )
    for work in works
    for point in points
)

_act: Act | None = None


def reached(work: str, point: str) -> None:
    """Do what a test has armed, with the point's name; it may raise. Safe to use from threads."""
    if _act is not None:
        _act(f"{work}.{point}")


@contextmanager
def armed(act: Act) -> Iterator[None]:
    """While this lasts `act` is called at every point, in the thread that reaches it."""
    global _act
    before, _act = _act, act
    try:
        yield
    finally:
        _act = before
