-- The hours in which an account's office is open: people who are called call back, so calls go only then.
SET LOCAL ROLE reminders_owner;

ALTER TABLE reminders.account_policy
    ADD COLUMN office_opens time NOT NULL DEFAULT '9:00',
    ADD COLUMN office_closes time NOT NULL DEFAULT '20:00',
    ADD COLUMN office_days smallint[] NOT NULL DEFAULT '{1,2,3,4,5,6,7}';
COMMENT ON COLUMN reminders.account_policy.office_days IS
    'The weekdays of the office by ISO 8601: 1 is Monday, 7 Sunday.';
-- Whoever has hours of their own keeps them for calls too, until they name the office's.
UPDATE reminders.account_policy SET office_opens = opens, office_closes = closes;

-- A refusal shows the operator no more than a constraint's name: each says what would be right.
ALTER TABLE reminders.account_policy
    DROP CONSTRAINT hours_open,
    ADD CONSTRAINT opens_before_closes CHECK (opens < closes),
    ADD CONSTRAINT closes_before_midnight CHECK (closes < '24:00'),
    ADD CONSTRAINT office_opens_before_it_closes CHECK (office_opens < office_closes),
    ADD CONSTRAINT office_closes_before_midnight CHECK (office_closes < '24:00'),
    ADD CONSTRAINT office_is_open_on_a_day CHECK (cardinality(office_days) > 0),
    ADD CONSTRAINT office_days_are_numbers_from_1_to_7 CHECK (
        office_days <@ '{1,2,3,4,5,6,7}' AND (array_ndims(office_days) = 1 OR cardinality(office_days) = 0)),
    -- Each pair that is wrong in itself has its own refusal.
    ADD CONSTRAINT office_is_open_between_opens_and_closes CHECK (
        opens >= closes OR office_opens >= office_closes OR office_opens < closes AND opens < office_closes);
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_call_pace_check TO call_pace_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_phone_gap_check TO phone_gap_is_at_least_1_minute;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_gap_check TO email_gap_is_at_least_1_minute;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_phone_daily_cap_check TO phone_daily_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_phone_weekly_cap_check TO phone_weekly_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_daily_cap_check TO email_daily_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_weekly_cap_check TO email_weekly_cap_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_email_ceiling_check TO email_ceiling_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_sms_ceiling_check TO sms_ceiling_is_at_least_1;
ALTER TABLE reminders.account_policy
    RENAME CONSTRAINT account_policy_call_ceiling_check TO call_ceiling_is_at_least_1;
ALTER TABLE reminders.cadence_step RENAME CONSTRAINT cadence_step_step_check TO step_is_a_number_from_1_to_20;
ALTER TABLE reminders.cadence_step RENAME CONSTRAINT cadence_step_channel_check TO channel_is_email_sms_or_call;

GRANT UPDATE (office_opens, office_closes, office_days) ON reminders.account_policy TO reminders_operator;

ALTER TABLE reminders.staged_appointment ADD COLUMN account_zone text;
UPDATE reminders.staged_appointment SET account_zone = zone;
ALTER TABLE reminders.staged_appointment ALTER COLUMN account_zone SET NOT NULL;
COMMENT ON COLUMN reminders.staged_appointment.account_zone IS
    'Where the office is that is called back; where the book does not say, the client''s own zone.';

-- Given by the decision table of 0012.
INSERT INTO reminders.verdict VALUES
    ('office_closed', 'expired',
        'the office was closed whenever the client could be called, until the step was no longer useful'),
    ('wait_for_office', 'deferred', 'the office is closed, and who is called calls back'),
    ('wait_for_line', 'deferred', 'another call to the number is not known to have ended');
UPDATE reminders.verdict
SET meaning = 'a call that came due before a rung below could: booked late, or moved to before them by closed hours'
WHERE verdict = 'no_lower_proof';

CREATE FUNCTION reminders.office_is_open(
    p_at timestamptz, p_zone text, p_opens time, p_closes time, p_days smallint[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT (p_at AT TIME ZONE p_zone)::time >= p_opens AND (p_at AT TIME ZONE p_zone)::time < p_closes
       AND extract(isodow FROM p_at AT TIME ZONE p_zone)::smallint = ANY (p_days)
$$;

COMMENT ON FUNCTION reminders.office_is_open IS
    'Whether people who call back at p_at reach somebody; p_days are weekdays from 1, Monday.';

CREATE FUNCTION reminders.office_opens_after(p_at timestamptz, p_zone text, p_opens time, p_days smallint[])
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT min(opening.at)
    FROM generate_series(0, 7) AS ahead,
         LATERAL (SELECT (p_at AT TIME ZONE p_zone)::date + ahead) AS local (day),
         LATERAL (SELECT (local.day + p_opens) AT TIME ZONE p_zone) AS opening (at)
    WHERE opening.at > p_at AND extract(isodow FROM local.day)::smallint = ANY (p_days)
$$;

COMMENT ON FUNCTION reminders.office_opens_after IS 'The first opening of the office after p_at, within a week.';

-- As in 0002, but a hold on a book stops too, and, last, a call goes only while the office is open.
CREATE OR REPLACE FUNCTION reminders.fence_attempts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE breach text; moment timestamptz := reminders.ledger_clock();
BEGIN
    SELECT CASE
        WHEN abs(extract(epoch FROM a.intended_at - moment)) > 120 THEN 'clock_is_right'
        WHEN a.attempt_id > (SELECT reserved_to FROM reminders.ledger_mark) THEN 'attempt_number_reserved'
        WHEN EXISTS (SELECT FROM reminders.active_hold h WHERE h.scope = 'all'
                     OR h.scope = 'channel' AND h.scope_value = a.channel
                     OR h.scope = 'account' AND h.scope_value = a.account_id
                     OR h.scope = 'book' AND h.scope_value IN ('*', a.account_id)
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
        WHEN a.channel = 'call' AND NOT EXISTS (
            SELECT FROM reminders.policy_of(a.account_id) p, reminders.reminder r
            JOIN reminders.staged_appointment s
                ON (s.logical_date, s.account_id, s.appointment_id) = (r.adopted_by, r.account_id, r.appointment_id)
            WHERE r.contact_id = a.contact_id
              AND reminders.office_is_open(
                  a.intended_at, s.account_zone, p.office_opens, p.office_closes, p.office_days)) THEN 'office_is_open'
        END INTO breach
    FROM fresh a
    ORDER BY 1 NULLS LAST LIMIT 1;
    IF breach IS NOT NULL THEN
        RAISE EXCEPTION 'refused attempt: %', breach USING ERRCODE = 'check_violation', CONSTRAINT = breach;
    END IF;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION
    reminders.office_is_open(timestamptz, text, time, time, smallint[]),
    reminders.office_opens_after(timestamptz, text, time, smallint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    reminders.office_is_open(timestamptz, text, time, time, smallint[]),
    reminders.office_opens_after(timestamptz, text, time, smallint[])
    TO reminders_planner, reminders_dispatcher, reminders_operator;

RESET ROLE;
