-- name: read_cadences
-- Every ladder: the default one under account *, and the accounts' own.
SELECT account_id, step, channel, lead, useful_until, wait FROM reminders.cadence_step ORDER BY account_id, step

-- name: read_hours
-- The hours for texts and calls: the default ones under account *, and the accounts' own.
SELECT account_id, opens, closes FROM reminders.account_policy

-- name: open_appointments
-- Appointments with a reminder that can still go out, to be read by id wherever they have moved to.
SELECT DISTINCT appointment_id FROM reminders.reminder
WHERE ended_at IS NULL AND state IN ('pending', 'held') AND adopted_by <= %(logical_date)s

-- name: read_book
-- Every appointment that starts in the window, or that is named, with its client and its account.
SELECT a.appointment_id, a.account_id, a.starts_at, a.ends_at, a.status, a.location, a.created_at, a.updated_at,
       c.name AS client_name, c.email AS client_email, c.phone AS client_phone, c.timezone AS client_zone,
       c.locale AS client_locale,
       o.name AS account_name, o.phone AS account_phone, o.email AS account_email, o.timezone AS account_zone,
       o.locale AS account_locale
FROM booking.appointment a
LEFT JOIN booking.client c ON c.client_id = a.client_id AND c.account_id = a.account_id
LEFT JOIN booking.account o ON o.account_id = a.account_id
WHERE a.starts_at >= %(from_at)s AND a.starts_at < %(until_at)s OR a.appointment_id = ANY (%(appointment_ids)s)

-- name: unstage_appointments
-- Staging a logical date again replaces what it staged before; what is over a day old goes too.
DELETE FROM reminders.staged_appointment
WHERE logical_date = %(logical_date)s OR read_at < %(now)s - interval '1 day'

-- name: unstage_rungs
-- The rungs go with their appointments.
DELETE FROM reminders.staged_rung g
WHERE NOT EXISTS (SELECT FROM reminders.staged_appointment s
                  WHERE (s.logical_date, s.account_id, s.appointment_id) = (g.logical_date, g.account_id, g.appointment_id))

-- name: copy_appointments
-- One row for each appointment that was read, addresses normalised and hashed.
COPY reminders.staged_appointment (logical_date, account_id, appointment_id, slot_at, ends_at, status, booked_at, zone,
    has_zone_problem, locale, client_name, location, account_name, account_phone, account_email, email, email_hash,
    email_masked, email_problem, phone, phone_hash, phone_masked, phone_problem, phone_country, phone_type, read_at)
FROM STDIN

-- name: copy_rungs
-- One row for each rung of a staged appointment that is due at the logical date.
COPY reminders.staged_rung (logical_date, account_id, appointment_id, slot_at, step, channel, due_at, expires_at, wait,
    has_lower_rung) FROM STDIN
