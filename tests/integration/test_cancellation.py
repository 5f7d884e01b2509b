"""The one email that an account may want after a cancellation: it clears the calendar of who had an email before."""

from __future__ import annotations

from typing import Any

import pytest

from reminders.model import Acceptance
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels

VISIT = WEDNESDAY_2PM + 48 * HOUR


@pytest.fixture
def emailed(scene: Scene) -> Scene:
    """An account that wants the notice; its client has had the email, and an hour has passed."""
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT))
    assert channels(scene.cycle()) == ["email"]
    return scene.at(WEDNESDAY_2PM + HOUR)


def test_the_notice_goes_once_and_nothing_after_it(emailed: Scene) -> None:
    [notice] = emailed.changed(status="cancelled").cycle()
    assert notice.is_cancellation and notice.visits[0].starts_at == VISIT
    for before in (24, 12, 4, 2):
        assert emailed.at(VISIT - before * HOUR).cycle() == []
    assert emailed.states()["appointment-1", 0] == ("delivered", "relay_accepted")


def test_nobody_gets_one_unless_the_account_wants_it(emailed: Scene) -> None:
    emailed.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = false")
    assert emailed.changed(status="cancelled").cycle() == []
    assert emailed.states() == {("appointment-1", 1): ("delivered", "relay_accepted")}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "cancelled", "client_email": "somebody.else@example.com"},
        {"status": "cancelled", "starts_at": VISIT + HOUR},
        {"status": "confirmed"},
        {"status": "completed"},
    ],
)
def test_an_address_that_had_no_email_about_the_slot_gets_none(emailed: Scene, change: dict[str, Any]) -> None:
    assert emailed.changed(**change).cycle() == []


def test_a_row_gone_from_the_book_is_no_cancellation_that_anybody_hears_of(emailed: Scene) -> None:
    emailed.book.clear()
    assert emailed.cycle() == []


def test_a_cancelled_appointment_that_nobody_was_told_of_stays_silent(scene: Scene) -> None:
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, status="cancelled"))
    assert scene.cycle() == []
    assert scene.states() == {}


def test_taken_back_before_it_went_it_does_not_go(emailed: Scene) -> None:
    emailed.changed(status="cancelled").prepare()
    assert emailed.changed(status="booked").at(WEDNESDAY_2PM + HOUR + 5 * MINUTE).cycle() == []
    assert emailed.states()["appointment-1", 0] == ("superseded", "reinstated")


def test_a_notice_is_no_proof_for_a_call(emailed: Scene) -> None:
    emailed.changed(status="cancelled").cycle()
    proof = emailed.owner.execute("SELECT reminders.has_proof('clinic', 'appointment-1', %s, 1::smallint)", (VISIT,))
    assert proof.fetchone() == (False,)


def test_a_notice_is_never_in_one_email_with_a_reminder(emailed: Scene) -> None:
    emailed.changed(status="cancelled").booked(Booked(VISIT + HOUR, "another"))
    [first] = emailed.cycle()
    [second] = emailed.at(WEDNESDAY_2PM + 2 * HOUR).cycle()
    assert [(contact.is_cancellation, len(contact.visits)) for contact in (first, second)] == [(True, 1), (False, 1)]


def test_a_notice_waits_for_holds_like_everything_else(emailed: Scene) -> None:
    emailed.hold()
    assert emailed.changed(status="cancelled").cycle() == []
    assert emailed.states()["appointment-1", 0] == ("held", "on_hold")


def test_a_notice_in_doubt_is_never_repeated(emailed: Scene) -> None:
    def vanish(_contact: object) -> Acceptance:
        raise ValueError("nobody foresaw this")

    emailed.answer = vanish
    emailed.changed(status="cancelled").cycle()
    emailed.answer = None
    assert emailed.at(WEDNESDAY_2PM + 4 * HOUR).cycle() == []
