"""Attempts of roles to do what only the owner may, and of a task to contact somebody long after its intent."""

from __future__ import annotations

import psycopg
import pytest

from reminders.model import Contact
from tests.integration.scene import HOUR, WEDNESDAY_2PM, Scene, clients

ROLES = ("planner", "dispatcher", "operator", "webhook", "analyst")
FORBIDDEN = {
    "move a claim": "UPDATE reminders.batch SET claim = uuidv7()",
    "lengthen a claim": "UPDATE reminders.batch SET claimed_until = 'infinity'",
    "call a found contact rebuilt": "UPDATE reminders.found_contact SET is_rebuilt = true",
    "forget a found contact": "DELETE FROM reminders.found_contact",
    "forget a recovery": "DELETE FROM reminders.recovery",
    "move a recovery to another hold": "UPDATE reminders.recovery SET hold_id = 0",
    "shorten a recovery": "UPDATE reminders.recovery SET begun_at = begun_at - interval '1 hour'",
    "narrow a recovery": "UPDATE reminders.recovery SET missing_from = now()",
    "call an attempt rebuilt": "UPDATE reminders.attempt SET is_rebuilt = true",
    "set the clock": "INSERT INTO reminders.clock (shift) VALUES ('1 day')",
    "say that a cycle was judged": "UPDATE reminders.cycle SET judged_at = now()",
}


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_no_role_may(scene: Scene, deed: str) -> None:
    for role in ROLES:
        scene.owner.execute(f"SET ROLE reminders_{role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            scene.owner.execute(FORBIDDEN[deed])


def test_no_role_makes_a_batch_that_is_claimed_for_ever(scene: Scene) -> None:
    """Once: the right to INSERT into batch is one on all its columns, and so on those that 0013 added: the planner may
    make a batch that is claimed by nobody's task for ever, past the ten minutes that claim_batch allows."""
    scene.at(WEDNESDAY_2PM).owner.execute("SET ROLE reminders_planner")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        scene.owner.execute(
            "INSERT INTO reminders.batch (logical_date, channel, share, planned_at, claim, claimed_until)"
            " VALUES (now(), 'sms', 1, now(), uuidv7(), 'infinity')"
        )


def test_a_contact_is_not_made_long_after_its_intent_by_a_machine_that_was_suspended(scene: Scene) -> None:
    """Once: a hold is no hold, and late. The last check goes by the monotonic clock, which stands still while a
    machine is suspended: the holds seem to have been read just now, and the attempt's deadline not to be over, an hour
    after it."""
    [batch_id, *_] = scene.at(WEDNESDAY_2PM).booked(*clients(4, WEDNESDAY_2PM + 60 * HOUR)).prepare()

    def suspended(_contact: Contact) -> None:
        if scene.reached:
            scene.at(scene.now + HOUR).hold()

    scene.before_check = suspended
    scene.send([batch_id], rate=2.0)
    assert len(scene.reached) == 1
