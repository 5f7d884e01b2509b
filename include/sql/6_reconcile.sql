-- name: attempts_to_poll
-- Accepted attempts with a provider id, the longest not asked about first; they are noted as asked about now.
UPDATE reminders.attempt SET polled_at = %(now)s
WHERE attempt_id IN (
    SELECT attempt_id FROM reminders.attempt
    WHERE ended_at IS NULL AND state = 'accepted' AND channel <> 'email' AND provider_id IS NOT NULL
    ORDER BY polled_at NULLS FIRST, attempt_id LIMIT %(most)s)
RETURNING attempt_id, channel, provider_id, provider_status, status_since_at

-- name: note_status
-- A status that is not final: kept, with the time at which it was first seen.
UPDATE reminders.attempt SET provider_status = %(provider_status)s, status_since_at = %(now)s
WHERE attempt_id = %(attempt_id)s AND ended_at IS NULL AND provider_status IS DISTINCT FROM %(provider_status)s

-- name: attempts_past_deadline
-- Attempts whose worker has died or hangs: nobody knows whether the provider acted.
SELECT attempt_id FROM reminders.attempt WHERE ended_at IS NULL AND state = 'sending' AND deadline_at < %(now)s

-- name: attempts_without_proof
-- Doubtful for two hours or until no reminder of the contact is useful: they count as contacted.
SELECT a.attempt_id FROM reminders.attempt a
WHERE a.ended_at IS NULL AND a.state = 'in_doubt'
  AND (a.intended_at < %(now)s - interval '2 hours' OR NOT EXISTS (
      SELECT FROM reminders.reminder r WHERE r.contact_id = a.contact_id AND r.expires_at > %(now)s))

-- name: attempts_without_final_status
-- Accepted, and after 48 hours still without a final status.
SELECT attempt_id FROM reminders.attempt
WHERE ended_at IS NULL AND state = 'accepted' AND intended_at < %(now)s - interval '48 hours'
