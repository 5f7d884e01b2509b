"""Attempts to have wrong proof taken, proof missed, or a line rung twice while a call is in doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from reminders.channels.telephony import Twilio, final_status
from reminders.cycle import doubts
from reminders.cycle.doubts import apply_events
from reminders.cycle.extract import extract
from reminders.errors import Doubtful
from reminders.model import Channel
from reminders.store.evidence import Evidence
from tests.integration.phones import SENDER, Phones, placed
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene, raising
from tests.simulator import network

VISIT = WEDNESDAY_2PM + 23 * HOUR
PHONE = "+442079460018"
REPORT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, received_at)
SELECT %s, %s, reference, %s FROM reminders.contact ORDER BY contact_id DESC LIMIT 1
"""
CALLS_ONLY = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES (%s, 1, 'call', '4 hours', '1 hour', '0')
"""


@pytest.fixture
def phones(scene: Scene) -> Iterator[Phones]:
    scene.at(WEDNESDAY_2PM)
    yield from placed(scene)


def reported(phones: Phones, sid: str, status: str) -> list[tuple[object, ...]]:
    """The attempts after a report with the last contact's reference."""
    scene = phones.scene
    scene.owner.execute(REPORT, (sid, status, scene.now))
    apply_events(scene.ledger, Evidence(scene.ledger.connection), final_status, scene.now)
    return phones.attempts()


def test_a_report_of_a_text_proves_nothing_about_an_email(phones: Phones) -> None:
    """Once wrong: wrong proof. Every client reads the reference of an email in its Message-ID; a report with it and a text's
    id makes the email `accepted`, which no poll ends: the text above it waits for up to two days, and expires."""
    scene = phones.scene.booked(Booked(WEDNESDAY_2PM + 71 * HOUR))
    scene.answer = raising(Doubtful("timeout"))
    scene.cycle()
    assert reported(phones, "SM" + "7" * 32, "sent") == [("in_doubt", None, False)]


def test_a_report_of_a_call_proves_nothing_about_a_text(phones: Phones) -> None:
    """Once wrong: wrong proof. The id of a call is kept as the text's, which is asked about as a text for ever after."""
    phones.network.fault("sms", "refuse_503_without_accepting")
    phones.scene.booked(Booked(VISIT, client_email=None)).cycle()
    assert reported(phones, "CA" + "7" * 32, "ringing") == [("in_doubt", None, False)]


def test_doubts_that_nothing_proves_do_not_keep_others_from_being_looked_up(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once wrong: proof is missed. Of all doubts that are ripe the first 50 (here two) are looked up, each time the same
    ones; two hours later all of them are unknown, and the list was never asked about the rest."""
    monkeypatch.setattr(doubts, "MOST_ASKED", 2)
    numbers = ["+442079460101", "+442079460102", "+442079460103"]
    phones.network.fault("sms", "accept_then_500", to=numbers[-1])
    for number in numbers[:-1]:
        phones.network.fault("sms", "refuse_503_without_accepting", to=number)
    for number in numbers:
        phones.scene.booked(Booked(VISIT, number, client_email=None, client_phone=number))
        phones.scene.cycle()
        phones.at(phones.scene.now + MINUTE)
    assert [state for state, _, _ in phones.attempts()] == ["in_doubt"] * 3
    for _ in range(10):
        phones.at(phones.scene.now + 10 * MINUTE)
        phones.reconcile()
    assert phones.scene.states()[numbers[-1], 2][0] == "delivered"


def test_a_reading_of_the_book_that_no_cycle_has_believed_yet_cancels_nothing_at_the_provider(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once wrong: lost. A book that cancels all visits at once is held by merge_ledger, and ends nothing. A reconcile
    between extract_due and merge_ledger takes the reading as it is, and has the provider cancel all that waits
    there."""
    monkeypatch.setattr(network, "_CALL_QUEUED", 300.0)
    scene = phones.scene.with_a_wide_gate()
    scene.owner.execute(CALLS_ONLY, ("vet",))
    names = [f"visit-{number}" for number in range(6)]
    for place, name in enumerate(names):
        number = f"+44207946011{place}"
        scene.booked(Booked(WEDNESDAY_2PM + 3 * HOUR, name, "vet", client_email=None, client_phone=number))
    scene.cycle()
    for name in names:
        scene.changed(name, status="cancelled")
    phones.at(scene.now + MINUTE)
    extract(scene.ledger, scene.read, scene.now, scene.now, SECRET)
    phones.reconcile()
    phones.network.advance(until_idle=True)
    assert len(phones.heard()) == len(names)


def test_a_call_that_may_ring_keeps_the_line_also_when_its_reminder_is_over(
    phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once wrong: two calls ring at once. Doubt ends with the use of its reminder, here seconds after the call was placed:
    the line is free for another account's call, if the gap of an address is a minute."""
    monkeypatch.setattr(network, "_CALL_ENDED", 120.0)
    scene, owner = phones.scene, phones.scene.owner
    owner.execute("UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 2")
    for account in ("vet", "spa"):
        owner.execute(CALLS_ONLY, (account,))
    phones.at(WEDNESDAY_2PM + 2 * HOUR - timedelta(seconds=5))
    scene.booked(Booked(WEDNESDAY_2PM + 3 * HOUR, "a", account_id="vet", client_email=None))
    phones.network.fault("call", "accept_then_500")
    scene.cycle()
    scene.booked(Booked(WEDNESDAY_2PM + 4 * HOUR, "b", account_id="spa", client_email=None))
    phones.at(scene.now + timedelta(seconds=30))
    phones.reconcile()
    phones.at(scene.now + timedelta(seconds=35)).cycle()
    phones.network.advance(until_idle=True)
    assert phones.network.summary()["max_simultaneous_calls"] == 1


def test_what_others_send_from_the_account_does_not_end_our_list_early() -> None:
    """Once wrong: a list that is not complete is taken for one. Texts are listed by the time at which they left, and the
    reading ends at the first that was created a day before the time that is wanted, whoever's it is: a text that
    another system of the same account had scheduled for days hides all of ours that left before it."""
    now = datetime(2026, 2, 11, 14, tzinfo=UTC)

    def text(sid: str, sender: str, created_at: datetime) -> dict[str, object]:
        dates = {"date_created": format_datetime(created_at), "date_sent": format_datetime(now)}
        return {"sid": sid, "from": sender, "to": PHONE, "direction": "outbound-api", "status": "sent", **dates}

    texts = [text("SM1", "+15005550007", now - timedelta(days=3)), text("SM2", SENDER, now - MINUTE)]

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=json.dumps({"messages": texts, "next_page_uri": None}))

    twilio = Twilio("AC1", "x", from_sms=SENDER, from_call=SENDER, transport=httpx.MockTransport(answer))
    assert [each.provider_id for each in twilio.listed(Channel.SMS, now - HOUR)] == ["SM2"]
