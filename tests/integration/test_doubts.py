"""Doubt is resolved by the provider's own word alone, and a doubtful contact is never made again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from reminders.channels.twilio_codes import final_status
from reminders.cycle.doubts import apply_events, matches
from reminders.model import Acceptance, Channel, Contact, Listed
from reminders.store.evidence import Evidence
from tests.integration.phones import Phones, placed
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene
from tests.simulator import network

VISIT = WEDNESDAY_2PM + 23 * HOUR
PHONE = "+442079460018"
EVENT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, provider_code, received_at)
VALUES (%(provider_id)s, %(status)s, %(reference)s, %(code)s, %(at)s)"""
FAULTS = ["accept_then_500", "accept_then_reset", "accept_then_truncate"]


@pytest.fixture
def phones(scene: Scene) -> Iterator[Phones]:
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, client_email=None))
    yield from placed(scene)


def doubtful(phones: Phones, fault: str = "accept_then_500") -> Phones:
    """The day's text is in doubt."""
    phones.network.fault("sms", fault)
    phones.scene.cycle()
    assert phones.attempts() == [("in_doubt", None, False)]
    return phones


def settled(phones: Phones) -> Phones:
    """The provider's list is settled, and a cycle has passed without anybody being contacted again."""
    phones.at(phones.scene.now + 12 * MINUTE).cycle()
    return phones


def report(phones: Phones, status: str, reference: str | None = None, code: str = "", sid: str = "") -> None:
    """What the webhook would put into the inbox."""
    values = {"status": status, "reference": reference, "code": code, "at": phones.scene.now}
    phones.scene.owner.execute(EVENT, {**values, "provider_id": sid or phones.network.log()[0]["sid"]})


def reference(phones: Phones) -> str:
    [(found,)] = phones.scene.owner.execute("SELECT reference::text FROM reminders.contact").fetchall()
    return str(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_match_in_the_settled_list_is_proof(phones: Phones, fault: str) -> None:
    settled(doubtful(phones, fault)).reconcile()
    assert phones.attempts() == [("delivered", "delivered", True)]
    assert phones.scene.states()["appointment-1", 2] == ("delivered", "delivered")
    assert phones.heard() == [("sms", PHONE)]


def test_a_list_that_is_not_settled_is_not_asked(phones: Phones) -> None:
    counts = doubtful(phones).reconcile()
    assert (counts["looked_up"], phones.attempts()) == (0, [("in_doubt", None, False)])


def test_an_empty_list_proves_nothing(phones: Phones) -> None:
    """The provider took nothing, and nobody can know: nobody is contacted again, and a person finds it on a list."""
    settled(doubtful(phones, "refuse_503_without_accepting")).reconcile()
    assert phones.attempts() == [("in_doubt", None, False)]
    phones.at(WEDNESDAY_2PM + 2 * HOUR + MINUTE).cycle()
    phones.reconcile()
    assert phones.attempts() == [("unknown", "no_proof", False)]
    assert phones.heard() == []


def test_two_that_fit_prove_nothing(phones: Phones) -> None:
    """Somebody texted the client from the same sender at the same time: which of the two is ours nobody can tell."""
    doubtful(phones)
    phones.twilio._client.messages.create(to=PHONE, from_="+15005550006", body="from the console")
    settled(phones).reconcile()
    assert phones.attempts() == [("in_doubt", None, False)]


def test_a_text_from_another_sender_or_number_does_not_count(phones: Phones) -> None:
    phones.network.fault("sms", "refuse_503_without_accepting")
    phones.scene.cycle()
    phones.twilio._client.messages.create(to=PHONE, from_="+15005550007", body="of another system")
    phones.twilio._client.messages.create(to="+442079460019", from_="+15005550006", body="for somebody else")
    settled(phones).reconcile()
    assert phones.attempts() == [("in_doubt", None, False)]


def test_a_provider_that_does_not_answer_is_asked_again(phones: Phones) -> None:
    settled(doubtful(phones))
    phones.network.stop()
    assert phones.reconcile()["unreadable_lists"] == 1
    assert phones.attempts() == [("in_doubt", None, False)]


@pytest.mark.parametrize("state", ["in_doubt", "unknown"])
@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        ("sent", "", ("accepted", None, True)),
        ("delivered", "", ("delivered", "delivered", True)),
        ("undelivered", "30006", ("undelivered", "bad_address", True)),
    ],
)
def test_a_report_with_our_reference_is_proof(
    phones: Phones, state: str, status: str, code: str, ends: tuple[str, str | None, bool]
) -> None:
    doubtful(phones)
    if state == "unknown":
        phones.network.stop()
        phones.scene.at(WEDNESDAY_2PM + 2 * HOUR + MINUTE)
        phones.reconcile()
    report(phones, status, reference(phones), code, sid="SM" + "7" * 32)
    ledger = phones.scene.ledger
    counts = apply_events(ledger, Evidence(ledger.connection), final_status, phones.scene.now)
    assert counts == {"applied": 1, "unknown_to_ledger": 0}
    assert phones.attempts() == [ends]


def test_reports_that_come_twice_late_and_out_of_order_only_go_forward(phones: Phones) -> None:
    phones.scene.cycle()
    for status in ("delivered", "sent", "queued"):
        report(phones, status, reference(phones))
        phones.reconcile()
    assert phones.attempts() == [("delivered", "delivered", True)]
    assert phones.reconcile()["applied"] == 0


def test_a_report_that_comes_before_its_answer_is_kept_for_it(phones: Phones) -> None:
    """The webhook is faster than the worker: the attempt is found by our reference, and the worker's record follows."""
    scene = phones.scene

    def answer(contact: Contact) -> Acceptance:
        accepted = phones.send(contact)
        report(phones, "sent", reference(phones))
        phones.reconcile()
        return accepted

    scene.answer = answer
    scene.cycle()
    assert phones.attempts() == [("accepted", None, True)]
    assert phones.heard() == [("sms", PHONE)]


def test_a_report_about_a_contact_that_the_ledger_does_not_know_holds_everything(phones: Phones) -> None:
    report(phones, "sent", "00000000-0000-0000-0000-000000000001", sid="SM" + "7" * 32)
    assert phones.reconcile()["unknown_to_ledger"] == 0, "its attempt may be about to be recorded"
    phones.at(phones.scene.now + 16 * MINUTE)
    assert phones.reconcile()["unknown_to_ledger"] == 1
    assert phones.scene.cycle() == [] and phones.heard() == []
    [(scope, why)] = phones.scene.holds()
    assert (scope, "does not know" in why) == ("", True)


def test_a_contact_that_was_made_twice_holds_everything(phones: Phones) -> None:
    phones.scene.cycle()
    report(phones, "sent", reference(phones), sid="SM" + "7" * 32)
    assert phones.reconcile()["unknown_to_ledger"] == 1
    assert len(phones.scene.holds()) == 1


def test_a_report_of_something_else_is_put_away(phones: Phones) -> None:
    report(phones, "sent", sid="SM" + "7" * 32)
    phones.at(phones.scene.now + 16 * MINUTE)
    assert phones.reconcile()["applied"] == 1
    assert phones.scene.holds() == []


def test_a_call_that_waits_at_the_provider_is_cancelled_with_its_appointment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_CALL_QUEUED", 120.0)
    scene.owner.execute(
        "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)"
        " VALUES ('vet', 1, 'call', '4 hours', '1 hour', '0')"
    )
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 3 * HOUR, account_id="vet"))
    for phones in placed(scene):
        scene.cycle()
        assert phones.heard() == [], "the call is queued"
        scene.changed(status="cancelled")
        # A reading of the book, by a cycle whose clock has not moved: the call is still queued.
        scene.at(scene.now + timedelta(seconds=1)).prepare()
        counts = phones.reconcile()
        assert (counts["to_cancel"], counts["cancelled"]) == (1, 1)
        assert phones.attempts() == [("cancelled", "cancelled_at_provider", True)]
        phones.network.advance(until_idle=True)
        assert phones.heard() == []


def test_a_call_that_rings_is_not_cancelled_by_the_book(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, client_email=None))
    for phones in placed(scene):
        scene.cycle()
        phones.at(scene.now + MINUTE)
        phones.reconcile()
        scene.changed(status="cancelled").prepare()
        assert phones.reconcile()["to_cancel"] == 0


AT = WEDNESDAY_2PM
DOUBT = {"channel": "sms", "address": PHONE, "intended_at": AT, "deadline_at": AT + MINUTE, "is_provable": True}


def listed(provider_id: str, at: timedelta, address: str = PHONE, channel: Channel = Channel.SMS) -> Listed:
    return Listed(channel, provider_id, "sent", "", address, AT + at)


def test_nothing_fits_a_doubt_of_a_time_that_may_be_forgotten() -> None:
    doubt = {**DOUBT, "attempt_id": 1, "is_provable": False}
    assert matches([doubt], [listed("a", MINUTE)]) == {}


@pytest.mark.parametrize(
    ("others", "contacts", "proved"),
    [
        ([], [listed("a", MINUTE)], {1: "a"}),
        ([], [], {}),
        ([], [listed("a", MINUTE), listed("b", MINUTE)], {}),
        ([], [listed("a", -2 * MINUTE)], {}),
        ([], [listed("a", 7 * MINUTE)], {}),
        ([], [listed("a", 6 * MINUTE)], {1: "a"}),
        ([], [listed("a", MINUTE, "+442079460019")], {}),
        ([], [listed("a", MINUTE, channel=Channel.CALL)], {}),
        ([timedelta(minutes=3)], [listed("a", 3 * MINUTE)], {}),
        ([timedelta(hours=3)], [listed("a", MINUTE), listed("b", 3 * HOUR)], {1: "a", 2: "b"}),
    ],
)
def test_what_fits_a_doubt(others: list[timedelta], contacts: list[Listed], proved: dict[int, str]) -> None:
    doubts = [
        {**DOUBT, "attempt_id": number, "intended_at": AT + later, "deadline_at": AT + later + MINUTE}
        for number, later in enumerate([timedelta(0), *others], start=1)
    ]
    assert {attempt: each.provider_id for attempt, each in matches(doubts, contacts).items()} == proved
