-- name: act_as
-- The transaction acts as the role, and the server ends it when its process does nothing with it for so long.
SELECT set_config('role', %(role)s, true), set_config('idle_in_transaction_session_timeout', %(idle)s, true)

-- name: identity
-- Which database this is, what time it has, and the highest attempt number that it knows of.
SELECT reminders.ledger_clock() AS clock, system_identifier::text AS system_identifier,
       -- The log's own: a checkpoint tells of a promotion minutes later.
       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int AS timeline,
       (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database_oid,
       (SELECT reserved_to FROM reminders.ledger_mark) AS reserved_to,
       (SELECT secret_fingerprint FROM reminders.ledger_mark) AS secret_fingerprint,
       reminders.ledger_identity() AS identity,
       coalesce((SELECT checked_identity FROM reminders.ledger_mark) = reminders.ledger_identity(), true) AS is_as_checked
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
UNION ALL
SELECT format('%%s may act as %%s', pg_get_userbyid(m.member), pg_get_userbyid(m.roleid))
FROM pg_auth_members m JOIN running r ON r.oid = m.member
WHERE NOT r.rolsuper
  AND NOT (r.rolname <> ALL (%(roles)s::text[]) AND pg_get_userbyid(m.roleid) = ANY (%(acting)s::text[]))

-- name: guard_definitions
-- Each object that keeps a promise, by name, and the fingerprint of how it is defined and who may use it.
SELECT name, md5(string_agg(definition, chr(10) ORDER BY definition)) AS fingerprint
FROM (
    SELECT 'function ' || p.proname AS name, concat_ws(' ', pg_get_functiondef(p.oid),
           coalesce(p.proacl, acldefault('f', p.proowner))::text) AS definition
    FROM pg_proc p WHERE p.pronamespace = 'reminders'::regnamespace
    UNION ALL
    SELECT 'trigger ' || t.tgname, concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid))
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'reminders'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT 'constraint ' || k.conname, concat_ws(' ', k.conrelid::regclass, pg_get_constraintdef(k.oid), k.convalidated)
    FROM pg_constraint k WHERE k.connamespace = 'reminders'::regnamespace
    UNION ALL
    SELECT 'index ' || c.relname, pg_get_indexdef(c.oid) FROM pg_class c
    WHERE c.relnamespace = 'reminders'::regnamespace AND c.relkind = 'i'
    UNION ALL
    SELECT 'rights on ' || c.relname, concat_ws(' ', pg_get_userbyid(c.relowner), a.acl::text,
           CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END)
    FROM pg_class c
    LEFT JOIN LATERAL (
        SELECT string_agg(x, ',' ORDER BY x) AS acl
        FROM (SELECT item::text AS x FROM unnest(coalesce(c.relacl, acldefault('r', c.relowner))) AS item
              UNION ALL SELECT t.attname || item FROM pg_attribute t, unnest(t.attacl) AS item
              WHERE t.attrelid = c.oid AND NOT t.attisdropped) entry) a ON true
    WHERE c.relnamespace IN ('reminders'::regnamespace, 'analytics'::regnamespace) AND c.relkind IN ('r', 'v')
    UNION ALL
    SELECT 'the rows of transition', concat_ws(' ', from_state, to_state, role_name) FROM reminders.transition
    UNION ALL
    SELECT 'the rows of verdict', concat_ws(' ', verdict, disposition) FROM reminders.verdict) AS kept
GROUP BY name

-- name: recorded_definitions
-- What the migrations left.
SELECT name, fingerprint FROM reminders.guard_definition

-- name: forget_definitions
-- The record is written anew after the migrations.
DELETE FROM reminders.guard_definition

-- name: record_definition
-- One object as it is now.
INSERT INTO reminders.guard_definition (name, fingerprint) VALUES (%(name)s, %(fingerprint)s)

-- name: reserve_attempts
-- The next attempt numbers may be used, in the database that was compared; the mark outside is raised before any is.
UPDATE reminders.ledger_mark
SET reserved_to = greatest(reserved_to, (SELECT coalesce(max(attempt_id), 0) FROM reminders.attempt)) + %(most)s,
    secret_fingerprint = coalesce(secret_fingerprint, %(secret_fingerprint)s),
    checked_identity = %(identity)s,
    -- What was put in its place since then has been looked at by nobody.
    checked_at = CASE WHEN reminders.ledger_identity() = %(identity)s THEN reminders.ledger_clock() ELSE checked_at END
RETURNING reserved_to

-- name: begin_recovery
-- Everything is held, and the provider's list is read before a person may release it.
SELECT reminders.begin_recovery(%(why)s, %(placed_by)s, %(has_forgotten)s, %(missing_from)s, %(known_to)s) AS hold_id
