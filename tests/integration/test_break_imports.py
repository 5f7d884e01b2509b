"""Attempts to have somebody contacted again after a restore: by what goes on in the restored ledger, and by what was
imported, moved or set in the time that is forgotten."""

from __future__ import annotations

import pytest

from tests.integration.deployment import BOB, VISIT, Deployment
from tests.integration.scene import HOUR, Booked


def goes_on(deployment: Deployment) -> None:
    """Until the hold is released, and a cycle more."""
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    deployment.later().cycle()


@pytest.mark.parametrize("is_upgraded", [False, True], ids=["as it is", "never looked at since the upgrade"])
def test_a_run_that_goes_on_in_the_restored_ledger(deployment: Deployment, is_upgraded: bool) -> None:
    """Once: texted twice. It was stopped between its preflight and its merge, and its row is the newest cycle's, from
    which the provider's list was read."""
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    if is_upgraded:
        scene.owner.execute("UPDATE reminders.ledger_mark SET checked_at = NULL")
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    deployment.later(2 * HOUR).cycle()
    deployment.later().check()
    deployment.restore(saved)
    deployment.scene.send(deployment.scene.go_on(deployment.scene.now))
    assert deployment.phones.heard() == [("sms", BOB)]
    goes_on(deployment)
    assert deployment.phones.heard() == [("sms", BOB)]
