-- The hours in which an account's office is open: people who are called call back, so calls go only then.
SET LOCAL ROLE reminders_owner;

ALTER TABLE reminders.account_policy
    ADD COLUMN office_opens time NOT NULL DEFAULT '9:00',
    ADD COLUMN office_closes time NOT NULL DEFAULT '20:00',
    ADD COLUMN office_days smallint[] NOT NULL DEFAULT '{1,2,3,4,5,6,7}';
COMMENT ON COLUMN reminders.account_policy.office_days IS
    'The weekdays of the office by ISO 8601: 1 is Monday, 7 Sunday.';
-- Whoever has hours of their own keeps them for calls too, until they name the office's.
UPDATE reminders.account_policy SET office_opens = opens, office_closes = closes;

-- A refusal shows the operator no more than a constraint's name: each says what would be right.
ALTER TABLE reminders.account_policy
    DROP CONSTRAINT hours_open,
    ADD CONSTRAINT opens_before_closes CHECK (opens < closes),
    ADD CONSTRAINT closes_before_midnight CHECK (closes < '24:00'),
    ADD CONSTRAINT office_opens_before_it_closes CHECK (office_opens < office_closes),
    ADD CONSTRAINT office_closes_before_midnight CHECK (office_closes < '24:00'),
    ADD CONSTRAINT office_is_open_on_a_day CHECK (cardinality(office_days) > 0),
    ADD CONSTRAINT office_days_are_numbers_from_1_to_7 CHECK (
        office_days <@ '{1,2,3,4,5,6,7}' AND (array_ndims(office_days) = 1 OR cardinality(office_days) = 0)),
    -- Each pair that is wrong in itself has its own refusal.
    ADD CONSTRAINT office_is_open_between_opens_and_closes CHECK (
        opens >= closes OR office_opens >= office_closes OR office_opens < closes AND opens < office_closes);
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_call_pace_check TO call_pace_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_phone_gap_check TO phone_gap_is_at_least_1_minute;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_gap_check TO email_gap_is_at_least_1_minute;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_phone_daily_cap_check TO phone_daily_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_phone_weekly_cap_check TO phone_weekly_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_daily_cap_check TO email_daily_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_weekly_cap_check TO email_weekly_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_ceiling_check TO email_ceiling_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_sms_ceiling_check TO sms_ceiling_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_call_ceiling_check TO call_ceiling_is_at_least_1;
ALTER TABLE reminders.cadence_step RENAME CONSTRAINT cadence_step_step_check TO step_is_a_number_from_1_to_20;
ALTER TABLE reminders.cadence_step RENAME CONSTRAINT cadence_step_channel_check TO channel_is_email_sms_or_call;

GRANT UPDATE (office_opens, office_closes, office_days) ON reminders.account_policy TO reminders_operator;

ALTER TABLE reminders.staged_appointment ADD COLUMN account_zone text;
UPDATE reminders.staged_appointment SET account_zone = zone;
ALTER TABLE reminders.staged_appointment ALTER COLUMN account_zone SET NOT NULL;
COMMENT ON COLUMN reminders.staged_appointment.account_zone IS
    'Where the office is that is called back; where the book does not say, the client''s own zone.';

INSERT INTO reminders.verdict VALUES
    ('office_closed', 'expired',
        'the office was closed whenever the client could be called, until the step was no longer useful'),
    ('wait_for_office', 'deferred', 'the office is closed, and who is called calls back'),
    ('wait_for_line', 'deferred', 'another call to the number is not known to have ended');
UPDATE reminders.verdict
SET meaning = 'a call that came due before a rung below could: booked late, or moved to before them by closed hours'
WHERE verdict = 'no_lower_proof';

CREATE FUNCTION reminders.office_is_open(
    p_at timestamptz, p_zone text, p_opens time, p_closes time, p_days smallint[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT (p_at AT TIME ZONE p_zone)::time >= p_opens AND (p_at AT TIME ZONE p_zone)::time < p_closes
       AND extract(isodow FROM p_at AT TIME ZONE p_zone)::smallint = ANY (p_days)
$$;

CREATE FUNCTION reminders.office_opens_after(p_at timestamptz, p_zone text, p_opens time, p_days smallint[])
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT min(opening.at)
    FROM generate_series(0, 7) AS ahead,
         LATERAL (SELECT (p_at AT TIME ZONE p_zone)::date + ahead) AS local (day),
         LATERAL (SELECT (local.day + p_opens) AT TIME ZONE p_zone) AS opening (at)
    WHERE opening.at > p_at AND extract(isodow FROM local.day)::smallint = ANY (p_days)
$$;

CREATE OR REPLACE FUNCTION reminders.fence_attempts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE breach text; moment timestamptz := reminders.ledger_clock();
BEGIN
    SELECT CASE
        WHEN abs(extract(epoch FROM a.intended_at - moment)) > 120 THEN 'clock_is_right'
        WHEN a.attempt_id > (SELECT reserved_to FROM reminders.ledger_mark) THEN 'attempt_number_reserved'
        WHEN EXISTS (SELECT FROM reminders.active_hold h WHERE h.scope = 'all'
                     OR h.scope = 'channel' AND h.scope_value = a.channel
                     OR h.scope = 'account' AND h.scope_value = a.account_id
                     OR h.scope = 'cycle' AND EXISTS (SELECT FROM reminders.reminder r
                        WHERE r.contact_id = a.contact_id AND r.logical_date = h.scope_value::timestamptz)) THEN 'no_hold_in_force'
        WHEN EXISTS (SELECT FROM reminders.suppression s WHERE s.address_hash = a.address_hash
                     AND s.channel IN ('*', a.channel)) THEN 'address_not_suppressed'
        WHEN a.channel <> 'email' AND NOT EXISTS (
            SELECT FROM reminders.permitted_country p WHERE p.country = a.address_country) THEN 'country_permitted'
        WHEN a.channel <> 'email' AND NOT EXISTS (
            SELECT FROM reminders.policy_of(a.account_id) p
            WHERE (a.intended_at AT TIME ZONE a.zone)::time >= p.opens
              AND (a.intended_at AT TIME ZONE a.zone)::time < p.closes) THEN 'not_in_quiet_hours'
        WHEN NOT EXISTS (SELECT FROM reminders.reminder r WHERE r.contact_id = a.contact_id AND r.state = 'sending')
          OR EXISTS (SELECT FROM reminders.reminder r WHERE r.contact_id = a.contact_id
            AND (r.channel <> a.channel OR r.account_id <> a.account_id OR r.address_hash <> a.address_hash OR NOT EXISTS (
                SELECT FROM reminders.contact_guard g WHERE g.contact_id = a.contact_id AND NOT g.is_uncontacted
                AND (g.account_id, g.address_hash, g.slot_at, g.step) = (r.account_id, r.address_hash, r.slot_at, r.step))))
            THEN 'contact_is_guarded'
        WHEN EXISTS (
            SELECT FROM reminders.reminder r
            WHERE r.contact_id = a.contact_id AND (r.slot_at <= a.intended_at OR r.expires_at <= a.intended_at))
            THEN 'not_too_late'
        WHEN a.channel = 'call' AND EXISTS (
            SELECT FROM reminders.reminder r
            WHERE r.contact_id = a.contact_id AND r.has_lower_rung
              AND NOT reminders.has_proof(r.account_id, r.appointment_id, r.slot_at, r.step)
              AND NOT reminders.lower_rungs_unreachable(r.account_id, r.appointment_id, r.slot_at, r.step))
            THEN 'call_has_proof'
        WHEN a.channel = 'call' AND NOT EXISTS (
            SELECT FROM reminders.policy_of(a.account_id) p, reminders.reminder r
            JOIN reminders.staged_appointment s
                ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
            WHERE r.contact_id = a.contact_id
              AND reminders.office_is_open(
                  a.intended_at, s.account_zone, p.office_opens, p.office_closes, p.office_days)) THEN 'office_is_open'
        END INTO breach
    FROM fresh a
    ORDER BY 1 NULLS LAST LIMIT 1;
    IF breach IS NOT NULL THEN
        RAISE EXCEPTION 'refused attempt: %', breach USING ERRCODE = 'check_violation', CONSTRAINT = breach;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION reminders.disposition(p_now timestamptz, p_reminder_ids bigint[])
RETURNS TABLE (reminder_id bigint, verdict text, disposition text, not_before_at timestamptz)
LANGUAGE sql STABLE AS $$
WITH fact AS (
    SELECT r.*, s.status, s.slot_at AS book_slot_at, s.read_at, s.zone, s.has_zone_problem, s.phone_country, s.phone_type,
           CASE r.channel WHEN 'email' THEN s.email_problem ELSE s.phone_problem END AS address_problem,
           local.at::time AS local_time, local.at::date AS local_day,
           policy.opens, policy.closes, policy.has_cancellation_notice,
           s.account_zone, policy.office_opens, policy.office_closes, policy.office_days,
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
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_office' THEN 'office_closed'
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
        WHEN f.channel = 'call' AND NOT reminders.office_is_open(
            p_now, f.account_zone, f.office_opens, f.office_closes, f.office_days) THEN 'wait_for_office'
        WHEN f.day_count >= f.day_cap THEN 'wait_for_day'
        WHEN f.week_count >= f.week_cap THEN 'wait_for_week'
        WHEN f.has_spent_ceiling THEN 'wait_for_ceiling'
        WHEN f.channel = 'call' AND EXISTS (
            SELECT FROM reminders.attempt a
            WHERE a.address_hash = f.address_hash AND a.channel = 'call' AND a.ended_at IS NULL) THEN 'wait_for_line'
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
           WHEN 'wait_for_office' THEN
               reminders.office_opens_after(p_now, j.account_zone, j.office_opens, j.office_days)
           WHEN 'wait_for_day' THEN (j.local_day + 1)::timestamp AT TIME ZONE j.zone
           WHEN 'wait_for_ceiling' THEN ((p_now AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC'
           WHEN 'wait_for_week' THEN (date_trunc('week', j.local_day::timestamp) + interval '7 days') AT TIME ZONE j.zone
           WHEN 'wait_for_gap' THEN j.last_contact_at + j.min_gap
       END
FROM judged j JOIN reminders.verdict v USING (verdict)
$$;

REVOKE EXECUTE ON FUNCTION
    reminders.office_is_open(timestamptz, text, time, time, smallint[]),
    reminders.office_opens_after(timestamptz, text, time, smallint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    reminders.office_is_open(timestamptz, text, time, time, smallint[]),
    reminders.office_opens_after(timestamptz, text, time, smallint[])
    TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
