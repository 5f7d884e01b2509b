-- A channel that fails is held by the ledger itself, whatever was deployed last, so that nobody's whole book is tried.
SET LOCAL ROLE reminders_owner;

-- A failure of the channel's is what may be our fault or the provider's. What the client's side did is none: a line that
-- is busy or not answered, an opt-out, an address that the provider knows to be bad all show a channel that works.
CREATE FUNCTION reminders.is_channel_failure(p_state text, p_reason text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_state
        WHEN 'in_doubt' THEN true
        WHEN 'unknown' THEN true
        WHEN 'failed' THEN coalesce(p_reason, '') NOT IN ('opted_out', 'bad_address')
        WHEN 'undelivered' THEN coalesce(p_reason, '') NOT IN ('opted_out', 'bad_address', 'busy', 'no_answer')
        WHEN 'not_contacted' THEN coalesce(p_reason, '') = 'misconfigured'
        ELSE false END
$$;

-- Accepted is no outcome yet: a provider that takes everything and delivers nothing would look well. Nor is what was
-- given back because it never left us. Doubt that ends without proof stands where the attempt began, or each doubt would
-- come up a second time two hours later.
CREATE VIEW reminders.channel_outcome AS
SELECT attempt_id, channel, state, reason, intended_at,
       CASE state WHEN 'unknown' THEN intended_at
                  ELSE coalesce(ended_at, status_since_at, intended_at) END AS outcome_at,
       reminders.is_channel_failure(state, reason) AS is_failure
FROM reminders.attempt
WHERE state NOT IN ('sending', 'accepted') AND (state <> 'not_contacted' OR reason = 'misconfigured');
COMMENT ON VIEW reminders.channel_outcome IS
    'What became of each attempt, for the share of a channel''s last 50 outcomes that failed: over a fifth holds it.';
-- The view's own terms, so that its last 50 rows are read and no more.
CREATE INDEX attempt_outcome ON reminders.attempt (
    channel, (CASE state WHEN 'unknown' THEN intended_at ELSE coalesce(ended_at, status_since_at, intended_at) END),
    attempt_id)
    WHERE state NOT IN ('sending', 'accepted') AND (state <> 'not_contacted' OR reason = 'misconfigured');

CREATE FUNCTION reminders.hold_failing_channels() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE moment timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM after_it WHERE reminders.is_channel_failure(state, reason)) THEN
        RETURN NULL;
    END IF;
    moment := reminders.ledger_clock();
    INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at)
    SELECT 'channel', c.channel, 'failing_channel',
           format('%s of the last %s outcomes failed: %s', last.failures, last.outcomes, last.kinds),
           moment, moment + interval '1 hour'
    FROM (SELECT DISTINCT a.channel FROM after_it a JOIN before_it b USING (attempt_id)
          WHERE reminders.is_channel_failure(a.state, a.reason)
            AND NOT reminders.is_channel_failure(b.state, b.reason)) c
    -- A person's release starts afresh: late news of what was begun before it says nothing of the channel as it is now.
    CROSS JOIN LATERAL (
        SELECT coalesce(max(h.released_at), '-infinity') AS at FROM reminders.hold h
        WHERE h.scope = 'channel' AND h.scope_value = c.channel AND h.released_at <= moment) released
    CROSS JOIN LATERAL (
        SELECT sum(k.outcomes) AS outcomes, sum(k.failures) AS failures,
               string_agg(format('%s %s', k.failures, k.state), ', ' ORDER BY k.state)
                   FILTER (WHERE k.failures > 0) AS kinds
        FROM (SELECT w.state, count(*) AS outcomes, count(*) FILTER (WHERE w.is_failure) AS failures
              FROM (SELECT o.state, o.is_failure FROM reminders.channel_outcome o
                    WHERE o.channel = c.channel AND o.outcome_at > released.at AND o.intended_at > released.at
                    -- a poll's answers are all of one time
                    ORDER BY o.outcome_at DESC, o.attempt_id DESC LIMIT 50) w
              GROUP BY w.state) k) last
    WHERE last.failures >= 10 AND last.failures > 0.2 * last.outcomes
    ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reminders.hold_failing_channels IS
    'Holds a channel when over a fifth, and at least 10, of its last 50 outcomes since a person''s last release failed.';
-- Named to fire after given_back: a transaction that waits for another's hold has the ceilings by then, as all have.
CREATE TRIGGER held_when_failing AFTER UPDATE ON reminders.attempt
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION reminders.hold_failing_channels();

-- As in 0004, but late news of what was begun before a person's release does not hold the channel again.
CREATE OR REPLACE FUNCTION reminders.heed_refusals(
    p_attempt_ids bigint[], p_outcomes text[], p_reasons text[], p_codes text[], p_now timestamptz)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO reminders.hold (scope, scope_value, placed_by, why, placed_at, review_at)
    SELECT 'channel', a.channel, 'dispatch',
           'the provider refused our configuration: ' || coalesce(nullif(min(o.code), ''), 'misconfigured'),
           p_now, p_now + interval '1 hour'
    FROM unnest(p_attempt_ids, p_outcomes, p_reasons, p_codes) AS o (attempt_id, outcome, reason, code)
    JOIN reminders.attempt a USING (attempt_id)
    WHERE 'misconfigured' IN (o.outcome, o.reason)
      AND NOT EXISTS (SELECT FROM reminders.hold h WHERE h.scope = 'channel' AND h.scope_value = a.channel
                      AND h.released_at BETWEEN a.intended_at AND p_now)
    GROUP BY a.channel
    ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING;
    INSERT INTO reminders.suppression (address_hash, channel, reason, created_at)
    SELECT DISTINCT a.address_hash, '*', 'opted_out', p_now
    FROM unnest(p_attempt_ids, p_reasons) AS o (attempt_id, reason) JOIN reminders.attempt a USING (attempt_id)
    WHERE o.reason = 'opted_out'
    ON CONFLICT DO NOTHING
$$;

GRANT SELECT ON reminders.channel_outcome TO reminders_operator;
REVOKE EXECUTE ON FUNCTION reminders.hold_failing_channels(), reminders.is_channel_failure(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.is_channel_failure(text, text) TO reminders_operator;

RESET ROLE;
