"""Rows as they look and not as they came to be: what a function of the ledger reads, placed there by the owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from reminders.store.statements import statement
from tests.databases import SharedServer, fill_ledger
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM

NOW = WEDNESDAY_2PM
TODAY = NOW.date()
MONDAY = TODAY - timedelta(days=2)
VISIT = NOW + 20 * HOUR
HERE, ELSEWHERE = b"\x01", b"\x02"
MAILBOX = b"\x03"

Columns = dict[str, Any]

CONTACTED = {"sending", "in_doubt", "accepted", "delivered", "undelivered", "failed", "unknown"}
ENDED = {"delivered", "undelivered", "failed", "unknown", "expired", "superseded", "cancelled", "suppressed"}

REMINDER: Columns = {
    "account_id": "clinic", "appointment_id": "visit", "slot_at": VISIT, "step": 2, "channel": "sms",
    "state": "pending", "logical_date": NOW, "adopted_by": NOW, "due_at": NOW - 4 * HOUR,
    "expires_at": VISIT - 2 * HOUR, "wait": 4 * HOUR, "has_lower_rung": True, "address_hash": HERE,
    "created_at": NOW - 24 * HOUR,
}  # fmt: skip
STAGED: Columns = {
    "logical_date": NOW, "account_id": "clinic", "appointment_id": "visit", "slot_at": VISIT,
    "ends_at": VISIT + HOUR, "status": "booked", "zone": "UTC", "has_zone_problem": False, "account_zone": "UTC",
    "locale": "en", "client_name": "Ada", "location": "", "account_name": "Clinic", "account_phone": "",
    "account_email": "", "email": "ada@example.com", "email_hash": MAILBOX, "phone": "+442079460018",
    "phone_hash": HERE, "phone_country": "GB", "phone_type": "mobile", "read_at": NOW,
}  # fmt: skip
HOLD: Columns = {"scope_value": "", "placed_by": "Ana", "why": "a look", "placed_at": NOW, "review_at": NOW + HOUR}
GUARD: Columns = {"contact_id": 1, "account_id": "clinic", "address_hash": HERE, "slot_at": VISIT, "step": 2}
ATTEMPT: Columns = {
    "contact_id": 1, "account_id": "clinic", "channel": "sms", "address_hash": HERE, "address_country": "GB",
    "address_type": "mobile", "zone": "UTC", "state": "sending", "intended_at": NOW,
}  # fmt: skip
APART = """
SELECT setval(pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), 1000)
FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
WHERE t.relnamespace = 'reminders'::regnamespace AND a.attidentity <> ''
"""


@dataclass(frozen=True)
class Rows:
    """The superuser's connection, in a transaction that is taken back: nothing refuses a row but the table itself."""

    owner: psycopg.Connection[Any]

    def put(self, table: str, **columns: Any) -> int | None:
        """Insert a row; returns its own number where the table has one."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        values = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
        statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) RETURNING *").format(
            sql.Identifier("reminders", table), names, values
        )
        row = self.owner.execute(statement, list(columns.values())).fetchone()
        return row[0] if row and isinstance(row[0], int) else None

    def reminder(self, **changed: Any) -> int:
        """A reminder with what its state asks for."""
        columns = REMINDER | changed
        if columns["state"] in CONTACTED:
            columns = {"contact_id": 1, "sent_at": NOW - 5 * HOUR} | columns
        if columns["state"] in ENDED:
            columns = {"ended_at": NOW - HOUR, "reason": "test"} | columns
        if columns["state"] == "delivered":
            columns = {"delivered_at": columns["sent_at"], "delivery_evidence": "test"} | columns
        number = self.put("reminder", **columns)
        assert number is not None
        return number

    def staged(self, **changed: Any) -> None:
        self.put("staged_appointment", **(STAGED | changed))

    def hold(self, scope: str, value: str = "", **changed: Any) -> int:
        group = {"account_id": "clinic", "step": 2, "age": "older"} if scope == "group" else {}
        if changed.get("released_at"):
            changed = {"released_by": "Ana"} | changed
        number = self.put("hold", **(HOLD | group | {"scope": scope, "scope_value": value} | changed))
        assert number is not None
        return number

    def guard(self, **changed: Any) -> None:
        self.put("contact_guard", **(GUARD | changed))

    def attempt(self, **changed: Any) -> int:
        """An attempt, and the contact that it is of."""
        columns = ATTEMPT | changed
        at: datetime = columns["intended_at"]
        day: date = at.date()
        columns = {"local_day": day, "book_read_at": at, "deadline_at": at + MINUTE} | columns
        if columns["state"] not in ("sending", "in_doubt", "accepted"):
            columns = {"ended_at": at + MINUTE} | columns
        number = self.put("attempt", **columns)
        assert number is not None
        return number

    def run(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """A named statement's rows."""
        with self.owner.cursor(row_factory=dict_row) as cursor:
            cursor.execute(statement(name).encode(), values)
            return cursor.fetchall() if cursor.description else []

    def ask(self, question: str, **values: Any) -> list[tuple[Any, ...]]:
        """The answer's rows."""
        return self.owner.execute(question, values).fetchall()


@contextmanager
def placed(shared_server: SharedServer) -> Iterator[psycopg.Connection[Any]]:
    """The superuser's connection to a ledger whose clock says NOW, with every trigger and foreign key switched off."""
    with shared_server.database(shared_server.template("ledger_template", fill_ledger)) as database:
        owner = database.connect()
        owner.execute("INSERT INTO reminders.clock (shift) VALUES (%s - clock_timestamp())", [NOW])
        owner.execute("SET session_replication_role = replica")
        # Numbers that a test gives itself are never given a second time, whichever tests came before.
        owner.execute(APART)
        yield owner
