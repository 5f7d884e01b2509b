-- The decision table again: office hours, a busy line, pace and turned-down email come in; it names the hold that stops a
-- reminder, and looks at nothing that its verdict does not need.
SET LOCAL ROLE reminders_owner;

DROP FUNCTION reminders.settle;
DROP FUNCTION reminders.disposition;

CREATE FUNCTION reminders.disposition(p_now timestamptz, p_reminder_ids bigint[])
RETURNS TABLE (reminder_id bigint, verdict text, disposition text, not_before_at timestamptz, hold_id bigint)
LANGUAGE sql STABLE AS $$
WITH fact AS (
    SELECT r.*, s.status, s.slot_at AS book_slot_at, s.read_at, s.zone, s.has_zone_problem, s.phone_country, s.phone_type,
           s.email_hash,
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
           below.has_reachable_rung, below.reached_at + r.wait AS answered_by_at, below.is_open AS has_open_rung_below,
           EXISTS (SELECT FROM reminders.suppression p WHERE p.address_hash = r.address_hash
                   AND p.channel IN ('*', r.channel) AND p.reason = 'opted_out') AS has_opted_out,
           EXISTS (SELECT FROM reminders.suppression p WHERE p.address_hash = r.address_hash
                   AND p.channel IN ('*', r.channel) AND p.reason = 'bad_address') AS is_bad_address,
           coalesce(on_all.hold_id, on_channel.hold_id, on_account.hold_id, on_book.hold_id, on_books.hold_id,
                    on_cycle.hold_id, held_group.hold_id) AS stopping_hold_id,
           -- It is noted under its first hold, until that is released.
           CASE WHEN noted.released_at IS NULL THEN r.hold_id END AS noted_hold_id,
           coalesce(on_book.hold_id, on_books.hold_id) IS NOT NULL AS has_book_hold,
           held_group.hold_id IS NOT NULL AS is_in_held_group
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
    LEFT JOIN reminders.active_hold on_all ON on_all.scope = 'all'
    LEFT JOIN reminders.active_hold on_channel ON (on_channel.scope, on_channel.scope_value) = ('channel', r.channel)
    LEFT JOIN reminders.active_hold on_account ON (on_account.scope, on_account.scope_value) = ('account', r.account_id)
    -- One cycle can be written in several ways.
    LEFT JOIN (SELECT h.scope_value::timestamptz AS logical_date, min(h.hold_id) AS hold_id
               FROM reminders.active_hold h WHERE h.scope = 'cycle' GROUP BY 1) AS on_cycle
        ON on_cycle.logical_date = r.logical_date
    LEFT JOIN reminders.active_hold on_book ON (on_book.scope, on_book.scope_value) = ('book', r.account_id)
    LEFT JOIN reminders.active_hold on_books ON (on_books.scope, on_books.scope_value) = ('book', '*')
    LEFT JOIN reminders.hold noted ON noted.hold_id = r.hold_id
    -- A group's hold that is not there is not released either.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN noted.scope = 'group' AND noted.released_at IS NULL OR noted.hold_id IS NULL THEN r.hold_id END
    ) AS held_group (hold_id)
    LEFT JOIN LATERAL (
        SELECT bool_or(l.state IN ('pending', 'held', 'sending', 'in_doubt', 'accepted')) AS is_open,
               bool_or(NOT reminders.is_unreachable(l.state, coalesce(l.reason, ''))) AS has_reachable_rung,
               max(coalesce(l.delivered_at, l.sent_at)) FILTER (WHERE l.state IN ('delivered', 'unknown')) AS reached_at
        FROM reminders.rung_end l
        WHERE r.step > 1 AND l.account_id = r.account_id AND l.appointment_id = r.appointment_id
          AND l.slot_at = r.slot_at AND l.step < r.step) AS below ON true
    WHERE r.ended_at IS NULL AND r.state IN ('pending', 'held')
      AND r.reminder_id = ANY (p_reminder_ids)
), judged AS MATERIALIZED (
    -- Not f.*: what stands only in the CASE is looked up only for the rows that come to it.
    SELECT f.reminder_id, f.due_at, f.not_before_at, f.answered_by_at, f.zone, f.opens, f.local_day, f.local_time,
           f.account_zone, f.office_opens, f.office_days, f.last_contact_at, f.min_gap,
           coalesce(f.noted_hold_id, f.stopping_hold_id) AS hold_id, CASE
        WHEN f.slot_at <= p_now THEN 'started'
        -- before lateness: the ladder goes on from that contact, also when the step is over
        WHEN EXISTS (
            SELECT FROM reminders.contact_guard g
            WHERE g.account_id = f.account_id AND g.address_hash = f.address_hash AND g.slot_at = f.slot_at
              AND g.step = f.step AND NOT g.is_uncontacted) THEN 'slot_already_contacted'
        WHEN f.expires_at <= p_now AND (f.state = 'held' OR f.stopping_hold_id IS NOT NULL) THEN 'held_too_long'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_day' THEN 'daily_cap'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_week' THEN 'weekly_cap'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_ceiling' THEN 'daily_ceiling'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_office' THEN 'office_closed'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_status' THEN 'unknown_status'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'refused_by_guard' THEN 'refused_by_guard'
        WHEN f.expires_at <= p_now AND f.deferred_for = 'wait_for_pace' THEN 'pace'
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
        WHEN EXISTS (
            SELECT FROM reminders.reminder decided
            WHERE decided.account_id = f.account_id AND decided.slot_at = f.slot_at AND decided.step = f.step
              AND (decided.reason = 'dropped' OR decided.turned_down_from IS NOT NULL)
              AND (decided.reason = 'dropped' AND decided.address_hash = f.address_hash
                   OR decided.turned_down_from = f.channel AND decided.address_hash = f.email_hash)) THEN 'dropped'
        WHEN f.due_at > p_now THEN 'wait_until_due'
        -- Else the rung of a held group could leave it, and go when the one below has ended.
        WHEN f.is_in_held_group AND (f.has_open_rung_below OR p_now < f.answered_by_at) THEN 'on_hold'
        WHEN f.has_open_rung_below THEN 'wait_for_lower_rung'
        WHEN p_now < f.answered_by_at THEN 'wait_for_answer'
        WHEN f.channel = 'call' AND f.has_reachable_rung IS NOT TRUE AND f.has_lower_rung
             AND NOT reminders.lower_rungs_unreachable(f.account_id, f.appointment_id, f.slot_at, f.step)
            THEN 'no_lower_proof'
        WHEN f.channel = 'call' AND f.has_reachable_rung
             AND NOT reminders.has_proof(f.account_id, f.appointment_id, f.slot_at, f.step) THEN 'missed_by_us'
        WHEN f.stopping_hold_id IS NOT NULL THEN 'on_hold'
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
       END, CASE j.verdict WHEN 'on_hold' THEN j.hold_id END
FROM judged j JOIN reminders.verdict v USING (verdict)
$$;

CREATE FUNCTION reminders.settle(p_now timestamptz, p_reminder_ids bigint[])
RETURNS TABLE (reminder_id bigint, disposition text, is_changed boolean)
LANGUAGE sql AS $$
    WITH verdict AS MATERIALIZED (
        SELECT * FROM reminders.disposition(p_now, p_reminder_ids)
    ), changed AS (
        UPDATE reminders.reminder r
        SET state = CASE WHEN d.disposition IN ('ready', 'deferred') THEN 'pending' ELSE d.disposition END,
            reason = CASE WHEN d.disposition NOT IN ('ready', 'deferred', 'held') THEN d.verdict END,
            ended_at = CASE WHEN d.disposition NOT IN ('ready', 'deferred', 'held') THEN p_now END,
            deferred_for = CASE WHEN d.disposition IN ('deferred', 'held') THEN d.verdict END,
            -- What was put off is not overdue since before.
            not_before_at = coalesce(d.not_before_at, r.not_before_at),
            hold_id = coalesce(d.hold_id, r.hold_id)
        FROM verdict d
        -- Open, which the state says too: its index has no years of ended rows.
        WHERE d.reminder_id = r.reminder_id AND r.ended_at IS NULL AND r.state IN ('pending', 'held')
          AND (d.disposition <> 'ready' OR r.state = 'held' OR r.deferred_for <> 'wait_for_pace')
          AND (d.disposition NOT IN ('deferred', 'held')
               OR (r.deferred_for, r.not_before_at)
                   IS DISTINCT FROM (d.verdict, coalesce(d.not_before_at, r.not_before_at))
               OR (d.disposition = 'held') <> (r.state = 'held')
               OR d.hold_id IS NOT NULL AND d.hold_id IS DISTINCT FROM r.hold_id)
        RETURNING r.reminder_id)
    SELECT d.reminder_id, d.disposition, c.reminder_id IS NOT NULL
    FROM verdict d LEFT JOIN changed c USING (reminder_id)
$$;
COMMENT ON FUNCTION reminders.settle IS
    'Writes the decision table''s verdicts to the given reminders that are pending or held, and returns them.';

-- What was held before this has its hold too, so that whoever releases that is told how many go.
UPDATE reminders.reminder r SET hold_id = d.hold_id
FROM reminders.disposition(reminders.ledger_clock(), ARRAY(
    SELECT reminder_id FROM reminders.reminder WHERE ended_at IS NULL AND state = 'held' AND hold_id IS NULL)) d
WHERE d.reminder_id = r.reminder_id AND d.hold_id IS NOT NULL;

REVOKE EXECUTE ON FUNCTION reminders.disposition, reminders.settle FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.disposition, reminders.settle
    TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
