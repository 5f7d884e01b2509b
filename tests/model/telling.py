"""A way through the model in words."""

from __future__ import annotations

from typing import Any

from tests.model.protocol import Protocol
from tests.model.search import Trace
from tests.model.state import Attempt, Contact, Worker


def told(model: Protocol, trace: Trace) -> str:
    """A line for each step: when, what, by or about whom, and what the ledger says from then on, where that changes."""
    lines = []
    said = model.start()
    for kind, about, after in trace:
        change = ", ".join(
            f"{name_of(model, reminder)} is {state}"
            for reminder, state in enumerate(after.ledger.reminders)
            if state != said.ledger.reminders[reminder]
        )
        who = named(model, about)
        lines.append(f"  at {after.now}: {kind}{f' ({who})' if who else ''}{f'; {change}' if change else ''}")
        said = after
    return "\n".join(lines)


def name_of(model: Protocol, reminder: int) -> str:
    is_shared = model.key_of.count(model.key_of[reminder]) > 1
    return f"{model.key_of[reminder]}{f'-{reminder + 1}' if is_shared else ''}"


def named(model: Protocol, about: Any) -> str:
    match about:
        case Worker():
            return f"claim {about.claim.number} of batch {about.batch + 1}, for {name_of(model, about.turn)}"
        case Attempt() | Contact():
            return f"of {name_of(model, about.reminder)}"
        case int():
            return name_of(model, about)
        case _:
            return ""
