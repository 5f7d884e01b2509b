-- name: lock_cycles
-- Cycles and whoever lets go of what is held take turns: two MERGEs of the same rows at once end in a unique violation.
SELECT pg_advisory_xact_lock(hashtextextended('reminders.cycle', 0))

-- name: open_cycle
-- The cycle's own row; a date that runs again keeps its first start.
INSERT INTO reminders.cycle (logical_date, run_kind, has_own_date, started_at)
VALUES (%(logical_date)s, %(run_kind)s, %(has_own_date)s, %(now)s)
ON CONFLICT (logical_date) DO UPDATE SET closed_at = NULL

-- name: books_on_hold
-- Accounts (and * for all) whose book was found changed too much, and whose hold nobody has released.
SELECT scope_value AS account_id FROM reminders.active_hold WHERE scope = 'book'

-- name: changed_books
-- Accounts (and * for all) of whose future appointments over a fifth were lost, cancelled, moved or left without address.
WITH last_reading AS (
    SELECT max(logical_date) AS logical_date FROM reminders.staged_appointment WHERE logical_date < %(logical_date)s
), expected AS (
    SELECT b.account_id, b.appointment_id, b.slot_at, b.email_hash, b.phone_hash
    FROM reminders.staged_appointment b JOIN last_reading USING (logical_date)
    WHERE b.slot_at > %(logical_date)s AND b.status IN ('booked', 'confirmed')
    UNION ALL
    -- Without a last reading, after a day's outage or a crash, what waits in the ledger is expected.
    SELECT DISTINCT r.account_id, r.appointment_id, r.slot_at, NULL::bytea, NULL::bytea
    FROM reminders.reminder r
    WHERE r.ended_at IS NULL AND r.state IN ('pending', 'held') AND r.slot_at > %(logical_date)s AND r.step > 0
      AND (SELECT logical_date FROM last_reading) IS NULL
), compared AS (
    SELECT b.account_id, now_read.appointment_id IS NULL AS is_lost, now_read.status = 'cancelled' AS is_cancelled,
           now_read.slot_at <> b.slot_at AS is_moved,
           b.email_hash IS NOT NULL AND now_read.email_hash IS NULL
               OR b.phone_hash IS NOT NULL AND now_read.phone_hash IS NULL AS is_without_address
    FROM expected b
    LEFT JOIN reminders.staged_appointment now_read
        ON (now_read.logical_date, now_read.account_id, now_read.appointment_id)
         = (%(logical_date)s, b.account_id, b.appointment_id)
)
SELECT coalesce(account_id, '*') AS account_id, count(*) AS expected, count(*) FILTER (WHERE is_lost) AS lost,
       count(*) FILTER (WHERE is_cancelled) AS cancelled, count(*) FILTER (WHERE is_moved) AS moved,
       count(*) FILTER (WHERE is_without_address AND NOT is_lost) AS without_address
FROM compared GROUP BY GROUPING SETS ((account_id), ())
HAVING count(*) FILTER (WHERE is_lost OR is_cancelled OR is_moved OR is_without_address) > greatest(0.2 * count(*), 4)

-- name: place_hold
-- A hold, until a person releases it; one that already stands for the scope is kept as it is, and no row comes back.
INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at)
VALUES (%(scope)s, %(scope_value)s, %(placed_by)s, %(why)s, %(now)s, %(review_at)s)
ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING
RETURNING hold_id

-- name: keep_merge_in_memory
-- The stage is sorted and the MERGE's answer counted without a detour over the disk, up to some 500,000 rows.
SET LOCAL work_mem = '64MB'

-- name: make_merge_source
-- The analysed stage that the MERGE reads; it ends with the transaction.
CREATE TEMPORARY TABLE merge_source (
    account_id text, appointment_id text, slot_at timestamptz, step smallint, fate text, channel text,
    due_at timestamptz, expires_at timestamptz, wait interval, has_lower_rung boolean,
    address_hash bytea, address_masked text) ON COMMIT DROP

-- name: keep_stage_from_looping
-- A reading that is not in the statistics yet is taken for one row: left alone, the planner loops over every pair.
SET LOCAL enable_nestloop = off

-- name: stage_merge
-- What the book asks for, beside the fate of every reminder that can still go out.
INSERT INTO merge_source
WITH open_row AS (
    SELECT r.account_id, r.appointment_id, r.slot_at, r.step,
           CASE
               WHEN %(ends_nothing)s::boolean OR r.account_id = ANY (%(changed)s::text[]) THEN NULL
               WHEN s.appointment_id IS NULL THEN 'not_in_book'
               WHEN s.slot_at <> r.slot_at THEN 'moved'
               WHEN r.step = 0 AND s.status <> 'cancelled' THEN 'reinstated'
               WHEN r.step > 0 AND s.status = 'cancelled' THEN 'cancelled_in_book'
               WHEN s.status = 'confirmed' THEN 'confirmed'
           END AS fate,
           r.channel, r.due_at, r.expires_at, r.wait, r.has_lower_rung,
           CASE r.channel WHEN 'email' THEN s.email_hash ELSE s.phone_hash END AS address_hash,
           CASE r.channel WHEN 'email' THEN s.email_masked ELSE s.phone_masked END AS address_masked
    FROM reminders.reminder r
    LEFT JOIN reminders.staged_appointment s
        ON (s.logical_date, s.account_id, s.appointment_id) = (%(logical_date)s, r.account_id, r.appointment_id)
    WHERE r.ended_at IS NULL AND r.state IN ('pending', 'held') AND r.adopted_by <= %(logical_date)s
)
SELECT * FROM open_row
UNION ALL
SELECT g.account_id, g.appointment_id, g.slot_at, g.step, NULL, g.channel, g.due_at, g.expires_at, g.wait,
       g.has_lower_rung,
       CASE g.channel WHEN 'email' THEN s.email_hash ELSE s.phone_hash END,
       CASE g.channel WHEN 'email' THEN s.email_masked ELSE s.phone_masked END
FROM reminders.staged_rung g
JOIN reminders.staged_appointment s USING (logical_date, account_id, appointment_id)
WHERE g.logical_date = %(logical_date)s AND s.status NOT IN ('cancelled', 'confirmed')
  AND NOT EXISTS (SELECT FROM open_row o
                  WHERE (o.account_id, o.appointment_id, o.slot_at, o.step)
                      = (g.account_id, g.appointment_id, g.slot_at, g.step))
UNION ALL
-- The notice of a cancellation, where the account wants one and the address has had an email about the slot.
SELECT s.account_id, s.appointment_id, s.slot_at, 0, NULL, 'email', %(logical_date)s, s.slot_at, '0', false,
       s.email_hash, s.email_masked
FROM reminders.staged_appointment s, reminders.policy_of(s.account_id) p
WHERE s.logical_date = %(logical_date)s AND s.status = 'cancelled' AND s.slot_at > greatest(%(logical_date)s, %(now)s)
  AND p.has_cancellation_notice AND NOT %(ends_nothing)s::boolean AND s.account_id <> ALL (%(changed)s::text[])
  AND EXISTS (SELECT FROM reminders.reminder r
              WHERE (r.account_id, r.appointment_id, r.slot_at, r.address_hash)
                  = (s.account_id, s.appointment_id, s.slot_at, s.email_hash)
                AND r.step > 0 AND r.channel = 'email' AND r.state IN ('delivered', 'unknown'))
  AND NOT EXISTS (SELECT FROM reminders.reminder r
                  WHERE (r.account_id, r.appointment_id, r.slot_at, r.step)
                      = (s.account_id, s.appointment_id, s.slot_at, 0))
-- In the order of the ledger's key, so that the MERGE goes through its index from one end to the other.
ORDER BY account_id, appointment_id, slot_at, step

-- name: analyze_merge
-- Without statistics the planner would hash the whole ledger.
ANALYZE merge_source

-- name: let_merge_loop
-- The MERGE itself finds each row of the ledger by its key.
SET LOCAL enable_nestloop = on

-- name: keep_merge_by_key
-- Even with statistics a large ledger tips the plan: the MERGE goes by the ledger's own key.
SET LOCAL enable_hashjoin = off

-- name: keep_merge_from_sorting
-- The merge join would read the whole ledger too.
SET LOCAL enable_mergejoin = off

-- name: merge_ledger
-- The book's changes reach the ledger: new due reminders in, changed appointments applied, orphans adopted.
WITH merged AS (
    MERGE INTO reminders.reminder AS r
    USING merge_source AS s
    ON (r.account_id, r.appointment_id, r.slot_at, r.step) = (s.account_id, s.appointment_id, s.slot_at, s.step)
    WHEN MATCHED AND r.state IN ('pending', 'held') AND s.fate IS NOT NULL THEN UPDATE SET
        state = CASE WHEN s.fate IN ('moved', 'confirmed', 'reinstated') THEN 'superseded' ELSE 'cancelled' END,
        reason = s.fate, ended_at = %(now)s, deferred_for = NULL, not_before_at = NULL
    WHEN MATCHED AND r.state IN ('pending', 'held') AND r.adopted_by <= %(logical_date)s THEN UPDATE SET
        adopted_by = %(logical_date)s, address_hash = coalesce(s.address_hash, r.address_hash),
        address_masked = coalesce(s.address_masked, r.address_masked)
    -- Ended by a slip of the book that it has taken back, before anybody was contacted.
    WHEN MATCHED AND r.state IN ('cancelled', 'superseded') AND r.contact_id IS NULL AND s.fate IS NULL
            AND r.reason IN ('not_in_book', 'moved', 'cancelled_in_book', 'confirmed') AND r.step > 0
            AND r.expires_at > %(now)s AND r.adopted_by <= %(logical_date)s THEN UPDATE SET
        state = 'pending', reason = NULL, ended_at = NULL, adopted_by = %(logical_date)s,
        address_hash = coalesce(s.address_hash, r.address_hash),
        address_masked = coalesce(s.address_masked, r.address_masked)
    WHEN NOT MATCHED THEN
        INSERT (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at, expires_at, wait,
                has_lower_rung, address_hash, address_masked, created_at)
        VALUES (s.account_id, s.appointment_id, s.slot_at, s.step, s.channel, %(logical_date)s, %(logical_date)s,
                s.due_at, s.expires_at, s.wait, s.has_lower_rung, s.address_hash, s.address_masked, %(now)s)
    RETURNING OLD.reminder_id IS NULL AS is_new, NEW.ended_at IS NULL AS is_open
)
SELECT count(*) FILTER (WHERE is_new) AS created, count(*) FILTER (WHERE NOT is_new AND is_open) AS adopted,
       count(*) FILTER (WHERE NOT is_open) AS ended
FROM merged

-- name: rebuild
-- What the provider knows of and the ledger did not counts as contacted, before anything can be planned.
SELECT reminders.rebuild(%(logical_date)s, %(now)s) AS rebuilt
