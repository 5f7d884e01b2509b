-- What a recovery may not go by: the cycles of a run that goes on in the restored ledger, and when a reminder is due by what
-- was imported, moved or set in the time that is forgotten.
SET LOCAL ROLE reminders_owner;

ALTER TABLE reminders.ledger_mark ADD COLUMN checked_at timestamptz;
COMMENT ON COLUMN reminders.ledger_mark.checked_at IS
    'When preflight last found the database to be the one that it compares: all that was contacted before is in every copy of it.';

CREATE OR REPLACE FUNCTION reminders.begin_recovery(
    p_why text, p_placed_by text, p_has_forgotten boolean, p_missing_from timestamptz, p_known_to bigint)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE
    moment timestamptz := ledger_clock();
    in_force bigint;
    -- Nothing that a run writes which goes on after a restore: before preflight has looked it writes cycles, and no
    -- attempts. A ledger without any knowledge may have forgotten whatever a ladder can reach.
    missing timestamptz := coalesce(
        p_missing_from, (SELECT m.checked_at FROM ledger_mark m),
        (SELECT a.intended_at FROM attempt a WHERE NOT a.is_rebuilt ORDER BY a.attempt_id DESC LIMIT 1),
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
    'Holds everything, and has the provider''s list read from p_missing_from on (null: from when preflight last looked) '
    'before a person may release it; returns the hold. p_known_to: the highest attempt number that may have been used.';

CREATE FUNCTION reminders.earliest_due(p_account_id text, p_step smallint, p_channel text, p_slot_at timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT p_slot_at
           -- A step that is no longer in the ladder had a lead that the ladder's bound allows.
           - coalesce((SELECT s.lead FROM reminders.cadence_step s
                       WHERE s.step = p_step AND s.account_id = CASE
                           WHEN EXISTS (SELECT FROM reminders.cadence_step own WHERE own.account_id = p_account_id)
                           THEN p_account_id ELSE '*' END), interval '30 days')
           -- What quiet hours add at most (policy.longest_shift), with an office that is open on one day of the week.
           - CASE p_channel WHEN 'email' THEN interval '0' WHEN 'sms' THEN interval '48 hours'
                            ELSE interval '48 hours' + 6 * interval '24 hours' END
$$;
COMMENT ON FUNCTION reminders.earliest_due IS
    'When a step of a slot can have been due at the earliest, whatever its visit''s booking, zone and hours were then.';

CREATE FUNCTION reminders.could_have_been_of(
    p_account_id text, p_step smallint, p_channel text, p_slot_at timestamptz, p_contacted_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    -- The provider's clock need not be ours.
    SELECT p_slot_at > p_contacted_at
       AND reminders.earliest_due(p_account_id, p_step, p_channel, p_slot_at) <= p_contacted_at + interval '5 minutes'
$$;
COMMENT ON FUNCTION reminders.could_have_been_of IS
    'Whether a contact of that time can have been a step''s of this slot, though it is outside of the window that it has now.';

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
            AND NOT c.is_rebuilt
            AND (could_be_of(g.due_at, g.expires_at, c.contacted_at)
                 OR could_have_been_of(g.account_id, g.step, g.channel, g.slot_at, c.contacted_at))
        WHERE g.logical_date = p_logical_date AND s.status IN ('cancelled', 'confirmed')
          AND (c.provider_id IS NOT NULL
               OR g.channel = 'email' AND s.email_hash IS NOT NULL
                  AND earliest_due(g.account_id, g.step, g.channel, g.slot_at) <= lost.forgotten_until
                  AND g.expires_at > lost.missing_from)
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
        ), fitting AS (
            SELECT w.reminder_id, w.account_id, c.channel, c.provider_id, c.contacted_at, fits.is_within,
                   -- One contact was made. Nobody knows which of several accounts or visits it was for, or whether it
                   -- was for a visit that is off by now; nor which of several contacts was a reminder's: should the
                   -- first have failed, the reminder may have reached somebody. A contact of before the reminder is
                   -- due may have been about another slot, which the visit had then.
                   fits.is_within AND w.ended_at IS NULL AND w.reminder_id <> ALL (p_called_off)
                   AND count(*) OVER (PARTITION BY w.reminder_id) = 1
                   AND count(*) OVER (PARTITION BY c.channel, c.provider_id) = 1 AS is_only
            FROM recovery lost
            JOIN found_contact c USING (recovery_id)
            JOIN reminder w ON w.address_hash = c.address_hash AND w.channel = c.channel
            CROSS JOIN LATERAL (SELECT could_be_of(w.due_at, w.expires_at, c.contacted_at) AS is_within) fits
            WHERE lost.taken_at IS NULL AND NOT c.is_rebuilt
              AND may_have_been_contacted(w, lost.missing_from)
              AND (fits.is_within
                   OR could_have_been_of(w.account_id, w.step, w.channel, w.slot_at, c.contacted_at))
        )
        SELECT f.channel, f.provider_id, f.address_hash, f.contacted_at, f.provider_status, r.account_id,
               array_agg(r.reminder_id) AS reminder_ids,
               -- Nor whether it was for an attempt whose doubt the ledger remembers.
               bool_and(r.is_only) AND NOT EXISTS (
                   SELECT FROM doubt a
                   WHERE (a.channel, a.address_hash) = (f.channel, f.address_hash)
                     AND f.contacted_at BETWEEN a.intended_at - interval '5 minutes' AND a.deadline_at + interval '5 minutes'
               ) AS is_for_certain
        FROM (SELECT DISTINCT ON (reminder_id) * FROM fitting
              ORDER BY reminder_id, is_within DESC, contacted_at, provider_id) r
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
    'Reminders that a found contact fits, by address, channel and time, count as contacted by it, for certain where it is '
    'within the window of one reminder only; p_called_off are those of visits that are off by now. Returns how many '
    'attempts were put back.';

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
        JOIN reminder r
            ON r.expires_at > lost.missing_from
            AND (r.step = 0 OR earliest_due(r.account_id, r.step, coalesce(r.turned_down_from, r.channel), r.slot_at)
                               <= lost.forgotten_until)
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

REVOKE EXECUTE ON FUNCTION reminders.earliest_due, reminders.could_have_been_of FROM PUBLIC;

RESET ROLE;
