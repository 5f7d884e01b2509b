"""How an attempt moves, line by line: the table of its states, written out a second time, and what is no move."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

STATES = (
    "sending", "in_doubt", "accepted", "delivered", "undelivered", "cancelled", "failed", "unknown", "not_contacted",
)  # fmt: skip
OPEN = {"sending", "in_doubt", "accepted"}
MOVES = {
    "sending": {"not_contacted", "failed", "accepted", "delivered", "in_doubt"},
    "in_doubt": {"accepted", "delivered", "undelivered", "unknown"},
    "accepted": {"delivered", "undelivered", "cancelled", "unknown"},
    "unknown": {"accepted", "delivered", "undelivered"},
}

PLACE = """
WITH batch AS (
    INSERT INTO reminders.batch (logical_date, channel, share, planned_at) VALUES (now(), 'sms', 1, now())
    RETURNING batch_id
), contact AS (
    INSERT INTO reminders.contact (batch_id, account_id, channel, address_hash, zone, place)
    SELECT batch_id, 'clinic', 'sms', '\\x01', 'UTC', 1 FROM batch RETURNING *
)
INSERT INTO reminders.attempt (contact_id, account_id, channel, address_hash, address_country, address_type, zone,
                               local_day, book_read_at, intended_at, deadline_at, state, ended_at)
SELECT contact_id, account_id, channel, address_hash, 'GB', 'mobile', zone, (now() AT TIME ZONE 'UTC')::date, now(),
       now(), now() + interval '1 minute', %(state)s, CASE WHEN %(has_ended)s THEN now() END
FROM contact
"""
MOVE = "UPDATE reminders.attempt SET state = %(state)s, ended_at = CASE WHEN %(has_ended)s THEN now() END"


def as_of(state: str) -> dict[str, Any]:
    return {"state": state, "has_ended": state not in OPEN}


def attempt_in(owner: Any, state: str) -> None:
    """An attempt placed in `state` with the table's triggers off: how a state looks, not how it is reached."""
    owner.execute("ALTER TABLE reminders.attempt DISABLE TRIGGER USER")
    owner.execute(PLACE, as_of(state))
    owner.execute("ALTER TABLE reminders.attempt ENABLE TRIGGER USER")


@pytest.mark.parametrize("before", STATES)
def test_an_attempt_moves_as_the_table_says_and_in_no_other_way(owner: Any, before: str) -> None:
    attempt_in(owner, before)
    moved = set()
    for after in STATES:
        if after == before:
            continue
        try:
            with owner.transaction(force_rollback=True):
                owner.execute("SET LOCAL ROLE reminders_dispatcher")
                owner.execute(MOVE, as_of(after))
            moved.add(after)
        except psycopg.errors.CheckViolation as error:
            assert error.diag.constraint_name == "attempt_moves_forward"
    assert moved == MOVES.get(before, set())


@pytest.mark.parametrize("state", STATES)
def test_to_say_again_in_which_state_it_is_is_no_move(owner: Any, state: str) -> None:
    attempt_in(owner, state)
    with owner.transaction():
        owner.execute("SET LOCAL ROLE reminders_dispatcher")
        assert owner.execute("UPDATE reminders.attempt SET state = state, polled_at = now()").rowcount == 1
