-- name: identity
-- Which database this is, what time it has, and the highest attempt number that it knows of.
SELECT reminders.ledger_clock() AS clock, system_identifier::text AS system_identifier,
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
                  WHERE n.nspname = 'reminders' AND c.relname || '.' || t.tgname = guard
                    AND (t.tgenabled = 'A' OR t.tgenabled = 'O' AND current_setting('session_replication_role') <> 'replica'))

-- name: excessive_rights
-- What the running system may do though it must not: a superuser or an owner passes every guard, and DELETE forgets.
WITH running AS (
    SELECT oid, rolname, rolsuper FROM pg_roles WHERE rolname = session_user OR rolname = ANY (%(roles)s::text[])
), relation AS (
    SELECT c.relname, c.relowner, c.relacl FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'reminders' AND c.relkind IN ('r', 'p')
), owning AS (
    SELECT relowner AS oid FROM relation
    UNION SELECT p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'reminders'
    UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'reminders'
)
SELECT format('%%s is a superuser', rolname) AS excess FROM running WHERE rolsuper
UNION ALL
SELECT format('%%s may act as %%s, which owns the ledger', r.rolname, pg_get_userbyid(o.oid))
FROM running r, owning o WHERE NOT r.rolsuper AND pg_has_role(r.oid, o.oid, 'MEMBER')
UNION ALL
SELECT format('%%s may %%s %%s', CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(a.grantee) END,
              a.privilege_type, r.relname)
FROM relation r, aclexplode(r.relacl) a
WHERE a.grantee <> r.relowner AND a.privilege_type IN ('DELETE', 'TRUNCATE', 'TRIGGER')
  AND NOT (r.relname = ANY (%(deletable)s::text[]) AND a.privilege_type = 'DELETE')

-- name: reserve_attempts
-- The next attempt numbers may be used; the mark outside the database is raised before any of them is.
UPDATE reminders.ledger_mark
SET reserved_to = greatest(reserved_to, (SELECT coalesce(max(attempt_id), 0) FROM reminders.attempt)) + %(most)s,
    secret_fingerprint = coalesce(secret_fingerprint, %(secret_fingerprint)s)
RETURNING reserved_to
