"""Attempts to end a doubt that the provider's list could prove, and to take its contact for one that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reminders.errors import Doubtful
from reminders.model import Listed
from tests.integration.deployment import ADA, VISIT, RestorableDeployment
from tests.integration.phones import Phones
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene
from tests.integration.test_break_reports import THURSDAY_3AM, go_on
from tests.simulator.client import Simulator


def doubted(phones: Phones) -> None:
    """Ada's text was taken, and nobody knows."""
    phones.network.fault("sms", "accept_then_500")
    phones.scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).cycle()
    assert phones.attempts() == [("in_doubt", None, False)]


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="a list that had no answer counts as having been asked")
def test_a_doubt_whose_list_had_no_answer_does_not_end_before_it_has(deployment: RestorableDeployment) -> None:
    """It counts as looked up before the list has answered, and ends `no_proof`; of a text that our own configuration
    stopped, as the list says from then on, a call follows."""
    phones = deployment.phones
    doubted(phones)
    listed = phones.twilio.listed

    def down(*_: Any) -> Sequence[Listed]:
        raise Doubtful("timeout")

    def up(*asked: Any) -> Sequence[Listed]:
        return [replace(each, status="undelivered", code="30007") for each in listed(*asked)]

    phones.twilio.listed = down  # type: ignore[method-assign]
    phones.at(WEDNESDAY_2PM + HOUR)
    assert phones.reconcile()["unreadable_lists"] == 1
    phones.twilio.listed = up  # type: ignore[method-assign]
    phones.at(WEDNESDAY_2PM + 2 * HOUR + MINUTE)
    phones.reconcile()
    go_on(phones)
    assert [channel for channel, _ in phones.heard()] == ["sms"], phones.attempts()


AHEAD_OF_A_MINUTE = pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="a found contact may be a minute before its intent, no more"
)


@pytest.mark.parametrize(
    "behind", [0, 50, pytest.param(90, marks=AHEAD_OF_A_MINUTE), pytest.param(119, marks=AHEAD_OF_A_MINUTE)]
)
def test_a_provider_whose_clock_is_behind_a_workers(scene: Scene, behind: int) -> None:
    """Preflight lets a worker be two minutes ahead of the ledger; a contact that was made so long before its intent is
    no doubt's, and the audit holds everything for it."""
    scene.at(WEDNESDAY_2PM)
    with Simulator.start(speed=0, start=scene.now - timedelta(seconds=behind)) as network:
        phones = Phones(scene, network)
        doubted(phones)
        for passed in (15 * MINUTE, 3 * HOUR):
            phones.at(WEDNESDAY_2PM + passed)
            phones.reconcile()
        phones.at(THURSDAY_3AM)
        assert phones.audit()["breaches"] == {}
        assert phones.attempts() == [("delivered", "delivered", True)]
