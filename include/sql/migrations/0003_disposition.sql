-- The decision table: what becomes of each pending or held reminder at a given now. Triage and the intent both use it.
SET LOCAL ROLE reminders_owner;

CREATE TABLE reminders.verdict (
    verdict text PRIMARY KEY,
    disposition text NOT NULL CHECK (
        disposition IN ('ready', 'deferred', 'held', 'expired', 'superseded', 'suppressed', 'cancelled')),
    meaning text NOT NULL
);
COMMENT ON TABLE reminders.verdict IS 'Every verdict of the decision table, what it leads to, and what it means.';
INSERT INTO reminders.verdict VALUES
    ('ready', 'ready', 'may be sent now'),
    ('started', 'expired', 'the appointment has started'),
    ('too_late', 'expired', 'no longer useful at this step'),
    ('daily_cap', 'expired', 'the address had its contacts of the day until the step was no longer useful'),
    ('weekly_cap', 'expired', 'the address had its contacts of the week until the step was no longer useful'),
    ('daily_ceiling', 'expired', 'the day''s ceiling of contacts was reached until the step was no longer useful'),
    ('unknown_status', 'expired', 'the book gave a status that is not one of the agreed ones for as long as it mattered'),
    ('refused_by_guard', 'expired', 'a guard of the ledger refused the contact until the step was no longer useful'),
    ('held_too_long', 'expired', 'a hold was not released while the step was useful'),
    ('missed_by_us', 'expired', 'a call without proof from a lower rung, which we failed to send'),
    ('no_lower_proof', 'expired', 'a call for an appointment booked too late for the rungs below'),
    ('opted_out', 'suppressed', 'the person asked for silence'),
    ('no_address', 'suppressed', 'the book has no address for the channel'),
    ('bad_address', 'suppressed', 'the address cannot be used'),
    ('country_not_permitted', 'suppressed', 'numbers of this country are not contacted'),
    ('number_type_not_permitted', 'suppressed', 'premium-rate and shared-cost numbers are not contacted'),
    ('unknown_time_zone', 'suppressed', 'neither the client nor the account has a known time zone'),
    ('notice_not_wanted', 'cancelled', 'the account no longer wants its clients told of a cancellation'),
    ('cancelled_in_book', 'cancelled', 'the book has cancelled the appointment since the merge'),
    ('confirmed', 'superseded', 'the client has confirmed the slot since the merge'),
    ('moved', 'superseded', 'the book has moved the appointment since the merge'),
    ('reinstated', 'superseded', 'the book has taken the cancellation back before its notice went'),
    ('visit_over', 'superseded', 'the book says that the visit is over, or was missed'),
    ('moved_back', 'superseded', 'a contact named another time before the slot was moved back'),
    ('slot_already_contacted', 'superseded', 'the address was already contacted about this slot and step'),
    ('wait_for_book', 'deferred', 'the book''s row is missing or older than ten minutes'),
    ('wait_for_status', 'deferred', 'the book gives the appointment a status that is not one of the agreed ones'),
    ('wait_until_due', 'deferred', 'a cycle dated ahead of the clock made it: the step is not due yet'),
    ('wait_for_lower_rung', 'deferred', 'a lower rung is still open'),
    ('wait_for_answer', 'deferred', 'the client has time to answer the lower rung'),
    ('wait_until_not_before', 'deferred', 'backoff after proof that nobody was contacted'),
    ('wait_for_hours', 'deferred', 'quiet hours in the client''s zone'),
    ('wait_for_gap', 'deferred', 'the address was contacted a short while ago'),
    ('wait_for_day', 'deferred', 'the address had its contacts of the day'),
    ('wait_for_ceiling', 'deferred', 'the day''s ceiling of contacts for the channel is reached, for the account or in all'),
    ('wait_for_week', 'deferred', 'the address had its contacts of the week'),
    ('on_hold', 'held', 'a hold is in force');

CREATE FUNCTION reminders.disposition(p_now timestamptz, p_reminder_ids bigint[])
RETURNS TABLE (reminder_id bigint, verdict text, disposition text, not_before_at timestamptz)
LANGUAGE sql STABLE AS $$
WITH fact AS (
    SELECT r.*, s.status, s.slot_at AS book_slot_at, s.read_at, s.zone, s.has_zone_problem, s.phone_country, s.phone_type,
           CASE r.channel WHEN 'email' THEN s.email_problem ELSE s.phone_problem END AS address_problem,
           local.at::time AS local_time, local.at::date AS local_day,
           policy.opens, policy.closes, policy.has_cancellation_notice,
           EXISTS (SELECT FROM reminders.daily_ceiling d
                   WHERE d.account_id IN (r.account_id, '*') AND d.channel = r.channel
                     AND d.day = (p_now AT TIME ZONE 'UTC')::date AND d.contact_count >= d.ceiling) AS has_spent_ceiling,
           CASE r.channel WHEN 'email' THEN policy.email_gap ELSE policy.phone_gap END AS min_gap,
           -- An address keeps the cap of the account that contacted it first in the period.
           least(spent_day.cap, CASE r.channel WHEN 'email' THEN policy.email_daily_cap
                                               ELSE policy.phone_daily_cap END) AS day_cap,
           least(spent_week.cap, CASE r.channel WHEN 'email' THEN policy.email_weekly_cap
                                                ELSE policy.phone_weekly_cap END) AS week_cap,
           spent_day.contact_count AS day_count, spent_week.contact_count AS week_count,
           gap.last_contact_at,
           lower.state AS lower_state,
           below.reached_at + r.wait AS answered_by_at, below.is_open AS has_open_rung_below,
           EXISTS (SELECT FROM reminders.suppression p WHERE p.address_hash = r.address_hash
                   AND p.channel IN ('*', r.channel) AND p.reason = 'opted_out') AS has_opted_out,
           EXISTS (SELECT FROM reminders.suppression p WHERE p.address_hash = r.address_hash
                   AND p.channel IN ('*', r.channel) AND p.reason = 'bad_address') AS is_bad_address,
           EXISTS (SELECT FROM reminders.active_hold h
                   WHERE h.scope = 'all' OR h.scope = 'channel' AND h.scope_value = r.channel
                      OR h.scope = 'account' AND h.scope_value = r.account_id
                      OR h.scope = 'cycle' AND h.scope_value::timestamptz = r.logical_date) AS has_hold,
           EXISTS (SELECT FROM reminders.active_hold h WHERE h.placed_by = 'merge_ledger'
                   AND (h.scope = 'all' OR h.scope = 'account' AND h.scope_value = r.account_id)) AS has_book_hold
    FROM reminders.reminder r
    LEFT JOIN reminders.staged_appointment s
        ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
    CROSS JOIN LATERAL (SELECT p_now AT TIME ZONE coalesce(s.zone, 'UTC')) AS local (at)
    LEFT JOIN reminders.account_policy own ON own.account_id = r.account_id
    JOIN reminders.account_policy policy ON policy.account_id = coalesce(own.account_id, '*')
    LEFT JOIN reminders.address_cap spent_day
        ON (spent_day.address_hash, spent_day.period, spent_day.starts_on) = (r.address_hash, 'day', local.at::date)
    LEFT JOIN reminders.address_cap spent_week
        ON (spent_week.address_hash, spent_week.period, spent_week.starts_on)
         = (r.address_hash, 'week', date_trunc('week', local.at)::date)
    LEFT JOIN reminders.address_gap gap ON gap.address_hash = r.address_hash
    LEFT JOIN LATERAL (
        SELECT l.state
        FROM reminders.rung_end l
        WHERE l.account_id = r.account_id AND l.appointment_id = r.appointment_id AND l.slot_at = r.slot_at
          AND l.step < r.step AND NOT reminders.is_unreachable(l.state, coalesce(l.reason, ''))
        ORDER BY l.step DESC LIMIT 1) AS lower ON r.step > 1
    LEFT JOIN LATERAL (
        SELECT bool_or(l.state IN ('pending', 'held', 'sending', 'in_doubt', 'accepted')) AS is_open,
               max(coalesce(l.delivered_at, l.sent_at)) FILTER (WHERE l.state IN ('delivered', 'unknown')) AS reached_at
        FROM reminders.rung_end l
        WHERE l.account_id = r.account_id AND l.appointment_id = r.appointment_id AND l.slot_at = r.slot_at
          AND l.step < r.step) AS below ON r.step > 1
    WHERE r.ended_at IS NULL AND r.state IN ('pending', 'held')
      AND r.reminder_id = ANY (p_reminder_ids)
), judged AS MATERIALIZED (
    SELECT f.*, CASE
        WHEN f.slot_at <= p_now THEN 'started'
        -- before lateness: the ladder goes on from that contact, also when the step is over
        WHEN EXISTS (
            SELECT FROM reminders.contact_guard g
            WHERE g.account_id = f.account_id AND g.address_hash = f.address_hash AND g.slot_at = f.slot_at
              AND g.step = f.step AND NOT g.is_uncontacted) THEN 'slot_already_contacted'
        WHEN f.expires_at <= p_now AND (f.state = 'held' OR f.has_hold) THEN 'held_too_long'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_day' THEN 'daily_cap'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_week' THEN 'weekly_cap'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_ceiling' THEN 'daily_ceiling'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_status' THEN 'unknown_status'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'refused_by_guard' THEN 'refused_by_guard'
        WHEN f.expires_at <= p_now THEN 'too_late'
        -- A book that changed too much at once is not believed until a person has looked.
        WHEN f.has_book_hold THEN 'on_hold'
        WHEN f.step = 0 AND f.status <> 'cancelled' THEN 'reinstated'
        WHEN f.step = 0 AND NOT f.has_cancellation_notice THEN 'notice_not_wanted'
        WHEN f.step > 0 AND f.status = 'cancelled' THEN 'cancelled_in_book'
        WHEN f.book_slot_at <> f.slot_at THEN 'moved'
        WHEN f.status = 'confirmed' THEN 'confirmed'
        WHEN f.status IN ('completed', 'no_show') THEN 'visit_over'
        WHEN f.has_zone_problem THEN 'unknown_time_zone'
        WHEN f.has_opted_out THEN 'opted_out'
        WHEN f.address_problem IS NOT NULL THEN f.address_problem
        WHEN f.is_bad_address THEN 'bad_address'
        WHEN f.channel <> 'email' AND f.phone_type IN ('premium_rate', 'shared_cost') THEN 'number_type_not_permitted'
        WHEN f.channel <> 'email' AND f.read_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM reminders.permitted_country p WHERE p.country = f.phone_country) THEN 'country_not_permitted'
        WHEN EXISTS (
            SELECT FROM reminders.reminder elsewhere, reminders.reminder here
            WHERE elsewhere.account_id = f.account_id AND elsewhere.appointment_id = f.appointment_id
              AND elsewhere.slot_at <> f.slot_at AND elsewhere.sent_at IS NOT NULL
              AND here.account_id = f.account_id AND here.appointment_id = f.appointment_id
              AND here.slot_at = f.slot_at AND here.created_at < elsewhere.sent_at) THEN 'moved_back'
        WHEN f.due_at > p_now THEN 'wait_until_due'
        WHEN f.has_open_rung_below THEN 'wait_for_lower_rung'
        WHEN p_now < f.answered_by_at THEN 'wait_for_answer'
        WHEN f.channel = 'call' AND f.lower_state IS NULL AND f.has_lower_rung
             AND NOT reminders.lower_rungs_unreachable(f.account_id, f.appointment_id, f.slot_at, f.step)
            THEN 'no_lower_proof'
        WHEN f.channel = 'call' AND f.lower_state IS NOT NULL
             AND NOT reminders.has_proof(f.account_id, f.appointment_id, f.slot_at, f.step) THEN 'missed_by_us'
        WHEN f.has_hold THEN 'on_hold'
        WHEN f.read_at IS NULL OR f.read_at < p_now - interval '10 minutes' THEN 'wait_for_book'
        WHEN f.status NOT IN ('booked', 'confirmed', 'cancelled', 'completed', 'no_show') THEN 'wait_for_status'
        WHEN f.not_before_at > p_now AND f.deferred_for IN ('wait_until_not_before') THEN 'wait_until_not_before'
        WHEN f.channel <> 'email' AND (f.local_time < f.opens OR f.local_time >= f.closes) THEN 'wait_for_hours'
        WHEN f.day_count >= f.day_cap THEN 'wait_for_day'
        WHEN f.week_count >= f.week_cap THEN 'wait_for_week'
        WHEN f.has_spent_ceiling THEN 'wait_for_ceiling'
        WHEN f.last_contact_at + f.min_gap > p_now THEN 'wait_for_gap'
        ELSE 'ready' END AS verdict
    FROM fact f
)
SELECT j.reminder_id, j.verdict, v.disposition,
       CASE j.verdict
           WHEN 'wait_until_due' THEN j.due_at
           WHEN 'wait_for_answer' THEN j.answered_by_at
           WHEN 'wait_until_not_before' THEN j.not_before_at
           WHEN 'wait_for_hours' THEN
               (j.local_day + CASE WHEN j.local_time < j.opens THEN 0 ELSE 1 END + j.opens) AT TIME ZONE j.zone
           WHEN 'wait_for_day' THEN (j.local_day + 1)::timestamp AT TIME ZONE j.zone
           WHEN 'wait_for_ceiling' THEN ((p_now AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC'
           WHEN 'wait_for_week' THEN (date_trunc('week', j.local_day::timestamp) + interval '7 days') AT TIME ZONE j.zone
           WHEN 'wait_for_gap' THEN j.last_contact_at + j.min_gap
       END
FROM judged j JOIN reminders.verdict v USING (verdict)
$$;

RESET ROLE;
