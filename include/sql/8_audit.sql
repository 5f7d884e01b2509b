-- name: attempts_of_day
-- Texts and calls of a day that the provider took, by its ids.
SELECT attempt_id, channel, provider_id, state FROM reminders.attempt
WHERE intended_at >= %(from_at)s AND intended_at < %(until_at)s AND channel <> 'email' AND provider_id IS NOT NULL

-- name: broken_promises
-- The promises that the ledger's own rows can break, as questions about what was sent since then; each row is a breach.
WITH made AS MATERIALIZED (
    SELECT a.* FROM reminders.attempt a
    WHERE a.intended_at >= %(since)s AND a.state <> 'not_contacted' AND NOT a.is_rebuilt
), counted AS (
    SELECT 'P1: an address was contacted twice about a slot and step' AS breach, count(*) AS cases
    FROM (SELECT FROM reminders.contact_guard WHERE NOT is_uncontacted
          GROUP BY account_id, address_hash, slot_at, step HAVING count(*) > 1) d
    UNION ALL
    SELECT 'P1: a contact was made twice', count(*)
    FROM (SELECT FROM made GROUP BY contact_id HAVING count(*) > 1) d
    UNION ALL
    SELECT 'P1: a contact is unguarded', count(*) FROM made m
    JOIN reminders.reminder r USING (contact_id)
    WHERE NOT EXISTS (SELECT FROM reminders.contact_guard g WHERE NOT g.is_uncontacted
                      AND (g.account_id, g.address_hash, g.slot_at, g.step)
                        = (r.account_id, m.address_hash, r.slot_at, r.step))
    UNION ALL
    SELECT 'P2: two calls to a number at once', count(*)
    -- Proved hours later, a call ended long before its attempt did.
    FROM (SELECT intended_at, lag(least(coalesce(ended_at, 'infinity'), intended_at + interval '15 minutes'))
                                  OVER (PARTITION BY address_hash ORDER BY intended_at) AS before_ended_at
          FROM made WHERE channel = 'call') c WHERE c.before_ended_at > c.intended_at
    UNION ALL
    SELECT 'P2: two contacts to an address within a minute', count(*)
    FROM (SELECT intended_at, lag(intended_at) OVER (PARTITION BY address_hash ORDER BY intended_at) AS before_at
          FROM made) c WHERE c.intended_at < c.before_at + interval '1 minute'
    UNION ALL
    SELECT 'P2: a day''s cap counts less than was sent', count(*)
    FROM (SELECT address_hash, local_day, count(*) AS contacts FROM made GROUP BY address_hash, local_day) d
    LEFT JOIN reminders.address_cap k
        ON (k.address_hash, k.period, k.starts_on) = (d.address_hash, 'day', d.local_day)
    WHERE k.contact_count IS NULL OR d.contacts > k.contact_count
    UNION ALL
    SELECT 'P2: a day''s ceiling counts less than was sent', count(*)
    FROM (SELECT account_id, channel, (intended_at AT TIME ZONE 'UTC')::date AS day, count(*) AS contacts
          FROM made GROUP BY 1, 2, 3) d
    LEFT JOIN reminders.daily_ceiling c USING (account_id, channel, day)
    WHERE c.contact_count IS NULL OR d.contacts > c.contact_count
    UNION ALL
    SELECT 'P3: a contact when it was no longer useful', count(*) FROM made m
    JOIN reminders.reminder r USING (contact_id) WHERE m.intended_at >= r.expires_at
    UNION ALL
    SELECT 'P3: a contact to an address that had been silenced', count(*) FROM made m
    JOIN reminders.suppression s ON s.address_hash = m.address_hash AND s.channel IN ('*', m.channel)
    WHERE m.intended_at > s.created_at + interval '2 minutes'
    UNION ALL
    SELECT 'P3: a call though no lower rung had been tried', count(*) FROM made m
    JOIN reminders.reminder r USING (contact_id)
    WHERE m.channel = 'call' AND r.has_lower_rung
      -- By the rungs that there were: the ladder may have been changed since.
      AND NOT coalesce((SELECT bool_or(l.sent_at < m.intended_at)
                               OR bool_and(l.channel = 'email' AND reminders.is_unreachable(l.state, l.reason))
                        FROM reminders.rung_end l
                        WHERE (l.account_id, l.appointment_id, l.slot_at)
                            = (r.account_id, r.appointment_id, r.slot_at) AND l.step < r.step), false)
    UNION ALL
    SELECT 'P4: a reminder still waits after its appointment began', count(*) FROM reminders.reminder
    WHERE ended_at IS NULL AND state IN ('pending', 'held') AND slot_at < %(now)s - interval '1 hour'
      -- While the DAG is paused it has not come to its end yet.
      AND slot_at < (SELECT max(c.judged_at) FROM reminders.cycle c WHERE c.run_kind <> 'backfill')
    UNION ALL
    SELECT 'P4: a reminder in flight and its attempt say different things', count(*) FROM reminders.reminder r
    WHERE r.ended_at IS NULL AND r.state IN ('sending', 'in_doubt', 'accepted')
      AND NOT EXISTS (SELECT FROM reminders.attempt a WHERE a.contact_id = r.contact_id AND a.state = r.state)
    UNION ALL
    SELECT 'P4: an attempt without an end', count(*) FROM reminders.attempt
    WHERE ended_at IS NULL
      AND (state = 'sending' AND deadline_at < %(now)s - interval '1 hour'
           OR state = 'in_doubt' AND intended_at < %(now)s - interval '3 hours'
           OR state = 'accepted' AND intended_at < %(now)s - interval '49 hours')
    UNION ALL
    SELECT 'P5: a contact while it was held', count(*) FROM made m
    JOIN reminders.hold h
        ON h.scope IN ('all', 'audit') OR (h.scope, h.scope_value) IN (('channel', m.channel), ('account', m.account_id))
    -- Their times are of two machines, whose clocks may be so far apart.
    WHERE m.intended_at > h.placed_at + interval '2 minutes'
      AND m.intended_at < coalesce(h.released_at - interval '2 minutes', 'infinity')
)
SELECT breach, cases FROM counted WHERE cases > 0 ORDER BY breach
