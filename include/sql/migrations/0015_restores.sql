-- What a recovery did not reckon with: a report that comes while it lasts, a book that nobody believes, a group that a person
-- turns down meanwhile, notices of cancellations, a reading that is older than the loss, and a ledger of some size.
SET LOCAL ROLE reminders_owner;

CREATE OR REPLACE FUNCTION reminders.check_recovered() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
BEGIN
    -- What a group holds may have gone: a text that is turned down to an email is no longer what the list has.
    IF EXISTS (SELECT FROM recovery r WHERE r.taken_at IS NULL AND (r.hold_id = OLD.hold_id OR OLD.scope = 'group')) THEN
        RAISE EXCEPTION 'refused: hold % stays until a cycle has gone by the provider''s list', OLD.hold_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'recovered_first';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION reminders.check_recovered IS
    'A recovery''s hold, and any group, is released when the list has been read, and a cycle has taken over what it has.';

DROP FUNCTION reminders.note_listed;
CREATE FUNCTION reminders.note_listed(p_recovery_id bigint, p_begun_at timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
    WITH noted AS (
        UPDATE recovery SET listed_at = ledger_clock()
        WHERE (recovery_id, begun_at) = (p_recovery_id, p_begun_at) AND listed_at IS NULL
        RETURNING recovery_id)
    SELECT EXISTS (SELECT FROM noted)
$$;
COMMENT ON FUNCTION reminders.note_listed IS
    'The provider''s list has been read to its end, by the ledger''s own clock; false when the recovery was begun anew meanwhile.';

CREATE OR REPLACE FUNCTION reminders.add_called_off(p_logical_date timestamptz, p_now timestamptz) RETURNS bigint[]
LANGUAGE sql SET search_path = pg_catalog, reminders AS $$
    WITH off AS (
        SELECT g.*, CASE g.channel WHEN 'email' THEN s.email_hash ELSE s.phone_hash END AS address_hash,
               CASE g.channel WHEN 'email' THEN s.email_masked ELSE s.phone_masked END AS address_masked,
               g.channel = 'email' AND s.status = 'cancelled' AND s.slot_at > p_now
               AND (SELECT p.has_cancellation_notice FROM policy_of(s.account_id) p) AS has_notice
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
    ), put AS (
        INSERT INTO reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at,
                              expires_at, wait, has_lower_rung, address_hash, address_masked, created_at)
        SELECT account_id, appointment_id, slot_at, step, channel, logical_date, logical_date, due_at, expires_at, wait,
               has_lower_rung, address_hash, address_masked, p_now FROM off
        UNION ALL
        -- Whose email is forgotten, the notice may be too; no cycle makes it before that email is in the ledger.
        SELECT account_id, appointment_id, slot_at, 0, channel, logical_date, logical_date, due_at, slot_at, '0',
               false, address_hash, address_masked, p_now FROM off WHERE has_notice
        ON CONFLICT DO NOTHING
        RETURNING reminder_id
    )
    SELECT coalesce(array_agg(reminder_id), '{}') FROM put
$$;

CREATE OR REPLACE FUNCTION reminders.rebuild_listed(p_called_off bigint[]) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE found record; rebuilt integer := 0;
BEGIN
    FOR found IN
        -- Read once: no index finds them by address, and the ledger has years of attempts.
        WITH doubt AS MATERIALIZED (
            SELECT a.channel, a.address_hash, a.intended_at, a.deadline_at FROM attempt a
            WHERE a.provider_id IS NULL AND a.channel <> 'email' AND a.state IN ('sending', 'in_doubt', 'unknown')
        )
        SELECT f.channel, f.provider_id, f.address_hash, f.contacted_at, f.provider_status, r.account_id,
               array_agg(r.reminder_id) AS reminder_ids,
               -- One contact was made. Nobody knows which of several accounts it was for, whether it was for a visit
               -- that is off by now, or for an attempt whose doubt the ledger remembers.
               count(*) OVER (PARTITION BY f.channel, f.provider_id) = 1 AND bool_and(r.is_on)
               AND NOT EXISTS (
                   SELECT FROM doubt a
                   WHERE (a.channel, a.address_hash) = (f.channel, f.address_hash)
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

CREATE OR REPLACE FUNCTION reminders.rebuild_emails() RETURNS integer
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
        -- Each counts in the same row of the day's ceiling: so many cost half a minute, thrice as many the merge's time.
        LIMIT 10000
    LOOP
        PERFORM rebuild_attempt(missing.account_id, 'email', missing.address_hash, missing.reminder_ids,
                                missing.contacted_at, NULL, NULL);
        rebuilt := rebuilt + 1;
    END LOOP;
    RETURN rebuilt;
END $$;
COMMENT ON FUNCTION reminders.rebuild_emails IS
    'Emails that may have gone in the time that is forgotten count as unknown, 10,000 contacts at a time; returns how many '
    'attempts were put back.';

CREATE OR REPLACE FUNCTION reminders.rebuild(p_logical_date timestamptz, p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders
-- The merge, which calls it, loops; here that would be over every pair.
SET enable_hashjoin = on SET enable_mergejoin = on AS $$
DECLARE listed integer; mailed integer;
BEGIN
    IF NOT EXISTS (SELECT FROM recovery WHERE taken_at IS NULL) THEN
        RETURN 0;
    END IF;
    -- A report has told meanwhile whose contact it was.
    UPDATE found_contact f SET is_rebuilt = true
    WHERE NOT f.is_rebuilt
      AND EXISTS (SELECT FROM attempt a WHERE (a.channel, a.provider_id) = (f.channel, f.provider_id));
    listed := rebuild_listed(add_called_off(p_logical_date, p_now));
    mailed := rebuild_emails();
    -- Only once: what the book brings or moves afterwards is nothing that was contacted before. What it had lost for a
    -- while is: then the recovery waits for a book that is believed.
    IF mailed < 10000 AND NOT EXISTS (SELECT FROM active_hold h WHERE h.scope = 'book') THEN
        PERFORM count_found('*', f.channel, f.address_hash, f.contacted_at, 'UTC')
        FROM recovery lost JOIN found_contact f USING (recovery_id)
        WHERE lost.listed_at <= p_logical_date AND lost.taken_at IS NULL AND NOT f.is_rebuilt;
        UPDATE recovery SET taken_at = ledger_clock() WHERE listed_at <= p_logical_date AND taken_at IS NULL;
    END IF;
    RETURN listed + mailed;
END $$;
COMMENT ON FUNCTION reminders.rebuild IS
    'Whoever may have been contacted in the time that is forgotten counts as contacted; by the first cycle whose date is after '
    'the reading of the provider''s list the recovery is over, unless a book is on hold, or emails are left. Returns how many '
    'attempts were put back.';

REVOKE EXECUTE ON FUNCTION reminders.note_listed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.note_listed TO reminders_dispatcher;

RESET ROLE;
