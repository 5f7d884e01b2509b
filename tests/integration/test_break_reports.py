"""Attempts to have a report, a list or the night's audit misread: what comes too early, too late, or fits two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reminders import failpoints
from reminders.cycle.reconcile import close_dead
from reminders.errors import Doubtful
from reminders.model import Listed
from tests.crash import Crash
from tests.integration.deployment import ADA, FAR, VISIT, RestorableDeployment
from tests.integration.phones import Phones
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, raising

WIDE_CAPS = "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9"
THURSDAY_3AM = WEDNESDAY_2PM + 13 * HOUR
# When a text's answer is awaited, its doubt ends, and the call would be due and go.
LADDER_GOES_ON = [timedelta(hours=hours) for hours in (0.1, 2.1, 20, 20.1, 20.2)]
REPORT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, provider_code, received_at)
SELECT %s, %s, reference, %s, %s FROM reminders.contact"""


def dies(point: str) -> None:
    if point == "record.before_commit":
        raise Crash


@pytest.fixture
def phones(deployment: RestorableDeployment) -> Phones:
    """Ada has a visit tomorrow, and is told by text."""
    deployment.scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    return deployment.phones


def report(phones: Phones, provider_id: str, status: str, code: str = "") -> None:
    phones.scene.owner.execute(REPORT, (provider_id, status, code, phones.scene.now))


def go_on(phones: Phones) -> None:
    for passed in LADDER_GOES_ON:
        phones.at(WEDNESDAY_2PM + passed)
        phones.scene.cycle()
        phones.reconcile()


def nothing_listed(*_: Any) -> Sequence[Listed]:
    return []


def test_a_report_that_overtakes_its_record_is_applied_when_the_worker_has_died(phones: Phones) -> None:
    """`undelivered` of an attempt that is still `sending`: for our configuration, so that no call may follow."""
    with pytest.raises(Crash), failpoints.armed(dies):
        phones.scene.cycle()
    assert phones.attempts() == [("sending", None, False)]
    report(phones, phones.network.log()[0]["sid"], "undelivered", "30007")
    phones.reconcile()
    # A text that it could not send may be missing in the provider's list.
    phones.twilio.listed = nothing_listed  # type: ignore[method-assign]
    go_on(phones)
    assert [channel for channel, _ in phones.heard()] == ["sms"], phones.scene.states()
    assert phones.attempts() == [("undelivered", "misconfigured", True)]


def test_a_doubt_that_was_cancelled_at_the_provider_is_no_proof_for_a_call(phones: Phones) -> None:
    phones.network.fault("sms", "refuse_503_without_accepting")
    phones.scene.cycle()
    report(phones, "SM" + "7" * 32, "canceled")
    phones.reconcile()
    assert phones.attempts() == [("accepted", None, True)]
    phones.twilio.status = lambda *_: ("canceled", "")  # type: ignore[method-assign]
    go_on(phones)
    assert phones.heard() == [], phones.scene.states()
    assert phones.attempts() == [("cancelled", "cancelled_at_provider", True)]


@pytest.mark.parametrize("paused_for", [2.1, 9])
def test_doubt_is_looked_up_before_it_ends_however_long_nobody_reconciled(phones: Phones, paused_for: float) -> None:
    phones.network.fault("sms", "accept_then_500")
    phones.scene.cycle()
    phones.at(WEDNESDAY_2PM + paused_for * HOUR)
    phones.reconcile()
    assert phones.attempts() == [("delivered", "delivered", True)]


def test_what_a_recovery_put_back_as_unknown_is_no_failure_of_the_channel(deployment: RestorableDeployment) -> None:
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(*(Booked(FAR, f"{i}", client_phone=None, client_email=f"c{i}@example.com") for i in range(12)))
    assert len(deployment.later().cycle()) == 12
    deployment.restore(saved)
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    scene = deployment.scene
    scene.booked(Booked(FAR, "doubted", client_phone=None, client_email="d@example.com"))
    scene.answer = raising(Doubtful("no_final_answer"))
    deployment.later().cycle()
    assert scene.states()["doubted", 1][0] == "in_doubt"
    assert scene.holds() == []


# The night's audit


def doubted_twice(phones: Phones) -> None:
    """Two doubts of one number, two minutes apart: which contact is whose nobody can tell."""
    phones.scene.with_a_wide_gate().owner.execute(WIDE_CAPS)
    for name, slot_at in (("ada", VISIT), ("ada's child", VISIT + HOUR)):
        phones.network.fault("sms", "accept_then_500")
        phones.scene.booked(Booked(slot_at, name, client_email=None, client_phone=ADA)).cycle()
        phones.at(phones.scene.now + 2 * MINUTE)
    assert [state for state, _, _ in phones.attempts()] == ["in_doubt"] * 2
    for passed in (12 * MINUTE, 3 * HOUR):
        phones.at(phones.scene.now + passed)
        phones.reconcile()


def test_two_doubts_of_one_number_explain_two_contacts(phones: Phones) -> None:
    doubted_twice(phones)
    phones.at(THURSDAY_3AM)
    assert phones.audit()["breaches"] == {}


def test_two_doubts_of_one_number_explain_no_third_contact(phones: Phones) -> None:
    doubted_twice(phones)
    listed = phones.twilio.listed

    def one_more(*asked: Any) -> list[Listed]:
        found = list(listed(*asked))
        return [*found, *(replace(each, provider_id="SM" + "9" * 32) for each in found[:1])]

    phones.twilio.listed = one_more  # type: ignore[method-assign]
    phones.at(THURSDAY_3AM)
    assert phones.audit()["breaches"] == {"contacts that the ledger does not know": 1}


def test_a_doubt_of_long_before_a_restore_explains_its_contact(
    deployment: RestorableDeployment, phones: Phones
) -> None:
    phones.network.fault("sms", "accept_then_500")
    deployment.cycle()
    phones.twilio.listed, listed = nothing_listed, phones.twilio.listed  # type: ignore[method-assign]
    phones.at(WEDNESDAY_2PM + 15 * MINUTE)
    phones.reconcile()
    phones.at(WEDNESDAY_2PM + 3 * HOUR)
    close_dead(phones.scene.ledger, phones.scene.now)
    assert phones.attempts() == [("unknown", "no_proof", False)]
    phones.twilio.listed = listed  # type: ignore[method-assign]
    deployment.cycle()
    deployment.restore(deployment.dump())
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    phones.at(THURSDAY_3AM)
    assert phones.audit()["breaches"] == {}


@pytest.mark.parametrize("breaches", [{}, {"P4: a reminder still waits after its appointment began": 1}])
def test_only_what_a_cycle_has_left_waiting_breaks_the_promise(phones: Phones, breaches: dict[str, int]) -> None:
    """In a night in which the DAG is paused nothing comes to its end."""
    scene = phones.scene.booked(Booked(WEDNESDAY_2PM + 8 * HOUR, "ada", client_email=None, client_phone=ADA))
    scene.is_paused = lambda: True
    scene.cycle()
    phones.at(THURSDAY_3AM)
    if breaches:
        scene.owner.execute("UPDATE reminders.cycle SET judged_at = %s", [scene.now - HOUR])
    assert phones.audit()["breaches"] == breaches
