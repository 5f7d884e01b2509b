"""Every safeguard, without one or all of its layers."""

from __future__ import annotations

from tests.drill.chaos import (
    PLAIN,
    REIMPORTED,
    RELEASED,
    RELEASED_AT_NIGHT,
    STOPPED,
    STORM,
    TWO_AT_ONCE,
    UNMAILED,
    Absence,
    after_the_stop,
    database,
    failed_cycles,
    function,
    most_calls_of_an_account,
    most_on_a_day,
    night,
    query,
    unreleased,
)

GATE_OPEN = function("judge", ("WHERE j.why IS NOT NULL", "WHERE false"))
QUIET_VERDICT = function("disposition", ("(f.local_time < f.opens OR f.local_time >= f.closes) THEN", "false THEN"))
QUIET_FENCE = function(
    "fence_attempts",
    (
        "WHERE (a.intended_at AT TIME ZONE a.zone)::time >= p.opens\n"
        "              AND (a.intended_at AT TIME ZONE a.zone)::time < p.closes",
        "WHERE true",
    ),
)
SILENCE = database(
    "CREATE OR REPLACE FUNCTION reminders.has_proof(p_account_id text, p_appointment_id text, p_slot_at timestamptz,"
    " p_step smallint) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true'"
)
HOLDS = database(
    "CREATE OR REPLACE VIEW reminders.active_hold AS SELECT hold_id, scope, scope_value, placed_by FROM reminders.hold"
    " WHERE released_at IS NULL AND false"
)
ONCE_VERDICT = function(
    "disposition", ("AND g.step = f.step AND NOT g.is_uncontacted) THEN", "AND g.step = f.step AND false) THEN")
)
ONCE_INDEX = database("DROP INDEX reminders.contacted_once")
ONCE_INTENT = function(
    "intend", ("ON CONFLICT (account_id, address_hash, slot_at, step) WHERE NOT is_uncontacted DO NOTHING", "")
)
LOCK = query("lock_cycles", ("pg_advisory_xact_lock(hashtextextended('reminders.cycle', 0))", "1"))
PACE = query("plan_contacts", ("policy.call_pace - coalesce(recent.calls, 0)", "1000"))
RELEASE_PACE = query(
    "plan_contacts",
    ("policy.call_pace - coalesce(recent.calls, 0)", "1000"),
    ("policy.call_pace - coalesce(recent.of_backlog, 0)", "1000"),
    ("OR a.place_of_release <= bound.canary - coalesce(p.in_flight, 0)", "OR true"),
)
CAP_VERDICT = function("disposition", ("WHEN f.day_count >= f.day_cap THEN", "WHEN false THEN"))
CAP = database("ALTER TABLE reminders.address_cap DROP CONSTRAINT address_cap_kept")
GAP_VERDICT = function("disposition", ("WHEN f.last_contact_at + f.min_gap > p_now THEN", "WHEN false THEN"))
GAP = database("ALTER TABLE reminders.address_gap DROP CONSTRAINT address_gap_kept")

ABSENCES = (
    Absence("the gate", "its findings", PLAIN, "contacts that nobody released", unreleased, (GATE_OPEN,)),
    Absence(
        "quiet hours", "the verdict", RELEASED_AT_NIGHT, "in_quiet_hours", night("in_quiet_hours"),
        (QUIET_VERDICT,), "the fence (not_in_quiet_hours)",
    ),
    Absence(
        "quiet hours", "the verdict and the fence", RELEASED_AT_NIGHT, "in_quiet_hours", night("in_quiet_hours"),
        (QUIET_VERDICT, QUIET_FENCE),
    ),
    Absence("the silence rule", "has_proof", UNMAILED, "late_escalations", night("late_escalations"), (SILENCE,)),
    Absence("the hold check", "every reading of holds", STOPPED, "contacts after the stop", after_the_stop, (HOLDS,)),
    Absence(
        "re-imports are known", "the verdict", REIMPORTED, "duplicates", night("duplicates"), (ONCE_VERDICT,),
        "contacted_once",
    ),
    Absence(
        "re-imports are known", "the verdict, the index and its use", REIMPORTED, "duplicates", night("duplicates"),
        (ONCE_VERDICT, ONCE_INDEX, ONCE_INTENT),
    ),
    Absence("the MERGE's lock", "lock_cycles", TWO_AT_ONCE, "failed cycles", failed_cycles, (LOCK,)),
    Absence(
        "the pace", "that of calls", STORM, "calls of an account in 5 minutes beyond its pace",
        most_calls_of_an_account, (PACE,), "the pace of a released backlog",
    ),
    Absence(
        "the pace", "that of calls, of a backlog, and the canary", STORM,
        "calls of an account in 5 minutes beyond its pace", most_calls_of_an_account, (RELEASE_PACE,),
    ),
    Absence(
        "the cap", "the verdict", RELEASED, "texts and calls of a number on a day beyond its cap", most_on_a_day,
        (CAP_VERDICT,), "address_cap_kept",
    ),
    Absence(
        "the cap", "the verdict and the constraint", RELEASED, "texts and calls of a number on a day beyond its cap",
        most_on_a_day, (CAP_VERDICT, CAP),
    ),
    Absence(
        "the gap", "the verdict and the constraint", RELEASED, "texts and calls of a number on a day beyond its cap",
        most_on_a_day, (GAP_VERDICT, GAP), "address_cap_kept",
    ),
)  # fmt: skip
