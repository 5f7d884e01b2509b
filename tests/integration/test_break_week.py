"""Attempts to hide from a person what a recovery could not tell apart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reminders import operate
from reminders.store.holds import Holds
from tests.integration.deployment import ADA, RestorableDeployment
from tests.integration.scene import HOUR, WEDNESDAY_2PM, Booked

DAY = 24 * HOUR
LADDER = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, 'sms', '20 days', '1 hour', '0')
"""


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="the list goes by when a contact was made, not by when it came into doubt",
)
def test_a_text_that_a_restore_forgot_for_over_a_week_is_on_the_list(deployment: RestorableDeployment) -> None:
    """It is doubtful since the recovery, when a person should look at it."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(LADDER)
    deployment.cycle()
    saved = deployment.dump()
    for i in range(2):
        slot_at = WEDNESDAY_2PM + timedelta(days=15 + i)
        scene.booked(Booked(slot_at, f"ada-{i}", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.later(8 * DAY)
    deployment.restore(saved)
    assert deployment.later().cycle() == []
    deployment.recovered()
    assert set(deployment.scene.states().values()) == {("unknown", "forgotten")}
    listed = operate.doubted(Holds(deployment.database.connect("reminders_operator_login")))
    assert "ada-0" in listed and "ada-1" in listed
