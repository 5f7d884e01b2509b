-- How every guard, function and right was defined when the migrations had run: what preflight compares the ledger with.
SET LOCAL ROLE reminders_owner;

CREATE TABLE reminders.guard_definition (name text PRIMARY KEY, fingerprint text NOT NULL);
COMMENT ON TABLE reminders.guard_definition IS
    'Written by the migrations only: the fingerprint of each object that keeps a promise, as it should be.';
GRANT SELECT ON reminders.guard_definition TO reminders_planner;

RESET ROLE;
