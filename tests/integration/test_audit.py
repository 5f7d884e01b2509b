"""The audit finds each broken promise, and what only one of the ledger and the provider knows; a breach holds all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reminders.cycle.reconcile import close_dead
from reminders.errors import SendError
from tests.integration.phones import SENDER, Phones, placed
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

VISIT = WEDNESDAY_2PM + 23 * HOUR
THURSDAY_3AM = WEDNESDAY_2PM + 13 * HOUR
ADA, BOB = "+442079460018", "+442079460019"


@pytest.fixture
def phones(scene: Scene) -> Iterator[Phones]:
    """On Wednesday two clients were texted, and an email went."""
    scene.at(WEDNESDAY_2PM).with_a_wide_gate()
    scene.booked(
        Booked(VISIT, "ada", client_email=None, client_phone=ADA),
        Booked(VISIT + HOUR, "bob", client_email=None, client_phone=BOB),
    )
    for network in placed(scene):
        scene.cycle()
        network.at(WEDNESDAY_2PM + 10 * MINUTE)
        network.reconcile()
        yield network


def audited(phones: Phones) -> dict[str, object]:
    """What the night's audit finds."""
    phones.at(THURSDAY_3AM)
    return phones.audit()


def change(phones: Phones, statement: str) -> None:
    """What no role and no code of ours can do: every trigger is off."""
    owner = phones.scene.owner
    owner.execute("SET session_replication_role = replica")
    owner.execute(statement)
    owner.execute("SET session_replication_role = origin")


def test_a_day_without_a_breach(phones: Phones) -> None:
    assert audited(phones) == {"in_both": 2, "proved": 0, "unreadable": 0, "breaches": {}}
    assert phones.scene.holds() == []


BROKEN = {
    "P1: a contact was made twice": (
        "DROP INDEX reminders.contact_made_once; INSERT INTO reminders.attempt (contact_id, account_id, channel,"
        " address_hash, address_country, zone, local_day, book_read_at, intended_at, deadline_at) SELECT contact_id,"
        " account_id, channel, address_hash, 'GB', zone, local_day, book_read_at, intended_at + interval '2 minutes',"
        " deadline_at + interval '2 minutes' FROM reminders.attempt LIMIT 1"
    ),
    "P1: a contact is unguarded": "DELETE FROM reminders.contact_guard",
    "P1: an address was contacted twice about a slot and step": (
        "DROP INDEX reminders.contacted_once; INSERT INTO reminders.contact_guard (contact_id, account_id,"
        " address_hash, slot_at, step) SELECT contact_id, account_id, address_hash, slot_at, step"
        " FROM reminders.contact_guard"
    ),
    "P2: two calls to a number at once": (
        "UPDATE reminders.attempt SET channel = 'call', address_hash = 'x', ended_at = intended_at + interval '1 hour'"
    ),
    "P2: two contacts to an address within a minute": "UPDATE reminders.attempt SET address_hash = 'x'",
    "P2: a day's cap counts less than was sent": "UPDATE reminders.address_cap SET contact_count = 0",
    "P2: a day's ceiling counts less than was sent": "UPDATE reminders.daily_ceiling SET contact_count = 0",
    "P3: a contact when it was no longer useful": (
        "UPDATE reminders.reminder SET expires_at = due_at + interval '1 minute'"
    ),
    "P3: a contact to an address that had been silenced": (
        "INSERT INTO reminders.suppression SELECT address_hash, '*', 'opted_out', intended_at - interval '1 hour'"
        " FROM reminders.attempt"
    ),
    "P3: a call though no lower rung had been tried": (
        "UPDATE reminders.attempt SET channel = 'call'; DELETE FROM reminders.reminder WHERE contact_id IS NULL;"
        " UPDATE reminders.reminder SET channel = 'call', step = 3"
    ),
    "P4: a reminder still waits after its appointment began": (
        "UPDATE reminders.reminder SET state = 'pending', ended_at = NULL, reason = NULL,"
        " slot_at = '2026-02-11 15:00Z', due_at = '2026-02-11 13:00Z', expires_at = '2026-02-11 14:30Z';"
        " UPDATE reminders.cycle SET judged_at = '2026-02-11 15:05Z'"
    ),
    "P4: a reminder in flight and its attempt say different things": (
        "UPDATE reminders.reminder SET state = 'accepted', ended_at = NULL, reason = NULL WHERE contact_id IS NOT NULL"
    ),
    "P4: an attempt without an end": (
        "UPDATE reminders.attempt SET state = 'in_doubt', ended_at = NULL; UPDATE reminders.reminder"
        " SET state = 'in_doubt', ended_at = NULL, reason = NULL WHERE contact_id IS NOT NULL"
    ),
    "P5: a contact while it was held": (
        "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at, released_at,"
        " released_by) SELECT 'channel', 'sms', 'Ana', 'x', min(intended_at) - interval '1 hour', now(),"
        " max(intended_at) + interval '1 hour', 'Ana' FROM reminders.attempt"
    ),
    "contacts that the provider does not know": "UPDATE reminders.attempt SET provider_id = 'SM' || attempt_id",
    "guards are not as the migrations left them": "DROP TRIGGER fenced ON reminders.attempt",
}


@pytest.mark.parametrize("breach", BROKEN)
def test_a_broken_promise_is_found_and_holds_everything(phones: Phones, breach: str) -> None:
    change(phones, BROKEN[breach])
    breaches = audited(phones)["breaches"]
    assert isinstance(breaches, dict) and breach in breaches
    assert breach in dict(phones.scene.holds())["2026-02-11"]
    assert [hold["scope"] for hold in phones.scene.watching.holds()] == ["all"]


def test_a_text_that_only_the_provider_knows_holds_everything_until_it_is_taken_over(phones: Phones) -> None:
    phones.twilio._client.messages.create(to=ADA, from_=SENDER, body="from the console")
    assert audited(phones)["breaches"] == {"contacts that the ledger does not know": 1}
    assert phones.scene.cycle() == []
    phones.at(phones.scene.now + 11 * MINUTE)
    assert phones.reconcile()["found"] == 1
    phones.at(phones.scene.now + 5 * MINUTE).cycle()
    phones.scene.release()
    assert audited(phones)["breaches"] == {}


def test_an_unknown_text_that_the_provider_has_is_proved(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    for phones in placed(scene):
        phones.network.fault("sms", "accept_then_500")
        scene.cycle()
        scene.at(WEDNESDAY_2PM + 3 * HOUR).look_up_in_vain()
        close_dead(scene.ledger, scene.now)
        assert phones.attempts() == [("unknown", "no_proof", False)]
        assert audited(phones)["proved"] == 1
        assert phones.attempts()[0][0] in ("accepted", "delivered")


def test_what_the_provider_took_today_is_tomorrows_audit(phones: Phones) -> None:
    phones.at(THURSDAY_3AM)
    phones.twilio._client.messages.create(to=ADA, from_=SENDER, body="from the console")
    assert audited(phones)["breaches"] == {}


def test_a_list_that_cannot_be_read_is_no_breach_and_no_peace(phones: Phones) -> None:
    phones.at(THURSDAY_3AM)
    phones.network.stop()
    with pytest.raises(SendError):
        phones.audit()
    assert phones.scene.holds() == []
