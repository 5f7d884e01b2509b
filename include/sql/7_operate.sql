-- name: ledger_time
-- The time by which a person acts; their own machine's clock may be off.
SELECT reminders.ledger_clock() AS now

-- name: holds_in_force
-- Every hold in force, with how many reminders it holds that are still useful; the longest in force first.
SELECT h.hold_id, h.scope, h.scope_value, h.account_id, h.step, h.age, h.placed_by, h.why, h.placed_at, h.review_at,
       coalesce(held.reminders, 0) AS reminders, held.first_expires_at
FROM reminders.hold h
LEFT JOIN (
    SELECT r.hold_id, count(*) AS reminders, min(r.expires_at) AS first_expires_at FROM reminders.reminder r
    WHERE r.ended_at IS NULL AND r.state = 'held' AND r.expires_at > %(now)s GROUP BY r.hold_id) held USING (hold_id)
WHERE h.released_at IS NULL
ORDER BY h.placed_at, h.hold_id

-- name: lock_holds
-- The named holds, so that of two operators the second sees what the first has done.
SELECT hold_id, scope, scope_value, released_at, released_by FROM reminders.hold
WHERE hold_id = ANY (%(hold_ids)s) ORDER BY hold_id FOR UPDATE

-- name: release_holds
-- A person lets go what was held: it goes out nearest first, at its account's pace, after a canary.
UPDATE reminders.hold SET released_at = %(now)s, released_by = %(who)s WHERE hold_id = ANY (%(hold_ids)s)
RETURNING hold_id

-- name: count_held
-- How many reminders of these holds are still useful.
SELECT count(*) AS reminders FROM reminders.reminder
WHERE ended_at IS NULL AND state = 'held' AND hold_id = ANY (%(hold_ids)s) AND expires_at > %(now)s

-- name: drop_held
-- A person decides that nobody hears of these; the rungs above them find no proof here.
UPDATE reminders.reminder SET state = 'cancelled', reason = 'dropped', ended_at = %(now)s, deferred_for = NULL
WHERE ended_at IS NULL AND state = 'held' AND hold_id = ANY (%(hold_ids)s) AND expires_at > %(now)s
RETURNING reminder_id

-- name: turn_down_held
-- Texts and calls become emails, one for a slot of which no email was delivered or is open; the others are dropped.
WITH held AS (
    SELECT r.reminder_id, r.channel, s.email_hash, s.email_masked,
           row_number() OVER (PARTITION BY r.account_id, r.appointment_id, r.slot_at ORDER BY r.step) AS place,
           s.appointment_id IS NULL AS is_unread, s.email_hash IS NOT NULL AND s.email_problem IS NULL AND NOT EXISTS (
               SELECT FROM reminders.reminder e
               WHERE (e.account_id, e.appointment_id, e.slot_at) = (r.account_id, r.appointment_id, r.slot_at)
                 AND e.channel = 'email' AND (e.ended_at IS NULL OR e.state = 'delivered')
                 AND e.reminder_id <> r.reminder_id)
             -- Also under another appointment's id: the address was told of the slot.
             AND NOT EXISTS (
               SELECT FROM reminders.contact_guard g
               WHERE g.account_id = r.account_id AND g.address_hash = s.email_hash AND g.slot_at = r.slot_at
                 AND NOT g.is_uncontacted) AS can_be_mailed
    FROM reminders.reminder r
    LEFT JOIN reminders.staged_appointment s
        ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
    WHERE r.ended_at IS NULL AND r.state = 'held' AND r.hold_id = ANY (%(hold_ids)s) AND r.expires_at > %(now)s
), turned AS (
    UPDATE reminders.reminder r
    SET channel = CASE WHEN h.goes THEN 'email' ELSE r.channel END,
        turned_down_from = CASE WHEN h.goes AND r.channel <> 'email' THEN r.channel ELSE r.turned_down_from END,
        address_hash = CASE WHEN h.goes THEN coalesce(h.email_hash, r.address_hash) ELSE r.address_hash END,
        address_masked = CASE WHEN h.goes THEN coalesce(h.email_masked, r.address_masked) ELSE r.address_masked END,
        state = CASE WHEN h.goes THEN 'pending' ELSE 'cancelled' END,
        reason = CASE WHEN NOT h.goes THEN 'dropped' END,
        ended_at = CASE WHEN NOT h.goes THEN %(now)s::timestamptz END, deferred_for = NULL
    FROM (SELECT *, channel = 'email' OR can_be_mailed AND place = 1 AS goes FROM held) h
    WHERE h.reminder_id = r.reminder_id
    RETURNING NEW.state AS state
)
SELECT count(*) FILTER (WHERE state = 'pending') AS turned_down, count(*) FILTER (WHERE state = 'cancelled') AS dropped,
       (SELECT count(*) FROM held WHERE is_unread AND channel <> 'email') AS unread
FROM turned

-- name: hold_of_scope
-- The hold in force for a scope.
SELECT hold_id, placed_by, placed_at FROM reminders.hold
WHERE released_at IS NULL AND scope = %(scope)s AND scope_value = %(scope_value)s

-- name: account_seen
-- Whether the gate has ever judged the account.
SELECT account_id FROM reminders.account_seen WHERE account_id = %(account_id)s

-- name: rehearsed_contacts
-- What this cycle has planned, by account and channel.
SELECT c.account_id, c.channel, count(*) AS contacts, count(DISTINCT c.address_hash) AS people
FROM reminders.batch b JOIN reminders.contact c USING (batch_id)
WHERE b.logical_date = %(logical_date)s AND b.planned_at = %(now)s
GROUP BY c.account_id, c.channel

-- name: rehearsed_ceilings
-- How many more contacts of today the ceilings of the accounts allow, by account and channel.
SELECT p.account_id, p.channel, coalesce(d.ceiling, CASE p.channel WHEN 'email' THEN policy.email_ceiling
                                                    WHEN 'sms' THEN policy.sms_ceiling ELSE policy.call_ceiling END)
                                - coalesce(d.contact_count, 0) AS allowed
FROM (SELECT DISTINCT c.account_id, c.channel FROM reminders.batch b JOIN reminders.contact c USING (batch_id)
      WHERE b.logical_date = %(logical_date)s AND b.planned_at = %(now)s) p
CROSS JOIN LATERAL reminders.policy_of(p.account_id) policy
LEFT JOIN reminders.daily_ceiling d ON (d.account_id, d.channel, d.day)
                                     = (p.account_id, p.channel, (%(now)s::timestamptz AT TIME ZONE 'UTC')::date)

-- name: rehearsed_people
-- How many addresses this cycle would contact, over all accounts and channels.
SELECT count(DISTINCT c.address_hash) AS people FROM reminders.batch b JOIN reminders.contact c USING (batch_id)
WHERE b.logical_date = %(logical_date)s AND b.planned_at = %(now)s

-- name: rehearsed_usual
-- What is usual at this hour of the week, by account and channel.
SELECT account_id, channel, usual_contacts FROM reminders.measure_volume(%(logical_date)s, %(now)s)

-- name: rehearsed_withheld
-- What this cycle would not send, by account, channel and the reason; of a person's hold only what it stops, as its
-- reason may name somebody, and a rehearsal goes into a log.
SELECT r.account_id, r.channel, h.hold_id, count(*) AS reminders,
       CASE WHEN h.scope = 'group' AND h.placed_by = 'triage' THEN h.why
            WHEN h.scope IS NOT NULL THEN 'stopped by the hold on ' || concat_ws(' ', h.scope, nullif(h.scope_value, ''))
            ELSE coalesce(v.meaning, r.deferred_for) END AS why
FROM reminders.reminder r
LEFT JOIN reminders.hold h ON h.hold_id = r.hold_id AND r.state = 'held'
LEFT JOIN reminders.verdict v ON v.verdict = r.deferred_for
WHERE r.ended_at IS NULL AND r.state IN ('pending', 'held') AND r.deferred_for IS NOT NULL
GROUP BY r.account_id, r.channel, h.hold_id, h.scope, h.scope_value, h.placed_by, h.why, v.meaning, r.deferred_for

-- name: recoveries_in_force
-- The recoveries whose hold is in force: whether the provider's list has been read, and what it had that the ledger lacked.
SELECT r.hold_id, r.why, r.missing_from, r.begun_at, r.listed_at, r.taken_at, count(f.provider_id) AS found,
       count(*) FILTER (WHERE f.is_rebuilt) AS rebuilt
FROM reminders.recovery r
JOIN reminders.active_hold h USING (hold_id)
LEFT JOIN reminders.found_contact f USING (recovery_id)
GROUP BY r.recovery_id ORDER BY r.recovery_id

-- name: doubts
-- Contacts since then of which nobody can tell whether they were made, the next appointment first.
SELECT a.attempt_id, a.state, a.reason, a.channel, a.intended_at, r.account_id, r.appointment_id, r.slot_at, r.step,
       r.address_masked
FROM reminders.attempt a JOIN reminders.reminder r USING (contact_id)
WHERE a.intended_at > %(since)s AND a.state IN ('in_doubt', 'unknown')
ORDER BY r.slot_at, a.attempt_id, r.reminder_id
