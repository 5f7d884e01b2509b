-- What each role may do, and the analysts' view. No role may DELETE from the ledger.
SET LOCAL ROLE reminders_owner;

GRANT SELECT ON ALL TABLES IN SCHEMA reminders TO reminders_planner, reminders_dispatcher, reminders_operator;
REVOKE SELECT ON reminders.clock FROM reminders_planner, reminders_dispatcher, reminders_operator;

GRANT INSERT (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at, expires_at, wait,
              has_lower_rung, address_hash, address_masked, created_at) ON reminders.reminder TO reminders_planner;
GRANT UPDATE (state, reason, ended_at, adopted_by, deferred_for, not_before_at, address_hash, address_masked) ON reminders.reminder TO reminders_planner;
GRANT SELECT, INSERT, DELETE ON reminders.staged_appointment, reminders.staged_rung TO reminders_planner;
GRANT INSERT ON reminders.batch, reminders.contact, reminders.contact_member TO reminders_planner;
GRANT INSERT, UPDATE ON reminders.cycle TO reminders_planner;
GRANT UPDATE ON reminders.ledger_mark TO reminders_planner;
GRANT INSERT (scope, scope_value, placed_by, why, placed_at, review_at) ON reminders.hold
    TO reminders_planner, reminders_dispatcher, reminders_operator;

GRANT UPDATE (state, reason, ended_at, deferred_for, not_before_at, contact_id, attempt_count, sent_at, delivered_at,
              delivery_evidence) ON reminders.reminder TO reminders_dispatcher;
GRANT INSERT (contact_id, account_id, channel, address_hash, address, address_country, address_type, zone, local_day,
              book_read_at, intended_at, deadline_at) ON reminders.attempt TO reminders_dispatcher;
GRANT UPDATE (state, reason, provider_code, provider_id, provider_status, status_since_at, polled_at, ended_at)
    ON reminders.attempt TO reminders_dispatcher;
GRANT INSERT ON reminders.contact_guard TO reminders_dispatcher;
GRANT INSERT ON reminders.suppression TO reminders_dispatcher, reminders_operator;
GRANT UPDATE (applied_at) ON reminders.provider_event TO reminders_dispatcher;

GRANT INSERT ON reminders.provider_event TO reminders_webhook;
GRANT SELECT (provider_id, provider_status) ON reminders.provider_event TO reminders_webhook;

GRANT UPDATE (state, reason, ended_at, deferred_for, not_before_at) ON reminders.reminder TO reminders_operator;
GRANT UPDATE (released_at, released_by) ON reminders.hold TO reminders_operator;
GRANT INSERT, DELETE ON reminders.cadence_step TO reminders_operator;
GRANT UPDATE (step, channel, lead, useful_until, wait) ON reminders.cadence_step TO reminders_operator;
GRANT INSERT ON reminders.account_policy TO reminders_operator;
GRANT UPDATE (opens, closes, call_pace, phone_gap, email_gap, phone_daily_cap, phone_weekly_cap, email_daily_cap,
              email_weekly_cap, email_ceiling, sms_ceiling, call_ceiling, has_cancellation_notice)
    ON reminders.account_policy TO reminders_operator;

-- A function is executable by everybody unless that is taken back; each runs with its caller's rights.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA reminders FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA reminders TO reminders_planner, reminders_dispatcher, reminders_operator;
GRANT EXECUTE ON FUNCTION reminders.check_transition() TO reminders_webhook;

CREATE VIEW analytics.delivery_ledger AS
SELECT reminder_id, account_id, appointment_id, slot_at, step, channel, state, reason, logical_date, adopted_by,
       due_at, expires_at, sent_at, delivered_at, attempt_count, address_masked, address_hash
FROM reminders.reminder;
COMMENT ON VIEW analytics.delivery_ledger IS 'One row for each step of each appointment''s slot that was ever due.';
GRANT SELECT ON analytics.delivery_ledger TO reminders_analyst, reminders_operator;

RESET ROLE;

-- The migrations' own record belongs to whoever ran the first of them.
GRANT SELECT ON reminders.schema_migration TO reminders_planner, reminders_dispatcher, reminders_operator;
