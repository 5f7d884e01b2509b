"""Attempts to lose somebody whose visit was moved in the time that a restore forgets."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.deployment import ADA, FAR, RestorableDeployment
from tests.integration.scene import HOUR, MINUTE, Booked, Scene

AHEAD = "INSERT INTO reminders.clock (shift) VALUES (%s - clock_timestamp())"


def behind_the_ledger(scene: Scene, seconds: int) -> None:
    """The worker's clock is."""
    scene.owner.execute("DELETE FROM reminders.clock")
    scene.owner.execute(AHEAD, [scene.now + timedelta(seconds=seconds)])


IS_BEHIND = pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a reminder is made by the worker's clock, what is put back by the ledger's",
)


@pytest.mark.parametrize("behind", [0, pytest.param(30, marks=IS_BEHIND), pytest.param(90, marks=IS_BEHIND)])
def test_who_was_moved_in_the_forgotten_time_is_texted_of_the_new_time(
    deployment: RestorableDeployment, behind: int
) -> None:
    """Superseded, `moved_back`: by a worker whose clock is behind the ledger's, as preflight lets it be, the new slot's
    reminders came before the email of the old one, which counts as made when the loss was noticed."""
    scene = deployment.scene.booked(Booked(FAR, "ada", client_phone=ADA)).with_a_wide_gate()
    batch_ids = scene.prepare()
    saved = deployment.dump()
    scene.send(batch_ids)
    deployment.later().cycle()
    scene.changed("ada", starts_at=FAR + HOUR)
    deployment.later().cycle()
    deployment.restore(saved)
    scene = deployment.later().scene
    behind_the_ledger(scene, behind)
    deployment.check()
    # What a cycle takes from its preflight to its merge.
    behind_the_ledger(deployment.later(timedelta(seconds=20)).scene, behind)
    assert deployment.cycle() == []
    deployment.later(15 * MINUTE)
    deployment.recovered()
    deployment.release()
    deployment.later(FAR - 22 * HOUR - scene.now)
    assert deployment.cycle() == ["sms"], deployment.scene.states()
