-- The booking database as the reminders read it. No status is refused: a real book's may be anything.
CREATE SCHEMA booking;

CREATE TABLE booking.account (
    account_id text PRIMARY KEY,
    name text,
    timezone text,
    phone text,
    email text,
    locale text
);

CREATE TABLE booking.client (
    client_id text NOT NULL,
    account_id text NOT NULL REFERENCES booking.account,
    name text,
    email text,
    phone text,
    timezone text,
    locale text,
    PRIMARY KEY (account_id, client_id)
);

CREATE TABLE booking.appointment (
    appointment_id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES booking.account,
    client_id text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'booked',
    service text,
    location text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (account_id, client_id) REFERENCES booking.client
);
CREATE INDEX appointment_by_start ON booking.appointment (starts_at);
