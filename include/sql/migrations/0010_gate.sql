-- The gate: what a person must look at before it goes. A backlog, an abnormal volume, a new account's past are held.
SET LOCAL ROLE reminders_owner;

CREATE TABLE reminders.gate_bound (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    longest_gap interval NOT NULL DEFAULT '60 minutes'
        CONSTRAINT longest_gap_is_15_minutes_to_a_day CHECK (longest_gap BETWEEN '15 minutes' AND '1 day'),
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
-- From now on: the weeks before, of which no volume was kept, were no quiet ones.
INSERT INTO reminders.account_seen SELECT account_id, reminders.ledger_clock() FROM reminders.reminder GROUP BY account_id;

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
    ADD CONSTRAINT hold_scope_is_known CHECK (scope IN ('all', 'channel', 'account', 'cycle', 'group', 'book')),
    ADD CONSTRAINT release_has_a_name CHECK (released_by <> ''),
    ADD CONSTRAINT hold_names_a_group CHECK (scope = 'group' AND num_nonnulls(account_id, step, age) = 3
                                             OR scope <> 'group' AND num_nonnulls(account_id, step, age) = 0);
COMMENT ON COLUMN reminders.hold.scope IS
    'What it stops; book is an account (or *, all) whose book is not believed, beside which a person may hold the account.';
UPDATE reminders.hold SET scope = 'book', scope_value = CASE scope WHEN 'all' THEN '*' ELSE scope_value END
WHERE placed_by = 'merge_ledger' AND released_at IS NULL;
COMMENT ON COLUMN reminders.hold.age IS 'How overdue the reminders of the group were when they were held.';

ALTER TABLE reminders.reminder
    ADD COLUMN hold_id bigint,
    ADD COLUMN turned_down_from text,
    ADD CONSTRAINT turned_down_to_email CHECK (turned_down_from IS NULL
        OR channel = 'email' AND turned_down_from IN ('sms', 'call'));
COMMENT ON COLUMN reminders.reminder.hold_id IS
    'The hold that stopped it. Released, a person has judged it: the gate lets it pass, until the next gap.';
COMMENT ON COLUMN reminders.reminder.turned_down_from IS 'The louder channel that a person turned down to email.';

-- A reminder is put off before it goes: with room in its page for what it becomes, its indexes are left alone.
ALTER TABLE reminders.reminder SET (fillfactor = 60);

ALTER TABLE reminders.contact ADD COLUMN released_at timestamptz;
COMMENT ON COLUMN reminders.contact.released_at IS 'When a person released the backlog that the contact is of; null: it is fresh.';
CREATE INDEX reminder_by_hold ON reminders.reminder (hold_id) WHERE hold_id IS NOT NULL AND ended_at IS NULL;
-- What a person has decided of a slot's step holds whatever id the appointment comes with.
CREATE INDEX reminder_decided ON reminders.reminder (account_id, slot_at, step)
    WHERE reason = 'dropped' OR turned_down_from IS NOT NULL;

CREATE INDEX contact_by_release ON reminders.contact (released_at) WHERE released_at IS NOT NULL;

CREATE FUNCTION reminders.check_hold_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
BEGIN
    IF OLD.hold_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM hold h WHERE h.hold_id = OLD.hold_id AND h.released_at IS NOT NULL) THEN
        RAISE EXCEPTION 'refused: reminder % stays with hold %, which only a person releases', OLD.reminder_id, OLD.hold_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_is_kept';
    END IF;
    -- Released while the statement ran, it is no lie.
    IF NOT EXISTS (SELECT FROM hold h WHERE h.hold_id = NEW.hold_id
                   AND (h.released_at IS NULL OR abs(extract(epoch FROM h.released_at - ledger_clock())) < 120)) THEN
        RAISE EXCEPTION 'refused: hold % of reminder % is not in force', NEW.hold_id, NEW.reminder_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_is_kept';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION reminders.check_hold_kept IS
    'A reminder names the hold that stops it, which is in force, and no other until a person has released that one.';
CREATE TRIGGER hold_is_kept BEFORE UPDATE ON reminders.reminder
    FOR EACH ROW WHEN (NEW.hold_id IS DISTINCT FROM OLD.hold_id) EXECUTE FUNCTION reminders.check_hold_kept();

CREATE FUNCTION reminders.note_hold() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
BEGIN
    NEW.hold_id := (SELECT min(h.hold_id) FROM active_hold h
                    WHERE h.scope = 'all' OR (h.scope, h.scope_value) IN (('channel', NEW.channel), ('account', NEW.account_id)));
    RETURN NEW;
END $$;
COMMENT ON FUNCTION reminders.note_hold IS
    'What dispatch holds after a refusal of our configuration is counted, and released, with the hold that this places.';
CREATE TRIGGER hold_is_noted BEFORE UPDATE ON reminders.reminder
    FOR EACH ROW WHEN (NEW.state = 'held' AND OLD.state = 'sending' AND NEW.hold_id IS NULL)
    EXECUTE FUNCTION reminders.note_hold();

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
UPDATE reminders.cycle SET is_good = true, judged_at = closed_at WHERE closed_at IS NOT NULL;
ALTER TABLE reminders.cycle ADD CONSTRAINT good_cycle_was_judged
    CHECK (NOT is_good OR judged_at IS NOT NULL OR run_kind = 'backfill');
COMMENT ON COLUMN reminders.cycle.judged_at IS 'When the gate judged what the cycle was about to send; nothing goes before.';
COMMENT ON COLUMN reminders.cycle.is_good IS 'Every task of the run succeeded, and no promise was broken.';

CREATE FUNCTION reminders.judge_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.judged_at := NULL;
    NEW.is_good := false;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION reminders.judge_anew IS 'A date that runs again is judged again before anything of it goes.';
CREATE TRIGGER judged_anew BEFORE UPDATE OF closed_at ON reminders.cycle
    FOR EACH ROW WHEN (NEW.closed_at IS NULL) EXECUTE FUNCTION reminders.judge_anew();

INSERT INTO reminders.verdict VALUES
    ('pace', 'expired', 'the account''s pace or the channel''s rate did not come to it while the step was useful'),
    ('wait_for_pace', 'deferred', 'the account''s pace, the channel''s rate or a released backlog''s canary lets it go later'),
    ('dropped', 'cancelled', 'a person dropped it');

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
    IF abs(extract(epoch FROM p_now - ledger_clock())) > 120 THEN
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
        RETURNING hold_id, scope_value, account_id, step, age, why
    ), in_force AS (
        SELECT * FROM placed
        UNION ALL
        SELECT h.hold_id, h.scope_value, h.account_id, h.step, h.age, h.why FROM hold h WHERE h.scope = 'group' AND h.released_at IS NULL
    ), kept AS (
        UPDATE reminder r SET state = 'held', deferred_for = 'on_hold', hold_id = h.hold_id
        FROM stopped s JOIN in_force h ON (h.account_id, h.step, h.age) = (s.account_id, s.step, s.age)
        -- Dispatch of the cycle before may have taken it meanwhile.
        WHERE r.reminder_id = s.reminder_id AND r.ended_at IS NULL AND r.state = 'pending'
        RETURNING r.hold_id
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
    SELECT h.scope_value, h.why, count(*) FROM kept k JOIN in_force h USING (hold_id)
    GROUP BY h.hold_id, h.scope_value, h.why ORDER BY count(*) DESC, h.scope_value;

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
    reminders.age_of, reminders.check_hold_kept, reminders.check_turned_down, reminders.note_hold, reminders.judge_anew,
    reminders.gap_before, reminders.abnormal, reminders.find_abnormal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.judge, reminders.measure_volume TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.age_of, reminders.fence_gate, reminders.check_hold_kept,
    reminders.check_turned_down, reminders.note_hold, reminders.judge_anew TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
