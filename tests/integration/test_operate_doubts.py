"""What an operator is told of doubt and of a recovery: a list, how far it is, and when the hold can be released."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from reminders.cycle.reconcile import close_dead
from reminders.errors import Doubtful, HoldError
from reminders.store.evidence import Evidence
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, raising

Operate = Callable[..., str]
VISIT = WEDNESDAY_2PM + 23 * HOUR
PHONE = "+442079460018"


@pytest.fixture
def doubtful(scene: Scene) -> Scene:
    """A text is in doubt."""
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, "ada", client_email=None, client_phone=PHONE))
    scene.answer = raising(Doubtful("timeout"))
    scene.cycle()
    return scene


def test_doubt_and_what_ended_unknown_are_on_a_persons_list(doubtful: Scene, operate: Operate) -> None:
    first = operate("doubts")
    assert "in_doubt" in first and "clinic" in first and "ada" in first and "2 sms" in first
    doubtful.look_up_in_vain()
    close_dead(doubtful.ledger, doubtful.now + 3 * HOUR)
    assert "unknown" in operate("doubts") and "no_proof" in operate("doubts")


@pytest.mark.usefixtures("doubtful")
def test_the_list_has_no_number_and_no_name(operate: Operate) -> None:
    assert PHONE[3:] not in operate("doubts") and "Ada Sample" not in operate("doubts")
    assert "+44" in operate("doubts"), "the number is masked"


def test_without_doubt_the_list_says_so(operate: Operate) -> None:
    assert operate("doubts") == "no contact of the last 7 days is in doubt"


def test_doubt_of_last_week_is_not_listed(doubtful: Scene, operate: Operate) -> None:
    doubtful.at(WEDNESDAY_2PM + timedelta(days=8))
    assert operate("doubts") == "no contact of the last 7 days is in doubt"


def test_the_holds_say_how_far_a_recovery_is(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM).ledger.begin_recovery("the ledger has forgotten", 1_000)
    hold = scene.hold_in_force()
    assert "the ledger has forgotten" in operate("holds")
    assert "the provider's list is read from 2026-02-11 14:10 UTC on" in operate("holds")
    with pytest.raises(HoldError, match="provider's list"):
        operate("release", hold, "--by", "Ana")
    evidence = Evidence(scene.ledger.connection)
    scene.at(WEDNESDAY_2PM + 11 * MINUTE)
    evidence.note_found(evidence.recovery(), [])
    assert "knew 0 contacts more, which the next cycle takes over" in operate("holds")
    scene.at(WEDNESDAY_2PM + 15 * MINUTE).cycle()
    assert "it can be released" in operate("holds")
    assert operate("release", hold, "--by", "Ana").startswith(f"released {hold}")
