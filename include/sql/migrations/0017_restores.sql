-- What a recovery may not go by: the cycles of a run that goes on in the restored ledger.
SET LOCAL ROLE reminders_owner;

ALTER TABLE reminders.ledger_mark ADD COLUMN checked_at timestamptz;
COMMENT ON COLUMN reminders.ledger_mark.checked_at IS
    'When preflight last found the database to be the one that it compares: all that was contacted before is in every copy of it.';

CREATE OR REPLACE FUNCTION reminders.begin_recovery(
    p_why text, p_placed_by text, p_has_forgotten boolean, p_missing_from timestamptz, p_known_to bigint)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders AS $$
DECLARE
    moment timestamptz := ledger_clock();
    in_force bigint;
    -- Nothing that a run writes which goes on after a restore: before preflight has looked it writes cycles, and no
    -- attempts. A ledger without any knowledge may have forgotten whatever a ladder can reach.
    missing timestamptz := coalesce(
        p_missing_from, (SELECT m.checked_at FROM ledger_mark m),
        (SELECT a.intended_at FROM attempt a WHERE NOT a.is_rebuilt ORDER BY a.attempt_id DESC LIMIT 1),
        moment - interval '31 days');
BEGIN
    INSERT INTO hold (scope, scope_value, placed_by, why, placed_at, review_at)
    VALUES ('all', '', p_placed_by, p_why, moment, moment + interval '1 hour')
    ON CONFLICT (scope, scope_value) WHERE released_at IS NULL DO NOTHING;
    SELECT hold_id INTO STRICT in_force FROM hold WHERE scope = 'all' AND released_at IS NULL FOR UPDATE;
    INSERT INTO recovery AS r (hold_id, why, forgotten_until, missing_from, begun_at)
    VALUES (in_force, p_why, CASE WHEN p_has_forgotten THEN moment END, missing, moment)
    ON CONFLICT ((true)) WHERE listed_at IS NULL DO UPDATE
    SET hold_id = in_force, why = p_why, forgotten_until = coalesce(EXCLUDED.forgotten_until, r.forgotten_until),
        missing_from = least(r.missing_from, missing), begun_at = moment;
    -- The numbers of forgotten attempts are not given a second time.
    UPDATE ledger_mark SET reserved_to = greatest(reserved_to, p_known_to);
    PERFORM setval('attempt_attempt_id_seq', greatest(p_known_to, (SELECT last_value FROM attempt_attempt_id_seq)));
    RETURN in_force;
END $$;
COMMENT ON FUNCTION reminders.begin_recovery IS
    'Holds everything, and has the provider''s list read from p_missing_from on (null: from when preflight last looked) '
    'before a person may release it; returns the hold. p_known_to: the highest attempt number that may have been used.';

RESET ROLE;
