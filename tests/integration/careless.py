"""Statements that a careless release would run, for the table of tests/integration/test_row_guards.py: each is refused
by one guard. The last contact that is planned is the one that they are about."""

from __future__ import annotations

from tests.integration.scene import EMAIL_IS_DUE, HOUR, MINUTE, WEDNESDAY_2PM

Statements = tuple[str, ...]

NOW = "reminders.ledger_clock()"
PLANNED_AT = WEDNESDAY_2PM + 15 * MINUTE
# The last contact that was planned: nobody has tried it.
PLANNED = "contact_id = (SELECT max(contact_id) FROM reminders.contact)"
CLAIM = f"(SELECT b.claim FROM reminders.batch b JOIN reminders.contact USING (batch_id) WHERE {PLANNED})"
PLANNED_ADDRESS = f"address_hash = (SELECT address_hash FROM reminders.contact WHERE {PLANNED})"
EVENT = "INSERT INTO reminders.provider_event (provider_id, provider_status) VALUES ('SM1', 'sent')"
RELEASED_AN_HOUR_AGO = (
    "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at, released_at, released_by)"
    f" VALUES ('channel', 'call', 'Ana', 'a look', {NOW}, {NOW} - interval '1 hour', 'Ana')"
)
HOLD = f"INSERT INTO reminders.hold (scope, placed_by, why, review_at) VALUES ('all', 'Ana', 'a look', {NOW})"
LOSS = f"SELECT reminders.begin_recovery('a loss', 'Ana', false, {NOW}, 0)"
# Of two contacts of an address, a minute and a half apart, neither gap nor cap refuses the second.
GENEROUS = (
    "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9",
    "UPDATE reminders.address_cap SET cap = 9",
)
SOON = f"{NOW} + interval '90 seconds'"
AT_TEN_IN_THE_EVENING = "UPDATE reminders.clock SET shift = shift + interval '8 hours'"


def insert(table: str, columns: dict[str, str], source: str = "") -> str:
    return f"INSERT INTO reminders.{table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} {source}"


def reminder(source: str = "", **changed: str) -> Statements:
    """What the MERGE inserts, with `changed` columns (SQL)."""
    columns = {
        "account_id": "'clinic'", "appointment_id": "'another'", "step": "2", "channel": "'sms'",
        "slot_at": f"'{EMAIL_IS_DUE}'", "due_at": f"'{WEDNESDAY_2PM}'", "expires_at": f"'{WEDNESDAY_2PM + HOUR}'",
        "logical_date": f"'{PLANNED_AT}'", "adopted_by": f"'{PLANNED_AT}'",
    }  # fmt: skip
    return (insert("reminder", {**columns, **changed}, source),)


def lock(at: str = NOW) -> str:
    return f"SELECT reminders.lock_for_intent(ARRAY(SELECT contact_id FROM reminders.contact WHERE {PLANNED}), {at})"


def claim(lasts: str = "4 minutes") -> str:
    """A task takes the batch of the planned contact."""
    return f"SELECT reminders.claim_batch(batch_id, '{lasts}') FROM reminders.contact WHERE {PLANNED}"


def attempt(*locks: str, **changed: str) -> Statements:
    """An intent that asks nothing, as of a careless deploy: for the planned contact, with `changed` columns (SQL)."""
    columns = {
        "contact_id": "contact_id", "account_id": "account_id", "channel": "channel", "address_hash": "address_hash",
        "address": "'x'", "address_country": "'GB'", "address_type": "'mobile'", "zone": "zone",
        "local_day": f"({NOW} AT TIME ZONE zone)::date", "book_read_at": NOW, "intended_at": NOW, "claim": CLAIM,
        "deadline_at": f"{NOW} + interval '1 minute'",
    }  # fmt: skip
    return (
        claim(),
        *(locks or (lock(),)),
        "INSERT INTO reminders.contact_guard (contact_id, account_id, address_hash, slot_at, step)"
        " SELECT c.contact_id, c.account_id, c.address_hash, r.slot_at, r.step FROM reminders.contact c"
        " JOIN reminders.contact_member USING (contact_id) JOIN reminders.reminder r USING (reminder_id)"
        f" WHERE c.{PLANNED}",
        f"UPDATE reminders.reminder r SET state = 'sending', contact_id = m.contact_id, sent_at = {NOW}"
        f" FROM reminders.contact_member m WHERE m.reminder_id = r.reminder_id AND m.{PLANNED}",
        insert("attempt", {**columns, **changed}, f"FROM reminders.contact WHERE {PLANNED}"),
    )


def call(step: int) -> Statements:
    """A call to the planned number, without a rung below, becomes what is planned."""
    return (
        *reminder(step=str(step), channel="'call'", address_hash="address_hash", appointment_id="'planned'",
                  source=f"FROM reminders.contact WHERE {PLANNED}"),
        "INSERT INTO reminders.contact (batch_id, account_id, channel, address_hash, zone, place)"
        f" SELECT batch_id, account_id, 'call', address_hash, zone, place FROM reminders.contact WHERE {PLANNED}",
        "INSERT INTO reminders.contact_member SELECT max(contact_id), (SELECT max(reminder_id) FROM reminders.reminder)"
        " FROM reminders.contact",
    )  # fmt: skip


def of(appointment: str, change: str) -> Statements:
    """A change of the text for this appointment."""
    return (f"UPDATE reminders.reminder SET {change} WHERE appointment_id = '{appointment}' AND step = 2",)


def again(table: str) -> Statements:
    return (f"INSERT INTO reminders.{table} SELECT * FROM reminders.{table} LIMIT 1",)


def removal(table: str, where: str = "") -> tuple[Statements, ...]:
    return (f"DELETE FROM reminders.{table} {where}",), (f"TRUNCATE reminders.{table} CASCADE",)
