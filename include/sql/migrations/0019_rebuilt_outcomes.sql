-- What a recovery put back says nothing of a channel: nobody has tried it.
SET LOCAL ROLE reminders_owner;

CREATE OR REPLACE VIEW reminders.channel_outcome AS
SELECT attempt_id, channel, state, reason, intended_at,
       CASE state WHEN 'unknown' THEN intended_at ELSE coalesce(ended_at, status_since_at, intended_at) END AS outcome_at,
       reminders.is_channel_failure(state, reason) AS is_failure
FROM reminders.attempt
WHERE state NOT IN ('sending', 'accepted') AND (state <> 'not_contacted' OR reason = 'misconfigured') AND NOT is_rebuilt;

RESET ROLE;
