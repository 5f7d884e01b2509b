-- A ledger that has forgotten, or that the provider knows more than, holds everything until what is missing has been
-- taken from the provider's list; only then may a person let contacts go again.
SET LOCAL ROLE reminders_owner;

-- What the webhook has put into the inbox and nobody has applied.
CREATE INDEX event_to_apply ON reminders.provider_event (received_at) WHERE applied_at IS NULL;

CREATE TABLE reminders.recovery (
    recovery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hold_id bigint NOT NULL REFERENCES reminders.hold,
    why text NOT NULL CHECK (why <> ''),
    has_forgotten boolean NOT NULL,
    missing_from timestamptz NOT NULL,
    begun_at timestamptz NOT NULL,
    listed_at timestamptz,
    CONSTRAINT list_is_settled CHECK (listed_at >= begun_at + interval '10 minutes')
);
COMMENT ON TABLE reminders.recovery IS 'How each loss of the ledger was made good from the provider''s list; its hold stops everything meanwhile.';
COMMENT ON COLUMN reminders.recovery.has_forgotten IS
    'Attempts are gone, so that emails, of which there is no list, may have been sent; else the provider only knows more.';
COMMENT ON COLUMN reminders.recovery.missing_from IS 'From when on contacts may be missing: the last that the ledger knows of.';
COMMENT ON COLUMN reminders.recovery.listed_at IS 'When the provider''s complete list was read, lists lag by minutes.';
CREATE UNIQUE INDEX one_open_recovery ON reminders.recovery ((true)) WHERE listed_at IS NULL;

CREATE TABLE reminders.found_contact (
    channel text CHECK (channel IN ('sms', 'call')),
    provider_id text,
    recovery_id bigint NOT NULL REFERENCES reminders.recovery,
    address_hash bytea NOT NULL,
    address_masked text NOT NULL,
    contacted_at timestamptz NOT NULL,
    provider_status text NOT NULL,
    is_rebuilt boolean NOT NULL DEFAULT false,
    PRIMARY KEY (channel, provider_id)
);
COMMENT ON TABLE reminders.found_contact IS
    'Texts and calls from our senders that the provider knows and the ledger did not; rebuilt: an attempt of the ledger''s now.';

ALTER TABLE reminders.attempt
    ADD COLUMN is_rebuilt boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT rebuilt_is_no_intent CHECK (NOT is_rebuilt OR state NOT IN ('sending', 'not_contacted'));
-- No role of the running system may write it, and the owner, whose attempts no fence looks at, cannot avoid it.
ALTER TABLE reminders.attempt ALTER COLUMN is_rebuilt SET DEFAULT (current_user = 'reminders_owner');
COMMENT ON COLUMN reminders.attempt.is_rebuilt IS 'It was made and forgotten; a recovery has put it back.';

DROP TRIGGER claimed ON reminders.attempt;
DROP TRIGGER fenced ON reminders.attempt;
DROP TRIGGER gated ON reminders.attempt;
DROP TRIGGER limits_counted ON reminders.attempt;
-- What a recovery puts back has happened; it cannot be refused, and rebuild_attempt counts it.
CREATE TRIGGER claimed AFTER INSERT ON reminders.attempt REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT WHEN (current_user <> 'reminders_owner') EXECUTE FUNCTION reminders.fence_claims();
CREATE TRIGGER fenced AFTER INSERT ON reminders.attempt REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT WHEN (current_user <> 'reminders_owner') EXECUTE FUNCTION reminders.fence_attempts();
CREATE TRIGGER gated AFTER INSERT ON reminders.attempt REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT WHEN (current_user <> 'reminders_owner') EXECUTE FUNCTION reminders.fence_gate();
CREATE TRIGGER limits_counted AFTER INSERT ON reminders.attempt REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT WHEN (current_user <> 'reminders_owner') EXECUTE FUNCTION reminders.count_attempts();

INSERT INTO reminders.transition VALUES
    ('pending', 'accepted', 'reminders_owner'), ('held', 'accepted', 'reminders_owner'),
    ('pending', 'unknown', 'reminders_owner'), ('held', 'unknown', 'reminders_owner');

CREATE FUNCTION reminders.ledger_identity() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
    -- A dump makes the table anew; the timeline is the log's, as a checkpoint tells of a promotion minutes later.
    SELECT concat_ws(' ', s.system_identifier, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
                     (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 'attempt'::regclass::oid)
    FROM pg_control_system() s
$$;
COMMENT ON FUNCTION reminders.ledger_identity IS
    'Which server, timeline, database and table this is: another after a restore, a failover or a change of the address.';
ALTER TABLE reminders.ledger_mark ADD COLUMN checked_identity text;
COMMENT ON COLUMN reminders.ledger_mark.checked_identity IS
    'The database as preflight last found it: a copy, or a standby that took over, sends nothing until preflight has looked.';

CREATE FUNCTION reminders.fence_identity() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
BEGIN
    IF (SELECT checked_identity <> ledger_identity() FROM ledger_mark) THEN
        RAISE EXCEPTION 'refused attempt: ledger_was_checked'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_was_checked';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reminders.fence_identity IS 'No attempt in a database that is not the one that preflight looked at.';
CREATE TRIGGER checked_first AFTER INSERT ON reminders.attempt
    FOR EACH STATEMENT EXECUTE FUNCTION reminders.fence_identity();

CREATE FUNCTION reminders.begin_recovery(
    p_why text, p_placed_by text, p_has_forgotten boolean, p_missing_from timestamptz, p_known_to bigint)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE
    moment timestamptz := ledger_clock();
    in_force bigint;
    -- A ledger without any knowledge may have forgotten whatever a ladder can reach.
    missing timestamptz := coalesce(p_missing_from, (SELECT max(c.started_at) FROM cycle c),
                                    moment - interval '31 days');
BEGIN
    INSERT INTO hold (scope, scope_value, placed_by, why, placed_at, review_at)
    VALUES ('all', '', p_placed_by, p_why, moment, moment + interval '1 hour')
    ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING;
    SELECT hold_id INTO STRICT in_force FROM hold WHERE scope = 'all' AND released_at IS NULL FOR UPDATE;
    INSERT INTO recovery AS r (hold_id, why, has_forgotten, missing_from, begun_at)
    VALUES (in_force, p_why, p_has_forgotten, missing, moment)
    ON CONFLICT ((true)) WHERE listed_at IS NULL DO UPDATE
    SET hold_id = in_force, why = p_why, has_forgotten = r.has_forgotten OR p_has_forgotten,
        missing_from = least(r.missing_from, missing), begun_at = moment;
    -- The numbers of forgotten attempts are not given a second time.
    UPDATE ledger_mark SET reserved_to = greatest(reserved_to, p_known_to);
    PERFORM setval('attempt_attempt_id_seq', greatest(p_known_to, (SELECT last_value FROM attempt_attempt_id_seq)));
    RETURN in_force;
END $$;
COMMENT ON FUNCTION reminders.begin_recovery IS
    'Holds everything, and has the provider''s list read from p_missing_from on (null: from the ledger''s last cycle) '
    'before a person may release it; returns the hold. p_known_to: the highest attempt number that may have been used.';

CREATE FUNCTION reminders.check_recovered() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
BEGIN
    IF EXISTS (SELECT FROM recovery r
               WHERE r.hold_id = OLD.hold_id AND NOT EXISTS (
                   SELECT FROM cycle c WHERE c.started_at > r.listed_at AND c.judged_at IS NOT NULL
                                         AND c.run_kind <> 'backfill')) THEN
        RAISE EXCEPTION 'refused: hold % stays until a cycle has gone by the provider''s list', OLD.hold_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'recovered_first';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION reminders.check_recovered IS
    'A recovery''s hold is released when the list has been read, and a cycle has since taken from it what it found.';
CREATE TRIGGER recovered_first BEFORE UPDATE ON reminders.hold
    FOR EACH ROW WHEN (OLD.released_at IS NULL AND NEW.released_at IS NOT NULL)
    EXECUTE FUNCTION reminders.check_recovered();

CREATE FUNCTION reminders.rebuild_attempt(
    p_account_id text, p_channel text, p_address_hash bytea, p_reminder_ids bigint[], p_at timestamptz,
    p_provider_id text, p_provider_status text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE
    batch bigint; contact bigint; staged staged_appointment;
    -- Without the provider's word nobody knows.
    is_known boolean := p_provider_id IS NOT NULL;
BEGIN
    SELECT s.* INTO staged FROM reminder r JOIN staged_appointment s
        ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
    WHERE r.reminder_id = ANY (p_reminder_ids) LIMIT 1;
    staged.zone := coalesce(staged.zone, 'UTC');
    INSERT INTO batch (logical_date, channel, share, planned_at) VALUES (p_at, p_channel, 1, p_at) RETURNING batch_id INTO batch;
    INSERT INTO contact (batch_id, account_id, channel, address_hash, zone, place)
    VALUES (batch, p_account_id, p_channel, p_address_hash, staged.zone, 1) RETURNING contact_id INTO contact;
    INSERT INTO contact_guard (contact_id, account_id, address_hash, slot_at, step)
    SELECT DISTINCT contact, p_account_id, p_address_hash, r.slot_at, r.step FROM reminder r
    WHERE r.reminder_id = ANY (p_reminder_ids)
    ON CONFLICT (account_id, address_hash, slot_at, step) WHERE NOT is_uncontacted DO NOTHING;
    UPDATE reminder r
    SET state = CASE WHEN is_known THEN 'accepted' ELSE 'unknown' END, contact_id = contact, sent_at = p_at,
        attempt_count = attempt_count + 1, deferred_for = NULL, not_before_at = NULL,
        reason = CASE WHEN NOT is_known THEN 'forgotten' END, ended_at = CASE WHEN NOT is_known THEN ledger_clock() END
    WHERE r.reminder_id = ANY (p_reminder_ids);
    INSERT INTO attempt (contact_id, account_id, channel, address_hash, address, address_country, address_type, zone,
                         local_day, book_read_at, intended_at, deadline_at, state, reason, provider_id,
                         provider_status, status_since_at, ended_at)
    VALUES (contact, p_account_id, p_channel, p_address_hash,
            CASE p_channel WHEN 'email' THEN staged.email ELSE staged.phone END,
            CASE WHEN p_channel <> 'email' THEN coalesce(staged.phone_country, 'ZZ') END,
            CASE WHEN p_channel <> 'email' THEN 'other' END, staged.zone, (p_at AT TIME ZONE staged.zone)::date,
            p_at, p_at, p_at + interval '1 minute', CASE WHEN is_known THEN 'accepted' ELSE 'unknown' END,
            CASE WHEN NOT is_known THEN 'forgotten' END, p_provider_id, p_provider_status,
            CASE WHEN is_known THEN p_at END, CASE WHEN NOT is_known THEN ledger_clock() END);

    INSERT INTO address_gap AS g (address_hash, last_contact_at, min_gap)
    SELECT p_address_hash, p_at, CASE p_channel WHEN 'email' THEN p.email_gap ELSE p.phone_gap END
    FROM policy_of(p_account_id) p
    ON CONFLICT (address_hash) DO UPDATE
    SET last_contact_at = greatest(g.last_contact_at, p_at), previous_contact_at = NULL;
    INSERT INTO address_cap AS k (address_hash, period, starts_on, contact_count, cap)
    SELECT p_address_hash, period.name, period.starts_on, 1,
           CASE WHEN p_channel = 'email' AND period.name = 'day' THEN p.email_daily_cap
                WHEN p_channel = 'email' THEN p.email_weekly_cap
                WHEN period.name = 'day' THEN p.phone_daily_cap ELSE p.phone_weekly_cap END
    FROM policy_of(p_account_id) p,
         (VALUES ('day', (p_at AT TIME ZONE staged.zone)::date),
                 ('week', date_trunc('week', p_at AT TIME ZONE staged.zone)::date)) AS period (name, starts_on)
    ON CONFLICT (address_hash, period, starts_on) DO UPDATE SET contact_count = least(k.contact_count + 1, k.cap);
END $$;
COMMENT ON FUNCTION reminders.rebuild_attempt IS
    'Puts back the attempt by which these reminders, all of one account and address, were contacted at p_at: accepted, or '
    'without a provider''s id unknown; its address is counted, and no cap refuses it.';

CREATE FUNCTION reminders.rebuild(p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE missing record; rebuilt integer := 0;
BEGIN
    FOR missing IN
        SELECT f.channel, f.provider_id, f.address_hash, f.contacted_at, f.provider_status, r.account_id,
               array_agg(r.reminder_id) AS reminder_ids,
               -- One contact was made, and of several accounts that it may have been for nobody knows which.
               count(*) OVER (PARTITION BY f.channel, f.provider_id) = 1 AS is_for_certain
        FROM (SELECT DISTINCT ON (w.reminder_id) w.reminder_id, w.account_id, c.*
              FROM found_contact c
              JOIN reminder w ON w.address_hash = c.address_hash AND w.channel = c.channel
              WHERE NOT c.is_rebuilt AND c.contacted_at > p_now - interval '31 days'
                AND w.ended_at IS NULL AND w.state IN ('pending', 'held')
                -- The provider's clock need not be ours.
                AND w.due_at <= c.contacted_at + interval '5 minutes' AND w.expires_at > c.contacted_at
              ORDER BY w.reminder_id, c.contacted_at) r
        JOIN found_contact f ON (f.channel, f.provider_id) = (r.channel, r.provider_id)
        GROUP BY f.channel, f.provider_id, r.account_id
        ORDER BY f.contacted_at, f.provider_id, r.account_id
    LOOP
        PERFORM rebuild_attempt(missing.account_id, missing.channel, missing.address_hash, missing.reminder_ids,
                                missing.contacted_at, CASE WHEN missing.is_for_certain THEN missing.provider_id END,
                                missing.provider_status);
        UPDATE found_contact f SET is_rebuilt = true
        WHERE (f.channel, f.provider_id) = (missing.channel, missing.provider_id);
        rebuilt := rebuilt + 1;
    END LOOP;
    -- Of emails there is no list: what could have gone in the time that is forgotten counts as contacted.
    FOR missing IN
        SELECT r.account_id, r.address_hash, array_agg(r.reminder_id) AS reminder_ids, max(lost.begun_at) AS begun_at
        FROM recovery lost
        JOIN reminder r ON r.due_at <= lost.begun_at AND r.expires_at > lost.missing_from
        WHERE lost.has_forgotten AND lost.begun_at > p_now - interval '31 days' AND r.channel = 'email'
          AND r.ended_at IS NULL AND r.state IN ('pending', 'held') AND r.address_hash IS NOT NULL
        GROUP BY r.account_id, r.address_hash ORDER BY r.account_id, r.address_hash
    LOOP
        PERFORM rebuild_attempt(missing.account_id, 'email', missing.address_hash, missing.reminder_ids,
                                missing.begun_at, NULL, NULL);
        rebuilt := rebuilt + 1;
    END LOOP;
    RETURN rebuilt;
END $$;
COMMENT ON FUNCTION reminders.rebuild IS
    'Reminders that a found contact fits, by address, channel and time, count as contacted by it, and emails that may have '
    'gone in the time that is forgotten count as unknown; returns how many attempts were put back.';

GRANT SELECT ON reminders.recovery, reminders.found_contact
    TO reminders_planner, reminders_dispatcher, reminders_operator;
GRANT UPDATE (listed_at) ON reminders.recovery TO reminders_dispatcher;
GRANT INSERT (channel, provider_id, recovery_id, address_hash, address_masked, contacted_at, provider_status)
    ON reminders.found_contact TO reminders_dispatcher;
REVOKE EXECUTE ON FUNCTION reminders.ledger_identity, reminders.fence_identity, reminders.begin_recovery,
    reminders.check_recovered, reminders.rebuild_attempt, reminders.rebuild FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.ledger_identity TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.begin_recovery TO reminders_planner, reminders_dispatcher;
GRANT EXECUTE ON FUNCTION reminders.rebuild TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.check_recovered TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
