"""The fence before each attempt: a dispatcher with a broken check is refused by the database, guard by guard."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.integration.scene import HOUR, WEDNESDAY_2PM, Booked, Scene

GUARD = """
INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)
SELECT c.contact_id, c.account_id, c.address_hash, r.slot_at, r.step
FROM reminders.contact c JOIN reminders.contact_member USING (contact_id) JOIN reminders.reminder r USING (reminder_id)
"""
LIMITS = "SELECT reminders.lock_for_intent(ARRAY(SELECT contact_id FROM reminders.contact), %(now)s)"
SENDING = """
UPDATE reminders.reminder r SET state = 'sending', contact_id = m.contact_id, sent_at = %(now)s
FROM reminders.contact_member m WHERE m.reminder_id = r.reminder_id
"""
ATTEMPT = """
INSERT INTO reminders.attempt (contact_id, account_id, channel, address_hash, address, address_country, address_type,
                               zone, local_day, book_read_at, claim, intended_at, deadline_at)
SELECT contact_id, account_id, contact.channel, address_hash, 'x', %(country)s, %(type)s, zone, %(now)s::date,
       %(read_at)s, claim, %(now)s, %(now)s::timestamptz + interval '1 minute'
FROM reminders.contact JOIN reminders.batch USING (batch_id)
"""
CLAIM = "SELECT reminders.claim_batch(batch_id, '4 minutes') FROM reminders.batch"


def attempt_without_asking(scene: Scene, guarded: bool = True, limited: bool = True, **changes: Any) -> str:
    """What a careless deploy would do: insert an attempt for the planned contact. Returns the guard that refused."""
    values = {"now": scene.now, "read_at": scene.now, "country": "GB", "type": "mobile", **changes}
    try:
        with scene.owner.transaction():
            scene.owner.execute("SET LOCAL ROLE reminders_dispatcher")
            scene.owner.execute(CLAIM)
            if limited:
                scene.owner.execute(LIMITS, values)
            if guarded:
                scene.owner.execute(GUARD)
            scene.owner.execute(SENDING, values)
            scene.owner.execute(ATTEMPT, values)
    except psycopg.errors.IntegrityError as error:
        return str(error.diag.constraint_name)
    return "went"


@pytest.fixture
def planned(scene: Scene) -> Scene:
    """A text that is planned and due."""
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 20 * HOUR, client_email=None))
    assert scene.prepare()
    return scene


def test_a_planned_text_goes(planned: Scene) -> None:
    assert attempt_without_asking(planned) == "went"


@pytest.mark.parametrize(
    ("statement", "guard"),
    [
        (
            "INSERT INTO reminders.hold (scope, placed_by, why, review_at) VALUES ('all', 'a', 'b', now())",
            "no_hold_in_force",
        ),
        (
            "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at)"
            " VALUES ('channel', 'sms', 'a', 'b', now())",
            "no_hold_in_force",
        ),
        (
            "INSERT INTO reminders.suppression (address_hash, channel, reason)"
            " SELECT address_hash, '*', 'opted_out' FROM reminders.contact",
            "address_not_suppressed",
        ),
        ("DELETE FROM reminders.permitted_country WHERE country = 'GB'", "country_permitted"),
        ("UPDATE reminders.account_policy SET opens = '15:00'", "not_in_quiet_hours"),
        ("UPDATE reminders.reminder SET expires_at = due_at + interval '1 minute' WHERE step = 2", "not_too_late"),
        (
            "SELECT setval(pg_get_serial_sequence('reminders.attempt', 'attempt_id'), 1000000)",
            "attempt_number_reserved",
        ),
        ("UPDATE reminders.clock SET shift = shift + interval '1 hour'", "clock_is_right"),
    ],
)
def test_the_world_has_changed_since_the_plan(planned: Scene, statement: str, guard: str) -> None:
    planned.owner.execute(statement)
    assert attempt_without_asking(planned) == guard


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reminders.account_policy SET office_closes = '14:00'",
        "UPDATE reminders.account_policy SET office_opens = '14:01'",
        "UPDATE reminders.account_policy SET office_days = '{1,2,4,5,6,7}'",
        "UPDATE reminders.staged_appointment SET account_zone = 'Asia/Tokyo'",
        "DELETE FROM reminders.staged_appointment",
    ],
)
def test_a_call_to_which_nobody_could_call_back(scene: Scene, statement: str) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 3 * HOUR))
    scene.owner.execute(
        "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)"
        " VALUES ('clinic', 1, 'call', '4 hours', '1 hour', '0')"
    )
    assert scene.prepare()
    with scene.owner.transaction(force_rollback=True):
        assert attempt_without_asking(scene) == "went"
    scene.owner.execute(statement)
    assert attempt_without_asking(scene) == "office_is_open"


@pytest.mark.parametrize(
    ("changes", "guard"),
    [
        ({"guarded": False}, "contact_is_guarded"),
        ({"limited": False}, "contact_is_counted"),
        ({"country": None}, "number_may_be_dialled"),
        ({"type": "premium_rate"}, "number_may_be_dialled"),
        ({"read_at": WEDNESDAY_2PM - timedelta(minutes=11)}, "book_is_fresh"),
    ],
)
def test_a_careless_intent(planned: Scene, changes: dict[str, Any], guard: str) -> None:
    assert attempt_without_asking(planned, **changes) == guard


def test_a_second_contact_for_the_same_thing(planned: Scene) -> None:
    assert attempt_without_asking(planned) == "went"
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        planned.owner.execute(GUARD)
    assert caught.value.diag.constraint_name == "contacted_once"


def test_a_call_without_proof(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 3 * HOUR))
    scene.owner.execute("UPDATE reminders.cadence_step SET useful_until = '6 hours' WHERE step = 2")
    scene.prepare()
    scene.owner.execute(
        """WITH b AS (INSERT INTO reminders.batch (logical_date, channel, share, planned_at)
                      VALUES (now(), 'call', 1, now()) RETURNING batch_id),
                c AS (INSERT INTO reminders.contact (batch_id, account_id, channel, address_hash, zone, place)
                      SELECT batch_id, 'clinic', 'call', '\\x01', 'UTC', 1 FROM b RETURNING contact_id),
                r AS (INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date,
                          adopted_by, due_at, expires_at, has_lower_rung, address_hash)
                      VALUES ('clinic', 'another', %(slot)s, 3, 'call', now(), now(),
                              %(slot)s::timestamptz - interval '4 hours',
                              %(slot)s::timestamptz - interval '1 hour', true, '\\x01') RETURNING reminder_id)
           INSERT INTO reminders.contact_member SELECT contact_id, reminder_id FROM c, r""",
        {"slot": WEDNESDAY_2PM + 3 * HOUR},
    )
    assert attempt_without_asking(scene) == "call_has_proof"


def test_a_guard_is_given_back_only_with_proof(planned: Scene) -> None:
    assert attempt_without_asking(planned) == "went"
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        planned.owner.execute("UPDATE reminders.contact_guard SET is_uncontacted = true")
    assert caught.value.diag.constraint_name == "guard_is_one_way"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            "INSERT INTO reminders.address_cap VALUES ('\\x01', 'day', '2026-02-11', 2, 1)",
            "address_cap_kept",
        ),
        (
            "INSERT INTO reminders.address_gap VALUES ('\\x01', '2026-02-11 14:00Z', '2026-02-11 13:59Z', '2 hours')",
            "address_gap_kept",
        ),
        ("INSERT INTO reminders.daily_ceiling VALUES ('*', 'call', '2026-02-11', 11, 10)", "daily_ceiling_kept"),
    ],
)
def test_counters_refuse_what_is_over(owner: Any, statement: str, constraint: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        owner.execute(statement)
    assert caught.value.diag.constraint_name == constraint
