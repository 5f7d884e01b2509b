"""The guards that a release relies on, by their names in the database, and the roles: preflight looks for them.

The ledger's own record of definitions (reminders.guard_definition) tells what has changed since the migrations; these
names are the release's word on what must be there, which no `--record` can take back.
"""

from __future__ import annotations

PLANNER = "reminders_planner"
DISPATCHER = "reminders_dispatcher"
OPERATOR = "reminders_operator"
ROLES = (PLANNER, DISPATCHER, "reminders_webhook", OPERATOR, "reminders_analyst")
# What a cycle has read of the book, and what an operator sets: the only rows that anybody may delete.
DELETABLE = ("staged_appointment", "staged_rung", "cadence_step", "account_wording")

CONSTRAINTS = (
    "reminder_once",
    "ended_has_time_and_reason",
    "contacted_has_contact",
    "delivered_has_evidence",
    "cancellation_is_an_email",
    "window_runs_forward",
    "turned_down_to_email",
    "slot_is_a_minute",
    "attempt_is_of_its_contact",
    "local_day_is_right",
    "attempt_ended",
    "attempt_deadline",
    "book_is_fresh",
    "number_may_be_dialled",
    "address_cap_kept",
    "address_gap_kept",
    "daily_ceiling_kept",
    "good_cycle_was_judged",
    "rebuilt_is_no_intent",
    "list_is_settled",
    # A counter or an event that could be there twice would count for nothing.
    "address_cap_pkey",
    "address_gap_pkey",
    "daily_ceiling_pkey",
    "suppression_pkey",
    "provider_event_pkey",
)
UNIQUE_INDEXES = (
    "contacted_once",
    "provider_id_once",
    "contact_made_once",
    "one_open_call",
    "one_hold_for_a_scope",
    "one_open_recovery",
)
TRIGGERS = (
    "reminder.transition_allowed",
    "reminder.begins_pending",
    "reminder.never_deleted",
    "reminder.never_rewritten",
    "reminder.hold_is_kept",
    "reminder.hold_is_noted",
    "reminder.never_louder",
    "attempt.checked_first",
    "attempt.claimed",
    "attempt.fenced",
    "attempt.gated",
    "attempt.limits_counted",
    "attempt.given_back",
    "attempt.held_when_failing",
    "attempt.attempt_moves_forward",
    "attempt.never_deleted",
    "contact_guard.guard_is_one_way",
    "contact_guard.never_deleted",
    "hold.released_once",
    "hold.recovered_first",
    "cycle.judged_anew",
    "ledger_mark.mark_moves_up",
    "cadence_step.ladder_can_be_climbed",
)
