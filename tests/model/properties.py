"""What must hold of every step and state (S) and of the ways on from there (L), and what the residue may do (R)."""

from __future__ import annotations

from typing import Any

from tests.model.environment import LOSES_MEMORY
from tests.model.protocol import Protocol
from tests.model.state import OPEN, World

PROPERTIES = {
    "S1": "no key is ever contacted twice",
    "S2": "what is recorded as not contacted or expired was not contacted, and what as cancelled never went out",
    "S3": "a number never has two open calls in the ledger, and two ring only by the residue",
    "S4": "no intent is committed under a claim that is old or over",
    "S5": "nobody is contacted after a hold was placed, but by the residue",
    "S6": "what is recorded as accepted or delivered was contacted",
    "S7": "a reminder changes only along a line of the state machine's table",
    "L1": "from every state every reminder can come to an end without an operator",
    "L2": "from every state time alone can bring every reminder to an end: nothing has to be retried, and nobody heard",
}
# The residue is a worker between its last check and its socket: stopped there it cannot know what happens meanwhile.
RESIDUE = {
    "R3": "two calls ring on one number, as one worker was stopped at its socket",
    "R5": "somebody is contacted under a hold that was placed after the worker's last check",
}
TABLE = frozenset(
    (before, after)
    for before, afters in {
        "pending": ("sending", "expired"),
        "sending": ("pending", "failed", "accepted", "delivered", "in_doubt"),
        "in_doubt": ("accepted", "delivered", "undelivered", "unknown"),
        "accepted": ("delivered", "undelivered", "cancelled", "unknown"),
        "unknown": ("accepted", "delivered", "undelivered"),
    }.items()
    for after in afters
)


def broken_by(before: World, kind: str, about: Any, after: World) -> list[str]:
    """The properties of steps that this step breaks."""
    broken = []
    if kind == "a worker commits the intent":
        claims = before.ledger.batches
        is_current = about.batch < len(claims) and claims[about.batch] == about.claim
        if not is_current or before.now >= about.claim.until:
            broken.append("S4")
    if before.ledger.hold and len(after.provider) > len(before.provider):
        broken.append("S5" if about.was_held else "R5")
    old, new = before.ledger.reminders, after.ledger.reminders
    if old != new and kind not in LOSES_MEMORY and kind != "recovery is complete":
        broken += ["S7" for change in zip(old, new, strict=True) if change[0] != change[1] and change not in TABLE]
    return broken


def broken_in(model: Protocol, w: World) -> list[str]:
    """The properties of states that this state breaks."""
    broken = []
    keys = [model.key_of[contact.reminder] for contact in w.provider]
    if len(set(keys)) < len(keys):
        broken.append("S1")
    state_of = {contact.reference: contact.state for contact in w.provider}
    for a in w.ledger.attempts:
        is_denied = a.state == "not_contacted" and a.reference in state_of
        if is_denied or (a.state == "cancelled" and state_of[a.reference] != "cancelled"):
            broken.append("S2")
        if a.state in ("accepted", "delivered") and model.key_of[a.reminder] not in keys:
            broken.append("S6")
    # When nobody waits for recovery a restored ledger may let a reminder expire whose contact it has forgotten.
    if w.restored_at < 0 and any(w.ledger.reminders[contact.reminder] == "expired" for contact in w.provider):
        broken.append("S2")
    return broken + (broken_on_lines(model, w) if model.scenario.channel == "call" else [])


def broken_on_lines(model: Protocol, w: World) -> list[str]:
    open_calls = [model.address_of[a.reminder] for a in w.ledger.attempts if a.state in OPEN]
    ringing = [contact for contact in w.provider if contact.state == "ringing"]
    lines = [model.address_of[contact.reminder] for contact in ringing]
    broken = ["S3"] if len(set(open_calls)) < len(open_calls) else []
    if len(set(lines)) < len(lines):
        broken.append("R3" if any(contact.is_late for contact in ringing) else "S3")
    return broken
