-- The roles, the state machine and the tables of the ledger. Every object belongs to reminders_owner, which cannot log in.
DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['reminders_owner', 'reminders_planner', 'reminders_dispatcher',
                                  'reminders_webhook', 'reminders_operator', 'reminders_analyst'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the cluster: another database of it may have made them already
        END;
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO reminders_owner', current_database());
END $$;

CREATE SCHEMA IF NOT EXISTS reminders;
CREATE SCHEMA IF NOT EXISTS analytics;
ALTER SCHEMA reminders OWNER TO reminders_owner;
ALTER SCHEMA analytics OWNER TO reminders_owner;
REVOKE ALL ON SCHEMA reminders, analytics FROM PUBLIC;
GRANT USAGE ON SCHEMA reminders
    TO reminders_planner, reminders_dispatcher, reminders_webhook, reminders_operator;
GRANT USAGE ON SCHEMA analytics TO reminders_analyst, reminders_operator;

SET LOCAL ROLE reminders_owner;

-- A domain and no table: a foreign key would be looked up for every reminder that is merged, sent and ended.
CREATE DOMAIN reminders.reminder_state AS text CONSTRAINT state_is_known CHECK (VALUE IN (
    'pending', 'held', 'sending', 'in_doubt', 'accepted',
    'delivered', 'undelivered', 'failed', 'unknown',
    'expired', 'superseded', 'cancelled', 'suppressed'));
COMMENT ON DOMAIN reminders.reminder_state IS
    'The states of a reminder: five open, four ended after a contact, four ended without one.';

CREATE TABLE reminders.transition (
    from_state reminders.reminder_state,
    to_state reminders.reminder_state,
    role_name text NOT NULL,
    PRIMARY KEY (from_state, to_state, role_name)
);
COMMENT ON TABLE reminders.transition IS 'Which role may take a reminder from one state to another; every other change is refused.';
INSERT INTO reminders.transition
SELECT before, after, 'reminders_' || who
FROM (VALUES
    (ARRAY['pending', 'held'], ARRAY['expired', 'superseded', 'cancelled', 'suppressed'],
        ARRAY['planner', 'dispatcher', 'operator']),
    -- only what a slip of the book ended before any contact (see check_transition)
    (ARRAY['cancelled', 'superseded'], ARRAY['pending'], ARRAY['planner']),
    (ARRAY['pending'], ARRAY['held'], ARRAY['planner', 'dispatcher', 'operator']),
    (ARRAY['held'], ARRAY['pending'], ARRAY['planner', 'operator']),
    (ARRAY['pending'], ARRAY['sending'], ARRAY['dispatcher']),
    (ARRAY['sending'], ARRAY['pending', 'held', 'failed', 'accepted', 'delivered', 'in_doubt'], ARRAY['dispatcher']),
    (ARRAY['sending'], ARRAY['accepted'], ARRAY['webhook']),
    (ARRAY['in_doubt'], ARRAY['accepted', 'delivered', 'undelivered'], ARRAY['dispatcher', 'webhook']),
    (ARRAY['in_doubt'], ARRAY['unknown'], ARRAY['dispatcher']),
    (ARRAY['accepted'], ARRAY['delivered', 'undelivered', 'cancelled'], ARRAY['dispatcher', 'webhook']),
    (ARRAY['accepted'], ARRAY['unknown'], ARRAY['dispatcher']),
    (ARRAY['unknown'], ARRAY['accepted', 'delivered', 'undelivered'], ARRAY['dispatcher', 'webhook'])
) AS rule (befores, afters, whos), unnest(befores) AS before, unnest(afters) AS after, unnest(whos) AS who;

CREATE TABLE reminders.cadence_step (
    account_id text NOT NULL DEFAULT '*',
    step smallint NOT NULL CHECK (step BETWEEN 1 AND 20),
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'call')),
    lead interval NOT NULL,
    useful_until interval NOT NULL,
    wait interval NOT NULL,
    PRIMARY KEY (account_id, step),
    CONSTRAINT lead_is_longer_than_useful_until CHECK (lead > useful_until),
    CONSTRAINT useful_until_is_not_after_the_start CHECK (useful_until >= '0'),
    CONSTRAINT lead_is_at_most_30_days CHECK (lead <= '30 days'),
    CONSTRAINT wait_is_not_negative CHECK (wait >= '0'),
    CONSTRAINT wait_is_at_most_30_days CHECK (wait <= '30 days')
);
COMMENT ON TABLE reminders.cadence_step IS 'An account''s ladder; the rows of account * are the ladder of an account that has none of its own.';
INSERT INTO reminders.cadence_step (step, channel, lead, useful_until, wait) VALUES
    (1, 'email', '72 hours', '24 hours', '0'),
    (2, 'sms', '24 hours', '2 hours', '4 hours'),
    (3, 'call', '4 hours', '1 hour', '1 hour');

CREATE TABLE reminders.account_policy (
    account_id text PRIMARY KEY,
    opens time NOT NULL DEFAULT '9:00',
    closes time NOT NULL DEFAULT '20:00',
    call_pace smallint NOT NULL DEFAULT 6 CHECK (call_pace > 0),
    phone_gap interval NOT NULL DEFAULT '2 hours' CHECK (phone_gap >= '1 minute'),
    email_gap interval NOT NULL DEFAULT '15 minutes' CHECK (email_gap >= '1 minute'),
    phone_daily_cap smallint NOT NULL DEFAULT 1 CHECK (phone_daily_cap > 0),
    phone_weekly_cap smallint NOT NULL DEFAULT 3 CHECK (phone_weekly_cap > 0),
    email_daily_cap smallint NOT NULL DEFAULT 3 CHECK (email_daily_cap > 0),
    email_weekly_cap smallint NOT NULL DEFAULT 10 CHECK (email_weekly_cap > 0),
    email_ceiling integer NOT NULL DEFAULT 5000 CHECK (email_ceiling > 0),
    sms_ceiling integer NOT NULL DEFAULT 2000 CHECK (sms_ceiling > 0),
    call_ceiling integer NOT NULL DEFAULT 500 CHECK (call_ceiling > 0),
    has_cancellation_notice boolean NOT NULL DEFAULT false,
    CONSTRAINT hours_open CHECK (opens < closes AND closes < '24:00')
);
COMMENT ON TABLE reminders.account_policy IS 'Hours, pace, caps and ceilings of an account; the row of account * serves those without one.';
COMMENT ON COLUMN reminders.account_policy.has_cancellation_notice IS
    'Whether a client who had an email about a slot gets one more when the book cancels it, to clear the calendar.';
INSERT INTO reminders.account_policy (account_id) VALUES ('*');

CREATE TABLE reminders.permitted_country (country char(2) PRIMARY KEY);
COMMENT ON TABLE reminders.permitted_country IS 'Countries (ISO 3166) whose numbers may be texted or called.';
INSERT INTO reminders.permitted_country
VALUES ('US'), ('CA'), ('MX'), ('GB'), ('IE'), ('ES'), ('FR'), ('DE'), ('AU'), ('NZ'), ('JP');

CREATE UNLOGGED TABLE reminders.staged_appointment (
    logical_date timestamptz,
    account_id text,
    appointment_id text,
    slot_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    status text NOT NULL,
    booked_at timestamptz,
    zone text NOT NULL,
    has_zone_problem boolean NOT NULL,
    locale text NOT NULL,
    client_name text NOT NULL,
    location text NOT NULL,
    account_name text NOT NULL,
    account_phone text NOT NULL,
    account_email text NOT NULL,
    email text, email_hash bytea, email_masked text, email_problem text,
    phone text, phone_hash bytea, phone_masked text, phone_problem text,
    phone_country text, phone_type text,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (logical_date, account_id, appointment_id)
);
COMMENT ON TABLE reminders.staged_appointment IS 'The book as one cycle read it; holds personal data and is pruned after a day.';

CREATE UNLOGGED TABLE reminders.staged_rung (
    logical_date timestamptz,
    account_id text,
    appointment_id text,
    slot_at timestamptz,
    step smallint,
    channel text NOT NULL,
    due_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    wait interval NOT NULL,
    has_lower_rung boolean NOT NULL,
    PRIMARY KEY (logical_date, account_id, appointment_id, slot_at, step)
);
COMMENT ON TABLE reminders.staged_rung IS 'The rungs due at a cycle''s logical date, one row for each staged appointment''s step.';

CREATE TABLE reminders.reminder (
    reminder_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    appointment_id text NOT NULL,
    slot_at timestamptz NOT NULL,
    step smallint NOT NULL CHECK (step BETWEEN 0 AND 20),
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'call')),
    state reminders.reminder_state NOT NULL DEFAULT 'pending',
    reason text,
    ended_at timestamptz,
    logical_date timestamptz NOT NULL,
    adopted_by timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    wait interval NOT NULL DEFAULT '0',
    has_lower_rung boolean NOT NULL DEFAULT false,
    deferred_for text,
    not_before_at timestamptz,
    address_hash bytea,
    address_masked text,
    contact_id bigint,
    attempt_count smallint NOT NULL DEFAULT 0,
    sent_at timestamptz,
    delivered_at timestamptz,
    delivery_evidence text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT cancellation_is_an_email CHECK (step > 0 OR channel = 'email'),
    CONSTRAINT reminder_once UNIQUE (account_id, appointment_id, slot_at, step),
    CONSTRAINT slot_is_a_minute CHECK (extract(second FROM slot_at) = 0),
    CONSTRAINT window_runs_forward CHECK (due_at < expires_at AND expires_at <= slot_at),
    CONSTRAINT ended_has_time_and_reason CHECK (
        (state IN ('delivered', 'undelivered', 'failed', 'unknown', 'expired', 'superseded', 'cancelled', 'suppressed'))
        = (ended_at IS NOT NULL) AND (ended_at IS NULL) = (reason IS NULL)),
    CONSTRAINT contacted_has_contact CHECK (
        state NOT IN ('sending', 'in_doubt', 'accepted', 'delivered', 'undelivered', 'failed', 'unknown')
        OR (contact_id IS NOT NULL AND address_hash IS NOT NULL AND sent_at IS NOT NULL)),
    CONSTRAINT delivered_has_evidence CHECK (
        state <> 'delivered' OR (delivered_at IS NOT NULL AND delivery_evidence IS NOT NULL)),
    CONSTRAINT deferred_is_pending CHECK (deferred_for IS NULL OR state IN ('pending', 'held'))
) WITH (fillfactor = 80);
COMMENT ON TABLE reminders.reminder IS 'The delivery ledger: one row for each step of an appointment''s slot, for ever.';
COMMENT ON COLUMN reminders.reminder.step IS
    'The rung of the ladder, from 1; 0 is the notice that the slot is cancelled, no rung and no proof for one.';
-- ended_at and not state stands in the predicate, so that the changes of an open row stay heap-only.
CREATE INDEX reminder_open ON reminders.reminder (adopted_by, account_id, appointment_id) WHERE ended_at IS NULL;
CREATE INDEX reminder_by_contact ON reminders.reminder (contact_id) WHERE contact_id IS NOT NULL;

CREATE TABLE reminders.batch (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    logical_date timestamptz NOT NULL,
    channel text NOT NULL,
    share smallint NOT NULL CHECK (share > 0),
    planned_at timestamptz NOT NULL
);
CREATE INDEX batch_by_plan ON reminders.batch (planned_at);
COMMENT ON COLUMN reminders.batch.share IS 'How many batches share the channel''s rate in this cycle.';

CREATE TABLE reminders.contact (
    contact_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL REFERENCES reminders.batch,
    account_id text NOT NULL,
    channel text NOT NULL,
    address_hash bytea NOT NULL,
    zone text NOT NULL,
    place integer NOT NULL,
    reference uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    CONSTRAINT contact_whole UNIQUE (contact_id, account_id, channel, address_hash, zone)
);
CREATE INDEX contact_by_batch ON reminders.contact (batch_id, place);

CREATE TABLE reminders.contact_member (
    contact_id bigint REFERENCES reminders.contact,
    reminder_id bigint REFERENCES reminders.reminder,
    PRIMARY KEY (contact_id, reminder_id)
);

CREATE TABLE reminders.contact_guard (
    guard_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contact_id bigint NOT NULL REFERENCES reminders.contact,
    account_id text NOT NULL,
    address_hash bytea NOT NULL,
    slot_at timestamptz NOT NULL,
    step smallint NOT NULL,
    is_uncontacted boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE reminders.contact_guard IS
    'What an address was contacted about, whatever the appointment''s id: unique for ever unless proven uncontacted.';
CREATE UNIQUE INDEX contacted_once ON reminders.contact_guard (account_id, address_hash, slot_at, step)
    WHERE NOT is_uncontacted;
CREATE INDEX contact_guard_by_contact ON reminders.contact_guard (contact_id);

CREATE TABLE reminders.attempt (
    attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contact_id bigint NOT NULL,
    account_id text NOT NULL,
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'call')),
    address_hash bytea NOT NULL,
    address text,
    address_country text,
    address_type text,
    zone text NOT NULL,
    local_day date NOT NULL,
    book_read_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'sending' CHECK (state IN ('sending', 'in_doubt', 'accepted', 'delivered',
        'undelivered', 'cancelled', 'failed', 'unknown', 'not_contacted')),
    reason text,
    provider_code text,
    provider_id text,
    provider_status text,
    status_since_at timestamptz,
    polled_at timestamptz,
    intended_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT attempt_is_of_its_contact FOREIGN KEY (contact_id, account_id, channel, address_hash, zone)
        REFERENCES reminders.contact (contact_id, account_id, channel, address_hash, zone),
    CONSTRAINT local_day_is_right CHECK (local_day = (intended_at AT TIME ZONE zone)::date),
    CONSTRAINT attempt_ended CHECK ((state IN ('sending', 'in_doubt', 'accepted')) = (ended_at IS NULL)),
    CONSTRAINT attempt_deadline CHECK (deadline_at > intended_at AND deadline_at <= intended_at + interval '10 minutes'),
    CONSTRAINT book_is_fresh CHECK (book_read_at >= intended_at - interval '10 minutes'),
    CONSTRAINT number_may_be_dialled CHECK (channel = 'email'
        OR (address_country IS NOT NULL AND address_type NOT IN ('premium_rate', 'shared_cost')))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX provider_id_once ON reminders.attempt (channel, provider_id) WHERE provider_id IS NOT NULL;
CREATE UNIQUE INDEX contact_made_once ON reminders.attempt (contact_id) WHERE state <> 'not_contacted';
CREATE UNIQUE INDEX one_open_call ON reminders.attempt (address_hash) WHERE channel = 'call' AND ended_at IS NULL;
CREATE INDEX attempt_by_contact ON reminders.attempt (contact_id);
CREATE INDEX attempt_open ON reminders.attempt (attempt_id) WHERE ended_at IS NULL;

CREATE TABLE reminders.address_cap (
    address_hash bytea,
    period text CHECK (period IN ('day', 'week')),
    starts_on date,
    contact_count smallint NOT NULL DEFAULT 0,
    cap smallint NOT NULL,
    PRIMARY KEY (address_hash, period, starts_on),
    CONSTRAINT address_cap_kept CHECK (contact_count BETWEEN 0 AND cap)
);
COMMENT ON TABLE reminders.address_cap IS 'Contacts of an address in a local day and in a week from Monday, across all accounts.';

CREATE TABLE reminders.address_gap (
    address_hash bytea PRIMARY KEY,
    last_contact_at timestamptz,
    previous_contact_at timestamptz,
    min_gap interval NOT NULL,
    CONSTRAINT address_gap_kept CHECK (last_contact_at IS NULL OR previous_contact_at IS NULL
        OR last_contact_at >= previous_contact_at + min_gap)
);

CREATE TABLE reminders.daily_ceiling (
    account_id text,
    channel text,
    day date,
    contact_count integer NOT NULL DEFAULT 0,
    ceiling integer NOT NULL,
    PRIMARY KEY (account_id, channel, day),
    CONSTRAINT daily_ceiling_kept CHECK (contact_count BETWEEN 0 AND ceiling)
);
COMMENT ON TABLE reminders.daily_ceiling IS 'The last fuse: contacts of a UTC day for a channel and an account; account * counts all.';

CREATE TABLE reminders.ceiling_in_all (channel text PRIMARY KEY, ceiling integer NOT NULL CHECK (ceiling > 0));
INSERT INTO reminders.ceiling_in_all VALUES ('email', 50000), ('sms', 20000), ('call', 5000);

CREATE TABLE reminders.suppression (
    address_hash bytea,
    channel text CHECK (channel IN ('*', 'email', 'sms', 'call')),
    reason text NOT NULL CHECK (reason IN ('opted_out', 'bad_address')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (address_hash, channel)
);

CREATE TABLE reminders.hold (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL CHECK (scope IN ('all', 'channel', 'account', 'cycle')),
    scope_value text NOT NULL DEFAULT '',
    placed_by text NOT NULL CHECK (placed_by <> ''),
    why text NOT NULL CHECK (why <> ''),
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    review_at timestamptz NOT NULL,
    released_at timestamptz,
    released_by text,
    CONSTRAINT hold_names_its_scope CHECK ((scope = 'all') = (scope_value = '')),
    CONSTRAINT hold_names_a_channel CHECK (scope <> 'channel' OR scope_value IN ('email', 'sms', 'call')),
    CONSTRAINT hold_names_a_cycle CHECK (scope <> 'cycle' OR pg_input_is_valid(scope_value, 'timestamptz')),
    CONSTRAINT release_names_a_person CHECK ((released_at IS NULL) = (released_by IS NULL))
);
CREATE UNIQUE INDEX one_hold_for_a_scope ON reminders.hold (scope, scope_value) WHERE released_at IS NULL;

CREATE TABLE reminders.provider_event (
    provider_id text,
    provider_status text,
    reference uuid,
    provider_code text,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_at timestamptz,
    PRIMARY KEY (provider_id, provider_status)
);

CREATE TABLE reminders.cycle (
    logical_date timestamptz PRIMARY KEY,
    run_kind text NOT NULL CHECK (run_kind IN ('scheduled', 'manual', 'backfill')),
    has_own_date boolean NOT NULL,
    started_at timestamptz NOT NULL,
    closed_at timestamptz,
    counts jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON COLUMN reminders.cycle.has_own_date IS 'False: run by hand without a logical date; the key is the run''s run_after.';

CREATE TABLE reminders.ledger_mark (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    reserved_to bigint NOT NULL DEFAULT 0,
    secret_fingerprint text
);
COMMENT ON TABLE reminders.ledger_mark IS
    'The highest attempt number that may be used, and the fingerprint of the key that addresses are hashed with.';
INSERT INTO reminders.ledger_mark DEFAULT VALUES;

CREATE TABLE reminders.clock (is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only), shift interval NOT NULL);
COMMENT ON TABLE reminders.clock IS 'Empty in production; only the owner can write it, to re-enact a night on a virtual clock.';

RESET ROLE;
