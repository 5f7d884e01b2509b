"""Attempts to have the audit hold everything on an ordinary day, or say what is not so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.integration.phones import SENDER, Phones, placed
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene
from tests.simulator.client import Simulator

THURSDAY_3AM = WEDNESDAY_2PM + 13 * HOUR
LADDER = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES (%s, %s, %s, %s, '1 hour', '0')
"""
REPORT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, received_at) VALUES (%s, %s, %s, %s)
"""


@pytest.fixture
def phones(scene: Scene) -> Iterator[Phones]:
    scene.at(WEDNESDAY_2PM).with_a_wide_gate()
    yield from placed(scene)


def test_a_step_that_an_operator_adds_to_a_ladder_makes_no_breach_of_yesterdays_calls(phones: Phones) -> None:
    """Once: false alarm. Whether a client could be reached by the rungs below a call is asked of the ladder as it is
    now, and not as it was when the call was made."""
    scene = phones.scene
    scene.owner.execute(LADDER, ("vet", 1, "email", "72 hours"))
    scene.owner.execute(LADDER, ("vet", 3, "call", "4 hours"))
    scene.booked(Booked(WEDNESDAY_2PM + 3 * HOUR, account_id="vet", client_email=None)).cycle()
    assert [channel for channel, _ in phones.heard()] == ["call"]
    phones.at(scene.now + 10 * MINUTE)
    phones.reconcile()
    scene.owner.execute(LADDER, ("vet", 2, "sms", "24 hours"))
    phones.at(THURSDAY_3AM)
    assert phones.audit()["breaches"] == {}


def test_a_late_report_of_a_call_does_not_make_it_last_until_then(phones: Phones) -> None:
    """Once: false alarm. What was unknown and is proved later ends at the time of the proof, so that the call seems to
    have rung while a later one to the same number did."""
    scene = phones.scene
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 2")
    for account in ("vet", "spa"):
        scene.owner.execute(LADDER, (account, 1, "call", "4 hours"))
    scene.booked(Booked(WEDNESDAY_2PM + HOUR + 15 * MINUTE, "a", account_id="vet", client_email=None))
    phones.network.fault("call", "accept_then_500")
    scene.cycle()
    [(reference,)] = scene.owner.execute("SELECT reference FROM reminders.contact").fetchall()
    phones.at(WEDNESDAY_2PM + 16 * MINUTE).look_up_in_vain()
    phones.reconcile()
    assert phones.attempts() == [("unknown", "no_proof", False)]
    scene.booked(Booked(WEDNESDAY_2PM + 5 * HOUR, "b", account_id="spa", client_email=None))
    phones.at(WEDNESDAY_2PM + 2 * HOUR + 5 * MINUTE).cycle()
    phones.at(scene.now + 10 * MINUTE)
    scene.owner.execute(REPORT, (phones.network.calls()[0]["sid"], "completed", reference, scene.now))
    phones.reconcile()
    assert phones.attempts() == [("delivered", "completed", True), ("delivered", "completed", True)]
    phones.at(THURSDAY_3AM)
    assert phones.audit()["breaches"] == {}


def test_what_a_recovery_has_taken_over_is_not_proved_each_night(phones: Phones) -> None:
    """Once: a figure. `proved` counts all that only the list has less what is foreign, also what is known as found."""
    phones.twilio._client.messages.create(to="+442079460018", from_=SENDER, body="from the console")
    phones.at(THURSDAY_3AM)
    phones.audit()
    phones.at(phones.scene.now + 11 * MINUTE)
    phones.reconcile()
    assert phones.audit()["proved"] == 0


def test_a_text_a_second_before_midnight_that_the_provider_took_after_it(scene: Scene) -> None:
    """In neither night's audit is it a breach."""
    scene.at(WEDNESDAY_2PM + 10 * HOUR - timedelta(seconds=1)).with_a_wide_gate()
    zone = "America/Los_Angeles"
    scene.booked(Booked(scene.now + 23 * HOUR + timedelta(seconds=1), client_email=None, client_zone=zone))
    with Simulator.start(speed=0, start=scene.now + timedelta(seconds=2)) as network:
        phones = Phones(scene, network)
        scene.cycle()
        assert len(phones.heard()) == 1
        phones.at(scene.now + 10 * MINUTE)
        phones.reconcile()
        for night in (THURSDAY_3AM, THURSDAY_3AM + timedelta(days=1)):
            phones.at(night)
            assert phones.audit()["breaches"] == {}
