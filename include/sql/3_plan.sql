-- name: keep_plan_from_looping
-- The steps of the plan have no statistics: left alone, the planner loops over every pair of rows.
SET LOCAL enable_nestloop = off

-- name: plan_contacts
-- Ready reminders become contacts by account and address, nearest first, calls and released backlogs at their pace.
WITH ready AS (
    SELECT r.reminder_id, r.account_id, r.channel, r.step = 0 AS is_cancellation, r.address_hash, r.slot_at, s.zone,
           h.released_at
    FROM reminders.reminder r
    JOIN reminders.staged_appointment s
        ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
    LEFT JOIN reminders.hold h ON h.hold_id = r.hold_id
    WHERE r.ended_at IS NULL AND r.state = 'pending' AND (r.deferred_for IS NULL OR r.deferred_for = 'wait_for_pace')
      AND r.adopted_by = %(logical_date)s AND r.expires_at > %(now)s
), bundle AS (
    -- With a fresh reminder of the address a released one goes along.
    SELECT account_id, channel, address_hash, min(zone) AS zone, min(slot_at) AS nearest_at,
           CASE WHEN bool_and(released_at IS NOT NULL) THEN max(released_at) END AS released_at,
           array_agg(reminder_id ORDER BY slot_at, reminder_id) AS reminder_ids
    FROM ready GROUP BY account_id, channel, is_cancellation, address_hash
), alone AS (
    -- An address is contacted by one account in a cycle; the others wait for its gap to pass. A released backlog may
    -- have to wait for its canary, and keeps nobody's fresh reminder from going.
    SELECT DISTINCT ON (address_hash) * FROM bundle
    ORDER BY address_hash, released_at IS NOT NULL, nearest_at, account_id
), proven AS (
    -- How released contacts have gone since each release: the first of them are its canary.
    SELECT r.released_at, r.channel, count(*) FILTER (WHERE t.state = 'delivered') AS delivered,
           count(*) FILTER (WHERE t.ended_at IS NULL) AS in_flight
    FROM (SELECT DISTINCT a.released_at, a.channel FROM alone a WHERE a.released_at IS NOT NULL) r
    JOIN reminders.attempt t ON t.channel = r.channel AND t.intended_at >= r.released_at
    JOIN reminders.contact c ON c.contact_id = t.contact_id AND c.released_at IS NOT NULL
    WHERE t.intended_at >= (SELECT min(a.released_at) FROM alone a) GROUP BY r.released_at, r.channel
), trusted AS (
    -- Until a release is proven its contacts share a channel's canary with all others that are not.
    SELECT q.* FROM (
        SELECT t.*, row_number() OVER (PARTITION BY t.channel, t.is_proven
                                       ORDER BY t.nearest_at, t.account_id, t.address_hash) AS place_of_canary,
               max(t.in_flight) OVER (PARTITION BY t.channel, t.is_proven) AS canaries_in_flight
        FROM (SELECT a.*, p.in_flight, bound.canary,
                     a.released_at IS NULL OR coalesce(p.delivered >= bound.canary, false) AS is_proven
              FROM alone a LEFT JOIN proven p USING (released_at, channel) CROSS JOIN reminders.gate_bound bound) t) q
    WHERE q.is_proven OR q.place_of_canary <= q.canary - coalesce(q.canaries_in_flight, 0)
), paced AS (
    -- Each contact's place at its account: among those of its channel, and among those of the backlog.
    SELECT t.*,
           row_number() OVER (PARTITION BY t.account_id, t.channel ORDER BY t.nearest_at, t.address_hash) AS place_of_channel,
           row_number() OVER (PARTITION BY t.account_id, t.released_at IS NULL
                              ORDER BY t.nearest_at, t.channel, t.address_hash) AS place_of_backlog
    FROM trusted t
), recent AS (
    -- Cycles that follow close, as after a pause or by hand, share the pace; four minutes let a cycle start early.
    SELECT c.account_id, count(*) FILTER (WHERE c.channel = 'call') AS calls,
           count(*) FILTER (WHERE c.released_at IS NOT NULL) AS of_backlog
    FROM reminders.contact c
    WHERE c.batch_id = ANY (ARRAY(
        SELECT b.batch_id FROM reminders.batch b WHERE b.planned_at > %(now)s - interval '4 minutes'))
    GROUP BY c.account_id
), ranked AS (
    SELECT p.*, row_number() OVER (PARTITION BY p.channel ORDER BY p.nearest_at, p.account_id, p.address_hash) AS place
    FROM paced p LEFT JOIN recent USING (account_id), reminders.policy_of(p.account_id) policy
    WHERE (p.channel <> 'call' OR p.place_of_channel <= policy.call_pace - coalesce(recent.calls, 0))
      AND (p.released_at IS NULL OR p.place_of_backlog <= policy.call_pace - coalesce(recent.of_backlog, 0))
), kept AS (
    SELECT r.*, c.batches, ((r.place - 1) %% c.batches) AS batch_of_channel
    FROM ranked r
    JOIN unnest(%(channels)s::text[], %(most)s::int[], %(batches)s::int[]) AS c (channel, most, batches) USING (channel)
    WHERE r.place <= c.most
), batch AS (
    INSERT INTO reminders.batch (logical_date, channel, share, planned_at)
    SELECT %(logical_date)s, channel, count(*) OVER (PARTITION BY channel), %(now)s
    FROM (SELECT DISTINCT channel, batch_of_channel FROM kept) b
    RETURNING batch_id, channel
), numbered AS (
    SELECT batch_id, channel, row_number() OVER (PARTITION BY channel ORDER BY batch_id) - 1 AS batch_of_channel FROM batch
), contact AS (
    INSERT INTO reminders.contact (batch_id, account_id, channel, address_hash, zone, place, released_at)
    SELECT n.batch_id, k.account_id, k.channel, k.address_hash, k.zone, k.place, k.released_at
    FROM kept k JOIN numbered n USING (channel, batch_of_channel)
    RETURNING contact_id, batch_id, account_id, channel, address_hash
), member AS (
    INSERT INTO reminders.contact_member (contact_id, reminder_id)
    SELECT c.contact_id, unnest(k.reminder_ids) FROM contact c JOIN kept k USING (account_id, channel, address_hash)
    RETURNING reminder_id
), waiting AS (
    UPDATE reminders.reminder r SET deferred_for = 'wait_for_pace'
    FROM ready w
    -- A cycle that this one has overtaken may have sent it meanwhile.
    WHERE w.reminder_id = r.reminder_id AND r.state = 'pending' AND r.deferred_for IS NULL
      AND w.reminder_id NOT IN (SELECT reminder_id FROM member)
)
SELECT batch_id FROM numbered ORDER BY batch_id
