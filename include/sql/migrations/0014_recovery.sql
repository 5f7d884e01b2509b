-- A ledger that has forgotten, or that the provider knows more than, holds everything until what is missing has been
-- taken from the provider's list; only then may a person let contacts go again.
SET LOCAL ROLE reminders_owner;

-- What the webhook has put into the inbox and nobody has applied.
CREATE INDEX event_to_apply ON reminders.provider_event (received_at) WHERE applied_at IS NULL;

CREATE TABLE reminders.recovery (
    recovery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hold_id bigint NOT NULL REFERENCES reminders.hold,
    why text NOT NULL CHECK (why <> ''),
    missing_from timestamptz NOT NULL,
    forgotten_until timestamptz,
    begun_at timestamptz NOT NULL,
    listed_at timestamptz,
    taken_at timestamptz,
    CONSTRAINT list_is_settled CHECK (listed_at >= begun_at + interval '10 minutes'),
    CONSTRAINT taken_after_the_list CHECK (taken_at IS NULL OR taken_at >= listed_at)
);
COMMENT ON TABLE reminders.recovery IS 'How each loss of the ledger was made good from the provider''s list; its hold stops everything meanwhile.';
COMMENT ON COLUMN reminders.recovery.forgotten_until IS
    'Until when attempts are gone, so that emails, of which there is no list, may have been sent; null: the provider only knows more.';
COMMENT ON COLUMN reminders.recovery.taken_at IS 'When a cycle had taken over what the list has: the hold may be released.';
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
CREATE INDEX found_contact_to_rebuild ON reminders.found_contact (address_hash) WHERE NOT is_rebuilt;
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
    ('pending', 'unknown', 'reminders_owner'), ('held', 'unknown', 'reminders_owner'),
    ('cancelled', 'unknown', 'reminders_owner'), ('superseded', 'unknown', 'reminders_owner'),
    ('expired', 'unknown', 'reminders_owner'), ('suppressed', 'unknown', 'reminders_owner');

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
    INSERT INTO recovery AS r (hold_id, why, forgotten_until, missing_from, begun_at)
    VALUES (in_force, p_why, CASE WHEN p_has_forgotten THEN moment END, missing, moment)
    ON CONFLICT ((true)) WHERE listed_at IS NULL DO UPDATE
    SET hold_id = in_force, why = p_why, forgotten_until = coalesce(EXCLUDED.forgotten_until, r.forgotten_until),
        missing_from = least(r.missing_from, missing), begun_at = moment;
    -- The numbers of forgotten attempts are not given a second time.
    UPDATE ledger_mark SET reserved_to = greatest(reserved_to, p_known_to);
    PERFORM setval('attempt_attempt_id_seq', greatest(p_known_to, (SELECT last_value FROM attempt_attempt_id_seq)));
    RETURN in_force;
END $$;
COMMENT ON FUNCTION reminders.begin_recovery IS
    'Holds everything, and has the provider''s list read from p_missing_from on (null: from the ledger''s last cycle) '
    'before a person may release it; returns the hold. p_known_to: the highest attempt number that may have been used.';

CREATE FUNCTION reminders.note_listed(p_recovery_id bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
    UPDATE recovery SET listed_at = ledger_clock() WHERE recovery_id = p_recovery_id AND listed_at IS NULL
$$;
COMMENT ON FUNCTION reminders.note_listed IS 'The provider''s list has been read to its end, by the ledger''s own clock.';

CREATE FUNCTION reminders.check_recovered() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
BEGIN
    IF EXISTS (SELECT FROM recovery r WHERE r.hold_id = OLD.hold_id AND r.taken_at IS NULL) THEN
        RAISE EXCEPTION 'refused: hold % stays until a cycle has gone by the provider''s list', OLD.hold_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'recovered_first';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION reminders.check_recovered IS
    'A recovery''s hold is released when the list has been read, and a cycle has taken over what it has.';
CREATE TRIGGER recovered_first BEFORE UPDATE ON reminders.hold
    FOR EACH ROW WHEN (OLD.released_at IS NULL AND NEW.released_at IS NOT NULL)
    EXECUTE FUNCTION reminders.check_recovered();

-- What may never have been sent is no proof, however it counts against sending it again.
CREATE OR REPLACE FUNCTION reminders.has_proof(
    p_account_id text, p_appointment_id text, p_slot_at timestamptz, p_step smallint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM reminders.rung_end lower
        WHERE lower.account_id = p_account_id AND lower.appointment_id = p_appointment_id
          AND lower.slot_at = p_slot_at AND lower.step < p_step
          AND (lower.state IN ('delivered', 'unknown') AND lower.reason IS DISTINCT FROM 'forgotten'
               OR lower.state IN ('failed', 'undelivered')
                  AND lower.reason NOT IN ('misconfigured', 'too_late', 'refused_unexplained')))
$$;

CREATE FUNCTION reminders.count_found(
    p_account_id text, p_channel text, p_address_hash bytea, p_at timestamptz, p_zone text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
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
         (VALUES ('day', (p_at AT TIME ZONE p_zone)::date),
                 ('week', date_trunc('week', p_at AT TIME ZONE p_zone)::date)) AS period (name, starts_on)
    ON CONFLICT (address_hash, period, starts_on) DO UPDATE SET contact_count = least(k.contact_count + 1, k.cap);
    INSERT INTO daily_ceiling AS d (account_id, channel, day, contact_count, ceiling)
    SELECT p_account_id, p_channel, (p_at AT TIME ZONE 'UTC')::date, 1,
           CASE p_channel WHEN 'email' THEN p.email_ceiling WHEN 'sms' THEN p.sms_ceiling ELSE p.call_ceiling END
    FROM policy_of(p_account_id) p WHERE p_account_id <> '*'
    UNION ALL
    SELECT '*', p_channel, (p_at AT TIME ZONE 'UTC')::date, 1, c.ceiling FROM ceiling_in_all c WHERE c.channel = p_channel
    ON CONFLICT (account_id, channel, day) DO UPDATE SET contact_count = least(d.contact_count + 1, d.ceiling)
$$;
COMMENT ON FUNCTION reminders.count_found IS
    'A contact that was made counts for its address''s gap and caps and the day''s ceilings, and no cap refuses it.';

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

    PERFORM count_found(p_account_id, p_channel, p_address_hash, p_at, staged.zone);
END $$;
COMMENT ON FUNCTION reminders.rebuild_attempt IS
    'Puts back the attempt by which these reminders, all of one account and address, were contacted at p_at: accepted, or '
    'without a provider''s id unknown; its address is counted, and no cap refuses it.';

CREATE FUNCTION reminders.could_be_of(p_due_at timestamptz, p_expires_at timestamptz, p_contacted_at timestamptz)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- The provider's clock need not be ours.
    SELECT p_due_at <= p_contacted_at + interval '5 minutes' AND p_expires_at > p_contacted_at
$$;
COMMENT ON FUNCTION reminders.could_be_of IS 'Whether a contact of that time can have been a reminder''s of this window.';

CREATE FUNCTION reminders.add_called_off(p_logical_date timestamptz, p_now timestamptz) RETURNS bigint[]
LANGUAGE sql SET search_path = pg_catalog, reminders AS $$
    WITH put AS (
        INSERT INTO reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at,
                              expires_at, wait, has_lower_rung, address_hash, address_masked, created_at)
        SELECT g.account_id, g.appointment_id, g.slot_at, g.step, g.channel, g.logical_date, g.logical_date, g.due_at,
               g.expires_at, g.wait, g.has_lower_rung,
               CASE g.channel WHEN 'email' THEN s.email_hash ELSE s.phone_hash END,
               CASE g.channel WHEN 'email' THEN s.email_masked ELSE s.phone_masked END, p_now
        FROM staged_rung g
        JOIN staged_appointment s USING (logical_date, account_id, appointment_id)
        JOIN recovery lost ON lost.taken_at IS NULL
        LEFT JOIN found_contact c
            ON (c.recovery_id, c.channel, c.address_hash) = (lost.recovery_id, g.channel, s.phone_hash)
            AND NOT c.is_rebuilt AND could_be_of(g.due_at, g.expires_at, c.contacted_at)
        WHERE g.logical_date = p_logical_date AND s.status IN ('cancelled', 'confirmed')
          AND (c.provider_id IS NOT NULL
               OR g.channel = 'email' AND s.email_hash IS NOT NULL
                  AND g.due_at <= lost.forgotten_until AND g.expires_at > lost.missing_from)
        ON CONFLICT DO NOTHING
        RETURNING reminder_id
    )
    SELECT coalesce(array_agg(reminder_id), '{}') FROM put
$$;
COMMENT ON FUNCTION reminders.add_called_off IS
    'Adds the reminders of visits that are cancelled or confirmed by now and that may have been contacted in the time that '
    'is forgotten: should they be booked again, they are not contacted again. Returns their ids.';

CREATE FUNCTION reminders.may_have_been_contacted(p_reminder reminders.reminder, p_missing_from timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p_reminder.ended_at IS NULL AND p_reminder.state IN ('pending', 'held')
        OR p_reminder.ended_at > p_missing_from AND p_reminder.contact_id IS NULL
$$;
COMMENT ON FUNCTION reminders.may_have_been_contacted IS
    'Whether the reminder waits, or has ended without a contact since p_missing_from: what is forgotten may be its contact.';

CREATE FUNCTION reminders.rebuild_listed(p_called_off bigint[]) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE found record; rebuilt integer := 0;
BEGIN
    FOR found IN
        SELECT f.channel, f.provider_id, f.address_hash, f.contacted_at, f.provider_status, r.account_id,
               array_agg(r.reminder_id) AS reminder_ids,
               -- One contact was made. Nobody knows which of several accounts it was for, whether it was for a visit
               -- that is off by now, or for an attempt whose doubt the ledger remembers.
               count(*) OVER (PARTITION BY f.channel, f.provider_id) = 1 AND bool_and(r.is_on)
               AND NOT EXISTS (
                   SELECT FROM attempt a
                   WHERE (a.channel, a.address_hash) = (f.channel, f.address_hash) AND a.provider_id IS NULL
                     AND a.state IN ('sending', 'in_doubt', 'unknown')
                     AND f.contacted_at BETWEEN a.intended_at - interval '5 minutes' AND a.deadline_at + interval '5 minutes'
               ) AS is_for_certain
        FROM (SELECT DISTINCT ON (w.reminder_id) w.reminder_id, w.account_id, c.channel, c.provider_id,
                     w.ended_at IS NULL AND w.reminder_id <> ALL (p_called_off) AS is_on
              FROM recovery lost
              JOIN found_contact c USING (recovery_id)
              JOIN reminder w ON w.address_hash = c.address_hash AND w.channel = c.channel
              WHERE lost.taken_at IS NULL AND NOT c.is_rebuilt
                AND may_have_been_contacted(w, lost.missing_from)
                AND could_be_of(w.due_at, w.expires_at, c.contacted_at)
              ORDER BY w.reminder_id, c.contacted_at) r
        JOIN found_contact f ON (f.channel, f.provider_id) = (r.channel, r.provider_id)
        GROUP BY f.channel, f.provider_id, r.account_id
        ORDER BY f.contacted_at, f.provider_id, r.account_id
    LOOP
        PERFORM rebuild_attempt(
            found.account_id, found.channel, found.address_hash, found.reminder_ids, found.contacted_at,
            CASE WHEN found.is_for_certain
                      -- A line has one open call; of another that was made nobody asks any more.
                      AND NOT EXISTS (SELECT FROM attempt a WHERE a.address_hash = found.address_hash
                                      AND a.channel = 'call' AND found.channel = 'call' AND a.ended_at IS NULL)
                 THEN found.provider_id END,
            found.provider_status);
        UPDATE found_contact f SET is_rebuilt = true
        WHERE (f.channel, f.provider_id) = (found.channel, found.provider_id);
        rebuilt := rebuilt + 1;
    END LOOP;
    RETURN rebuilt;
END $$;
COMMENT ON FUNCTION reminders.rebuild_listed IS
    'Reminders that a found contact fits, by address, channel and time, count as contacted by it; p_called_off are those of '
    'visits that are off by now. Returns how many attempts were put back.';

CREATE FUNCTION reminders.rebuild_emails() RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE missing record; rebuilt integer := 0;
BEGIN
    -- Of emails there is no list.
    FOR missing IN
        SELECT r.account_id, r.address_hash, array_agg(r.reminder_id) AS reminder_ids,
               min(least(lost.forgotten_until, r.expires_at)) AS contacted_at
        FROM recovery lost
        -- A cancellation's notice is due whenever a cycle finds the cancellation.
        JOIN reminder r ON (r.due_at <= lost.forgotten_until OR r.step = 0) AND r.expires_at > lost.missing_from
        WHERE lost.taken_at IS NULL AND lost.forgotten_until IS NOT NULL
          AND r.channel = 'email' AND r.address_hash IS NOT NULL
          AND may_have_been_contacted(r, lost.missing_from)
        GROUP BY r.account_id, r.address_hash ORDER BY r.account_id, r.address_hash
    LOOP
        PERFORM rebuild_attempt(missing.account_id, 'email', missing.address_hash, missing.reminder_ids,
                                missing.contacted_at, NULL, NULL);
        rebuilt := rebuilt + 1;
    END LOOP;
    RETURN rebuilt;
END $$;
COMMENT ON FUNCTION reminders.rebuild_emails IS
    'Emails that may have gone in the time that is forgotten count as unknown; returns how many attempts were put back.';

CREATE FUNCTION reminders.rebuild(p_logical_date timestamptz, p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders
-- The merge, which calls it, loops; here that would be over every pair.
SET enable_hashjoin = on SET enable_mergejoin = on AS $$
DECLARE rebuilt integer;
BEGIN
    IF NOT EXISTS (SELECT FROM recovery WHERE taken_at IS NULL) THEN
        RETURN 0;
    END IF;
    rebuilt := rebuild_listed(add_called_off(p_logical_date, p_now)) + rebuild_emails();
    -- Only once: what the book brings or moves afterwards is nothing that was contacted before.
    PERFORM count_found('*', f.channel, f.address_hash, f.contacted_at, 'UTC')
    FROM recovery lost JOIN found_contact f USING (recovery_id)
    WHERE lost.listed_at IS NOT NULL AND lost.taken_at IS NULL AND NOT f.is_rebuilt;
    UPDATE recovery SET taken_at = ledger_clock() WHERE listed_at IS NOT NULL AND taken_at IS NULL;
    RETURN rebuilt;
END $$;
COMMENT ON FUNCTION reminders.rebuild IS
    'Whoever may have been contacted in the time that is forgotten counts as contacted; once the provider''s list is read, the '
    'recovery is over with it. Returns how many attempts were put back.';

CREATE FUNCTION reminders.list_proves(p_intended_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
    SELECT (SELECT checked_identity = ledger_identity() FROM ledger_mark)
       AND NOT EXISTS (SELECT FROM recovery WHERE begun_at >= p_intended_at)
$$;
COMMENT ON FUNCTION reminders.list_proves IS
    'Whether a contact in the provider''s list can prove an attempt of that time: what the ledger has forgotten since, or '
    'has not been asked about yet, could be the contact instead.';

GRANT SELECT ON reminders.recovery, reminders.found_contact
    TO reminders_planner, reminders_dispatcher, reminders_operator;
GRANT INSERT (channel, provider_id, recovery_id, address_hash, address_masked, contacted_at, provider_status)
    ON reminders.found_contact TO reminders_dispatcher;
REVOKE EXECUTE ON FUNCTION reminders.ledger_identity, reminders.fence_identity, reminders.begin_recovery,
    reminders.check_recovered, reminders.rebuild_attempt, reminders.add_called_off, reminders.rebuild_listed,
    reminders.rebuild_emails, reminders.rebuild,
    reminders.note_listed, reminders.count_found, reminders.list_proves FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.ledger_identity TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.begin_recovery TO reminders_planner, reminders_dispatcher;
GRANT EXECUTE ON FUNCTION reminders.rebuild TO reminders_planner;
GRANT EXECUTE ON FUNCTION reminders.note_listed, reminders.list_proves TO reminders_dispatcher;
GRANT EXECUTE ON FUNCTION reminders.check_recovered TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
