-- name: close_cycle
-- The cycle's row: what its reminders and those it adopted have come to.
UPDATE reminders.cycle
SET closed_at = %(now)s, is_good = %(is_good)s,
    counts = (SELECT coalesce(jsonb_object_agg(channel || ' ' || state, reminders), '{}')
              FROM (SELECT channel, state, count(*) AS reminders FROM reminders.reminder
                    WHERE logical_date = %(logical_date)s OR ended_at IS NULL AND adopted_by = %(logical_date)s
                    GROUP BY channel, state) n)
WHERE logical_date = %(logical_date)s
RETURNING counts

-- name: broken_invariants
-- What no cycle may leave behind, as questions to the open ledger; every row is a breach (the audit asks for the promises).
SELECT 'two contacts of a slot and step' AS breach, count(*) AS cases
FROM (SELECT FROM reminders.contact_guard WHERE NOT is_uncontacted
      GROUP BY account_id, address_hash, slot_at, step HAVING count(*) > 1) d HAVING count(*) > 0
UNION ALL
SELECT 'a reminder in flight without an open attempt', count(*) FROM reminders.reminder r
WHERE r.ended_at IS NULL AND r.state IN ('sending', 'in_doubt', 'accepted')
  AND NOT EXISTS (SELECT FROM reminders.attempt a WHERE a.contact_id = r.contact_id AND a.state = r.state)
HAVING count(*) > 0
UNION ALL
SELECT 'an attempt in flight past its deadline by ten minutes', count(*) FROM reminders.attempt a
WHERE a.ended_at IS NULL AND a.state = 'sending' AND a.deadline_at < %(now)s - interval '10 minutes' HAVING count(*) > 0

-- name: overdue
-- Ready reminders that no cycle has taken although they are overdue.
SELECT count(*) AS overdue FROM reminders.reminder r, reminders.gate_bound b
WHERE r.ended_at IS NULL AND r.state = 'pending' AND r.deferred_for IS NULL
  AND greatest(r.due_at, r.created_at, r.not_before_at) < %(now)s - b.overdue_after

-- name: holds_to_review
-- Holds in force whose review is due, the longest first; why they were placed is not read, as a person may have written it.
SELECT hold_id, scope, CASE WHEN scope IN ('channel', 'account', 'book', 'cycle') THEN scope_value ELSE '' END AS scope_value,
       %(now)s - review_at AS overdue
FROM reminders.hold WHERE released_at IS NULL AND review_at <= %(now)s ORDER BY review_at, hold_id
