-- A contact that was found proves what became of a reminder where it is the only one that fits it, and fits no other.
SET LOCAL ROLE reminders_owner;

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
               -- One contact was made. Nobody knows which of several accounts or visits it was for, whether it was for
               -- a visit that is off by now, or for an attempt whose doubt the ledger remembers; nor which of several
               -- contacts was a reminder's: should the first have failed, the reminder may have reached somebody.
               count(*) OVER (PARTITION BY f.channel, f.provider_id) = 1 AND count(*) = 1
               AND bool_and(r.is_on AND r.is_only)
               AND NOT EXISTS (
                   SELECT FROM doubt a
                   WHERE (a.channel, a.address_hash) = (f.channel, f.address_hash)
                     AND f.contacted_at BETWEEN a.intended_at - interval '5 minutes' AND a.deadline_at + interval '5 minutes'
               ) AS is_for_certain
        FROM (SELECT DISTINCT ON (w.reminder_id) w.reminder_id, w.account_id, c.channel, c.provider_id,
                     w.ended_at IS NULL AND w.reminder_id <> ALL (p_called_off) AS is_on,
                     count(*) OVER (PARTITION BY w.reminder_id) = 1 AS is_only
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

RESET ROLE;
