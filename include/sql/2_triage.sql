-- name: waiting_reminders
-- Every reminder that can still go out.
SELECT array_agg(reminder_id) AS reminder_ids FROM reminders.reminder
WHERE ended_at IS NULL AND state IN ('pending', 'held') AND adopted_by <= %(logical_date)s

-- name: triage
-- Reminders get the verdicts of the decision table; those are returned that stood above a rung that ended here.
WITH settled AS MATERIALIZED (
    SELECT * FROM reminders.settle(%(now)s, %(reminder_ids)s)
)
SELECT (SELECT count(*) FROM settled WHERE is_changed) AS settled,
       array_agg(DISTINCT upper.reminder_id) AS freed_ids
FROM settled s
JOIN reminders.reminder ended ON ended.reminder_id = s.reminder_id
JOIN reminders.reminder upper
    ON (upper.account_id, upper.appointment_id, upper.slot_at) = (ended.account_id, ended.appointment_id, ended.slot_at)
   AND upper.step > ended.step AND upper.ended_at IS NULL AND upper.state IN ('pending', 'held')
WHERE s.is_changed AND s.disposition NOT IN ('ready', 'deferred', 'held')

-- name: judge
-- The gate: a backlog, an abnormal volume and a new account's past are held for a person, before anything is sent.
SELECT * FROM reminders.judge(%(logical_date)s, %(now)s)
