-- A backfill, a run of an old date or a book that is not believed ends no recovery: what came due after the date, or is
-- missing from the book, is not in the ledger yet, so that nothing there shows that it was contacted.
SET LOCAL ROLE reminders_owner;

CREATE OR REPLACE FUNCTION reminders.rebuild(p_logical_date timestamptz, p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reminders
-- The merge, which calls it, loops; here that would be over every pair.
SET enable_hashjoin = on SET enable_mergejoin = on AS $$
DECLARE rebuilt integer;
BEGIN
    IF NOT EXISTS (SELECT FROM recovery WHERE taken_at IS NULL) THEN
        RETURN 0;
    END IF;
    rebuilt := rebuild_listed(add_called_off(p_logical_date, p_now)) + rebuild_emails();
    IF EXISTS (SELECT FROM active_hold WHERE scope = 'book') THEN
        RETURN rebuilt;
    END IF;
    -- Only once: what the book brings or moves afterwards is nothing that was contacted before.
    PERFORM count_found('*', f.channel, f.address_hash, f.contacted_at, 'UTC')
    FROM recovery lost JOIN found_contact f USING (recovery_id)
    WHERE lost.listed_at <= p_logical_date AND lost.taken_at IS NULL AND NOT f.is_rebuilt;
    UPDATE recovery SET taken_at = ledger_clock() WHERE listed_at <= p_logical_date AND taken_at IS NULL;
    RETURN rebuilt;
END $$;
COMMENT ON FUNCTION reminders.rebuild IS
    'Whoever may have been contacted in the time that is forgotten counts as contacted; by the first cycle whose date is after '
    'the reading of the provider''s list, and whose book is believed, the recovery is over. Returns how many attempts were put back.';

RESET ROLE;
