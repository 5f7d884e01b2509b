-- The intent, committed before any byte leaves, and the record of what became of it. Both take groups of contacts.
SET LOCAL ROLE reminders_owner;

-- As the owner: no role of the running system may write the guard rows itself, and locking asks for that right.
CREATE FUNCTION reminders.lock_for_intent(p_contact_ids bigint[], p_now timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
BEGIN
    -- Everything is locked in the order of its key, so that two groups never wait for each other in a ring.
    PERFORM FROM reminders.reminder r
    WHERE r.reminder_id IN (SELECT m.reminder_id FROM reminders.contact_member m WHERE m.contact_id = ANY (p_contact_ids))
    ORDER BY r.reminder_id FOR UPDATE;

    INSERT INTO reminders.address_gap (address_hash, min_gap)
    SELECT DISTINCT ON (c.address_hash) c.address_hash,
           CASE c.channel WHEN 'email' THEN p.email_gap ELSE p.phone_gap END
    FROM reminders.contact c, reminders.policy_of(c.account_id) p
    WHERE c.contact_id = ANY (p_contact_ids) ORDER BY c.address_hash
    ON CONFLICT DO NOTHING;

    INSERT INTO reminders.address_cap (address_hash, period, starts_on, cap)
    SELECT DISTINCT ON (1, 2, 3) c.address_hash, period.name,
           CASE period.name WHEN 'day' THEN (p_now AT TIME ZONE c.zone)::date
                            ELSE date_trunc('week', p_now AT TIME ZONE c.zone)::date END,
           CASE WHEN c.channel = 'email' AND period.name = 'day' THEN p.email_daily_cap
                WHEN c.channel = 'email' THEN p.email_weekly_cap
                WHEN period.name = 'day' THEN p.phone_daily_cap ELSE p.phone_weekly_cap END
    FROM reminders.contact c, reminders.policy_of(c.account_id) p, (VALUES ('day'), ('week')) AS period (name)
    WHERE c.contact_id = ANY (p_contact_ids) ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;

    INSERT INTO reminders.daily_ceiling (account_id, channel, day, ceiling)
    SELECT DISTINCT c.account_id, c.channel, (p_now AT TIME ZONE 'UTC')::date,
           CASE c.channel WHEN 'email' THEN p.email_ceiling WHEN 'sms' THEN p.sms_ceiling ELSE p.call_ceiling END
    FROM reminders.contact c, reminders.policy_of(c.account_id) p WHERE c.contact_id = ANY (p_contact_ids)
    UNION
    SELECT '*', c.channel, (p_now AT TIME ZONE 'UTC')::date, a.ceiling
    FROM reminders.contact c JOIN reminders.ceiling_in_all a USING (channel) WHERE c.contact_id = ANY (p_contact_ids)
    ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;

    PERFORM FROM reminders.address_gap g
    WHERE g.address_hash IN (SELECT c.address_hash FROM reminders.contact c WHERE c.contact_id = ANY (p_contact_ids))
    ORDER BY g.address_hash FOR UPDATE;
    PERFORM FROM reminders.address_cap k
    WHERE k.address_hash IN (SELECT c.address_hash FROM reminders.contact c WHERE c.contact_id = ANY (p_contact_ids))
      AND k.starts_on >= (p_now - interval '9 days')::date
    ORDER BY k.address_hash, k.period, k.starts_on FOR UPDATE;
    PERFORM FROM reminders.daily_ceiling d
    WHERE d.day = (p_now AT TIME ZONE 'UTC')::date
      AND d.channel IN (SELECT c.channel FROM reminders.contact c WHERE c.contact_id = ANY (p_contact_ids))
      AND d.account_id IN (SELECT '*' UNION SELECT c.account_id FROM reminders.contact c
                           WHERE c.contact_id = ANY (p_contact_ids))
    ORDER BY d.account_id, d.channel FOR UPDATE;
END $$;

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
            not_before_at = CASE WHEN d.disposition = 'deferred' THEN d.not_before_at END
        FROM verdict d
        WHERE d.reminder_id = r.reminder_id AND r.state IN ('pending', 'held')
          AND (d.disposition <> 'ready' OR r.state = 'held' OR r.deferred_for IS NOT NULL)
          AND (d.disposition NOT IN ('deferred', 'held')
               OR (r.deferred_for, r.not_before_at) IS DISTINCT FROM (d.verdict, d.not_before_at)
               OR (d.disposition = 'held') <> (r.state = 'held'))
        RETURNING r.reminder_id)
    SELECT d.reminder_id, d.disposition, c.reminder_id IS NOT NULL
    FROM verdict d LEFT JOIN changed c USING (reminder_id)
$$;
COMMENT ON FUNCTION reminders.settle IS
    'Writes the decision table''s verdicts to the given reminders that are pending or held, and returns them.';

CREATE TYPE reminders.ready_member AS (
    contact_id bigint, account_id text, channel text, address_hash bytea, zone text, place integer, reminder_id bigint,
    slot_at timestamptz, step smallint, read_at timestamptz, address text, phone_country text, phone_type text);

CREATE FUNCTION reminders.intend(p_contact_ids bigint[], p_now timestamptz, p_deadline_at timestamptz)
RETURNS TABLE (attempt_id bigint, contact_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE ready_ids bigint[]; ready_members reminders.ready_member[];
BEGIN
    PERFORM reminders.lock_for_intent(p_contact_ids, p_now);
    SELECT array_agg(d.reminder_id) INTO ready_ids
    FROM reminders.settle(p_now, (SELECT array_agg(m.reminder_id) FROM reminders.contact_member m
                                  WHERE m.contact_id = ANY (p_contact_ids))) d
    WHERE d.disposition = 'ready';
    SELECT array_agg(ROW(c.contact_id, c.account_id, c.channel, c.address_hash, c.zone, c.place, r.reminder_id,
               r.slot_at, r.step, s.read_at, CASE c.channel WHEN 'email' THEN s.email ELSE s.phone END,
               s.phone_country, s.phone_type)::reminders.ready_member) INTO ready_members
    FROM reminders.reminder r
    JOIN reminders.contact_member m USING (reminder_id)
    JOIN reminders.contact c ON c.contact_id = m.contact_id
         AND c.address_hash = r.address_hash AND c.channel = r.channel
    JOIN reminders.staged_appointment s
        ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
    WHERE m.contact_id = ANY (p_contact_ids) AND r.reminder_id = ANY (ready_ids) AND r.state = 'pending'
      AND c.address_hash = CASE c.channel WHEN 'email' THEN s.email_hash ELSE s.phone_hash END
      -- a contact that may have been made is not made again: what waited is planned as another
      AND NOT EXISTS (SELECT FROM reminders.attempt made
                      WHERE made.contact_id = c.contact_id AND made.state <> 'not_contacted');

    -- The array tells the planner how many rows there are; joined straight, it would loop over every pair of them.
    RETURN QUERY
    WITH ready AS MATERIALIZED (
        SELECT * FROM unnest(ready_members)
    ), chosen AS (
        -- One contact for an address in a group, and no more than the ceilings leave: the rest is tried next time.
        SELECT c.* FROM (
            SELECT o.*, row_number() OVER (PARTITION BY o.account_id ORDER BY o.place, o.contact_id) AS of_account,
                   row_number() OVER (ORDER BY o.place, o.contact_id) AS of_all
            FROM (SELECT DISTINCT ON (address_hash) contact_id, account_id, channel, address_hash, zone, place
                  FROM ready ORDER BY address_hash, place, contact_id) o) c
        JOIN reminders.daily_ceiling own ON (own.account_id, own.channel, own.day)
            = (c.account_id, c.channel, (p_now AT TIME ZONE 'UTC')::date)
        JOIN reminders.daily_ceiling in_all ON (in_all.account_id, in_all.channel, in_all.day)
            = ('*', c.channel, (p_now AT TIME ZONE 'UTC')::date)
        WHERE own.contact_count + c.of_account <= own.ceiling AND in_all.contact_count + c.of_all <= in_all.ceiling
    ), guarded AS (
        INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)
        SELECT DISTINCT r.contact_id, r.account_id, r.address_hash, r.slot_at, r.step
        FROM ready r JOIN chosen USING (contact_id)
        ON CONFLICT (account_id, address_hash, slot_at, step) WHERE NOT is_uncontacted DO NOTHING
        RETURNING contact_id, slot_at, step
    ), going AS (
        SELECT r.* FROM ready r JOIN guarded g
            ON (g.contact_id, g.slot_at, g.step) = (r.contact_id, r.slot_at, r.step)
    ), sending AS (
        UPDATE reminders.reminder r
        SET state = 'sending', contact_id = g.contact_id, sent_at = p_now, attempt_count = attempt_count + 1,
            deferred_for = NULL, not_before_at = NULL
        FROM going g WHERE g.reminder_id = r.reminder_id
        RETURNING r.reminder_id
    ), attempted AS (
        INSERT INTO reminders.attempt (contact_id, account_id, channel, address_hash, address, address_country,
            address_type, zone, local_day, book_read_at, intended_at, deadline_at)
        SELECT DISTINCT ON (g.contact_id) g.contact_id, g.account_id, g.channel, g.address_hash, g.address,
               g.phone_country, g.phone_type, g.zone, (p_now AT TIME ZONE g.zone)::date, g.read_at, p_now, p_deadline_at
        FROM going g ORDER BY g.contact_id, g.read_at
        RETURNING attempt_id, contact_id
    )
    SELECT a.attempt_id, a.contact_id FROM attempted a;
END $$;
COMMENT ON FUNCTION reminders.intend IS
    'Repeats every check under locks and commits the intent of those contacts of the group that still qualify.';

CREATE FUNCTION reminders.count_attempts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE contacts bigint; addresses bigint; counted bigint;
BEGIN
    SELECT count(*), count(DISTINCT address_hash) INTO contacts, addresses FROM fresh;
    UPDATE reminders.address_gap g
    SET previous_contact_at = g.last_contact_at, last_contact_at = a.intended_at,
        min_gap = CASE a.channel WHEN 'email' THEN p.email_gap ELSE p.phone_gap END
    FROM fresh a, reminders.policy_of(a.account_id) p WHERE g.address_hash = a.address_hash;
    GET DIAGNOSTICS counted = ROW_COUNT;
    -- A row that is missing, or two contacts of an address at once, would go uncounted.
    IF counted <> contacts OR addresses <> contacts THEN
        RAISE EXCEPTION 'refused attempt: its address is not counted'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'contact_is_counted';
    END IF;
    UPDATE reminders.address_cap k SET contact_count = contact_count + 1
    FROM fresh a
    WHERE k.address_hash = a.address_hash
      AND (k.period = 'day' AND k.starts_on = a.local_day
           OR k.period = 'week' AND k.starts_on = date_trunc('week', a.local_day::timestamp)::date);
    GET DIAGNOSTICS counted = ROW_COUNT;
    IF counted <> 2 * contacts THEN
        RAISE EXCEPTION 'refused attempt: its address has no cap for the day or the week'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'contact_is_counted';
    END IF;
    UPDATE reminders.daily_ceiling d SET contact_count = d.contact_count + n.contacts
    FROM (SELECT grouping_of.account_id, a.channel, (a.intended_at AT TIME ZONE 'UTC')::date AS day, count(*) AS contacts
          FROM fresh a, LATERAL (VALUES (a.account_id), ('*')) AS grouping_of (account_id) GROUP BY 1, 2, 3) n
    WHERE (d.account_id, d.channel, d.day) = (n.account_id, n.channel, n.day);
    IF EXISTS (SELECT FROM fresh a, LATERAL (VALUES (a.account_id), ('*')) AS grouping_of (account_id)
               WHERE NOT EXISTS (SELECT FROM reminders.daily_ceiling d WHERE (d.account_id, d.channel, d.day)
                   = (grouping_of.account_id, a.channel, (a.intended_at AT TIME ZONE 'UTC')::date))) THEN
        RAISE EXCEPTION 'refused attempt: its day has no ceiling'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'contact_is_counted';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reminders.count_attempts IS
    'Every attempt is counted for its address''s gap and caps and for the day''s ceilings, whoever inserts it.';
-- Named to fire after the fence, whose refusals say more.
CREATE TRIGGER limits_counted AFTER INSERT ON reminders.attempt
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION reminders.count_attempts();

CREATE FUNCTION reminders.give_back() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM after_it WHERE state = 'not_contacted') THEN
        RETURN NULL;
    END IF;
    WITH given_back AS (
        SELECT a.* FROM after_it a JOIN before_it b USING (attempt_id)
        WHERE a.state = 'not_contacted' AND b.state <> 'not_contacted'
    ), key AS (
        UPDATE reminders.contact_guard g SET is_uncontacted = true
        FROM given_back a WHERE g.contact_id = a.contact_id AND NOT g.is_uncontacted
    ), gap AS (
        UPDATE reminders.address_gap g SET last_contact_at = g.previous_contact_at, previous_contact_at = NULL
        FROM given_back a WHERE g.address_hash = a.address_hash AND g.last_contact_at = a.intended_at
    ), cap AS (
        UPDATE reminders.address_cap k SET contact_count = contact_count - 1
        FROM given_back a
        WHERE k.address_hash = a.address_hash
          AND (k.period = 'day' AND k.starts_on = a.local_day
               OR k.period = 'week' AND k.starts_on = date_trunc('week', a.local_day::timestamp)::date)
    )
    UPDATE reminders.daily_ceiling d SET contact_count = d.contact_count - n.contacts
    FROM (SELECT grouping_of.account_id, a.channel, (a.intended_at AT TIME ZONE 'UTC')::date AS day, count(*) AS contacts
          FROM given_back a, LATERAL (VALUES (a.account_id), ('*')) AS grouping_of (account_id) GROUP BY 1, 2, 3) n
    WHERE (d.account_id, d.channel, d.day) = (n.account_id, n.channel, n.day);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reminders.give_back IS 'After proof that nobody was contacted: key, gap, caps and ceilings are given back.';
CREATE TRIGGER given_back AFTER UPDATE ON reminders.attempt
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION reminders.give_back();

CREATE FUNCTION reminders.heed_refusals(
    p_attempt_ids bigint[], p_outcomes text[], p_reasons text[], p_codes text[], p_now timestamptz)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at)
    SELECT 'channel', a.channel, 'dispatch',
           'the provider refused our configuration: ' || coalesce(nullif(min(o.code), ''), 'misconfigured'),
           p_now, p_now + interval '1 hour'
    FROM unnest(p_attempt_ids, p_outcomes, p_reasons, p_codes) AS o (attempt_id, outcome, reason, code)
    JOIN reminders.attempt a USING (attempt_id)
    WHERE 'misconfigured' IN (o.outcome, o.reason) GROUP BY a.channel
    ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING;
    INSERT INTO reminders.suppression (address_hash, channel, reason, created_at)
    SELECT DISTINCT a.address_hash, '*', 'opted_out', p_now
    FROM unnest(p_attempt_ids, p_reasons) AS o (attempt_id, reason) JOIN reminders.attempt a USING (attempt_id)
    WHERE o.reason = 'opted_out'
    ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION reminders.heed_refusals IS
    'A refusal about us holds the channel, one by the person silences the address, whatever it changes of the attempt.';

CREATE FUNCTION reminders.record_outcomes(
    p_attempt_ids bigint[], p_outcomes text[], p_reasons text[], p_codes text[],
    p_provider_ids text[], p_provider_statuses text[], p_not_before timestamptz[], p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE changed_ids bigint[];
BEGIN
    WITH outcome AS (
        SELECT o.*, CASE
                   -- A refusal that comes after the doubt proves that nothing arrived; the contact still counts as made.
                   WHEN a.state IN ('in_doubt', 'unknown') AND o.outcome IN ('failed', 'misconfigured') THEN 'undelivered'
                   WHEN o.outcome = 'misconfigured' THEN 'not_contacted'
                   ELSE o.outcome END AS state
        FROM unnest(p_attempt_ids, p_outcomes, p_reasons, p_codes, p_provider_ids, p_provider_statuses)
            AS o (attempt_id, outcome, reason, code, provider_id, provider_status)
        JOIN reminders.attempt a USING (attempt_id)
    ), changed AS (
        UPDATE reminders.attempt a
        SET state = o.state,
            reason = CASE WHEN o.state IN ('in_doubt', 'accepted') THEN NULL ELSE o.reason END,
            provider_code = nullif(o.code, ''), provider_id = coalesce(a.provider_id, nullif(o.provider_id, '')),
            provider_status = o.provider_status, status_since_at = p_now,
            ended_at = CASE WHEN o.state NOT IN ('in_doubt', 'accepted') THEN p_now END
        FROM outcome o WHERE o.attempt_id = a.attempt_id AND a.state <> o.state
          -- Of two who record an attempt at once the second may be too late: then its record changes nothing.
          AND CASE o.state
                  WHEN 'accepted' THEN a.state IN ('sending', 'in_doubt', 'unknown')
                  WHEN 'delivered' THEN a.state IN ('sending', 'in_doubt', 'accepted', 'unknown')
                  WHEN 'undelivered' THEN a.state IN ('in_doubt', 'accepted', 'unknown')
                  WHEN 'cancelled' THEN a.state = 'accepted'
                  WHEN 'unknown' THEN a.state = 'in_doubt' OR a.state = 'accepted' AND o.reason <> 'no_proof'
                  ELSE a.state = 'sending' END
        RETURNING a.attempt_id
    )
    SELECT array_agg(c.attempt_id) INTO changed_ids FROM changed c;

    PERFORM reminders.heed_refusals(p_attempt_ids, p_outcomes, p_reasons, p_codes, p_now);

    UPDATE reminders.reminder r
    SET state = CASE WHEN a.state <> 'not_contacted' THEN a.state
                     WHEN o.outcome = 'misconfigured' THEN 'held' ELSE 'pending' END,
        reason = CASE WHEN a.state <> 'not_contacted' THEN a.reason END,
        ended_at = CASE WHEN a.state <> 'not_contacted' THEN a.ended_at END,
        delivered_at = CASE WHEN a.state = 'delivered' THEN p_now END,
        delivery_evidence = CASE WHEN a.state = 'delivered' THEN a.reason END,
        contact_id = CASE WHEN a.state <> 'not_contacted' THEN r.contact_id END,
        sent_at = CASE WHEN a.state <> 'not_contacted' THEN r.sent_at END,
        deferred_for = CASE WHEN a.state <> 'not_contacted' THEN NULL
                            WHEN o.outcome = 'misconfigured' THEN 'on_hold' ELSE 'wait_until_not_before' END,
        not_before_at = CASE WHEN a.state = 'not_contacted' THEN o.not_before_at END
    FROM unnest(p_attempt_ids, p_outcomes, p_not_before) AS o (attempt_id, outcome, not_before_at)
    JOIN reminders.attempt a USING (attempt_id)
    WHERE a.attempt_id = ANY (changed_ids) AND r.contact_id = a.contact_id AND r.state <> a.state
      AND (r.ended_at IS NULL OR r.state = 'unknown');

    RETURN coalesce(cardinality(changed_ids), 0);
END $$;
COMMENT ON FUNCTION reminders.record_outcomes IS
    'Records what became of a group of attempts, on the attempts and on the reminders that their contacts cover.';

RESET ROLE;
