"""A practice whose ledger has a reminder in each state that a guard is about."""

from __future__ import annotations

from typing import Any

from reminders.model import Acceptance
from tests.integration.careless import PLANNED_AT
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene


def text(appointment: str, number: int, starts_at: Any = WEDNESDAY_2PM + 24 * HOUR) -> Booked:
    return Booked(starts_at, appointment, client_email=None, client_phone=f"+4420794600{number:02d}")


def lives(scene: Scene) -> None:
    """A practice's texts: one that the gate has held, ten on their way, one delivered, one planned."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(text("held", 30, WEDNESDAY_2PM + 22 * HOUR)).cycle()
    scene.has_gap = False
    scene.answer = lambda contact: Acceptance(f"open-{contact.attempt_id}", "queued")
    scene.at(scene.now + 5 * MINUTE).booked(*(text(f"open-{i}", i) for i in range(10))).cycle()
    scene.answer = None
    scene.at(scene.now + 5 * MINUTE).booked(text("delivered", 20)).cycle()
    scene.at(PLANNED_AT).booked(text("planned", 21)).prepare()
    found = {name: state for (name, step), (state, _) in scene.states().items() if step == 2}
    assert found == {
        "held": "held", "delivered": "delivered", "planned": "pending", **{f"open-{i}": "accepted" for i in range(10)},
    }  # fmt: skip
