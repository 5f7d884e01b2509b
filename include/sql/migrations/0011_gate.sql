-- The gate: what a person must look at before it goes. A backlog, an abnormal volume, a new account's past are held.
SET LOCAL ROLE reminders_owner;

CREATE FUNCTION reminders.age_of(p_overdue interval, p_overdue_after interval) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_overdue < p_overdue_after THEN 'fresh' WHEN p_overdue < interval '1 hour' THEN 'to 1 hour'
                WHEN p_overdue < interval '6 hours' THEN 'to 6 hours' WHEN p_overdue < interval '1 day' THEN 'to 1 day'
                ELSE 'older' END
$$;
COMMENT ON FUNCTION reminders.age_of IS
    'By how much a reminder is overdue, as the groups are named: so far below gate_bound.overdue_after it is fresh.';

CREATE FUNCTION reminders.measure_volume(p_logical_date timestamptz, p_now timestamptz)
RETURNS TABLE (account_id text, channel text, is_new boolean, contacts integer, past_contacts integer,
               overdue_contacts integer, usual_contacts numeric, implied_contacts integer, past integer, overdue integer,
               usual_overdue numeric, repeated integer, usual_repeated numeric)
LANGUAGE sql STABLE SET search_path = pg_catalog, reminders AS $$
WITH waiting AS (
    -- Past is what was due a while ago, overdue what could have gone since then: it was in the ledger, and nothing put it off.
    SELECT r.account_id, r.channel, r.address_hash, r.deferred_for, r.due_at < p_now - b.overdue_after AS is_past,
           greatest(r.due_at, r.created_at, r.not_before_at) < p_now - b.overdue_after AS is_overdue,
           r.logical_date = r.adopted_by AND r.due_at BETWEEN p_now - interval '1 day' AND p_now - interval '4 hours'
               AS is_late_in_book
    FROM reminder r, gate_bound b
    WHERE r.ended_at IS NULL AND r.state = 'pending' AND r.adopted_by = p_logical_date AND r.hold_id IS NULL
), ready AS (
    SELECT w.account_id, w.channel, w.address_hash, bool_and(w.is_past) AS is_past, bool_and(w.is_overdue) AS is_overdue,
           EXISTS (SELECT FROM contact_guard g JOIN attempt a USING (contact_id)
                   WHERE g.account_id = w.account_id AND g.address_hash = w.address_hash AND a.channel = w.channel
                     AND a.intended_at > p_now - interval '1 day' AND a.state <> 'not_contacted') AS is_repeated
    FROM waiting w WHERE w.deferred_for IS NULL OR w.deferred_for = 'wait_for_pace'
    GROUP BY w.account_id, w.channel, w.address_hash
), known AS (
    -- Clients with several appointments ahead are what the book itself says will be contacted again and again.
    SELECT s.account_id, s.hash AS address_hash
    FROM (SELECT a.account_id, a.slot_at, unnest(ARRAY[a.email_hash, a.phone_hash]) AS hash
          FROM staged_appointment a WHERE a.logical_date = p_logical_date) s
    WHERE (s.account_id, s.hash) IN (SELECT r.account_id, r.address_hash FROM ready r WHERE r.is_repeated)
    GROUP BY s.account_id, s.hash HAVING count(DISTINCT s.slot_at) > 1
), fact AS (
    -- Contacts that would go now.
    SELECT r.account_id, r.channel, count(*) AS contacts, count(*) FILTER (WHERE r.is_past) AS past_contacts,
           count(*) FILTER (WHERE r.is_overdue) AS overdue_contacts, 0 AS implied, 0 AS past, 0 AS overdue,
           count(*) FILTER (WHERE r.is_repeated) AS repeated, count(k.address_hash) AS implied_repeated
    FROM ready r LEFT JOIN known k USING (account_id, address_hash) GROUP BY r.account_id, r.channel
    UNION ALL -- Those that went in this hour, backlogs apart.
    SELECT a.account_id, a.channel, count(*), 0, 0, 0, 0, 0, 0, 0 FROM attempt a JOIN contact c USING (contact_id)
    WHERE a.intended_at >= date_trunc('hour', p_now, 'UTC') AND a.intended_at <= p_now AND a.state <> 'not_contacted'
      AND c.released_at IS NULL
    GROUP BY a.account_id, a.channel
    UNION ALL -- Those of this hour's flood, which is held.
    SELECT r.account_id, r.channel, count(DISTINCT r.address_hash), 0, 0, 0, 0, 0, 0, 0
    FROM reminder r JOIN hold h USING (hold_id)
    WHERE r.ended_at IS NULL AND r.state = 'held' AND h.age = 'fresh' AND h.released_at IS NULL
      AND h.placed_at >= date_trunc('hour', p_now, 'UTC')
    GROUP BY r.account_id, r.channel
    UNION ALL -- What is past or overdue, and what the book brought late, as one that is read once a day does.
    SELECT w.account_id, w.channel, 0, 0, 0, count(*) FILTER (WHERE w.is_late_in_book), count(*) FILTER (WHERE w.is_past),
           count(*) FILTER (WHERE w.is_overdue AND w.deferred_for IS NULL), 0, 0
    FROM waiting w GROUP BY w.account_id, w.channel
    UNION ALL -- What came due by the book in the last four hours.
    SELECT s.account_id, s.channel, 0, 0, 0, count(*), 0, 0, 0, 0 FROM staged_rung s
    WHERE s.logical_date = p_logical_date AND s.due_at > p_now - interval '4 hours' GROUP BY s.account_id, s.channel
), measured AS (
    SELECT coalesce(f.account_id, '*') AS account_id, f.channel, sum(f.contacts)::int AS contacts,
           sum(f.past_contacts)::int AS past_contacts, sum(f.overdue_contacts)::int AS overdue_contacts,
           sum(f.implied)::int AS implied, sum(f.past)::int AS past, sum(f.overdue)::int AS overdue,
           sum(f.repeated)::int AS repeated, sum(f.implied_repeated)::int AS implied_repeated
    FROM fact f GROUP BY GROUPING SETS ((f.account_id, f.channel), (f.channel))
)
SELECT m.account_id, m.channel, seen.first_seen_at IS NULL, m.contacts, m.past_contacts, m.overdue_contacts,
       CASE WHEN history.weeks >= 2 THEN usual.contacts ELSE m.implied END, m.implied, m.past, m.overdue,
       CASE WHEN history.weeks >= 2 THEN usual.overdue ELSE 0 END, m.repeated,
       CASE WHEN history.weeks >= 2 THEN usual.repeated ELSE m.implied_repeated END
FROM measured m
LEFT JOIN LATERAL (SELECT min(s.first_seen_at) AS first_seen_at FROM account_seen s
                   WHERE m.account_id IN (s.account_id, '*')) AS seen ON true
CROSS JOIN LATERAL (
    SELECT least(8, coalesce(floor(extract(epoch FROM p_now - seen.first_seen_at) / 604800)::int, 0)) AS weeks) AS history
-- The same hour of the week, or its neighbours: clocks change twice a year, and the book does not. Of two weeks the lesser.
LEFT JOIN LATERAL (
    SELECT (percentile_disc(0.5) WITHIN GROUP (ORDER BY coalesce(v.contacts, 0)))::numeric AS contacts,
           (percentile_disc(0.5) WITHIN GROUP (ORDER BY coalesce(v.overdue, 0)))::numeric AS overdue,
           (percentile_disc(0.5) WITHIN GROUP (ORDER BY coalesce(v.repeated, 0)))::numeric AS repeated
    FROM generate_series(1, history.weeks) AS ago
    LEFT JOIN LATERAL (
        SELECT max(h.contacts) AS contacts, max(h.overdue) AS overdue, max(h.repeated) AS repeated
        FROM volume h
        WHERE h.account_id = m.account_id AND h.channel = m.channel
          AND h.hour_at BETWEEN date_trunc('hour', p_now, 'UTC') - ago * interval '168 hours' - interval '1 hour'
                            AND date_trunc('hour', p_now, 'UTC') - ago * interval '168 hours' + interval '1 hour') v ON true
) AS usual ON true
$$;
COMMENT ON FUNCTION reminders.measure_volume IS
    'What a cycle is about to do, by account and channel and (account *) in all, beside what is usual in this hour of the '
    'week; with under two weeks of history, usual is what the book implies.';

CREATE FUNCTION reminders.gap_before(p_now timestamptz, OUT last_good_at timestamptz, OUT why text)
LANGUAGE sql STABLE SET search_path = pg_catalog, reminders AS $$
    SELECT g.last_good_at, CASE
        WHEN g.last_good_at IS NULL THEN 'no good cycle before this one'
        WHEN g.last_good_at < p_now - b.longest_gap
            THEN format('no good cycle since %s UTC', to_char(g.last_good_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')) END
    FROM gate_bound b CROSS JOIN (
        -- By its date and not by its end: Airflow may first run a tick that lay in the gap, and it covers nothing after
        -- that. Nor does a date that ran again when a later cycle had what waits.
        SELECT (SELECT c.logical_date FROM cycle c
                WHERE c.is_good AND c.run_kind <> 'backfill' AND c.logical_date <= p_now
                  AND NOT EXISTS (SELECT FROM cycle later
                                  WHERE later.logical_date > c.logical_date AND later.run_kind <> 'backfill'
                                    AND later.started_at < c.judged_at)
                ORDER BY c.logical_date DESC LIMIT 1) AS last_good_at) g
$$;
COMMENT ON FUNCTION reminders.gap_before IS
    'The date of the last good cycle, and why nothing overdue may go without a person: null when that was not long ago.';

CREATE FUNCTION reminders.abnormal(
    p_channel text, p_contacts numeric, p_usual numeric, p_implied numeric, p_repeated numeric, p_usual_repeated numeric,
    p_times numeric, p_least numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_contacts > greatest(p_times * p_usual, p_least)
            THEN format('%s to contact by %s this hour, usual %s', p_contacts, p_channel, round(p_usual))
        WHEN p_contacts > greatest(p_times * p_implied, p_least)
            THEN format('%s to contact by %s this hour, the book implies %s', p_contacts, p_channel, p_implied)
        WHEN p_repeated > greatest(p_times * p_usual_repeated, p_least) AND 2 * p_repeated > p_contacts
            THEN format('%s of %s to contact by %s were so contacted in the last day, usual %s',
                        p_repeated, p_contacts, p_channel, round(p_usual_repeated)) END
$$;
COMMENT ON FUNCTION reminders.abnormal IS 'Why the volume of a channel is no usual one; null when it is.';

CREATE FUNCTION reminders.find_abnormal(p_logical_date timestamptz, p_now timestamptz, p_gap text)
RETURNS TABLE (account_id text, channel text, why_past text, why_overdue text, why_volume text,
               contacts integer, overdue integer, repeated integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, reminders AS $$
WITH measured AS MATERIALIZED (
    SELECT * FROM measure_volume(p_logical_date, p_now)
), backlog AS (
    SELECT m.*, b.times_usual, b.least_of_account, b.least_in_all,
           coalesce(p_gap, CASE WHEN m.is_new THEN 'the account is seen for the first time' END)
               || format('; by %s %s overdue, %s to contact this hour, usual %s',
                         m.channel, m.past, m.contacts, round(m.usual_contacts)) AS why_past,
           CASE WHEN m.overdue > greatest(b.times_usual * m.usual_overdue, b.least_of_account)
                THEN format('%s overdue, usual %s; by %s %s to contact this hour, usual %s', m.overdue,
                            round(m.usual_overdue), m.channel, m.contacts, round(m.usual_contacts)) END AS why_overdue
    FROM measured m CROSS JOIN gate_bound b WHERE m.account_id <> '*'
), own AS (
    -- What is held as a backlog is not about to go.
    SELECT k.*, k.contacts - k.held_contacts AS going, reminders.abnormal(
               k.channel, k.contacts - k.held_contacts, k.usual_contacts, k.implied_contacts, k.repeated, k.usual_repeated,
               k.times_usual, k.least_of_account) AS why_volume
    FROM (SELECT b.*, CASE WHEN b.why_past IS NOT NULL THEN b.past_contacts
                           WHEN b.why_overdue IS NOT NULL THEN b.overdue_contacts ELSE 0 END AS held_contacts
          FROM backlog b) k
), in_all AS (
    -- Small abnormalities of many; an account that is stopped by itself stops no other.
    SELECT o.channel, max(o.times_usual) AS times_usual, max(o.least_in_all) AS least_in_all,
           coalesce(sum(o.overdue) FILTER (WHERE o.why_past IS NULL AND o.why_overdue IS NULL), 0) AS overdue,
           coalesce(sum(o.going) FILTER (WHERE o.why_volume IS NULL), 0) AS going,
           coalesce(sum(o.repeated) FILTER (WHERE o.why_volume IS NULL), 0) AS repeated,
           greatest(max(a.usual_overdue), sum(o.usual_overdue)) AS usual_overdue,
           greatest(max(a.usual_contacts), sum(o.usual_contacts)) AS usual_contacts,
           greatest(max(a.usual_repeated), sum(o.usual_repeated)) AS usual_repeated,
           sum(o.implied_contacts) AS implied_contacts
    FROM own o JOIN measured a ON (a.account_id, a.channel) = ('*', o.channel) GROUP BY o.channel
)
SELECT o.account_id, o.channel, o.why_past, o.why_overdue, o.why_volume, o.contacts, o.overdue, o.repeated FROM own o
UNION ALL
SELECT '*', i.channel, NULL,
       CASE WHEN i.overdue > greatest(i.times_usual * i.usual_overdue, i.least_in_all)
            THEN format('%s overdue by %s, usual %s', i.overdue, i.channel, round(i.usual_overdue)) END,
       reminders.abnormal(i.channel, i.going, i.usual_contacts, i.implied_contacts, i.repeated, i.usual_repeated,
                          i.times_usual, i.least_in_all),
       m.contacts, m.overdue, m.repeated
FROM in_all i JOIN measured m ON (m.account_id, m.channel) = ('*', i.channel)
$$;
COMMENT ON FUNCTION reminders.find_abnormal IS
    'By account and channel, and (account *) in all, why a person must see what is past, overdue or about to go.';

-- As the owner, so that no role of the running system can say that a cycle was judged.
CREATE FUNCTION reminders.judge(p_logical_date timestamptz, p_now timestamptz)
RETURNS TABLE (named text, why text, reminders bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders
-- Its steps have no statistics: left alone, the planner loops over every pair of a reminder and a group.
SET enable_nestloop = off AS $$
#variable_conflict use_column
DECLARE gap record;
BEGIN
    -- Less than it takes to be overdue; a rehearsal reads a whole book between its time and this.
    IF abs(extract(epoch FROM p_now - ledger_clock())) > 300 THEN
        RAISE EXCEPTION 'refused: the gate judges by the time that it is, not by %', p_now
            USING ERRCODE = 'check_violation', CONSTRAINT = 'clock_is_right';
    END IF;
    SELECT * INTO gap FROM gap_before(p_now);
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT * FROM find_abnormal(p_logical_date, p_now, gap.why)
    ), finding AS MATERIALIZED (
        SELECT own.*, in_all.why_overdue AS why_overdue_in_all, in_all.why_volume AS why_volume_in_all
        FROM found own LEFT JOIN found in_all ON (in_all.account_id, in_all.channel) = ('*', own.channel)
    ), waiting AS (
        SELECT r.*, r.due_at < p_now - b.overdue_after AS is_past,
               greatest(r.due_at, r.created_at, r.not_before_at) < p_now - b.overdue_after
                   AND coalesce(r.deferred_for, '') NOT IN ('wait_for_lower_rung', 'wait_for_answer') AS is_overdue,
               r.deferred_for IS NULL OR r.deferred_for = 'wait_for_pace' AS is_ready,
               age_of(p_now - r.due_at, b.overdue_after) AS age
        FROM reminder r CROSS JOIN gate_bound b
        LEFT JOIN hold released ON released.hold_id = r.hold_id
        WHERE r.ended_at IS NULL AND r.state = 'pending' AND r.adopted_by = p_logical_date
          -- Who released it before the gap was one did not know of it.
          AND (r.hold_id IS NULL OR gap.why IS NOT NULL AND released.released_at <= gap.last_good_at + b.longest_gap)
    ), stopped AS MATERIALIZED (
        SELECT w.reminder_id, w.account_id, w.step, w.age, w.why FROM (
            SELECT r.*, coalesce(
                CASE WHEN r.is_past THEN coalesce(own.why_past, gap.why, CASE
                    WHEN seen.account_id IS NULL THEN 'the account is seen for the first time'
                    -- Else what is missed for want of a person would end as a call, hours late.
                    WHEN r.step > 1 AND EXISTS (
                        SELECT FROM reminder l JOIN hold h ON h.hold_id = l.hold_id AND h.scope = 'group'
                        WHERE (l.account_id, l.appointment_id, l.slot_at) = (r.account_id, r.appointment_id, r.slot_at)
                          AND l.step < r.step AND l.reason = 'held_too_long')
                        THEN 'a step before it was held by the gate, and nobody released it' END) END,
                CASE WHEN r.is_overdue THEN coalesce(own.why_overdue, own.why_overdue_in_all) END,
                CASE WHEN r.is_ready THEN coalesce(own.why_volume, own.why_volume_in_all) END) AS why
            FROM waiting r
            LEFT JOIN finding own ON (own.account_id, own.channel) = (r.account_id, r.channel)
            LEFT JOIN account_seen seen ON seen.account_id = r.account_id) w
        WHERE w.why IS NOT NULL
    ), placed AS (
        -- Their groups' holds, new ones beside those in force.
        INSERT INTO hold (scope, scope_value, account_id, step, age, placed_by, why, placed_at, review_at)
        SELECT 'group', concat_ws(' ', s.account_id, s.step, s.age), s.account_id, s.step, s.age, 'triage', min(s.why),
               p_now, p_now + interval '1 hour'
        FROM stopped s GROUP BY s.account_id, s.step, s.age
        ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING
        RETURNING hold_id, scope_value, account_id, step, age
    ), in_force AS (
        SELECT * FROM placed
        UNION ALL
        SELECT h.hold_id, h.scope_value, h.account_id, h.step, h.age FROM hold h
        WHERE h.scope = 'group' AND h.released_at IS NULL
    ), kept AS (
        UPDATE reminder r SET state = 'held', deferred_for = 'on_hold', hold_id = h.hold_id
        FROM stopped s JOIN in_force h ON (h.account_id, h.step, h.age) = (s.account_id, s.step, s.age)
        -- Dispatch of the cycle before may have taken it meanwhile.
        WHERE r.reminder_id = s.reminder_id AND r.ended_at IS NULL AND r.state = 'pending'
        RETURNING h.hold_id, h.scope_value, s.why
    ), noted AS (
        -- This hour's volume, for the weeks to come.
        INSERT INTO volume AS v (account_id, channel, hour_at, contacts, overdue, repeated)
        SELECT f.account_id, f.channel, date_trunc('hour', p_now, 'UTC'), f.contacts, f.overdue, f.repeated
        FROM found f WHERE f.contacts + f.overdue > 0
        ON CONFLICT ON CONSTRAINT volume_pkey DO UPDATE SET contacts = greatest(v.contacts, EXCLUDED.contacts),
            overdue = greatest(v.overdue, EXCLUDED.overdue), repeated = greatest(v.repeated, EXCLUDED.repeated)
    ), seen AS (
        INSERT INTO account_seen (account_id, first_seen_at)
        SELECT DISTINCT r.account_id, p_now FROM reminder r WHERE r.ended_at IS NULL AND r.adopted_by = p_logical_date
        ON CONFLICT DO NOTHING
    )
    -- Why now: the hold may be an older one.
    SELECT k.scope_value, min(k.why), count(*) FROM kept k GROUP BY k.hold_id, k.scope_value
    ORDER BY count(*) DESC, k.scope_value;

    UPDATE cycle SET judged_at = p_now WHERE logical_date = p_logical_date;
END $$;
COMMENT ON FUNCTION reminders.judge IS
    'Holds, in groups by account, step and age, what a person must see first; returns the groups that took in '
    'reminders now, the largest first.';

CREATE FUNCTION reminders.fence_gate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE breach text;
BEGIN
    SELECT CASE WHEN c.judged_at IS NULL THEN 'cycle_was_judged' ELSE 'no_hold_in_force' END INTO breach
    FROM fresh a JOIN reminder r ON r.contact_id = a.contact_id
    LEFT JOIN cycle c ON c.logical_date = r.adopted_by
    LEFT JOIN hold h ON h.hold_id = r.hold_id
    WHERE c.judged_at IS NULL
       OR r.hold_id IS NOT NULL AND (h.hold_id IS NULL OR h.scope = 'group' AND h.released_at IS NULL)
    LIMIT 1;
    IF breach IS NOT NULL THEN
        RAISE EXCEPTION 'refused attempt: %', breach USING ERRCODE = 'check_violation', CONSTRAINT = breach;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reminders.fence_gate IS
    'No attempt for a reminder of a held group, nor in a cycle that the gate has not judged.';
CREATE TRIGGER gated AFTER INSERT ON reminders.attempt
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION reminders.fence_gate();

REVOKE EXECUTE ON FUNCTION reminders.judge, reminders.measure_volume, reminders.fence_gate, reminders.age_of,
    reminders.gap_before, reminders.abnormal, reminders.find_abnormal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.judge, reminders.measure_volume TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.fence_gate TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
