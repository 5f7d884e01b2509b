"""What dispatch reads of a batch and its stops, and what a channel words a contact from, clause by clause."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.rows import HERE, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)

Columns = dict[str, Any]


def test_a_batch_is_read_in_its_order(rows: Rows) -> None:
    claims = {5: uuid4(), 6: uuid4()}
    for batch, claim in claims.items():
        rows.put("batch", batch_id=batch, logical_date=NOW, channel="sms", share=batch, planned_at=NOW, claim=claim)
    for contact, place, batch in ((11, 2, 5), (12, 1, 5), (13, 1, 7)):
        rows.put(
            "contact", contact_id=contact, batch_id=batch, account_id="clinic", channel="sms", address_hash=HERE,
            zone="UTC", place=place,
        )  # fmt: skip
    for batch, contact_ids in ((5, [12, 11]), (6, [])):
        assert rows.run("read_batch", batch_id=batch) == [
            {"channel": "sms", "share": batch, "claim": claims[batch], "contact_ids": contact_ids}
        ]


@pytest.mark.parametrize("state", ["pending", "sending", "held"])
def test_a_refusal_is_noted_of_what_still_waits_in_the_contact(rows: Rows, state: str) -> None:
    mine, other = rows.reminder(state=state), rows.reminder(step=3)
    for contact, reminder in ((1, mine), (2, other)):
        rows.put("contact_member", contact_id=contact, reminder_id=reminder)
    rows.run("note_refusal", contact_id=1)
    found = rows.ask("SELECT deferred_for FROM reminders.reminder ORDER BY reminder_id")
    assert [waits for (waits,) in found] == ["refused_by_guard" if state == "pending" else None, None]


def going(rows: Rows, attempt: Columns | None = None, staged: Columns | None = None, **reminder: Any) -> int:
    """A text on its way, with all that it is worded from."""
    rows.put(
        "contact", contact_id=1, batch_id=1, account_id="clinic", channel="sms", address_hash=HERE, zone="UTC", place=1
    )
    rows.reminder(**({"state": "sending"} | reminder))
    rows.staged(**(staged or {}))
    return rows.attempt(**(attempt or {}))


def words(rows: Rows, attempt: int) -> list[dict[str, Any]]:
    return rows.run("read_contacts", attempt_ids=[attempt])


def test_an_attempt_is_worded_from_each_reminder_of_its_contact(rows: Rows) -> None:
    number = going(rows)
    rows.reminder(state="sending", appointment_id="earlier", slot_at=VISIT - HOUR, expires_at=VISIT - 2 * HOUR)
    rows.staged(appointment_id="earlier", client_name="Bo", slot_at=VISIT - HOUR)
    assert [row["client_name"] for row in words(rows, number)] == ["Bo", "Ada"]


@pytest.mark.parametrize(
    "changed",
    [
        {"contact_id": 2}, {"state": "pending", "contact_id": 1}, {"state": "delivered"},
    ],
)  # fmt: skip
def test_it_is_worded_from_no_other(rows: Rows, changed: Columns) -> None:
    number = going(rows)
    rows.reminder(**({"state": "sending", "appointment_id": "another"} | changed))
    rows.staged(appointment_id="another")
    assert len(words(rows, number)) == 1


@pytest.mark.parametrize("another", [{"logical_date": NOW - MINUTE}, {"account_id": "vet"}, {"appointment_id": "no"}])
def test_it_is_worded_from_the_book_of_its_own_cycle_account_and_appointment(rows: Rows, another: Columns) -> None:
    number = going(rows)
    rows.staged(**({"client_name": "Eve"} | another))
    assert [row["client_name"] for row in words(rows, number)] == ["Ada"]


def test_only_the_attempts_that_are_asked_for_are_worded(rows: Rows) -> None:
    going(rows)
    assert words(rows, 999) == []


def evening(hour: int) -> Any:
    """Of the day of the attempt, in UTC."""
    return NOW.replace(hour=hour)


@pytest.mark.parametrize(
    ("channel", "staged", "policy", "expires_at"),
    [
        ("email", {}, {}, VISIT - 2 * HOUR),
        ("sms", {}, {}, evening(20)),
        ("sms", {}, {"office_closes": "18:00"}, evening(20)),
        ("sms", {}, {"closes": "19:00"}, evening(19)),
        ("call", {}, {"office_closes": "18:00"}, evening(18)),
        ("call", {}, {"closes": "17:00", "office_closes": "18:00"}, evening(17)),
        ("call", {"account_zone": "Europe/Berlin"}, {}, evening(19)),
    ],
)
def test_until_when_it_may_leave(rows: Rows, channel: str, staged: Columns, policy: Columns, expires_at: Any) -> None:
    rows.put("account_policy", **({"account_id": "clinic"} | policy))
    number = going(rows, {"channel": channel}, staged, channel=channel)
    assert [row["expires_at"] for row in words(rows, number)] == [expires_at]


@pytest.mark.parametrize("channel", ["email", "sms", "call"])
def test_and_no_longer_than_it_is_useful(rows: Rows, channel: str) -> None:
    number = going(rows, {"channel": channel}, channel=channel, expires_at=NOW + HOUR)
    assert [row["expires_at"] for row in words(rows, number)] == [NOW + HOUR]


@pytest.mark.parametrize(
    ("sequence", "other"),
    [
        (1, {"slot_at": VISIT + DAY}), (0, {"slot_at": VISIT, "step": 1}),
        (0, {"slot_at": VISIT + DAY, "account_id": "vet"}), (0, {"slot_at": VISIT + DAY, "appointment_id": "another"}),
    ],
)  # fmt: skip
def test_how_often_the_appointment_was_moved(rows: Rows, sequence: int, other: Columns) -> None:
    number = going(rows)
    for step in (3, 4):
        rows.reminder(**({"step": step, "channel": "email", "state": "expired"} | other | {"step": step}))
    assert [row["sequence"] for row in words(rows, number)] == [sequence]


@pytest.mark.parametrize(
    ("scope", "value", "read"),
    [
        ("all", "", None), ("channel", "sms", None), ("account", "clinic", None), ("book", "*", None),
        ("cycle", "2026-02-11 14:00Z", NOW), ("cycle", "infinity", None), ("cycle", "-infinity", None),
        ("cycle", "1969-12-31 23:59Z", None), ("cycle", "2200-01-02", None),
    ],
)  # fmt: skip
def test_a_stop_is_read_with_the_time_of_its_cycle(rows: Rows, scope: str, value: str, read: Any) -> None:
    rows.hold(scope, value)
    assert rows.run("read_holds") == [{"scope": scope, "scope_value": value, "logical_date": read}]


def test_what_stops_no_contact_as_a_whole_is_not_read(rows: Rows) -> None:
    rows.hold("group", "clinic 2 older")
    rows.hold("all", released_at=NOW)
    assert rows.run("read_holds") == []
