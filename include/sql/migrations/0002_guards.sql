-- The triggers that keep the promises whatever was deployed last: the state machine and the fence before each attempt.
SET LOCAL ROLE reminders_owner;

CREATE FUNCTION reminders.ledger_clock() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
    SELECT clock_timestamp() + coalesce((SELECT shift FROM reminders.clock), '0')
$$;

CREATE FUNCTION reminders.check_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'pending' AND current_user NOT IN ('reminders_owner')
                AND NOT pg_has_role(current_user, 'reminders_owner', 'MEMBER') THEN
            RAISE EXCEPTION 'refused: a reminder begins as pending, not as %', NEW.state
                USING ERRCODE = 'check_violation', CONSTRAINT = 'transition_allowed';
        END IF;
    ELSIF NOT EXISTS (
            SELECT FROM reminders.transition
            WHERE from_state = OLD.state AND to_state = NEW.state
              AND (role_name = current_user
                   -- a superuser is a member of every role: it may repair, but only along a line of the table
                   OR pg_has_role(current_user, 'reminders_owner', 'MEMBER'))) THEN
        RAISE EXCEPTION 'refused: % -> % by %', OLD.state, NEW.state, current_user
            USING ERRCODE = 'check_violation', CONSTRAINT = 'transition_allowed';
    ELSIF OLD.ended_at IS NOT NULL AND NEW.state = 'pending' AND (OLD.contact_id IS NOT NULL
            OR OLD.reason NOT IN ('not_in_book', 'moved', 'cancelled_in_book', 'confirmed')) THEN
        RAISE EXCEPTION 'refused: % -> pending, after a contact or for the reason %', OLD.state, OLD.reason
            USING ERRCODE = 'check_violation', CONSTRAINT = 'transition_allowed';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER transition_allowed BEFORE UPDATE OF state ON reminders.reminder
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION reminders.check_transition();
CREATE TRIGGER begins_pending BEFORE INSERT ON reminders.reminder
    FOR EACH ROW WHEN (NEW.state <> 'pending') EXECUTE FUNCTION reminders.check_transition();

CREATE FUNCTION reminders.refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused: rows of % are never deleted', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = 'never_deleted';
END $$;
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON reminders.reminder
    FOR EACH STATEMENT EXECUTE FUNCTION reminders.refuse_removal();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON reminders.attempt
    FOR EACH STATEMENT EXECUTE FUNCTION reminders.refuse_removal();
CREATE TRIGGER never_deleted BEFORE DELETE OR TRUNCATE ON reminders.contact_guard
    FOR EACH STATEMENT EXECUTE FUNCTION reminders.refuse_removal();

CREATE FUNCTION reminders.check_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.released_at IS NOT NULL THEN
        RAISE EXCEPTION 'refused: hold % was released by % at %', OLD.hold_id, OLD.released_by, OLD.released_at
            USING ERRCODE = 'check_violation', CONSTRAINT = 'released_once';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER released_once BEFORE UPDATE ON reminders.hold FOR EACH ROW EXECUTE FUNCTION reminders.check_release();

CREATE FUNCTION reminders.guard_is_one_way() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.is_uncontacted OR NOT EXISTS (
            SELECT FROM reminders.attempt WHERE contact_id = OLD.contact_id AND state = 'not_contacted') OR EXISTS (
            SELECT FROM reminders.attempt WHERE contact_id = OLD.contact_id AND state <> 'not_contacted') THEN
        RAISE EXCEPTION 'refused: contact % is not proven uncontacted', OLD.contact_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'guard_is_one_way';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_is_one_way BEFORE UPDATE ON reminders.contact_guard
    FOR EACH ROW EXECUTE FUNCTION reminders.guard_is_one_way();

CREATE FUNCTION reminders.attempt_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
            ('sending', 'not_contacted'), ('sending', 'failed'), ('sending', 'accepted'), ('sending', 'delivered'),
            ('sending', 'in_doubt'), ('in_doubt', 'accepted'), ('in_doubt', 'delivered'), ('in_doubt', 'undelivered'),
            ('in_doubt', 'unknown'), ('accepted', 'delivered'), ('accepted', 'undelivered'), ('accepted', 'cancelled'),
            ('accepted', 'unknown'), ('unknown', 'accepted'), ('unknown', 'delivered'), ('unknown', 'undelivered')) THEN
        RAISE EXCEPTION 'refused: attempt % from % to %', OLD.attempt_id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'attempt_moves_forward';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER attempt_moves_forward BEFORE UPDATE OF state ON reminders.attempt
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION reminders.attempt_moves_forward();

CREATE FUNCTION reminders.mark_moves_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.reserved_to < OLD.reserved_to OR NEW.secret_fingerprint IS DISTINCT FROM OLD.secret_fingerprint
            AND OLD.secret_fingerprint IS NOT NULL THEN
        RAISE EXCEPTION 'refused: the mark only rises, and the key of the address hashes never changes'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'mark_moves_up';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER mark_moves_up BEFORE UPDATE ON reminders.ledger_mark
    FOR EACH ROW EXECUTE FUNCTION reminders.mark_moves_up();

CREATE FUNCTION reminders.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refused: reminder % is % and says what was', OLD.reminder_id, OLD.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'never_rewritten';
END $$;
CREATE TRIGGER never_rewritten BEFORE UPDATE ON reminders.reminder
    -- what goes back to pending is open again, and the book may correct it
    FOR EACH ROW WHEN (OLD.state NOT IN ('pending', 'held') AND NEW.state <> 'pending'
        AND (OLD.address_hash IS DISTINCT FROM NEW.address_hash OR OLD.address_masked IS DISTINCT FROM NEW.address_masked
             OR OLD.due_at <> NEW.due_at OR OLD.expires_at <> NEW.expires_at OR OLD.adopted_by <> NEW.adopted_by
             OR OLD.channel <> NEW.channel))
    EXECUTE FUNCTION reminders.refuse_rewriting();

CREATE VIEW reminders.active_hold AS
    SELECT hold_id, scope, scope_value, placed_by FROM reminders.hold WHERE released_at IS NULL;

CREATE VIEW reminders.rung_end AS
    SELECT r.account_id, r.appointment_id, r.slot_at, r.step, r.channel, coalesce(covering.state, r.state) AS state,
           coalesce(covering.reason, r.reason) AS reason, coalesce(covering.sent_at, r.sent_at) AS sent_at,
           coalesce(covering.delivered_at, r.delivered_at) AS delivered_at
    FROM reminders.reminder r
    LEFT JOIN LATERAL (
        SELECT c.state, c.reason, c.sent_at, c.delivered_at
        FROM reminders.contact_guard g
        JOIN reminders.reminder c ON c.contact_id = g.contact_id AND c.slot_at = g.slot_at AND c.step = g.step
        WHERE r.reason = 'slot_already_contacted' AND NOT g.is_uncontacted
          AND (g.account_id, g.address_hash, g.slot_at, g.step) = (r.account_id, r.address_hash, r.slot_at, r.step)
        LIMIT 1) AS covering ON true
    WHERE r.step > 0;
COMMENT ON VIEW reminders.rung_end IS
    'How each rung stands for the ladder: one whose address another contact had reached stands as that contact does.';

CREATE FUNCTION reminders.has_proof(p_account_id text, p_appointment_id text, p_slot_at timestamptz, p_step smallint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM reminders.rung_end lower
        WHERE lower.account_id = p_account_id AND lower.appointment_id = p_appointment_id
          AND lower.slot_at = p_slot_at AND lower.step < p_step
          AND (lower.state IN ('delivered', 'unknown')
               OR lower.state IN ('failed', 'undelivered')
                  AND lower.reason NOT IN ('misconfigured', 'too_late', 'refused_unexplained')))
$$;
COMMENT ON FUNCTION reminders.has_proof IS
    'Whether a lower rung of the slot reached the client or was refused for the address''s own sake.';

CREATE FUNCTION reminders.is_unreachable(p_state text, p_reason text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_state = 'suppressed'
       AND p_reason IN ('no_address', 'bad_address', 'country_not_permitted', 'number_type_not_permitted')
$$;

CREATE FUNCTION reminders.fence_attempts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE breach text; moment timestamptz := reminders.ledger_clock();
BEGIN
    SELECT CASE
        WHEN abs(extract(epoch FROM a.intended_at - moment)) > 120 THEN 'clock_is_right'
        WHEN a.attempt_id > (SELECT reserved_to FROM reminders.ledger_mark) THEN 'attempt_number_reserved'
        WHEN EXISTS (SELECT FROM reminders.active_hold h WHERE h.scope = 'all'
                     OR h.scope = 'channel' AND h.scope_value = a.channel
                     OR h.scope = 'account' AND h.scope_value = a.account_id
                     OR h.scope = 'cycle' AND EXISTS (SELECT FROM reminders.reminder r
                        WHERE r.contact_id = a.contact_id AND r.logical_date = h.scope_value::timestamptz)) THEN 'no_hold_in_force'
        WHEN EXISTS (SELECT FROM reminders.suppression s WHERE s.address_hash = a.address_hash
                     AND s.channel IN ('*', a.channel)) THEN 'address_not_suppressed'
        WHEN a.channel <> 'email' AND NOT EXISTS (
            SELECT FROM reminders.permitted_country p WHERE p.country = a.address_country) THEN 'country_permitted'
        WHEN a.channel <> 'email' AND NOT EXISTS (
            SELECT FROM reminders.policy_of(a.account_id) p
            WHERE (a.intended_at AT TIME ZONE a.zone)::time >= p.opens
              AND (a.intended_at AT TIME ZONE a.zone)::time < p.closes) THEN 'not_in_quiet_hours'
        WHEN NOT EXISTS (SELECT FROM reminders.reminder r WHERE r.contact_id = a.contact_id AND r.state = 'sending')
          OR EXISTS (SELECT FROM reminders.reminder r WHERE r.contact_id = a.contact_id
            AND (r.channel <> a.channel OR r.account_id <> a.account_id OR r.address_hash <> a.address_hash OR NOT EXISTS (
                SELECT FROM reminders.contact_guard g WHERE g.contact_id = a.contact_id AND NOT g.is_uncontacted
                AND (g.account_id, g.address_hash, g.slot_at, g.step) = (r.account_id, r.address_hash, r.slot_at, r.step))))
            THEN 'contact_is_guarded'
        WHEN EXISTS (
            SELECT FROM reminders.reminder r
            WHERE r.contact_id = a.contact_id AND (r.slot_at <= a.intended_at OR r.expires_at <= a.intended_at))
            THEN 'not_too_late'
        WHEN a.channel = 'call' AND EXISTS (
            SELECT FROM reminders.reminder r
            WHERE r.contact_id = a.contact_id AND r.has_lower_rung
              AND NOT reminders.has_proof(r.account_id, r.appointment_id, r.slot_at, r.step)
              AND NOT reminders.lower_rungs_unreachable(r.account_id, r.appointment_id, r.slot_at, r.step))
            THEN 'call_has_proof'
        END INTO breach
    FROM fresh a
    ORDER BY 1 NULLS LAST LIMIT 1;
    IF breach IS NOT NULL THEN
        RAISE EXCEPTION 'refused attempt: %', breach USING ERRCODE = 'check_violation', CONSTRAINT = breach;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION reminders.lower_rungs_unreachable(
    p_account_id text, p_appointment_id text, p_slot_at timestamptz, p_step smallint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(bool_and(lower.channel = 'email' AND reminders.is_unreachable(lower.state, lower.reason)), false)
       AND NOT EXISTS (
           SELECT FROM reminders.cadence_step s
           WHERE s.account_id = (SELECT coalesce((SELECT c.account_id FROM reminders.cadence_step c
                                                  WHERE c.account_id = p_account_id LIMIT 1), '*'))
             AND s.step < p_step AND s.channel <> 'email')
    FROM reminders.rung_end lower
    WHERE lower.account_id = p_account_id AND lower.appointment_id = p_appointment_id
      AND lower.slot_at = p_slot_at AND lower.step < p_step
$$;
COMMENT ON FUNCTION reminders.lower_rungs_unreachable IS
    'Whether all below this rung is emails for which the client has no usable address: the ladder begins here then.';

-- SETOF lets the planner put the query into the caller's: a call for each row cost a fifth of the intent.
CREATE FUNCTION reminders.policy_of(p_account_id text) RETURNS SETOF reminders.account_policy
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT * FROM reminders.account_policy WHERE account_id IN (p_account_id, '*')
    ORDER BY account_id = '*' LIMIT 1
$$;

CREATE TRIGGER fenced AFTER INSERT ON reminders.attempt
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION reminders.fence_attempts();

RESET ROLE;
