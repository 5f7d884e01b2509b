"""Every state that a model can reach, breadth first, so that a counterexample is as short as can be."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.model.environment import BY_OPERATOR, BY_TIME_ALONE, Model
from tests.model.properties import broken_by, broken_in
from tests.model.state import ENDED, World

Trace = list[tuple[str, Any, World]]
Edges = list[tuple[int, int]]


@dataclass
class Exploration:
    """How many states were reached, by which kinds of steps, and the shortest way to break each property."""

    states: int = 0
    kinds: set[str] = field(default_factory=set)
    broken: dict[str, Trace] = field(default_factory=dict)


def explore(model: Model, until: str = "") -> Exploration:
    """Explore every state, or as far as it takes to break the property `until`."""
    found = Exploration()
    start = model.start()
    number, worlds, came = {start: 0}, [start], [(0, "", None)]
    on: Edges = []
    by_time: Edges = []
    here = 0
    with collecting_no_garbage():
        while here < len(worlds) and until not in found.broken:
            w = worlds[here]
            for kind, about, after in model.steps(w):
                found.kinds.add(kind)
                there = number.setdefault(after, len(worlds))
                broken = broken_by(w, kind, about, after)
                if there == len(worlds):
                    worlds.append(after)
                    came.append((here, kind, about))
                    broken += broken_in(model, after)
                for name in broken:
                    if name not in found.broken:
                        found.broken[name] = [*way_to(worlds, came, here), (kind, about, after)]
                if kind not in BY_OPERATOR:
                    (by_time if kind in BY_TIME_ALONE else on).append((here, there))
            here += 1
        found.states = len(worlds)
        if here == len(worlds):
            # What time alone can do needs no operator: where L2 holds, L1 does.
            for name, edges in (("L2", by_time), ("L1", by_time + on)):
                stuck = next(cannot_end(worlds, edges), None)
                if stuck is None:
                    break
                found.broken[name] = way_to(worlds, came, stuck)
    return found


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """States are kept to the end and none refers to itself: looking for garbage among them takes half of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def way_to(worlds: list[World], came: list[tuple[int, str, Any]], end: int) -> Trace:
    steps = []
    while end:
        before, kind, about = came[end]
        steps.append((kind, about, worlds[end]))
        end = before
    return steps[::-1]


def cannot_end(worlds: list[World], edges: Edges) -> Iterator[int]:
    """The states, nearest first, from which no way along the edges leads to the end of every reminder."""
    back: list[list[int]] = [[] for _ in worlds]
    for before, after in edges:
        back[after].append(before)
    # Before a restore the ways are those of the scenarios without one.
    can = [w.left.restores > 0 or all(state in ENDED for state in w.ledger.reminders) for w in worlds]
    waiting = [place for place, ends in enumerate(can) if ends]
    while waiting:
        for before in back[waiting.pop()]:
            if not can[before]:
                can[before] = True
                waiting.append(before)
    return (place for place, ends in enumerate(can) if not ends)
