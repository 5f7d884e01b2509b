-- What the gate goes by and leaves behind: its bounds, the usual volume, groups that are held, and the hold that each
-- reminder has.
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
                    WHERE h.scope = 'all'
                       OR (h.scope, h.scope_value) IN (('channel', NEW.channel), ('account', NEW.account_id)));
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
REVOKE EXECUTE ON FUNCTION reminders.check_hold_kept, reminders.check_turned_down, reminders.note_hold,
    reminders.judge_anew FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.check_hold_kept, reminders.check_turned_down, reminders.note_hold,
    reminders.judge_anew TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
