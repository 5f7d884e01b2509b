"""What the provider says late about an attempt still has its consequence: silence for a person, a stop for us."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reminders.channels.twilio_codes import final_status
from reminders.cycle.dispatch import outcome
from reminders.cycle.reconcile import close_dead, closing, poll
from reminders.errors import Misconfigured, OptedOut
from reminders.model import Acceptance, Channel, Contact
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

VISIT = WEDNESDAY_2PM + 23 * HOUR


def text_that_is(scene: Scene, state: str) -> int:
    """A text of yesterday in this state; the number of its attempt."""

    def lost(_contact: Contact) -> Acceptance:
        raise TimeoutError

    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, client_email=None))
    scene.answer = (lambda _: Acceptance("SM1", "queued")) if state == "accepted" else lost
    scene.cycle()
    scene.answer = None
    if state == "unknown":
        scene.look_up_in_vain()
        close_dead(scene.ledger, scene.now + 121 * MINUTE)
    [(attempt_id, found)] = scene.owner.execute("SELECT attempt_id, state FROM reminders.attempt").fetchall()
    assert found == state
    return int(attempt_id)


def suppressions(scene: Scene) -> list[tuple[str, str]]:
    return scene.owner.execute("SELECT channel, reason FROM reminders.suppression").fetchall()


def holds(scene: Scene) -> list[tuple[str, str]]:
    return [(hold["scope"], hold["scope_value"]) for hold in scene.ledger.holds()]


@pytest.mark.parametrize("state", ["accepted", "in_doubt", "unknown"])
def test_an_opt_out_after_the_fact_silences_the_address(scene: Scene, state: str) -> None:
    attempt_id = text_that_is(scene, state)
    late = scene.now + 3 * HOUR
    assert scene.ledger.record([closing(attempt_id, "undelivered", "opted_out", code="21610")], late) == 1
    assert (suppressions(scene), holds(scene)) == ([("*", "opted_out")], [])
    assert scene.at(VISIT - 3 * HOUR).cycle() == []
    assert scene.states()["appointment-1", 3] == ("suppressed", "opted_out")


@pytest.mark.parametrize("state", ["accepted", "in_doubt", "unknown"])
def test_our_configuration_refused_after_the_fact_holds_the_channel(scene: Scene, state: str) -> None:
    attempt_id = text_that_is(scene, state)
    late = scene.now + 3 * HOUR
    assert scene.ledger.record([closing(attempt_id, "undelivered", "misconfigured", code="30034")], late) == 1
    assert (suppressions(scene), holds(scene)) == ([], [("channel", "sms")])
    scene.booked(Booked(VISIT + 10 * HOUR, "another", client_email=None, client_phone="+442079460019"))
    assert scene.at(VISIT - HOUR).cycle() == []


@pytest.mark.parametrize(
    ("code", "reason", "stops"),
    [
        ("21610", "opted_out", []),
        ("30007", "misconfigured", [("channel", "sms")]),
        ("30034", "misconfigured", [("channel", "sms")]),
        ("39999", "misconfigured", [("channel", "sms")]),
        ("30006", "bad_address", []),
        ("30003", "unreachable", []),
        ("30036", "too_late", []),
    ],
)
def test_what_the_provider_says_when_asked(scene: Scene, code: str, reason: str, stops: list[tuple[str, str]]) -> None:
    text_that_is(scene, "accepted")

    def status_of(_channel: Channel, _provider_id: str) -> tuple[str, str]:
        return "undelivered", code

    counts = poll(scene.ledger, status_of, final_status, scene.now + MINUTE)
    assert counts == {"asked": 1, "ended": 1, "unreadable": 0}
    assert scene.states()["appointment-1", 2] == ("undelivered", reason)
    assert holds(scene) == stops
    assert suppressions(scene) == ([("*", "opted_out")] if reason == "opted_out" else [])


def text_of_a_slow_worker(scene: Scene) -> int:
    """Reconcile has called the attempt doubtful before its worker, which was slow, could record the answer."""

    def slow(_contact: Contact) -> Acceptance:
        raise KeyboardInterrupt

    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, client_email=None))
    scene.answer = slow
    with pytest.raises(KeyboardInterrupt):
        scene.cycle()
    scene.answer = None
    assert close_dead(scene.ledger, scene.now + 2 * MINUTE)["attempts_past_deadline"] == 1
    [(attempt_id,)] = scene.owner.execute("SELECT attempt_id FROM reminders.attempt").fetchall()
    return int(attempt_id)


def test_an_opt_out_that_a_slow_worker_was_told_silences_the_address(scene: Scene) -> None:
    attempt_id = text_of_a_slow_worker(scene)
    late = scene.now + timedelta(seconds=130)
    scene.ledger.record([outcome(attempt_id, OptedOut("opted_out", "21610"), late)], late)
    assert suppressions(scene) == [("*", "opted_out")]


def test_a_configuration_that_a_slow_worker_found_wrong_holds_the_channel(scene: Scene) -> None:
    attempt_id = text_of_a_slow_worker(scene)
    late = scene.now + timedelta(seconds=130)
    scene.ledger.record([outcome(attempt_id, Misconfigured("misconfigured", "20003"), late)], late)
    assert holds(scene) == [("channel", "sms")]
