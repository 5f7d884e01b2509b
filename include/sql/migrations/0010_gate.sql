-- The gate: what a person must look at before it goes. A backlog, an abnormal volume, a new account's past are held.
SET LOCAL ROLE reminders_owner;

CREATE TABLE reminders.gate_bound (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    longest_gap interval NOT NULL DEFAULT '60 minutes'
        CONSTRAINT longest_gap_is_5_minutes_to_a_day CHECK (longest_gap BETWEEN '5 minutes' AND '1 day'),
    overdue_after interval NOT NULL DEFAULT '15 minutes'
        CONSTRAINT overdue_after_is_10_minutes_to_6_hours CHECK (overdue_after BETWEEN '10 minutes' AND '6 hours'),
    times_usual numeric NOT NULL DEFAULT 3 CONSTRAINT times_usual_is_1_to_10 CHECK (times_usual BETWEEN 1 AND 10),
    least_of_account integer NOT NULL DEFAULT 20
        CONSTRAINT least_of_account_is_1_to_1000 CHECK (least_of_account BETWEEN 1 AND 1000),
    least_in_all integer NOT NULL DEFAULT 50
        CONSTRAINT least_in_all_is_1_to_10000 CHECK (least_in_all BETWEEN 1 AND 10000),
    canary smallint NOT NULL DEFAULT 5 CONSTRAINT canary_is_1_to_50 CHECK (canary BETWEEN 1 AND 50)
);
COMMENT ON TABLE reminders.gate_bound IS
    'One row: how long a gap, how late, and how many times the usual volume it takes until a person is asked.';
COMMENT ON COLUMN reminders.gate_bound.least_of_account IS
    'So many contacts, or overdue reminders, of an account on a channel in an hour are never too many.';
COMMENT ON COLUMN reminders.gate_bound.canary IS
    'So many contacts of a released backlog are delivered on each channel before the rest of it goes.';
INSERT INTO reminders.gate_bound DEFAULT VALUES;

CREATE TABLE reminders.account_seen (account_id text PRIMARY KEY, first_seen_at timestamptz NOT NULL);
COMMENT ON TABLE reminders.account_seen IS 'When the gate first judged an account; its volume is known from then on.';
INSERT INTO reminders.account_seen SELECT account_id, min(created_at) FROM reminders.reminder GROUP BY account_id;

CREATE TABLE reminders.volume (
    account_id text,
    channel text CHECK (channel IN ('email', 'sms', 'call')),
    hour_at timestamptz CONSTRAINT volume_is_of_an_hour CHECK (date_trunc('hour', hour_at, 'UTC') = hour_at),
    contacts integer NOT NULL,
    overdue integer NOT NULL,
    repeated integer NOT NULL,
    PRIMARY KEY (account_id, channel, hour_at)
);
COMMENT ON TABLE reminders.volume IS
    'The most that an hour''s cycles had to do, as the gate saw it; account * is all. An hour without a row had nothing.';

-- A group is held as one, but in a unique key of its own: a broad hold may be in force beside it.
ALTER TABLE reminders.hold DROP CONSTRAINT hold_scope_check;
ALTER TABLE reminders.hold
    ADD COLUMN account_id text,
    ADD COLUMN step smallint,
    ADD COLUMN age text CONSTRAINT age_is_known CHECK (age IN ('fresh', 'to 1 hour', 'to 6 hours', 'to 1 day', 'older')),
    ADD CONSTRAINT hold_scope_is_known CHECK (scope IN ('all', 'channel', 'account', 'cycle', 'group')),
    ADD CONSTRAINT hold_names_a_group CHECK (scope = 'group' AND num_nonnulls(account_id, step, age) = 3
                                             OR scope <> 'group' AND num_nonnulls(account_id, step, age) = 0);
COMMENT ON COLUMN reminders.hold.age IS 'How overdue the reminders of the group were when they were held.';

ALTER TABLE reminders.reminder
    ADD COLUMN hold_id bigint,
    ADD COLUMN turned_down_from text,
    ADD CONSTRAINT turned_down_to_email CHECK (turned_down_from IS NULL
        OR channel = 'email' AND turned_down_from IN ('sms', 'call'));
COMMENT ON COLUMN reminders.reminder.hold_id IS
    'The hold that stopped it. Released, a person has judged it: the gate lets it pass, until the next gap.';
COMMENT ON COLUMN reminders.reminder.turned_down_from IS 'The louder channel that a person turned down to email.';

ALTER TABLE reminders.contact ADD COLUMN released_at timestamptz;
COMMENT ON COLUMN reminders.contact.released_at IS 'When a person released the backlog that the contact is of; null: it is fresh.';
CREATE INDEX contact_by_release ON reminders.contact (released_at) WHERE released_at IS NOT NULL;

CREATE FUNCTION reminders.check_hold_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.hold_id IS NULL OR NOT EXISTS (
            SELECT FROM reminders.hold h WHERE h.hold_id = OLD.hold_id AND h.released_at IS NOT NULL) THEN
        RAISE EXCEPTION 'refused: reminder % stays with hold %, which only a person releases', OLD.reminder_id, OLD.hold_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_is_kept';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold_is_kept BEFORE UPDATE ON reminders.reminder
    FOR EACH ROW WHEN (OLD.hold_id IS NOT NULL AND NEW.hold_id IS DISTINCT FROM OLD.hold_id)
    EXECUTE FUNCTION reminders.check_hold_kept();

CREATE FUNCTION reminders.check_turned_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused: reminder % is by %, and a person may only turn it down to email while it is held',
        OLD.reminder_id, OLD.channel USING ERRCODE = 'check_violation', CONSTRAINT = 'never_louder';
END $$;
CREATE TRIGGER never_louder BEFORE UPDATE ON reminders.reminder
    FOR EACH ROW WHEN (NEW.channel <> OLD.channel AND (OLD.state <> 'held' OR NEW.channel <> 'email'
                       OR NEW.turned_down_from IS DISTINCT FROM OLD.channel))
    EXECUTE FUNCTION reminders.check_turned_down();

-- A reminder that a person turned down to email is still of its step's own channel.
CREATE OR REPLACE FUNCTION reminders.check_ladder() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE account text := CASE TG_OP WHEN 'DELETE' THEN OLD.account_id ELSE NEW.account_id END; breach text; renumbered text;
BEGIN
    SELECT CASE
        WHEN upper.lead >= upper.lower_lead THEN
            format('step %s is due no later than step %s: give it a lead below %s',
                   upper.step, upper.lower_step, upper.lower_lead)
        WHEN upper.lead > upper.lower_lead - upper.wait THEN
            format('step %s is due before the %s that step %s has for an answer are over: give it a lead of %s or less',
                   upper.step, upper.wait, upper.lower_step, upper.lower_lead - upper.wait)
        END INTO breach
    FROM (SELECT s.*, lag(s.step) OVER climbed AS lower_step, lag(s.lead) OVER climbed AS lower_lead
          FROM reminders.cadence_step s WHERE s.account_id = account WINDOW climbed AS (ORDER BY s.step)) upper
    ORDER BY 1 NULLS LAST LIMIT 1;
    SELECT format('step %s is %s for appointments still ahead, and would be %s: give the new step a number of its own',
                  r.step, coalesce(r.turned_down_from, r.channel), s.channel) INTO renumbered
    FROM reminders.cadence_step s JOIN reminders.reminder r ON r.step = s.step AND coalesce(r.turned_down_from, r.channel) <> s.channel
    WHERE s.account_id = account AND r.slot_at > reminders.ledger_clock()
      AND (r.account_id = account OR account = '*' AND NOT EXISTS (
          SELECT FROM reminders.cadence_step own WHERE own.account_id = r.account_id))
    ORDER BY 1 LIMIT 1;
    breach := coalesce(breach, renumbered);
    IF account = '*' AND NOT EXISTS (SELECT FROM reminders.cadence_step WHERE account_id = '*') THEN
        breach := 'accounts without a ladder of their own need at least one step';
    END IF;
    IF breach IS NOT NULL THEN
        RAISE EXCEPTION 'refused: the ladder of account %: %', account, breach
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ladder_can_be_climbed';
    END IF;
    RETURN NULL;
END $$;

-- Attempts come in the order of their time, so that the hour's are found in a few blocks at no cost to the send path.
CREATE INDEX attempt_by_time ON reminders.attempt USING brin (intended_at) WITH (pages_per_range = 16);

ALTER TABLE reminders.cycle ADD COLUMN judged_at timestamptz, ADD COLUMN is_good boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN reminders.cycle.judged_at IS 'When the gate judged what the cycle was about to send; nothing goes before.';
COMMENT ON COLUMN reminders.cycle.is_good IS 'Every task of the run succeeded, and no promise was broken.';
UPDATE reminders.cycle SET is_good = true, judged_at = closed_at WHERE closed_at IS NOT NULL;

INSERT INTO reminders.verdict VALUES
    ('pace', 'expired', 'the account''s pace or the channel''s rate did not come to it while the step was useful'),
    ('wait_for_pace', 'deferred', 'the account''s pace, the channel''s rate or a released backlog''s canary lets it go later'),
    ('dropped', 'cancelled', 'a person dropped it');

CREATE FUNCTION reminders.age_of(p_overdue interval) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_overdue < interval '15 minutes' THEN 'fresh' WHEN p_overdue < interval '1 hour' THEN 'to 1 hour'
                WHEN p_overdue < interval '6 hours' THEN 'to 6 hours' WHEN p_overdue < interval '1 day' THEN 'to 1 day'
                ELSE 'older' END
$$;

CREATE FUNCTION reminders.measure_volume(p_logical_date timestamptz, p_now timestamptz)
RETURNS TABLE (account_id text, channel text, is_new boolean, contacts integer, usual_contacts numeric,
               implied_contacts integer, overdue integer, usual_overdue numeric, repeated integer, usual_repeated numeric)
LANGUAGE sql STABLE SET search_path = pg_catalog, reminders AS $$
WITH waiting AS (
    SELECT r.account_id, r.channel, r.address_hash, r.due_at < p_now - b.overdue_after AS is_overdue, r.deferred_for
    FROM reminder r, gate_bound b
    WHERE r.ended_at IS NULL AND r.state = 'pending' AND r.adopted_by = p_logical_date AND r.hold_id IS NULL
      AND (r.deferred_for IS NULL OR r.deferred_for = 'wait_for_pace')
), ready AS (
    SELECT w.account_id, w.channel, w.address_hash,
           EXISTS (SELECT FROM contact_guard g JOIN attempt a USING (contact_id)
                   WHERE g.account_id = w.account_id AND g.address_hash = w.address_hash AND a.channel = w.channel
                     AND a.intended_at > p_now - interval '1 day' AND a.state <> 'not_contacted') AS is_repeated
    FROM waiting w GROUP BY w.account_id, w.channel, w.address_hash
), known AS (
    -- Clients with several appointments ahead are what the book itself says will be contacted again and again.
    SELECT s.account_id, s.hash AS address_hash
    FROM (SELECT a.account_id, a.slot_at, unnest(ARRAY[a.email_hash, a.phone_hash]) AS hash
          FROM staged_appointment a WHERE a.logical_date = p_logical_date) s
    WHERE (s.account_id, s.hash) IN (SELECT r.account_id, r.address_hash FROM ready r WHERE r.is_repeated)
    GROUP BY s.account_id, s.hash HAVING count(DISTINCT s.slot_at) > 1
), fact AS (
    SELECT r.account_id, r.channel, 1 AS contacts, 0 AS implied, 0 AS overdue, r.is_repeated::int AS repeated,
           (k.address_hash IS NOT NULL)::int AS implied_repeated
    FROM ready r LEFT JOIN known k USING (account_id, address_hash)
    UNION ALL
    SELECT a.account_id, a.channel, 1, 0, 0, 0, 0 FROM attempt a JOIN contact c USING (contact_id)
    WHERE a.intended_at >= date_trunc('hour', p_now, 'UTC') AND a.intended_at <= p_now AND a.state <> 'not_contacted'
      AND c.released_at IS NULL
    UNION ALL
    SELECT r.account_id, r.channel, 1, 0, 0, 0, 0 FROM reminder r JOIN hold h USING (hold_id)
    WHERE r.ended_at IS NULL AND r.state = 'held' AND h.age = 'fresh' AND h.released_at IS NULL
      AND h.placed_at >= date_trunc('hour', p_now, 'UTC')
    GROUP BY r.account_id, r.channel, r.address_hash
    UNION ALL
    SELECT w.account_id, w.channel, 0, 0, 1, 0, 0 FROM waiting w WHERE w.is_overdue AND w.deferred_for IS NULL
    UNION ALL
    SELECT s.account_id, s.channel, 0, 1, 0, 0, 0 FROM staged_rung s
    WHERE s.logical_date = p_logical_date AND s.due_at > p_now - interval '4 hours'
), measured AS (
    SELECT coalesce(f.account_id, '*') AS account_id, f.channel, sum(f.contacts)::int AS contacts,
           sum(f.implied)::int AS implied, sum(f.overdue)::int AS overdue, sum(f.repeated)::int AS repeated,
           sum(f.implied_repeated)::int AS implied_repeated
    FROM fact f GROUP BY GROUPING SETS ((f.account_id, f.channel), (f.channel))
)
SELECT m.account_id, m.channel, seen.first_seen_at IS NULL, m.contacts,
       CASE WHEN history.weeks >= 2 THEN usual.contacts ELSE m.implied END, m.implied, m.overdue,
       CASE WHEN history.weeks >= 2 THEN usual.overdue ELSE 0 END, m.repeated,
       CASE WHEN history.weeks >= 2 THEN usual.repeated ELSE m.implied_repeated END
FROM measured m
LEFT JOIN LATERAL (SELECT min(s.first_seen_at) AS first_seen_at FROM account_seen s
                   WHERE m.account_id IN (s.account_id, '*')) AS seen ON true
CROSS JOIN LATERAL (
    SELECT least(8, coalesce(floor(extract(epoch FROM p_now - seen.first_seen_at) / 604800)::int, 0)) AS weeks) AS history
-- The same hour of the week, or its neighbours: clocks change twice a year, and the book does not.
LEFT JOIN LATERAL (
    SELECT (percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(v.contacts, 0)))::numeric AS contacts,
           (percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(v.overdue, 0)))::numeric AS overdue,
           (percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(v.repeated, 0)))::numeric AS repeated
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

-- As the owner, so that no role of the running system can say that a cycle was judged.
CREATE FUNCTION reminders.judge(p_logical_date timestamptz, p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE held integer; last_good_at timestamptz; gap text;
BEGIN
    -- By its date and not by its end: Airflow may first run a tick that lay in the gap, and it covers nothing after that.
    SELECT max(logical_date) INTO last_good_at FROM cycle
    WHERE is_good AND run_kind <> 'backfill' AND logical_date <= p_now;
    SELECT CASE
        WHEN last_good_at IS NULL THEN 'no good cycle before this one'
        WHEN last_good_at < p_now - b.longest_gap
            THEN format('no good cycle since %s UTC', to_char(last_good_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')) END
    INTO gap FROM gate_bound b;

    WITH measured AS MATERIALIZED (
        SELECT * FROM measure_volume(p_logical_date, p_now)
    ), finding AS MATERIALIZED (
        SELECT m.account_id, m.channel, CASE
            WHEN gap IS NOT NULL THEN gap
            WHEN m.is_new AND m.account_id <> '*' THEN 'the account is seen for the first time'
            WHEN m.overdue > greatest(b.times_usual * m.usual_overdue, limits.least)
                THEN format('%s overdue, usual %s', m.overdue, round(m.usual_overdue)) END
            || format('; by %s %s overdue, %s to contact this hour, usual %s',
                      m.channel, m.overdue, m.contacts, round(m.usual_contacts)) AS why_overdue,
        CASE
            WHEN m.contacts > greatest(b.times_usual * m.usual_contacts, limits.least)
                THEN format('%s to contact by %s this hour, usual %s', m.contacts, m.channel, round(m.usual_contacts))
            WHEN m.contacts > greatest(b.times_usual * m.implied_contacts, limits.least)
                THEN format('%s to contact by %s this hour, the book implies %s', m.contacts, m.channel, m.implied_contacts)
            WHEN m.repeated > greatest(b.times_usual * m.usual_repeated, limits.least) AND 2 * m.repeated > m.contacts
                THEN format('%s of %s to contact by %s were so contacted in the last day, usual %s',
                            m.repeated, m.contacts, m.channel, round(m.usual_repeated)) END AS why_volume
        FROM measured m CROSS JOIN gate_bound b
        CROSS JOIN LATERAL (SELECT CASE m.account_id WHEN '*' THEN b.least_in_all ELSE b.least_of_account END AS least) AS limits
    ), stopped AS MATERIALIZED (
        SELECT * FROM (
            SELECT r.reminder_id, r.account_id, r.step, age_of(p_now - r.due_at) AS age, coalesce(
                CASE WHEN r.deferred_for IS NULL OR r.deferred_for = 'wait_for_pace'
                     THEN coalesce(own.why_volume, in_all.why_volume) END,
                CASE WHEN r.due_at < p_now - b.overdue_after THEN coalesce(in_all.why_overdue, own.why_overdue, gap) END) AS why
            FROM reminder r CROSS JOIN gate_bound b
            LEFT JOIN finding own ON (own.account_id, own.channel) = (r.account_id, r.channel)
            LEFT JOIN finding in_all ON (in_all.account_id, in_all.channel) = ('*', r.channel)
            LEFT JOIN hold released ON released.hold_id = r.hold_id
            WHERE r.ended_at IS NULL AND r.state = 'pending' AND r.adopted_by = p_logical_date
              -- Who released it before a gap did not know of the gap.
              AND (r.hold_id IS NULL OR gap IS NOT NULL AND released.released_at <= last_good_at)
              -- What would not have gone yet is no backlog: it is judged when its time comes.
              AND coalesce(r.deferred_for, '') NOT IN ('wait_until_due', 'wait_for_lower_rung', 'wait_for_answer')) j
        WHERE j.why IS NOT NULL
    ), placed AS (
        INSERT INTO hold (scope, scope_value, account_id, step, age, placed_by, why, placed_at, review_at)
        SELECT 'group', concat_ws(' ', s.account_id, s.step, s.age), s.account_id, s.step, s.age, 'triage', min(s.why),
               p_now, p_now + interval '1 hour'
        FROM stopped s GROUP BY s.account_id, s.step, s.age
        ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING
        RETURNING hold_id, scope_value
    ), in_force AS (
        SELECT * FROM placed
        UNION ALL
        SELECT h.hold_id, h.scope_value FROM hold h WHERE h.scope = 'group' AND h.released_at IS NULL
    ), kept AS (
        UPDATE reminder r SET state = 'held', deferred_for = 'on_hold', not_before_at = NULL, hold_id = h.hold_id
        FROM stopped s JOIN in_force h ON h.scope_value = concat_ws(' ', s.account_id, s.step, s.age)
        WHERE r.reminder_id = s.reminder_id AND r.state = 'pending'
        RETURNING r.reminder_id
    ), noted AS (
        INSERT INTO volume AS v (account_id, channel, hour_at, contacts, overdue, repeated)
        SELECT m.account_id, m.channel, date_trunc('hour', p_now, 'UTC'), m.contacts, m.overdue, m.repeated
        FROM measured m WHERE m.contacts + m.overdue > 0
        ON CONFLICT ON CONSTRAINT volume_pkey DO UPDATE SET contacts = greatest(v.contacts, EXCLUDED.contacts),
            overdue = greatest(v.overdue, EXCLUDED.overdue), repeated = greatest(v.repeated, EXCLUDED.repeated)
    ), seen AS (
        INSERT INTO account_seen (account_id, first_seen_at)
        SELECT DISTINCT m.account_id, p_now FROM measured m WHERE m.account_id <> '*'
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO held FROM kept;

    UPDATE cycle SET judged_at = p_now WHERE logical_date = p_logical_date;
    RETURN held;
END $$;
COMMENT ON FUNCTION reminders.judge IS
    'Holds, in groups by account, step and age, what a person must see first; returns how many reminders it held.';

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

REVOKE UPDATE ON reminders.cycle FROM reminders_planner;
REVOKE INSERT ON reminders.cycle FROM reminders_planner;
GRANT INSERT (logical_date, run_kind, has_own_date, started_at), UPDATE (closed_at, counts, is_good)
    ON reminders.cycle TO reminders_planner;
GRANT UPDATE (hold_id) ON reminders.reminder TO reminders_planner, reminders_dispatcher;
GRANT UPDATE (channel, turned_down_from, address_hash, address_masked) ON reminders.reminder TO reminders_operator;
GRANT UPDATE (longest_gap, overdue_after, times_usual, least_of_account, least_in_all, canary)
    ON reminders.gate_bound TO reminders_operator;
GRANT SELECT ON reminders.gate_bound, reminders.account_seen, reminders.volume
    TO reminders_planner, reminders_dispatcher, reminders_operator;
REVOKE EXECUTE ON FUNCTION reminders.judge, reminders.measure_volume, reminders.fence_gate,
    reminders.age_of, reminders.check_hold_kept, reminders.check_turned_down FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.judge, reminders.measure_volume TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.age_of, reminders.fence_gate, reminders.check_hold_kept,
    reminders.check_turned_down TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
