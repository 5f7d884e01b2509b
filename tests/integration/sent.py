"""Texts that were sent a while ago, and what is recorded of them, beside the rows of tests/integration/rows.py."""

from __future__ import annotations

from typing import Any

from tests.integration.rows import HERE, NOW, Rows
from tests.integration.scene import MINUTE

BEFORE = NOW - 10 * MINUTE
RECORD = """
SELECT reminders.record_outcomes(%(ids)s, %(outcomes)s, %(reasons)s, %(codes)s, %(providers)s, %(statuses)s,
                                 %(not_before)s, %(now)s)
"""


def guards_on(rows: Rows) -> None:
    rows.owner.execute("SET LOCAL session_replication_role = origin")


def sent(rows: Rows, state: str = "sending", contact: int = 1, **changed: Any) -> int:
    """A text that was sent ten minutes ago and is in this state, its reminder and its key. Returns its number."""
    rows.owner.execute("SET LOCAL session_replication_role = replica")
    columns = {"contact_id": contact, "intended_at": BEFORE, "state": state, "address_hash": HERE} | changed
    rows.put(
        "contact", contact_id=contact, batch_id=1, account_id="clinic", channel="sms", zone="UTC", place=1,
        address_hash=columns["address_hash"],
    )  # fmt: skip
    if state != "not_contacted":
        rows.reminder(
            appointment_id=f"visit {contact}", state=state, contact_id=contact, sent_at=BEFORE,
            address_hash=columns["address_hash"],
        )  # fmt: skip
    rows.guard(contact_id=contact, address_hash=columns["address_hash"], is_uncontacted=state == "not_contacted")
    return rows.attempt(**columns)


def record(rows: Rows, *outcomes: tuple[int, str, str | None], **changed: Any) -> int:
    """How many attempts it changed."""
    guards_on(rows)
    count = len(outcomes)
    values = {"code": "", "provider": "", "status": "", "not_before": None} | changed
    [(changed_attempts,)] = rows.ask(
        RECORD,
        ids=[each[0] for each in outcomes],
        outcomes=[each[1] for each in outcomes],
        reasons=[each[2] for each in outcomes],
        codes=[values["code"]] * count,
        providers=[values["provider"]] * count,
        statuses=[values["status"]] * count,
        not_before=[values["not_before"]] * count,
        now=NOW,
    )
    return int(changed_attempts)
