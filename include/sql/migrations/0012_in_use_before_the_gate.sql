-- A ledger that was in use before the gate: its volume is known since the gate measures it, and what is held has its hold.
SET LOCAL ROLE reminders_owner;

-- Weeks in which nothing was measured would be weeks without a contact, and every usual morning abnormal.
UPDATE reminders.account_seen s SET first_seen_at = gate.began_at
FROM (SELECT applied_at + (reminders.ledger_clock() - clock_timestamp()) AS began_at
      FROM reminders.schema_migration WHERE version = 10) gate
WHERE s.first_seen_at < gate.began_at;

CREATE OR REPLACE FUNCTION reminders.settle(p_now timestamptz, p_reminder_ids bigint[])
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
            not_before_at = CASE WHEN d.disposition = 'deferred' THEN d.not_before_at END,
            hold_id = coalesce(r.hold_id, d.hold_id)
        FROM verdict d
        WHERE d.reminder_id = r.reminder_id AND r.state IN ('pending', 'held')
          AND (d.disposition <> 'ready' OR r.state = 'held' OR r.deferred_for <> 'wait_for_pace')
          AND (d.disposition NOT IN ('deferred', 'held')
               OR (r.deferred_for, r.not_before_at) IS DISTINCT FROM (d.verdict, d.not_before_at)
               OR (d.disposition = 'held') <> (r.state = 'held')
               -- Held by dispatch after a refusal, which does not write by which hold.
               OR r.hold_id IS NULL AND d.hold_id IS NOT NULL)
        RETURNING r.reminder_id)
    SELECT d.reminder_id, d.disposition, c.reminder_id IS NOT NULL
    FROM verdict d LEFT JOIN changed c USING (reminder_id)
$$;

-- A person who releases before the next cycle is told how many go, and they go as what was released.
UPDATE reminders.reminder r SET hold_id = d.hold_id
FROM reminders.disposition(reminders.ledger_clock(), ARRAY(
    SELECT reminder_id FROM reminders.reminder WHERE ended_at IS NULL AND state = 'held' AND hold_id IS NULL)) d
WHERE d.reminder_id = r.reminder_id AND d.hold_id IS NOT NULL;

RESET ROLE;
