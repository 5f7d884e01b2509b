"""Every guard of the release proved by its absence, row by row: without it, and it alone, what it refuses is accepted.

What the drills of `make chaos` notice or not depends on the code of today; a row of these tables does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from reminders.store.guards import CONSTRAINTS, ROLES, TRIGGERS, UNIQUE_INDEXES
from tests.integration.careless import (
    AT_TEN_IN_THE_EVENING,
    EVENT,
    GENEROUS,
    HOLD,
    LOSS,
    NOW,
    PLANNED,
    PLANNED_ADDRESS,
    PLANNED_AT,
    RELEASED_AN_HOUR_AGO,
    SOON,
    Statements,
    again,
    attempt,
    call,
    claim,
    lock,
    of,
    reminder,
    removal,
)
from tests.integration.scene import EMAIL_IS_DUE, MINUTE, WEDNESDAY_2PM

Connection = psycopg.Connection[Any]

OWNER, OPERATOR, WEBHOOK = "reminders_owner", "reminders_operator", "reminders_webhook"
PLANNER, DISPATCHER = "reminders_planner", "reminders_dispatcher"


@dataclass(frozen=True)
class Refusal:
    """The last statement of each of `cases`, run as `role`, is refused by `guard`, under the name that is `raised`.

    `before` happens first, as the superuser. `role` is the owner where no role of the running system has the right:
    then that is tested too. `also` says what else refuses the like, though not these cases.
    """

    guard: str
    role: str
    cases: tuple[Statements, ...]
    before: Statements = ()
    also: str = ""
    raised: str = ""


@dataclass(frozen=True)
class Effect:
    """A guard that refuses nothing: after `statements`, the `question`'s answer is `with_it`, or `without` it."""

    guard: str
    role: str
    statements: Statements
    question: str
    with_it: tuple[Any, ...]
    without: tuple[Any, ...]


REFUSALS = [
    # What a reminder says of itself
    Refusal("reminder_once", PLANNER, (reminder(),), before=reminder()),
    Refusal("ended_has_time_and_reason", PLANNER, (
        of("planned", "reason = 'too_late'"),
        of("planned", f"ended_at = {NOW}, reason = 'too_late'"),
        of("planned", "state = 'expired', reason = 'too_late'"),
        of("planned", f"state = 'expired', ended_at = {NOW}"),
    )),
    Refusal("contacted_has_contact", DISPATCHER, (
        of("planned", "state = 'sending'"),
        of("planned", f"state = 'sending', sent_at = {NOW}"),
        of("planned", "state = 'sending', contact_id = 1"),
    )),
    Refusal("delivered_has_evidence", DISPATCHER, (
        of("open-0", f"state = 'delivered', ended_at = {NOW}, reason = 'x', delivered_at = {NOW}"),
        of("open-0", f"state = 'delivered', ended_at = {NOW}, reason = 'x', delivery_evidence = 'read'"),
    )),
    Refusal("cancellation_is_an_email", PLANNER, (reminder(step="0"), reminder(step="0", channel="'call'"))),
    Refusal("window_runs_forward", PLANNER, (
        reminder(expires_at=f"'{WEDNESDAY_2PM}'"),
        reminder(expires_at=f"'{EMAIL_IS_DUE + MINUTE}'"),
    )),
    Refusal("slot_is_a_minute", PLANNER, (reminder(slot_at=f"timestamptz '{EMAIL_IS_DUE}' + interval '1 second'"),)),
    Refusal("turned_down_to_email", OPERATOR, (
        of("held", "turned_down_from = 'sms'"),
        of("held", "turned_down_from = 'email'"),
    )),
    # How a reminder moves
    Refusal("reminder.transition_allowed", DISPATCHER, (
        of("delivered", "state = 'pending', ended_at = NULL, reason = NULL"),
        of("delivered", "state = 'failed'"),
        of("open-0", "state = 'pending'"),
        of("held", "state = 'pending'"),
    ), raised="transition_allowed"),
    Refusal("reminder.begins_pending", PLANNER, (
        reminder(state="'expired'", ended_at=NOW, reason="'too_late'"),
        reminder(state="'held'"),
    ), before=("GRANT INSERT (state, ended_at, reason) ON reminders.reminder TO reminders_planner",),
        raised="transition_allowed", also="rights: no role may insert the column state, which is granted here first"),
    Refusal("reminder.never_rewritten", PLANNER, (
        of("delivered", "address_hash = '\\x01'"),
        of("delivered", "address_masked = 'x'"),
        of("open-0", "adopted_by = adopted_by + interval '1 day'"),
    ), raised="never_rewritten"),
    Refusal("reminder.hold_is_kept", PLANNER, (
        of("held", "hold_id = NULL"),
        of("held", "hold_id = hold_id + 1"),
        of("planned", "hold_id = 999"),
        of("planned", "hold_id = (SELECT max(hold_id) FROM reminders.hold WHERE released_at IS NOT NULL)"),
    ), before=(RELEASED_AN_HOUR_AGO,), raised="hold_is_kept"),
    Refusal("good_cycle_was_judged", PLANNER, (
        (f"UPDATE reminders.cycle SET is_good = true, closed_at = {NOW} WHERE judged_at IS NULL",),
    ), before=("UPDATE reminders.cycle SET judged_at = NULL, is_good = false",)),
    Refusal("reminder.never_louder", OPERATOR, (
        of("held", "channel = 'call'"),
        of("held", "channel = 'email'"),
        of("planned", "channel = 'call'"),
        of("planned", "channel = 'email', turned_down_from = 'sms'"),
    ), raised="never_louder", also="never_rewritten, once it is sent"),
    Refusal("reminder.never_deleted", OWNER, removal("reminder", "WHERE appointment_id = 'held'"),
            raised="never_deleted", also="contact_member's foreign key, once it is planned"),
    # What an attempt says of itself
    Refusal("attempt_is_of_its_contact", DISPATCHER, (attempt(zone="'America/Los_Angeles'"),),
            before=(AT_TEN_IN_THE_EVENING,), also="contact_is_guarded, for all but the zone"),
    Refusal("local_day_is_right", DISPATCHER, (
        attempt(lock(), lock(f"{NOW} - interval '1 day'"), local_day=f"{NOW}::date - 1"),
    ), also="contact_is_counted, while the other day has no row of its own"),
    Refusal("attempt_ended", DISPATCHER, (
        (f"UPDATE reminders.attempt SET ended_at = {NOW} WHERE state = 'accepted'",),
        ("UPDATE reminders.attempt SET state = 'undelivered', reason = 'busy' WHERE state = 'accepted'",),
    )),
    Refusal("attempt_deadline", DISPATCHER, (
        attempt(deadline_at=f"{NOW} + interval '11 minutes'"),
        attempt(deadline_at=f"{NOW} - interval '1 minute'"),
    )),
    Refusal("book_is_fresh", DISPATCHER, (attempt(book_read_at=f"{NOW} - interval '11 minutes'"),)),
    Refusal("number_may_be_dialled", DISPATCHER, (
        attempt(address_type="'premium_rate'"),
        attempt(address_type="'shared_cost'"),
    ), also="country_permitted, for a number without country"),
    Refusal("attempt.fenced", DISPATCHER, (attempt(),), before=(AT_TEN_IN_THE_EVENING,), raised="not_in_quiet_hours"),
    Refusal("attempt.claimed", DISPATCHER, (
        attempt(claim="NULL"),
        # Another task has the batch since.
        attempt(claim="uuidv7()"),
        attempt(claim(lasts="-1 second"), lock()),
    ), raised="batch_is_claimed"),
    Refusal("attempt.gated", DISPATCHER, (attempt(),), before=("UPDATE reminders.cycle SET judged_at = NULL",),
            raised="cycle_was_judged"),
    Refusal("attempt.checked_first", DISPATCHER, (attempt(),),
            before=("UPDATE reminders.ledger_mark SET checked_identity = 'another'",), raised="ledger_was_checked"),
    Refusal("rebuilt_is_no_intent", DISPATCHER, (attempt(is_rebuilt="true"),),
            before=("GRANT INSERT (is_rebuilt) ON reminders.attempt TO reminders_dispatcher",),
            also="rights: only a recovery may write the column is_rebuilt, which is granted here first"),
    # How an attempt moves
    Refusal("attempt.attempt_moves_forward", DISPATCHER, (
        ("UPDATE reminders.attempt SET state = 'not_contacted' WHERE state = 'delivered'",),
        ("UPDATE reminders.attempt SET state = 'sending' WHERE state = 'accepted'",),
        ("UPDATE reminders.attempt SET state = 'sending', ended_at = NULL WHERE state = 'delivered'",),
    ), raised="attempt_moves_forward"),
    Refusal("attempt.never_deleted", OWNER, removal("attempt"), raised="never_deleted"),
    Refusal("provider_id_once", DISPATCHER, (("UPDATE reminders.attempt SET provider_id = 'SM1'",),)),
    Refusal("provider_event_pkey", WEBHOOK, ((EVENT, EVENT),)),
    # Once, and counted
    Refusal("contacted_once", DISPATCHER, ((
        "INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)"
        " SELECT contact_id, account_id, address_hash, slot_at, step FROM reminders.contact_guard LIMIT 1",
    ),)),
    Refusal("contact_guard.guard_is_one_way", OWNER, (("UPDATE reminders.contact_guard SET is_uncontacted = true",),),
            raised="guard_is_one_way"),
    Refusal("contact_guard.never_deleted", OWNER, removal("contact_guard"), raised="never_deleted"),
    Refusal("contact_made_once", DISPATCHER, (
        (*attempt(), attempt(intended_at=SOON, deadline_at=f"{SOON} + interval '1 minute'")[-1]),
    ), before=GENEROUS, also="contact_is_guarded, once the first has ended"),
    Refusal("one_open_call", DISPATCHER, (attempt(intended_at=SOON, deadline_at=f"{SOON} + interval '1 minute'"),),
            before=(*GENEROUS, *call(3), *attempt(), *call(4)), also="address_gap_kept, for calls within the gap"),
    Refusal("attempt.limits_counted", DISPATCHER, (attempt("SELECT"),), raised="contact_is_counted"),
    Refusal("address_cap_kept", DISPATCHER, (attempt(),), before=(
        lock(), f"UPDATE reminders.address_cap SET contact_count = cap WHERE {PLANNED_ADDRESS} AND period = 'week'",
    )),
    Refusal("address_gap_kept", DISPATCHER, (attempt(),), before=(
        lock(),
        f"UPDATE reminders.address_gap SET last_contact_at = {NOW} - interval '1 minute' WHERE {PLANNED_ADDRESS}",
    )),
    Refusal("daily_ceiling_kept", DISPATCHER, (attempt(),), before=(
        "UPDATE reminders.daily_ceiling SET contact_count = ceiling WHERE account_id = 'clinic'",
    )),
    Refusal("address_cap_pkey", OWNER, (again("address_cap"),), also="contact_is_counted, at the next attempt there"),
    Refusal("address_gap_pkey", OWNER, (again("address_gap"),), also="contact_is_counted, at the next attempt there"),
    Refusal("daily_ceiling_pkey", OWNER, (again("daily_ceiling"),), also="daily_ceiling_kept: every row is counted up"),
    # Stops, and what an operator sets
    Refusal("suppression_pkey", DISPATCHER, ((
        "INSERT INTO reminders.suppression (address_hash, channel, reason)"
        " VALUES ('\\x01', '*', 'bad_address'), ('\\x01', '*', 'opted_out')",
    ),), also="address_not_suppressed: either row silences the address"),
    Refusal("one_hold_for_a_scope", OPERATOR, ((HOLD, HOLD),)),
    Refusal("hold.recovered_first", OPERATOR, (
        (f"UPDATE reminders.hold SET released_at = {NOW}, released_by = 'Ana' WHERE scope = 'all'",),
    ), before=(LOSS,), raised="recovered_first"),
    Refusal("list_is_settled", OWNER, (
        ("UPDATE reminders.recovery SET listed_at = begun_at + interval '9 minutes'",),
    ), before=(LOSS,)),
    Refusal("taken_after_the_list", OWNER, (
        ("UPDATE reminders.recovery SET listed_at = begun_at + interval '1 hour', taken_at = begun_at",),
    ), before=(LOSS,)),
    Refusal("one_open_recovery", OWNER, (
        (f"INSERT INTO reminders.recovery (hold_id, why, missing_from, begun_at)"
         f" SELECT hold_id, 'a loss', {NOW}, {NOW} FROM reminders.recovery",),
    ), before=(LOSS,)),
    Refusal("hold.released_once", OPERATOR, (
        (f"UPDATE reminders.hold SET released_at = {NOW}, released_by = 'Ana'",
         "UPDATE reminders.hold SET released_by = 'Bo'"),
        (f"UPDATE reminders.hold SET released_at = {NOW}, released_by = 'Ana'",
         "UPDATE reminders.hold SET released_at = NULL, released_by = NULL"),
    ), raised="released_once"),
    Refusal("ledger_mark.mark_moves_up", PLANNER, (
        ("UPDATE reminders.ledger_mark SET reserved_to = reserved_to - 1",),
        ("UPDATE reminders.ledger_mark SET secret_fingerprint = NULL",),
        ("UPDATE reminders.ledger_mark SET secret_fingerprint = 'another'",),
    ), raised="mark_moves_up"),
    Refusal("cadence_step.ladder_can_be_climbed", OPERATOR, (
        ("UPDATE reminders.cadence_step SET lead = '4 days' WHERE step = 2",),
        ("UPDATE reminders.cadence_step SET channel = 'call' WHERE step = 2",),
        ("DELETE FROM reminders.cadence_step",),
    ), raised="ladder_can_be_climbed"),
]  # fmt: skip

EFFECTS = [
    Effect(
        "attempt.given_back",
        DISPATCHER,
        (
            *attempt(),
            f"UPDATE reminders.attempt SET state = 'not_contacted', ended_at = {NOW} WHERE {PLANNED}",
        ),
        f"""SELECT (SELECT is_uncontacted FROM reminders.contact_guard WHERE {PLANNED}),
                   (SELECT sum(contact_count) FROM reminders.address_cap WHERE {PLANNED_ADDRESS}),
                   (SELECT last_contact_at IS NULL FROM reminders.address_gap WHERE {PLANNED_ADDRESS})""",
        with_it=(True, 0, True),
        without=(False, 2, False),
    ),
    Effect(
        "reminder.hold_is_noted",
        DISPATCHER,
        (
            *attempt(),
            f"UPDATE reminders.attempt SET state = 'not_contacted', ended_at = {NOW} WHERE {PLANNED}",
            HOLD.replace("(scope", "(scope, scope_value").replace("'all'", "'channel', 'sms'"),
            "UPDATE reminders.reminder SET state = 'held', deferred_for = 'on_hold', contact_id = NULL, sent_at = NULL"
            " WHERE state = 'sending'",
        ),
        """SELECT h.scope_value FROM reminders.reminder r LEFT JOIN reminders.hold h USING (hold_id)
           WHERE r.appointment_id = 'planned' AND r.step = 2""",
        with_it=("sms",),
        without=(None,),
    ),
    Effect(
        "cycle.judged_anew",
        PLANNER,
        (f"UPDATE reminders.cycle SET closed_at = NULL WHERE logical_date = '{PLANNED_AT}'",),
        f"SELECT judged_at IS NULL FROM reminders.cycle WHERE logical_date = '{PLANNED_AT}'",
        with_it=(True,),
        without=(False,),
    ),
    Effect(
        "attempt.held_when_failing",
        DISPATCHER,
        (
            f"UPDATE reminders.attempt SET state = 'undelivered', reason = 'unreachable', ended_at = {NOW}"
            " WHERE state = 'accepted'",
        ),
        "SELECT count(*) FROM reminders.hold WHERE scope_value = 'sms' AND placed_by = 'failing_channel'",
        with_it=(1,),
        without=(0,),
    ),
]


def refusal(connection: Connection, role: str, statements: Statements) -> str | None:
    """Who refuses the last of the statements, run as `role`: a guard, or the rights. None: it is accepted."""
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL ROLE {role}")
        for statement in statements[:-1]:
            connection.execute(statement)
        try:
            connection.execute(statements[-1])
            # What is checked at the end of the transaction.
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.errors.IntegrityError as error:
            return error.diag.constraint_name
        except psycopg.errors.InsufficientPrivilege:
            return "rights"
    return None


def drop(connection: Connection, guard: str) -> None:
    """Drop this guard alone."""
    if guard in UNIQUE_INDEXES:
        connection.execute(f"DROP INDEX reminders.{guard}")
    elif guard in TRIGGERS:
        table, name = guard.split(".")
        connection.execute(f"DROP TRIGGER {name} ON reminders.{table}")
    else:
        [(table,)] = connection.execute(
            "SELECT conrelid::regclass FROM pg_constraint"
            " WHERE conname = %s AND connamespace = 'reminders'::regnamespace",
            (guard,),
        ).fetchall()
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {guard}")


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.guard)
def test_what_a_guard_refuses_is_accepted_without_it(practice: Connection, row: Refusal) -> None:
    with practice.transaction(force_rollback=True):
        for statement in row.before:
            practice.execute(statement)
        refused = [refusal(practice, row.role, case) for case in row.cases]
        assert refused == [row.raised or row.guard] * len(row.cases)
        if row.role == OWNER:
            assert {refusal(practice, role, case) for role in ROLES for case in row.cases} == {"rights"}
        drop(practice, row.guard)
        assert [refusal(practice, row.role, case) for case in row.cases] == [None] * len(row.cases)


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.guard)
def test_what_a_guard_does_is_not_done_without_it(practice: Connection, row: Effect) -> None:
    def answer() -> Any:
        with practice.transaction(force_rollback=True):
            practice.execute(f"SET LOCAL ROLE {row.role}")
            for statement in row.statements:
                practice.execute(statement)
            practice.execute("RESET ROLE")
            return practice.execute(row.question).fetchone()

    with practice.transaction(force_rollback=True):
        assert answer() == row.with_it
        drop(practice, row.guard)
        assert answer() == row.without


def test_every_guard_of_the_release_has_its_row() -> None:
    proved = [row.guard for row in (*REFUSALS, *EFFECTS)]
    assert len(set(proved)) == len(proved)
    assert {*CONSTRAINTS, *UNIQUE_INDEXES, *TRIGGERS} == set(proved)
