-- name: read_cadences
-- Every ladder: the default one under account *, and the accounts' own.
SELECT account_id, step, channel, lead, useful_until, wait FROM reminders.cadence_step ORDER BY account_id, step

-- name: read_hours
-- The hours for texts and calls, and the office's for calls: the default ones under account *, and the accounts' own.
SELECT account_id, opens, closes, office_opens, office_closes, office_days FROM reminders.account_policy

-- name: open_appointments
-- Appointments with a reminder that can still go out, or that waits at the provider, to be read by id wherever they moved.
SELECT DISTINCT appointment_id FROM reminders.reminder
WHERE ended_at IS NULL AND state IN ('pending', 'held', 'accepted') AND adopted_by <= %(logical_date)s

-- name: last_cycle
-- The cycle before this one, within three days: what came due while there was none must end in the ledger too.
SELECT max(logical_date) AS logical_date FROM reminders.cycle
WHERE logical_date < %(logical_date)s AND logical_date > %(logical_date)s - interval '3 days' AND run_kind <> 'backfill'

-- name: read_book
-- Every appointment that starts in the window, or that is named, with its client and its account; no time is infinite.
SELECT a.appointment_id, a.account_id, a.status, a.location,
       CASE WHEN a.starts_at BETWEEN '1970-01-01' AND '2200-01-01' THEN a.starts_at END AS starts_at,
       CASE WHEN a.ends_at BETWEEN '1970-01-01' AND '2200-01-01' THEN a.ends_at END AS ends_at,
       CASE WHEN a.created_at BETWEEN '1970-01-01' AND '2200-01-01' THEN a.created_at END AS created_at,
       c.name AS client_name, c.email AS client_email, c.phone AS client_phone, c.timezone AS client_zone,
       c.locale AS client_locale,
       o.name AS account_name, o.phone AS account_phone, o.email AS account_email, o.timezone AS account_zone,
       o.locale AS account_locale
FROM booking.appointment a
LEFT JOIN booking.client c ON c.client_id = a.client_id AND c.account_id = a.account_id
LEFT JOIN booking.account o ON o.account_id = a.account_id
WHERE a.starts_at >= %(from_at)s AND a.starts_at < %(until_at)s OR a.appointment_id = ANY (%(appointment_ids)s)

-- name: readings_to_unstage
-- Staging a logical date again replaces what it staged before; what was read over a day ago goes too.
WITH RECURSIVE reading AS (
    -- From date to date by the key: a day's readings are many rows, and no cycle should go through them all.
    SELECT min(logical_date) AS logical_date FROM reminders.staged_appointment
    UNION ALL
    SELECT (SELECT min(s.logical_date) FROM reminders.staged_appointment s WHERE s.logical_date > reading.logical_date)
    FROM reading WHERE reading.logical_date IS NOT NULL
)
SELECT logical_date FROM reading
WHERE logical_date = %(logical_date)s
   OR (SELECT s.read_at FROM reminders.staged_appointment s WHERE s.logical_date = reading.logical_date LIMIT 1)
      < %(now)s - interval '1 day'

-- name: unstage_rungs
-- The rungs of these logical dates.
DELETE FROM reminders.staged_rung WHERE logical_date = ANY (%(logical_dates)s)

-- name: unstage_appointments
-- The appointments of these logical dates.
DELETE FROM reminders.staged_appointment WHERE logical_date = ANY (%(logical_dates)s)

-- name: copy_appointments
-- One row for each appointment that was read, addresses normalised and hashed.
COPY reminders.staged_appointment (logical_date, account_id, appointment_id, slot_at, ends_at, status, booked_at, zone,
    has_zone_problem, account_zone, locale, client_name, location, account_name, account_phone, account_email, email,
    email_hash, email_masked, email_problem, phone, phone_hash, phone_masked, phone_problem, phone_country, phone_type,
    read_at)
FROM STDIN

-- name: copy_rungs
-- One row for each rung of a staged appointment that is due at the logical date.
COPY reminders.staged_rung (logical_date, account_id, appointment_id, slot_at, step, channel, due_at, expires_at, wait,
    has_lower_rung) FROM STDIN
