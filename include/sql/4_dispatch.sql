-- name: claim_batch
-- The task takes the batch, and any other that still works on it has lost it; null when there is no such batch.
SELECT reminders.claim_batch(%(batch_id)s, %(lasts)s) AS claim

-- name: read_batch
-- What a dispatch task works on: the channel, its share of the rate, its claim, and the contacts in their order.
SELECT b.channel, b.share, b.claim,
       coalesce(array_agg(c.contact_id ORDER BY c.place) FILTER (WHERE c.contact_id IS NOT NULL), '{}') AS contact_ids
FROM reminders.batch b LEFT JOIN reminders.contact c USING (batch_id)
WHERE b.batch_id = %(batch_id)s GROUP BY b.batch_id

-- name: read_wordings
-- The accounts' own words, by language, channel and line.
SELECT account_id, language, channel, line, words FROM reminders.account_wording

-- name: intend
-- The intent: those contacts of the group that still qualify, under locks.
SELECT attempt_id FROM reminders.intend(%(contact_ids)s, %(claim)s, %(now)s, %(deadline_at)s)

-- name: note_refusal
-- A contact that a guard refused waits, and says so; the next cycle tries again.
UPDATE reminders.reminder r SET deferred_for = 'refused_by_guard'
FROM reminders.contact_member m
WHERE m.contact_id = %(contact_id)s AND m.reminder_id = r.reminder_id AND r.state = 'pending'

-- name: read_contacts
-- All that the channel needs for each attempt, a row for each appointment that the contact names.
SELECT a.attempt_id, c.reference, a.channel, a.address, a.account_id, s.account_name, s.account_phone, s.account_email,
       s.locale, s.appointment_id, s.client_name, s.slot_at, s.ends_at, s.zone, s.location, r.step, r.logical_date,
       -- A text or call must have left by closing time too, also when the socket opens a little after the intent.
       CASE a.channel
            WHEN 'email' THEN r.expires_at
            WHEN 'sms' THEN least(r.expires_at, (a.local_day + p.closes) AT TIME ZONE a.zone)
            ELSE least(r.expires_at, (a.local_day + p.closes) AT TIME ZONE a.zone,
                       ((a.intended_at AT TIME ZONE s.account_zone)::date + p.office_closes)
                           AT TIME ZONE s.account_zone) END AS expires_at,
       (SELECT count(DISTINCT m.slot_at) FROM reminders.reminder m
        WHERE m.account_id = r.account_id AND m.appointment_id = r.appointment_id AND m.slot_at <> r.slot_at) AS sequence
FROM reminders.attempt a
CROSS JOIN reminders.policy_of(a.account_id) p
JOIN reminders.contact c USING (contact_id)
-- Fenced, or old statistics, by which no reminder has a contact, make it a scan for every attempt.
CROSS JOIN LATERAL (SELECT * FROM reminders.reminder m
                    WHERE m.contact_id = a.contact_id AND m.state = 'sending' OFFSET 0) r
JOIN reminders.staged_appointment s
    ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
WHERE a.attempt_id = ANY (%(attempt_ids)s)
ORDER BY a.attempt_id, r.slot_at, s.client_name

-- name: read_holds
-- The stops in force, read again before each socket when the last reading is a second old; few, whatever else is held.
SELECT scope, scope_value,
       -- Text that names no time of a cycle's, as 'infinity' does, would be unreadable here and stop everybody.
       CASE WHEN scope = 'cycle' THEN
           CASE WHEN scope_value::timestamptz BETWEEN '1970-01-01' AND '2200-01-01' THEN scope_value::timestamptz END
       END AS logical_date
FROM reminders.active_hold WHERE scope IN ('all', 'channel', 'account', 'book', 'cycle')

-- name: record_outcomes
-- What became of a group of attempts.
SELECT reminders.record_outcomes(%(attempt_ids)s, %(outcomes)s, %(reasons)s, %(codes)s, %(provider_ids)s,
                                 %(provider_statuses)s, %(not_before)s, %(now)s) AS recorded
