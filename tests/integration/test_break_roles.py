# ruff: noqa: E501
"""Attempts at a breach; a docstring tells what went wrong once: what each role can do by SQL alone, against 'the database keeps it whatever was deployed last'."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from reminders.errors import PreflightError
from reminders.store.ledger import Ledger
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels

TEXT_IS_DUE = WEDNESDAY_2PM + 20 * HOUR
GUARD = """
INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)
SELECT c.contact_id, c.account_id, c.address_hash, r.slot_at, r.step
FROM reminders.contact c JOIN reminders.contact_member USING (contact_id) JOIN reminders.reminder r USING (reminder_id)
"""
FALSE_GUARD = """
INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)
SELECT contact_id, account_id, address_hash, '2030-01-01Z', 19 FROM reminders.contact
"""
SENDING = """
UPDATE reminders.reminder r SET state = 'sending', contact_id = m.contact_id, sent_at = %(now)s
FROM reminders.contact_member m WHERE m.reminder_id = r.reminder_id AND r.state = 'pending'
"""
ATTEMPT = """
INSERT INTO reminders.attempt (contact_id, account_id, channel, address_hash, address, address_country, address_type,
                               zone, local_day, book_read_at, claim, intended_at, deadline_at)
SELECT contact_id, account_id, coalesce(%(channel)s, contact.channel), coalesce(%(hash)s, address_hash), 'x', 'GB', 'mobile',
       coalesce(%(zone)s, zone), %(now)s::date, %(now)s, claim,
       %(now)s, %(now)s::timestamptz + interval '1 minute'
FROM reminders.contact JOIN reminders.batch USING (batch_id) ORDER BY contact_id DESC LIMIT 1
"""
CLAIM = "SELECT reminders.claim_batch(batch_id, '4 minutes') FROM reminders.batch"


def as_role(scene: Scene, role: str, *statements: str, **values: Any) -> str:
    """Run the statements as the role in one transaction: the guard that refused, or 'went'."""
    filled = {"now": scene.now, "channel": None, "hash": None, "zone": None, **values}
    try:
        with scene.owner.transaction():
            scene.owner.execute(CLAIM)
            scene.owner.execute(f"SET LOCAL ROLE reminders_{role}")
            for statement in statements:
                scene.owner.execute(statement, filled)
    except (psycopg.errors.IntegrityError, psycopg.errors.InsufficientPrivilege) as error:
        return str(error.diag.constraint_name or error.diag.message_primary)
    return "went"


@pytest.fixture
def planned(scene: Scene) -> Scene:
    """A text that is planned and due."""
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    assert scene.prepare()
    return scene


@pytest.fixture
def texted(scene: Scene) -> Scene:
    """A text that has gone."""
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    assert channels(scene.cycle()) == ["sms"]
    return scene


def test_dispatcher_no_second_attempt_of_a_contact_that_was_made(texted: Scene) -> None:
    """one_open_attempt is over when the first attempt ends: a second attempt of the same contact passes every guard."""
    assert as_role(texted, "dispatcher", ATTEMPT) != "went"


def test_dispatcher_no_second_contact_in_the_same_minute_nor_above_the_cap(scene: Scene) -> None:
    """Nothing ties an attempt to gap, cap and ceiling: code that forgets to count them is not refused."""
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None)).cycle()
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 5, phone_gap = '1 minute'")
    scene.owner.execute("UPDATE reminders.address_cap SET cap = 5")
    scene.booked(Booked(TEXT_IS_DUE + HOUR, "another", client_email=None)).at(WEDNESDAY_2PM + 2 * MINUTE).prepare()
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 1, phone_gap = '2 hours'")
    scene.owner.execute("UPDATE reminders.address_cap SET cap = 1")
    went = as_role(
        scene,
        "dispatcher",
        GUARD + " WHERE r.state = 'pending'",
        SENDING,
        ATTEMPT,
    )
    assert went != "went"


def test_dispatcher_no_reset_of_caps_and_gaps(texted: Scene) -> None:
    """The dispatcher's UPDATE on the guard rows is unrestricted: cap, count and last contact can be set to anything."""
    assert as_role(texted, "dispatcher", "UPDATE reminders.address_cap SET contact_count = 0, cap = 30000") != "went"
    assert (
        as_role(texted, "dispatcher", "UPDATE reminders.address_gap SET last_contact_at = NULL, min_gap = '1 s'")
        != "went"
    )
    assert (
        as_role(texted, "dispatcher", "UPDATE reminders.daily_ceiling SET contact_count = 0, ceiling = 999999")
        != "went"
    )


def test_dispatcher_no_attempt_on_a_guard_of_another_slot(planned: Scene) -> None:
    """contact_is_guarded asks for any guard row: one for a made-up slot and step leaves the true key free."""
    assert as_role(planned, "dispatcher", FALSE_GUARD, SENDING, ATTEMPT) != "went"


def test_dispatcher_no_attempt_for_no_reminder(planned: Scene) -> None:
    """An attempt whose contact covers no reminder passes: no expiry, no proof is asked, the reminder stays pending."""
    assert as_role(planned, "dispatcher", FALSE_GUARD, ATTEMPT) != "went"


def test_dispatcher_no_call_for_a_text(scene: Scene) -> None:
    """The attempt's channel need not be the contact's: a text's contact becomes a call, at the text's own time."""
    scene.booked(Booked(TEXT_IS_DUE))
    assert channels(scene.at(WEDNESDAY_2PM - 10 * HOUR).cycle()) == ["email"]
    scene.at(WEDNESDAY_2PM).prepare()
    assert (
        as_role(scene, "dispatcher", GUARD + " WHERE r.state = 'pending'", SENDING, ATTEMPT, channel="call") != "went"
    )


def test_dispatcher_no_attempt_at_another_address_than_the_contact(planned: Scene) -> None:
    """The attempt's hash need not be the contact's: an opted-out number passes under any other hash."""
    planned.owner.execute(
        "INSERT INTO reminders.suppression SELECT address_hash, '*', 'opted_out' FROM reminders.contact"
    )
    assert as_role(planned, "dispatcher", GUARD, SENDING, ATTEMPT, hash=b"\x01") != "went"


def test_dispatcher_no_attempt_in_quiet_hours_by_another_zone(scene: Scene) -> None:
    """The attempt's zone need not be the contact's: in Auckland it is morning."""
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None)).prepare()
    scene.at(WEDNESDAY_2PM + 8 * HOUR)
    assert as_role(scene, "dispatcher", GUARD, SENDING, ATTEMPT, zone="Pacific/Auckland") != "went"


def test_dispatcher_heeds_the_hold_of_a_cycle(planned: Scene) -> None:
    """The fence knows holds of all, a channel and an account, not of a cycle (nor does the watch before the socket)."""
    planned.owner.execute(
        "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at)"
        " VALUES ('cycle', %s, 'a', 'b', now())",
        (WEDNESDAY_2PM.isoformat(),),
    )
    assert as_role(planned, "dispatcher", GUARD, SENDING, ATTEMPT) == "no_hold_in_force"


def test_planner_does_not_lower_the_ledger_s_mark(scene: Scene) -> None:
    """The mark that shows what was forgotten, and the key's fingerprint, can be set back by the planner."""
    scene.at(WEDNESDAY_2PM).prepare()
    assert as_role(scene, "planner", "UPDATE reminders.ledger_mark SET reserved_to = 0") != "went"
    assert as_role(scene, "planner", "UPDATE reminders.ledger_mark SET secret_fingerprint = NULL") != "went"


def test_planner_does_not_take_the_proof_off_a_call(scene: Scene) -> None:
    """has_lower_rung is the planner's to change: without it the fence asks a call for no proof."""
    visit = WEDNESDAY_2PM + 3 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit)).prepare()
    assert as_role(scene, "planner", "UPDATE reminders.reminder SET has_lower_rung = false") != "went"


def test_planner_does_not_rewrite_what_has_ended(texted: Scene) -> None:
    """Whose contact it was (address_hash), and when it was due, can be changed on a reminder that has ended."""
    assert as_role(texted, "planner", "UPDATE reminders.reminder SET address_hash = '\\x01' WHERE step = 2") != "went"


def test_operator_does_not_lift_the_opt_out(scene: Scene) -> None:
    """Held: no running role updates or deletes a suppression, a guard, or an attempt's address."""
    for role in ("planner", "dispatcher", "operator", "webhook"):
        for statement in (
            "DELETE FROM reminders.suppression",
            "UPDATE reminders.suppression SET channel = 'email'",
            "UPDATE reminders.contact_guard SET step = 19",
            "UPDATE reminders.attempt SET intended_at = now()",
            "UPDATE reminders.contact SET address_hash = '\\x01'",
            "UPDATE reminders.permitted_country SET country = 'XX'",
            "UPDATE reminders.ceiling_in_all SET ceiling = 9",
        ):
            assert as_role(scene, role, statement) != "went"


def test_dispatcher_and_planner_do_not_release_a_hold(scene: Scene) -> None:
    """Held: only the operator's role releases."""
    for role in ("planner", "dispatcher", "webhook"):
        assert as_role(scene, role, "UPDATE reminders.hold SET released_at = now(), released_by = 'x'") != "went"


def test_a_hold_is_not_born_released(scene: Scene) -> None:
    """A hold inserted as released stops nothing, and reads as a person's release."""
    for role in ("planner", "dispatcher", "operator"):
        assert (
            as_role(
                scene,
                role,
                "INSERT INTO reminders.hold (scope, placed_by, why, review_at, released_at, released_by)"
                " VALUES ('all', 'x', 'x', now(), now(), 'x')",
            )
            != "went"
        )


def test_a_hold_that_names_no_channel_is_refused(planned: Scene) -> None:
    """'SMS' or 'text' for 'sms': the hold is taken, the operator believes it, and the texts go on."""
    said = as_role(
        planned,
        "operator",
        "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at)"
        " VALUES ('channel', 'SMS', 'op', 'stop all texts', now())",
    )
    assert said == "hold_names_a_channel"


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT UPDATE ON reminders.hold TO reminders_dispatcher",
        "GRANT UPDATE ON reminders.transition TO reminders_dispatcher",
        "GRANT INSERT ON reminders.clock TO reminders_dispatcher",
        "GRANT UPDATE (shift) ON reminders.clock TO reminders_dispatcher",
        "INSERT INTO reminders.transition VALUES ('delivered', 'pending', 'reminders_dispatcher')",
        "CREATE OR REPLACE FUNCTION reminders.fence_attempts() RETURNS trigger LANGUAGE plpgsql AS"
        " $f$ BEGIN RETURN NULL; END $f$",
    ],
)
def test_preflight_sees_that_the_running_system_may_do_too_much(scene: Scene, grant: str) -> None:
    """Preflight looks for DELETE, TRUNCATE, TRIGGER, ownership and names of guards; not for what else undoes a guard."""
    scene.at(WEDNESDAY_2PM)
    scene.owner.execute(grant)
    with pytest.raises(PreflightError):
        scene.prepare()


@pytest.mark.parametrize(
    ("member", "role"), [("reminders_app", "reminders_operator"), ("reminders_dispatcher", "pg_write_all_data")]
)
def test_preflight_sees_a_membership_too_many(scene: Scene, member: str, role: str) -> None:
    """Memberships are the whole server's, and other tests run beside this one: the change is never committed."""
    ledger = Ledger(scene.owner)
    with scene.owner.transaction(force_rollback=True):
        scene.owner.execute(f"GRANT {role} TO {member}")
        scene.owner.execute("SET LOCAL SESSION AUTHORIZATION reminders_app")
        excess = ledger.excessive_rights()
    assert f"{member} may act as {role}" in excess
