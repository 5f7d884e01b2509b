"""What tests/model, the model of the protocol, led to, all around a restore: contacted twice, or told to nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.deployment import ADA, FAR, VISIT, RestorableDeployment
from tests.integration.scene import HOUR, MINUTE, Booked

SHORT_GAP = "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9"


def test_a_forgotten_contact_is_no_proof_for_a_doubt_that_is_remembered(deployment: RestorableDeployment) -> None:
    """Of two texts to a number the first was refused without a word and is in doubt; the second is forgotten.

    The variant `list_proves_nothing_of_before`. It takes a gap shorter than the six minutes in which a contact fits.
    """
    deployment.scene.owner.execute(SHORT_GAP)
    deployment.scene.booked(Booked(VISIT, "doubted", client_email=None, client_phone=ADA)).with_a_wide_gate()
    deployment.phones.network.fault("sms", "refuse_503_without_accepting")
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT + HOUR, "forgotten", client_email=None, client_phone=ADA))
    assert deployment.later(4 * MINUTE).cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later(MINUTE).cycle()
    deployment.recovered()
    deployment.release()
    deployment.later().cycle()
    assert deployment.phones.heard() == [("sms", ADA)]
    assert deployment.scene.states()["doubted", 2] == ("in_doubt", None)


def test_a_restore_while_preflight_looks_is_noticed(
    deployment: RestorableDeployment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variant `checked_is_what_was_compared`: the restore comes between the comparison and the reservation."""
    scene = deployment.scene.booked(Booked(VISIT, client_email=None, client_phone=ADA)).with_a_wide_gate()
    deployment.check()
    batch_ids = scene.prepare()
    saved = deployment.dump()
    scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]
    deployment.later(timedelta(minutes=5))
    monkeypatch.setattr(scene.ledger, "reserve_attempts", after(deployment, saved, scene.ledger.reserve_attempts))
    deployment.check()
    deployment.reconnect(deployment.database)
    deployment.scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]


def test_a_forgotten_contact_that_may_have_been_anothers_is_no_delivery(deployment: RestorableDeployment) -> None:
    """The variant `recovery_minds_the_expired`: the text was about a visit that is cancelled when the list is read."""
    deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "cancelled", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.scene.changed("cancelled", status="cancelled")
    deployment.scene.booked(Booked(VISIT - HOUR, "another", client_email=None, client_phone=ADA))
    deployment.later().cycle()
    deployment.recovered()
    assert deployment.scene.states()["another", 2] == ("unknown", "forgotten")


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "forgotten"])
@pytest.mark.parametrize("status", ["cancelled", "confirmed"])
@pytest.mark.parametrize(("visit", "address"), [(VISIT, "client_email"), (FAR, "client_phone")], ids=["sms", "email"])
def test_who_is_off_while_the_ledger_recovers_and_on_again_is_not_told_twice(
    deployment: RestorableDeployment, visit: datetime, address: str, status: str, is_known: bool
) -> None:
    """No variant: in the model the reminder of a forgotten contact is there while recovery looks for it."""
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    booked = replace(Booked(visit, "visit", client_phone=ADA), **{address: None})
    if is_known:
        scene.booked(booked).prepare()
    saved = deployment.dump()
    scene.booked(booked)
    told = deployment.later().cycle()
    assert len(told) == 1
    deployment.restore(saved)
    deployment.scene.changed("visit", status=status)
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    deployment.scene.changed("visit", status="booked")
    assert deployment.later().cycle() == []
    assert deployment.later(19 * HOUR).cycle() == []
    step = {"email": 1, "sms": 2}[told[0]]
    assert deployment.scene.states()["visit", step] == ("unknown", "forgotten")


def test_a_found_contact_that_may_be_a_doubts_is_no_delivery(deployment: RestorableDeployment) -> None:
    """The variant `match_has_no_rival`: the text is the remembered attempt's; of the other visit nobody was told."""
    deployment.scene.owner.execute(SHORT_GAP)
    deployment.scene.booked(Booked(VISIT, "doubted", client_email=None, client_phone=ADA)).with_a_wide_gate()
    deployment.phones.network.fault("sms", "accept_then_500")
    deployment.cycle()
    saved = deployment.dump()
    deployment.restore(saved)
    deployment.scene.booked(Booked(VISIT + HOUR, "another", client_email=None, client_phone=ADA))
    deployment.later(MINUTE).cycle()
    deployment.recovered()
    assert deployment.scene.states()["another", 2] == ("unknown", "forgotten")


def after(deployment: RestorableDeployment, saved: Any, reserve: Callable[..., int]) -> Callable[..., int]:
    """`reserve_attempts`, once the ledger was put back under the connection that asks for it."""

    def restored_first(*arguments: Any) -> int:
        deployment.put_back(saved)
        return reserve(*arguments)

    return restored_first
