-- name: identity
-- Which database this is, and the highest attempt number that it knows of.
SELECT system_identifier::text AS system_identifier,
       (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
       (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database_oid,
       (SELECT reserved_to FROM reminders.ledger_mark) AS reserved_to,
       (SELECT secret_fingerprint FROM reminders.ledger_mark) AS secret_fingerprint
FROM pg_control_system()

-- name: missing_guards
-- Guards that the release relies on and the database does not have, or has switched off.
SELECT guard FROM unnest(%(constraints)s::text[]) AS guard
WHERE NOT EXISTS (SELECT FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
                  WHERE n.nspname = 'reminders' AND c.conname = guard AND c.convalidated AND c.conenforced)
UNION ALL
SELECT guard FROM unnest(%(indexes)s::text[]) AS guard
WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'reminders' AND c.relname = guard AND i.indisunique AND i.indisvalid)
UNION ALL
SELECT guard FROM unnest(%(triggers)s::text[]) AS guard
WHERE NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'reminders' AND c.relname || '.' || t.tgname = guard AND t.tgenabled <> 'D')

-- name: reserve_attempts
-- The next attempt numbers may be used; the mark outside the database is raised before any of them is.
UPDATE reminders.ledger_mark
SET reserved_to = greatest(reserved_to, (SELECT coalesce(max(attempt_id), 0) FROM reminders.attempt)) + %(most)s,
    secret_fingerprint = coalesce(secret_fingerprint, %(secret_fingerprint)s)
RETURNING reserved_to
