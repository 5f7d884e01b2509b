"""What the ledger would hold, had the sample book's reminders been sent for the last four weeks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import psycopg

from local.sample_book import SEED, Account, Appointment, Book, Client
from reminders import policy
from reminders.addresses import Address, key, mask, normalise_email, normalise_phone, region_of
from reminders.cycle.extract import Rules, read_rules
from reminders.model import Channel, Office, Rung
from reminders.store.ledger import Ledger

# What came due later than this before now is left to the first cycle.
LEFT_FOR_FIRST_CYCLE = timedelta(minutes=90)
TICK = timedelta(minutes=5)
EVIDENCE = {Channel.EMAIL: "relay_accepted", Channel.SMS: "delivered", Channel.CALL: "completed"}
CONTACTED = ("delivered", "undelivered", "failed", "unknown")

STAGE = """
CREATE TEMPORARY TABLE history (
    account_id text, appointment_id text, slot_at timestamptz, step smallint, channel text, state text, reason text,
    logical_date timestamptz, due_at timestamptz, expires_at timestamptz, wait interval, has_lower_rung boolean,
    address_hash bytea, address_masked text, zone text, sent_at timestamptz, ended_at timestamptz,
    delivered_at timestamptz) ON COMMIT DROP
"""
COPY = "COPY history FROM STDIN"
BATCHES = """
INSERT INTO reminders.batch (logical_date, channel, share, planned_at)
SELECT DISTINCT logical_date, channel, 1, logical_date FROM history WHERE sent_at IS NOT NULL
"""
CONTACTS = """
INSERT INTO reminders.contact (batch_id, account_id, channel, address_hash, zone, place)
SELECT b.batch_id, h.account_id, h.channel, h.address_hash, min(h.zone), 1
FROM history h JOIN reminders.batch b USING (logical_date, channel)
WHERE h.sent_at IS NOT NULL GROUP BY b.batch_id, h.account_id, h.channel, h.address_hash
"""
REMINDERS = """
INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, state, reason, ended_at,
    logical_date, adopted_by, due_at, expires_at, wait, has_lower_rung, address_hash, address_masked, contact_id,
    attempt_count, sent_at, delivered_at, delivery_evidence, created_at)
SELECT h.account_id, h.appointment_id, h.slot_at, h.step, h.channel, h.state, h.reason, h.ended_at,
       h.logical_date, h.logical_date, h.due_at, h.expires_at, h.wait, h.has_lower_rung, h.address_hash,
       h.address_masked, c.contact_id, (c.contact_id IS NOT NULL)::int, h.sent_at, h.delivered_at,
       CASE h.state WHEN 'delivered' THEN h.reason END, h.logical_date
FROM history h
LEFT JOIN reminders.batch b
    ON (b.logical_date, b.channel) = (h.logical_date, h.channel) AND h.sent_at IS NOT NULL
LEFT JOIN reminders.contact c
    ON (c.batch_id, c.account_id, c.address_hash) = (b.batch_id, h.account_id, h.address_hash)
"""
MEMBERS = """
INSERT INTO reminders.contact_member (contact_id, reminder_id)
SELECT r.contact_id, r.reminder_id
FROM reminders.reminder r JOIN history h USING (account_id, appointment_id, slot_at, step)
WHERE r.contact_id IS NOT NULL
"""
GUARDS = """
INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)
SELECT DISTINCT r.contact_id, r.account_id, r.address_hash, r.slot_at, r.step
FROM reminders.reminder r JOIN history h USING (account_id, appointment_id, slot_at, step)
WHERE r.contact_id IS NOT NULL
"""
GAPS = """
INSERT INTO reminders.address_gap (address_hash, last_contact_at, min_gap)
SELECT h.address_hash, max(h.sent_at), CASE WHEN bool_or(h.channel = 'email') THEN p.email_gap ELSE p.phone_gap END
FROM history h CROSS JOIN reminders.account_policy p
WHERE h.sent_at IS NOT NULL AND p.account_id = '*' GROUP BY h.address_hash, p.email_gap, p.phone_gap
ON CONFLICT DO NOTHING
"""
CAPS = """
INSERT INTO reminders.address_cap (address_hash, period, starts_on, contact_count, cap)
SELECT n.address_hash, n.period, n.starts_on, least(n.contacts, n.cap), n.cap
FROM (SELECT h.address_hash, period.name AS period,
             CASE period.name WHEN 'day' THEN (h.sent_at AT TIME ZONE h.zone)::date
                              ELSE date_trunc('week', h.sent_at AT TIME ZONE h.zone)::date END AS starts_on,
             count(DISTINCT (h.logical_date, h.account_id)) AS contacts,
             CASE WHEN bool_or(h.channel = 'email') AND period.name = 'day' THEN min(p.email_daily_cap)
                  WHEN bool_or(h.channel = 'email') THEN min(p.email_weekly_cap)
                  WHEN period.name = 'day' THEN min(p.phone_daily_cap) ELSE min(p.phone_weekly_cap) END AS cap
      FROM history h CROSS JOIN (VALUES ('day'), ('week')) AS period (name) CROSS JOIN reminders.account_policy p
      WHERE h.sent_at IS NOT NULL AND p.account_id = '*' GROUP BY 1, 2, 3) n
ON CONFLICT DO NOTHING
"""

# What the gate has seen of them: the accounts are known, and so is what each hour of the week usually brings.
ACCOUNTS_SEEN = """
INSERT INTO reminders.account_seen (account_id, first_seen_at)
SELECT account_id, min(logical_date) FROM history GROUP BY account_id ON CONFLICT DO NOTHING
"""
VOLUMES = """
INSERT INTO reminders.volume (account_id, channel, hour_at, contacts, overdue, repeated)
SELECT coalesce(account_id, '*'), channel, date_trunc('hour', sent_at, 'UTC'),
       count(DISTINCT (account_id, address_hash)), 0, 0
FROM history WHERE sent_at IS NOT NULL
GROUP BY GROUPING SETS ((account_id, channel, date_trunc('hour', sent_at, 'UTC')),
                        (channel, date_trunc('hour', sent_at, 'UTC')))
ON CONFLICT DO NOTHING
"""
LAST_CYCLE = """
INSERT INTO reminders.cycle (logical_date, run_kind, has_own_date, started_at, closed_at, judged_at, is_good)
VALUES (%(at)s, 'scheduled', true, %(at)s, %(at)s, %(at)s, true) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True, repr=False)
class Past:
    """One reminder that has ended: a row of `history`, column for column."""

    account_id: str
    appointment_id: str
    slot_at: datetime
    step: int
    channel: str
    state: str
    reason: str
    logical_date: datetime
    due_at: datetime
    expires_at: datetime
    wait: timedelta
    has_lower_rung: bool
    address_hash: bytes | None
    address_masked: str | None
    zone: str
    sent_at: datetime | None
    ended_at: datetime
    delivered_at: datetime | None


def load_history(connection: psycopg.Connection[Any], book: Book, secret: bytes) -> int:
    """Write the ended reminders of the book's past into the ledger, in one transaction; return how many.

    `connection` logs in as the ledger's superuser; `secret` keys the address hashes. Contacts, guards, gaps, caps and
    the volumes of each hour come with them, attempts do not: nobody was contacted, and the fence admits no attempt of
    another time than now.
    """
    rules = read_rules(Ledger(connection))
    rows = list(history(book, rules, secret))
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(STAGE)
        with cursor.copy(COPY) as copy:
            for row in rows:
                copy.write_row(astuple(row))
        for statement in (BATCHES, CONTACTS, REMINDERS, MEMBERS, GUARDS, GAPS, CAPS, ACCOUNTS_SEEN, VOLUMES):
            cursor.execute(statement.encode())
        cursor.execute(LAST_CYCLE.encode(), {"at": tick_after(book.now) - 2 * TICK})
    return len(rows)


def history(book: Book, rules: Rules, secret: bytes, seed: int = SEED) -> Iterator[Past]:
    """The reminders of the book that have come due and ended before the first cycle; the same for the same book."""
    random = Random(seed)
    accounts = {account.account_id: account for account in book.accounts}
    clients = {(client.account_id, client.client_id): client for client in book.clients}
    for appointment in book.appointments:
        if appointment.status == "tentative":
            continue
        account = accounts[appointment.account_id]
        client = clients[appointment.account_id, appointment.client_id]
        yield from past_of(appointment, account, client, book.now, rules, secret, random)


def past_of(
    appointment: Appointment,
    account: Account,
    client: Client,
    now: datetime,
    rules: Rules,
    secret: bytes,
    random: Random,
) -> Iterator[Past]:
    """The past of one appointment's ladder, from its lowest rung up, until the client answered or cancelled."""
    zone = policy.zone_or(client.timezone, account.timezone) or "UTC"
    slot_at = policy.minute(appointment.starts_at)
    ladder = rules.ladder(account.account_id)
    office = Office(rules.office_hours_of(account.account_id), policy.zone_or(account.timezone, zone) or "UTC")
    for rung in ladder:
        window = policy.window(slot_at, rung, rules.hours_of(account.account_id), zone, office)
        if window.due_at > now - LEFT_FOR_FIRST_CYCLE:
            return
        address = address_of(client, rung, account)
        state, reason = end_of(rung, appointment, address, slot_at < now, random)
        logical_date = tick_after(window.due_at)
        sent_at = logical_date + timedelta(seconds=random.randrange(5, 60)) if state in CONTACTED else None
        ended_at = (sent_at or logical_date) + timedelta(seconds=random.randrange(1, 30))
        has_address = address.problem is None
        yield Past(
            account.account_id,
            appointment.appointment_id,
            slot_at,
            rung.step,
            rung.channel.value,
            state,
            reason,
            logical_date,
            window.due_at,
            window.expires_at,
            rung.wait,
            rung.step > ladder[0].step,
            key(address, secret) if has_address else None,
            mask(address) if has_address else None,
            zone,
            sent_at,
            ended_at,
            ended_at if state == "delivered" else None,
        )
        if state in ("superseded", "cancelled"):
            return


def address_of(client: Client, rung: Rung, account: Account) -> Address:
    """The client's address for the rung's channel, normalised as the cycle does it."""
    if rung.channel is Channel.EMAIL:
        return normalise_email(client.email)
    return normalise_phone(client.phone, region_of(account.timezone or ""))


def end_of(rung: Rung, appointment: Appointment, address: Address, is_over: bool, random: Random) -> tuple[str, str]:
    """How a rung ended, and its reason. For an appointment still ahead every contact has arrived: it is the proof that
    the next rung needs."""
    chance = random.random()
    if rung.step > 1 and appointment.status == "cancelled" and chance < 0.6:
        return "cancelled", "cancelled_in_book"
    if rung.step > 1 and appointment.status in ("confirmed", "completed") and chance < 0.6:
        return "superseded", "confirmed"
    if address.problem is not None:
        return "suppressed", address.problem
    if is_over and chance > 0.99:
        return "unknown", "no_proof"
    if is_over and chance > 0.96:
        return ("failed", "bad_address") if rung.channel is Channel.EMAIL else ("undelivered", "unreachable")
    return "delivered", EVIDENCE[rung.channel]


def tick_after(at: datetime) -> datetime:
    """The cycle's logical date that finds a reminder due at `at`: the next five-minute tick, or `at` itself."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + -(-(at - midnight) // TICK) * TICK
