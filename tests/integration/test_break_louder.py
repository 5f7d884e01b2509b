# ruff: noqa: E501, ARG001
"""Attempts at a breach; a docstring tells what went wrong once: a call without proof, or sooner than the client could answer, because we were late or wrong."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from reminders.channels.mail import refusal
from reminders.channels.twilio_codes import final_status
from reminders.model import Channel
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels

LADDER = "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait) VALUES "
VISIT = WEDNESDAY_2PM + 3.5 * HOUR


def own_ladder(scene: Scene, *steps: str) -> None:
    with scene.owner.transaction():
        scene.owner.execute("DELETE FROM reminders.cadence_step WHERE account_id = 'clinic'")
        scene.owner.execute(LADDER + ", ".join(f"('clinic', {step})" for step in steps))


def test_a_country_that_was_forbidden_by_mistake_for_an_hour_is_no_excuse_for_a_call(scene: Scene) -> None:
    """Our own misconfiguration (permitted_country) suppressed the text; put right, the phone rings without proof."""
    scene.booked(Booked(VISIT, client_email=None))
    scene.at(VISIT - 48 * HOUR).cycle()
    scene.owner.execute("DELETE FROM reminders.permitted_country WHERE country = 'GB'")
    scene.at(VISIT - 5 * HOUR).cycle()
    scene.owner.execute("INSERT INTO reminders.permitted_country VALUES ('GB')")
    scene.at(VISIT - 3.5 * HOUR).cycle()
    assert channels(scene.reached) == []


def test_a_book_that_lost_its_clients_for_an_hour_is_no_excuse_for_calls(scene: Scene) -> None:
    """The client table is empty while the texts come due: all end no_address, and later every phone rings instead."""
    rows = [
        Booked(VISIT + i * MINUTE, f"a{i}", f"account-{i}", client_email=None, client_phone=f"+4420794600{i:02d}")
        for i in range(20)
    ]
    scene.booked(*rows)
    scene.at(VISIT - 48 * HOUR).cycle()
    for row in rows:
        scene.changed(row.appointment_id, client_phone=None, client_name=None)
    scene.at(VISIT - 23 * HOUR).cycle()
    for row in rows:
        scene.booked(row)
    scene.at(VISIT - 3.5 * HOUR).cycle()
    assert channels(scene.reached) == []


def test_a_text_rung_that_came_too_late_to_exist_is_not_skipped_on_the_way_to_a_call(scene: Scene) -> None:
    """No email address, and booked after the text's window: the rows that exist are all unreachable, so it rings."""
    own_ladder(
        scene,
        "1, 'email', '72 hours', '1 hour', '0'",
        "2, 'sms', '24 hours', '6 hours', '0'",
        "3, 'call', '4 hours', '1 hour', '1 hour'",
    )
    scene.at(VISIT - 3.5 * HOUR)
    scene.booked(Booked(VISIT, client_email=None, booked_before=timedelta(hours=5))).cycle()
    assert channels(scene.reached) == []


def test_a_call_leaves_the_time_to_answer_the_proof_that_it_rests_on(scene: Scene) -> None:
    """The text was missed by us, the late email has just gone: the wait counts from the missed text, so it rings at once."""
    own_ladder(
        scene,
        "1, 'email', '72 hours', '1 hour', '0'",
        "2, 'sms', '24 hours', '5 hours', '0'",
        "3, 'call', '4 hours', '1 hour', '2 hours'",
    )
    scene.booked(Booked(VISIT))
    assert channels(scene.at(VISIT - 4 * HOUR - 5 * MINUTE).cycle()) == ["email"]
    assert scene.at(VISIT - 4 * HOUR).cycle() == []


def test_a_call_waits_for_an_email_that_can_still_go(scene: Scene) -> None:
    """Late by our fault: the call is given up as missed_by_us while the email below it is still to go (never louder)."""
    own_ladder(
        scene,
        "1, 'email', '72 hours', '1 hour', '0'",
        "2, 'sms', '24 hours', '5 hours', '0'",
        "3, 'call', '4 hours', '1 hour', '0'",
    )
    scene.booked(Booked(VISIT))
    scene.at(VISIT - 4 * HOUR)
    batches = scene.prepare()
    before = scene.states()["appointment-1", 3]
    scene.send(batches)
    assert before[0] == "pending"


def test_a_ladder_replaced_does_not_swallow_the_text_and_ring(scene: Scene) -> None:
    """Own ladder text, call: the email of the house's ladder holds key 1, so no text row would be made, and it would ring."""
    scene.booked(Booked(VISIT))
    assert channels(scene.at(VISIT - 30 * HOUR).cycle()) == ["email"]
    with pytest.raises(psycopg.errors.CheckViolation, match="appointments still ahead"):
        own_ladder(scene, "1, 'sms', '24 hours', '2 hours', '0'", "2, 'call', '4 hours', '1 hour', '1 hour'")
    for before in (24, 23, 22, 6, 3.5, 2.5, 1.5):
        scene.at(VISIT - before * HOUR).cycle()
    assert channels(scene.reached) == ["call", "email", "sms"], "the ladder that was theirs goes on"


def test_a_relay_that_refuses_us_does_not_ring_anybody(scene: Scene) -> None:
    """Every email 'failed' for our relay's sake, the texts held or missed: has_proof is true for all, and all phones ring."""

    def not_permitted(contact: object) -> object:
        raise refusal(550, b"relay not permitted")

    scene.booked(Booked(VISIT))
    scene.answer = not_permitted  # type: ignore[assignment]
    scene.at(VISIT - 30 * HOUR).cycle()
    scene.answer = None
    scene.at(VISIT - 3.5 * HOUR)  # we were away for the whole of the text's window but its end
    scene.owner.execute("UPDATE reminders.cadence_step SET useful_until = '4 hours' WHERE step = 2")
    scene.cycle()
    assert channels(scene.reached) == []


def test_a_text_that_failed_without_a_code_is_no_proof() -> None:
    """status failed, error_code null: nobody said that it was the address, and yet the reason opens the call."""
    ended = final_status(Channel.SMS, "failed", "")
    assert ended == ("undelivered", "refused_unexplained")


def test_a_suppressed_email_alone_opens_the_text_and_not_the_call(scene: Scene) -> None:
    """Held: no address for the email, text missed by us: no call."""
    scene.booked(Booked(VISIT, client_email=None))
    scene.owner.execute("UPDATE reminders.cadence_step SET useful_until = '4 hours' WHERE step = 2")
    scene.at(VISIT - 3.5 * HOUR).cycle()
    assert channels(scene.reached) == []


def test_a_house_ladder_cut_to_its_call_does_not_ring_whom_we_missed(scene: Scene) -> None:
    """Held: rungs missed under the old ladder stay in the ledger, and the call finds no proof."""
    scene.booked(Booked(VISIT))
    scene.at(VISIT - 20 * HOUR).hold()
    scene.cycle()
    scene.release()
    own_ladder(scene, "3, 'call', '4 hours', '1 hour', '0'")
    scene.at(VISIT - 1.5 * HOUR).cycle()
    assert "call" not in channels(scene.reached)
