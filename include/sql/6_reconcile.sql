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
-- Doubtful for two hours or until no reminder of the contact is useful, and looked up: they count as contacted.
SELECT a.attempt_id FROM reminders.attempt a
WHERE a.ended_at IS NULL AND a.state = 'in_doubt'
  AND (a.polled_at IS NOT NULL OR a.channel = 'email' OR a.address IS NULL OR a.provider_id IS NOT NULL)
  -- Until its list is settled, a call may ring: the line stays taken.
  AND (a.intended_at < %(now)s - interval '2 hours'
       OR a.deadline_at < %(now)s - interval '12 minutes' AND NOT EXISTS (
           SELECT FROM reminders.reminder r WHERE r.contact_id = a.contact_id AND r.expires_at > %(now)s))

-- name: attempts_without_final_status
-- Accepted, and after 48 hours still without a final status; what a recovery put back late is asked about first.
SELECT attempt_id FROM reminders.attempt
WHERE ended_at IS NULL AND state = 'accepted' AND intended_at < %(now)s - interval '48 hours'
  AND (polled_at IS NOT NULL OR NOT is_rebuilt)

-- name: events_to_apply
-- Reports in the inbox that nobody has applied, with the attempt that each is about: by our reference, else by its id.
SELECT e.provider_id, e.provider_status, coalesce(e.provider_code, '') AS provider_code, e.reference, e.received_at,
       about.attempt_id, about.channel, about.state, about.known_id,
       EXISTS (SELECT FROM reminders.found_contact f
               WHERE f.channel IN ('sms', 'call') AND f.provider_id = e.provider_id) AS is_found
FROM reminders.provider_event e
LEFT JOIN LATERAL (
    SELECT a.attempt_id, a.channel, a.state, a.provider_id AS known_id
    FROM reminders.contact c JOIN reminders.attempt a USING (contact_id)
    WHERE c.reference = e.reference AND a.state <> 'not_contacted'
    UNION ALL
    -- What a recovery put back has another reference than it had.
    SELECT a.attempt_id, a.channel, a.state, a.provider_id FROM reminders.attempt a
    WHERE a.channel IN ('sms', 'call') AND a.provider_id = e.provider_id
    LIMIT 1) AS about ON true
WHERE e.applied_at IS NULL ORDER BY e.received_at, e.provider_id LIMIT %(most)s

-- name: note_applied
-- These reports have been applied, or are about nothing of ours.
UPDATE reminders.provider_event e SET applied_at = %(now)s
FROM unnest(%(provider_ids)s::text[], %(provider_statuses)s::text[]) AS done (provider_id, provider_status)
WHERE (e.provider_id, e.provider_status) = (done.provider_id, done.provider_status)

-- name: doubtful_attempts
-- Texts and calls without a provider's id, since then or the oldest doubt, with the number that the list is asked by.
SELECT attempt_id, channel, address, state, intended_at, deadline_at,
       reminders.list_proves(intended_at) AS is_provable
FROM reminders.attempt
WHERE intended_at >= least(%(since)s, (SELECT min(o.intended_at) FROM reminders.attempt o
                                       WHERE o.ended_at IS NULL AND o.state = 'in_doubt' AND o.channel <> 'email'))
  AND state IN ('sending', 'in_doubt', 'unknown') AND provider_id IS NULL
  AND channel <> 'email' AND address IS NOT NULL
ORDER BY polled_at NULLS FIRST, attempt_id

-- name: note_looked_up
-- The longest not looked up comes first the next time.
UPDATE reminders.attempt SET polled_at = %(now)s WHERE attempt_id = ANY (%(attempt_ids)s)

-- name: missing_contacts
-- Those of the provider's texts or calls that the ledger does not have.
SELECT listed.provider_id FROM unnest(%(provider_ids)s::text[]) AS listed (provider_id)
WHERE NOT EXISTS (SELECT FROM reminders.attempt a
                  WHERE a.channel = %(channel)s AND a.provider_id = listed.provider_id)
  AND NOT EXISTS (SELECT FROM reminders.found_contact f
                  WHERE (f.channel, f.provider_id) = (%(channel)s, listed.provider_id))

-- name: attempts_to_cancel
-- Contacts that had not left the provider when last heard of, and of which the book has since cancelled or moved every
-- visit; not by a book that changed too much at once to be believed.
SELECT a.attempt_id, a.channel, a.provider_id FROM reminders.attempt a
WHERE a.ended_at IS NULL AND a.state = 'accepted' AND a.channel <> 'email' AND a.provider_id IS NOT NULL
  AND a.provider_status IN ('accepted', 'scheduled', 'queued', 'initiated')
  AND NOT EXISTS (SELECT FROM reminders.active_hold h WHERE h.scope = 'book' AND h.scope_value IN ('*', a.account_id))
  AND NOT EXISTS (
      SELECT FROM reminders.reminder r
      WHERE r.contact_id = a.contact_id AND NOT EXISTS (
          SELECT FROM reminders.staged_appointment s
          WHERE s.logical_date = (SELECT max(c.logical_date) FROM reminders.cycle c
                                WHERE c.judged_at IS NOT NULL AND c.run_kind <> 'backfill')
            AND (s.account_id, s.appointment_id) = (r.account_id, r.appointment_id)
            AND (s.status = 'cancelled' OR s.slot_at <> r.slot_at)))

-- name: open_recovery
-- The recovery whose list has not been read, and the key that its addresses are to be hashed with.
SELECT recovery_id, missing_from, begun_at, (SELECT secret_fingerprint FROM reminders.ledger_mark) AS secret_fingerprint
FROM reminders.recovery WHERE listed_at IS NULL

-- name: note_found
-- A text or call of ours that the ledger did not know.
INSERT INTO reminders.found_contact (channel, provider_id, recovery_id, address_hash, address_masked, contacted_at,
                                     provider_status)
VALUES (%(channel)s, %(provider_id)s, %(recovery_id)s, %(address_hash)s, %(address_masked)s, %(contacted_at)s,
        %(provider_status)s)
ON CONFLICT DO NOTHING

-- name: note_listed
-- The list was read to its end, for the recovery as it began.
SELECT reminders.note_listed(%(recovery_id)s, %(begun_at)s) AS is_listed
