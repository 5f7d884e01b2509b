"""Attempts to have somebody contacted again after a restore: by what goes on in the restored ledger, and by what was
imported, moved or set in the time that is forgotten."""

from __future__ import annotations

import pytest

from tests.integration.deployment import ADA, BOB, FAR, VISIT, RestorableDeployment
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked

WIDE_CAPS = "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9"
FORGOTTEN = ("unknown", "forgotten")


def goes_on(deployment: RestorableDeployment) -> None:
    """Until the hold is released, and a cycle more."""
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    deployment.later().cycle()


@pytest.mark.parametrize("is_upgraded", [False, True], ids=["as it is", "never looked at since the upgrade"])
def test_a_run_that_goes_on_in_the_restored_ledger(deployment: RestorableDeployment, is_upgraded: bool) -> None:
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


@pytest.mark.parametrize("name", ["bob", "bob again"], ids=["the same id", "another id"])
def test_a_feed_that_imports_the_visits_anew_in_the_forgotten_time(deployment: RestorableDeployment, name: str) -> None:
    """Once: texted twice. Each row's created_at is then the import's, and nothing is due before it was booked: the
    found text, which is older, fitted no reminder."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(WIDE_CAPS)
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    deployment.later(HOUR)
    del scene.book["bob"]
    scene.booked(Booked(VISIT, name, client_email=None, client_phone=BOB, booked_before=VISIT - scene.now))
    assert deployment.cycle() == []
    deployment.restore(saved)
    goes_on(deployment)
    for _ in range(2):
        deployment.later(HOUR).cycle()
    assert deployment.phones.heard() == [("sms", BOB)]
    assert deployment.scene.states()[name, 2] == FORGOTTEN


@pytest.mark.parametrize("status", ["booked", "cancelled"])
def test_a_feed_that_imports_the_visits_anew_after_the_loss_was_noticed(
    deployment: RestorableDeployment, status: str
) -> None:
    """Once: mailed twice. By its new due_at the email was not due in what is forgotten. So also where the visit is off
    when the ledger recovers, and on again afterwards."""
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(FAR, "ada", client_phone=None))
    assert deployment.later().cycle() == ["email"]
    deployment.restore(saved)
    deployment.later().check()
    scene = deployment.later().scene
    scene.changed("ada", booked_before=FAR - scene.now, status=status)
    goes_on(deployment)
    scene.changed("ada", status="booked")
    deployment.later(HOUR).cycle()
    assert scene.addresses() == ["ada@example.com"]
    assert scene.states()["ada", 1] == FORGOTTEN


def test_office_hours_that_were_changed_in_the_forgotten_time(deployment: RestorableDeployment) -> None:
    """Texts from eight on, since the dump: the restored ledger has nine again, as of which nothing was due at half past
    eight."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(WIDE_CAPS)
    deployment.phones.at(WEDNESDAY_2PM + 18 * HOUR)
    deployment.cycle()
    saved = deployment.dump()
    scene = deployment.scene
    scene.owner.execute("UPDATE reminders.account_policy SET opens = '8:00'")
    scene.booked(Booked(WEDNESDAY_2PM + 42 * HOUR + 15 * MINUTE, "bob", client_email=None, client_phone=BOB))
    assert deployment.later(30 * MINUTE).cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later(30 * MINUTE)
    goes_on(deployment)
    for _ in range(3):
        deployment.later(20 * MINUTE).cycle()
    assert deployment.phones.heard() == [("sms", BOB)]
    assert deployment.scene.states()["bob", 2] == FORGOTTEN


def test_a_clients_zone_that_was_put_right_in_the_forgotten_time(deployment: RestorableDeployment) -> None:
    """Nine in the morning came at nine in UTC then, and comes at one in the afternoon by now."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(WIDE_CAPS)
    slot = WEDNESDAY_2PM + 42 * HOUR
    deployment.phones.at(slot - 23 * HOUR - 5 * MINUTE)
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(slot, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    deployment.scene.changed("bob", client_zone="America/Halifax")
    deployment.later(4 * HOUR).restore(saved)
    goes_on(deployment)
    assert deployment.phones.heard() == [("sms", BOB)]
    assert deployment.scene.states()["bob", 2] == FORGOTTEN


def test_a_text_that_may_have_been_another_visits_is_no_proof(deployment: RestorableDeployment) -> None:
    """It is within the window of one visit, and can have been the other's, which was moved since."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(WIDE_CAPS)
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "told", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.scene.booked(Booked(VISIT + 90 * MINUTE, "later", client_email=None, client_phone=ADA))
    deployment.later(HOUR)
    goes_on(deployment)
    assert deployment.phones.heard() == [("sms", ADA)]
    states = deployment.scene.states()
    assert (states["told", 2], states["later", 2]) == (FORGOTTEN, FORGOTTEN)
