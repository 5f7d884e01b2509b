-- A batch is worked on by one task at a time: of two, as when Airflow gave one up that still runs, only the latest may
-- contact anybody, and only until its time is over.
SET LOCAL ROLE reminders_owner;

-- Not a number: a restored ledger gives the numbers of its batches and of their claims a second time.
ALTER TABLE reminders.batch ADD COLUMN claim uuid, ADD COLUMN claimed_until timestamptz;
COMMENT ON COLUMN reminders.batch.claim IS 'The task that took the batch last; the attempts of an earlier claim are refused.';
ALTER TABLE reminders.attempt ADD COLUMN claim uuid;
COMMENT ON COLUMN reminders.attempt.claim IS 'The claim of its batch under which the attempt was made.';

-- As the owner: a role that could write claims could give itself another's.
CREATE FUNCTION reminders.claim_batch(p_batch_id bigint, p_lasts interval) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
    UPDATE batch SET claim = uuidv7(), claimed_until = ledger_clock() + least(p_lasts, interval '10 minutes')
    WHERE batch_id = p_batch_id
    RETURNING claim
$$;
COMMENT ON FUNCTION reminders.claim_batch IS
    'Takes the batch from whoever had it, for so long and at most ten minutes; returns the claim, null for no such batch.';

CREATE FUNCTION reminders.fence_claims() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
BEGIN
    -- Locked, so that a claim which is being taken waits until these intents are committed.
    PERFORM FROM batch b
    WHERE b.batch_id IN (SELECT c.batch_id FROM fresh a JOIN contact c USING (contact_id))
    ORDER BY b.batch_id FOR SHARE;
    IF EXISTS (SELECT FROM fresh a JOIN contact c USING (contact_id) JOIN batch b USING (batch_id)
               WHERE a.claim IS DISTINCT FROM b.claim OR ledger_clock() < b.claimed_until IS NOT TRUE) THEN
        RAISE EXCEPTION 'refused attempt: batch_is_claimed'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'batch_is_claimed';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reminders.fence_claims IS
    'No attempt but by the task that took the batch last, and while its time lasts.';
CREATE TRIGGER claimed AFTER INSERT ON reminders.attempt
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION reminders.fence_claims();

DROP FUNCTION reminders.intend;
CREATE FUNCTION reminders.intend(
    p_contact_ids bigint[], p_claim uuid, p_now timestamptz, p_deadline_at timestamptz)
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
            address_type, zone, local_day, book_read_at, claim, intended_at, deadline_at)
        SELECT DISTINCT ON (g.contact_id) g.contact_id, g.account_id, g.channel, g.address_hash, g.address,
               g.phone_country, g.phone_type, g.zone, (p_now AT TIME ZONE g.zone)::date, g.read_at, p_claim,
               p_now, p_deadline_at
        FROM going g ORDER BY g.contact_id, g.read_at
        RETURNING attempt_id, contact_id
    )
    SELECT a.attempt_id, a.contact_id FROM attempted a;
END $$;
COMMENT ON FUNCTION reminders.intend IS
    'Repeats every check under locks and commits, under this claim of their batch, the intent of those contacts of the '
    'group that still qualify.';

REVOKE INSERT ON reminders.batch FROM reminders_planner;
GRANT INSERT (logical_date, channel, share, planned_at) ON reminders.batch TO reminders_planner;
GRANT INSERT (claim) ON reminders.attempt TO reminders_dispatcher;
REVOKE EXECUTE ON FUNCTION reminders.claim_batch, reminders.fence_claims, reminders.intend FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.claim_batch, reminders.intend TO reminders_dispatcher;

RESET ROLE;
