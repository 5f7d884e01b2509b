-- What the audit found stays a stop of its own where a person holds everything already: whoever releases their own hold
-- lets go nothing that they have not seen.
SET LOCAL ROLE reminders_owner;

ALTER TABLE reminders.hold DROP CONSTRAINT hold_scope_is_known;
ALTER TABLE reminders.hold ADD CONSTRAINT hold_scope_is_known
    CHECK (scope IN ('all', 'channel', 'account', 'cycle', 'group', 'book', 'audit'));
COMMENT ON COLUMN reminders.hold.scope IS
    'What it stops; book is an account (or *, all) whose book is not believed, beside which a person may hold the account; '
    'audit stops everything, for what the audit of the day that it names has found.';

-- Whatever asks for a stop of everything finds one, however many there are: a second row would double what it joins.
CREATE OR REPLACE VIEW reminders.active_hold AS
SELECT hold_id, scope, scope_value, placed_by FROM reminders.hold WHERE released_at IS NULL AND scope <> 'audit'
UNION ALL
SELECT a.hold_id, 'all', '', a.placed_by FROM reminders.hold a
WHERE a.released_at IS NULL AND a.scope = 'audit'
  AND NOT EXISTS (SELECT FROM reminders.hold h WHERE h.released_at IS NULL
                  AND (h.scope = 'all' OR h.scope = 'audit' AND h.hold_id < a.hold_id));
COMMENT ON VIEW reminders.active_hold IS 'The stops in force; the audit''s are one of everything, where there is no other.';

RESET ROLE;
