"""The intent, clause by clause: what is locked for it, whom it contacts of a group, and whom it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, TODAY, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY, CLAIM = timedelta(days=1), UUID(int=1)
MONDAY = TODAY - 2 * DAY
PHONE, PHONE_OF_ANOTHER = "+442079460018", "+442079460099"

INTEND = "SELECT contact_id FROM reminders.intend(%(contacts)s, %(claim)s, %(now)s, %(deadline)s) ORDER BY 1"
REACHED = "SELECT contact_id, address, claim, intended_at, deadline_at, book_read_at FROM reminders.attempt"
STATES = "SELECT state FROM reminders.reminder ORDER BY reminder_id"

Act = Callable[[Rows], Any]
Changes = dict[str, Any]


def planned(rows: Rows, contact_id: int = 1, *members: Changes, **contact: Any) -> None:
    """A text that is planned, and what it reminds of: without `members` of one visit."""
    columns = {"account_id": "clinic", "channel": "sms", "zone": "UTC", "place": contact_id, "address_hash": HERE}
    rows.put("contact", **{**columns, "contact_id": contact_id, "batch_id": 1, **contact})
    for member in members or ({},):
        reminder_id = rows.reminder(**{"appointment_id": f"visit {contact_id}", **member})
        rows.put("contact_member", contact_id=contact_id, reminder_id=reminder_id)


def intend(rows: Rows, *contact_ids: int) -> list[int]:
    """The contacts of the group that are made."""
    values = {"contacts": list(contact_ids), "claim": CLAIM, "now": NOW, "deadline": NOW + MINUTE}
    return [row[0] for row in rows.ask(INTEND, **values)]


def staged(rows: Rows, *contact_ids: int, **changed: Any) -> None:
    for contact_id in contact_ids:
        rows.staged(**{"appointment_id": f"visit {contact_id}", **changed})


def put(table: str, **columns: Any) -> Act:
    return lambda rows: rows.put(table, **columns)


def ceilings(*full: tuple[str, str, Any], one_left: tuple[str, str, Any] | None = None) -> Act:
    """These days' contacts are all used, or all but one; those of other accounts, channels and days are not."""

    def act(rows: Rows) -> None:
        for account in ("*", "clinic", "vet"):
            for channel in ("sms", "call"):
                for day in (TODAY, TODAY - DAY):
                    of = (account, channel, day)
                    used = 9 if of in full else 8 if of == one_left else 0
                    rows.put(
                        "daily_ceiling", account_id=account, channel=channel, day=day, contact_count=used, ceiling=9
                    )

    return act


def attempt(**columns: Any) -> Act:
    return lambda rows: rows.attempt(**{"intended_at": NOW - 24 * HOUR, **columns})


EMAIL: Changes = {"channel": "email", "address_hash": MAILBOX}
WHO_GOES: dict[str, tuple[Changes, Changes, Changes, list[Act], bool]] = {
    "as it is planned": ({}, {}, {}, [], True),
    "an email": (EMAIL, {**EMAIL, "step": 1, "has_lower_rung": False}, {}, [], True),
    "not ready, for the address's gap": (
        {}, {}, {}, [put("address_gap", address_hash=HERE, last_contact_at=NOW - MINUTE, min_gap=HOUR)], False
    ),
    "another address now": ({}, {"address_hash": ELSEWHERE}, {"phone_hash": ELSEWHERE}, [], False),
    "another address, which the book does not have": ({}, {"address_hash": ELSEWHERE}, {}, [], False),
    "another channel now": (
        {}, {"channel": "email", "step": 1, "has_lower_rung": False}, {"email_hash": HERE}, [], False
    ),
    "another number in the book": ({}, {}, {"phone_hash": ELSEWHERE}, [], False),
    "made before": ({}, {}, {}, [attempt(contact_id=1, state="unknown")], False),
    "declined before": ({}, {}, {}, [attempt(contact_id=1, state="not_contacted")], True),
    "another was made": ({}, {}, {}, [attempt(contact_id=9, state="unknown")], True),
    "the account's ceiling": ({}, {}, {}, [ceilings(("clinic", "sms", TODAY))], False),
    "the ceiling in all": ({}, {}, {}, [ceilings(("*", "sms", TODAY))], False),
    "every other ceiling": (
        {}, {}, {}, [ceilings(("vet", "sms", TODAY), ("clinic", "call", TODAY), ("*", "sms", TODAY - DAY))], True
    ),
    "somebody was told of the slot": ({}, {}, {}, [lambda rows: rows.guard(contact_id=9)], False),
    "somebody was about to be told": ({}, {}, {}, [lambda rows: rows.guard(contact_id=9, is_uncontacted=True)], True),
}  # fmt: skip


@pytest.mark.parametrize(("contact", "reminder", "visit", "acts", "goes"), WHO_GOES.values(), ids=WHO_GOES)
def test_a_contact_goes_that_is_still_as_it_was_planned(
    rows: Rows, contact: Changes, reminder: Changes, visit: Changes, acts: Sequence[Act], goes: bool
) -> None:
    planned(rows, 1, reminder, **contact)
    staged(rows, 1, **visit)
    for act in acts:
        act(rows)
    assert intend(rows, 1) == ([1] if goes else [])


@pytest.mark.parametrize("channel", ["sms", "email"])
def test_an_attempt_has_the_address_of_its_own_visits_reading(rows: Rows, channel: str) -> None:
    kind = {**EMAIL, "step": 1, "has_lower_rung": False} if channel == "email" else {}
    planned(rows, 1, kind, **(EMAIL if channel == "email" else {}))
    staged(rows, 1)
    another = {"phone": PHONE_OF_ANOTHER, "email": "another@example.com", "read_at": NOW - MINUTE}
    for other in ({"logical_date": NOW - MINUTE}, {"account_id": "vet"}, {"appointment_id": "visit 2"}):
        staged(rows, 1, **{**another, **other})
    assert intend(rows, 1) == [1]
    address = "ada@example.com" if channel == "email" else PHONE
    assert rows.ask(REACHED) == [(1, address, CLAIM, NOW, NOW + MINUTE, NOW)]


def test_what_is_not_of_the_group_is_left_as_it_is(rows: Rows) -> None:
    """Another contact to the address that was planned before it, of another visit that is too late by now."""
    planned(rows, 1)
    planned(rows, 2, {"slot_at": VISIT + HOUR, "expires_at": NOW}, place=0)
    rows.reminder(appointment_id="visit 3", address_hash=ELSEWHERE)
    staged(rows, 1, 2, 3)
    assert intend(rows, 1) == [1]
    assert rows.ask(STATES) == [("sending",), ("pending",), ("pending",)]


def test_a_group_takes_no_more_than_its_ceiling_leaves_nor_two_for_an_address(rows: Rows) -> None:
    for contact_id, address in ((1, HERE), (2, HERE), (3, ELSEWHERE), (4, b"\x09")):
        slot = {"slot_at": VISIT + contact_id * HOUR, "address_hash": address}
        planned(rows, contact_id, slot, address_hash=address)
        staged(rows, contact_id, phone_hash=address, slot_at=slot["slot_at"])
    for account in ("*", "clinic"):
        rows.put("daily_ceiling", account_id=account, channel="sms", day=TODAY, contact_count=7, ceiling=9)
    assert intend(rows, 1, 2, 3, 4) == [1, 3]


@pytest.mark.parametrize("ceiling_of", ["*", "clinic"])
def test_each_ceiling_is_kept_within_a_group(rows: Rows, ceiling_of: str) -> None:
    for contact_id, address in ((1, HERE), (2, ELSEWHERE)):
        planned(rows, contact_id, {"address_hash": address}, address_hash=address)
        staged(rows, contact_id, phone_hash=address)
    ceilings(one_left=(ceiling_of, "sms", TODAY))(rows)
    assert intend(rows, 1, 2) == [1]


def test_of_a_contact_only_what_nobody_was_told_goes(rows: Rows) -> None:
    """Of one visit's slot another contact told, of the other's none; another address was told of this slot too."""
    planned(rows, 1, {"appointment_id": "told"}, {"appointment_id": "fresh", "slot_at": VISIT + HOUR})
    planned(rows, 2, {"slot_at": VISIT + HOUR, "address_hash": ELSEWHERE}, address_hash=ELSEWHERE)
    rows.staged(appointment_id="told")
    rows.staged(appointment_id="fresh", slot_at=VISIT + HOUR)
    staged(rows, 2, slot_at=VISIT + HOUR, phone_hash=ELSEWHERE)
    rows.guard(contact_id=9, slot_at=VISIT)
    rows.guard(contact_id=9, slot_at=VISIT + HOUR, address_hash=ELSEWHERE)
    assert intend(rows, 1, 2) == [1]
    told, fresh, another = (state for (state,) in rows.ask(STATES))
    assert (told == "sending", fresh, another == "sending") == (False, "sending", False)


# What is locked

LOCK = "SELECT reminders.lock_for_intent(%(contacts)s, %(now)s)"
LOCKED = {
    "reminder": "SELECT appointment_id FROM reminders.reminder WHERE xmax <> 0 ORDER BY 1",
    "address_gap": "SELECT address_hash FROM reminders.address_gap WHERE xmax <> 0 ORDER BY 1",
    "address_cap": "SELECT address_hash, period, starts_on FROM reminders.address_cap WHERE xmax <> 0 ORDER BY 1, 2, 3",
    "daily_ceiling": "SELECT account_id, channel, day FROM reminders.daily_ceiling WHERE xmax <> 0 ORDER BY 1, 2, 3",
}
LATE = NOW.replace(hour=3)
BOUNDS = """
UPDATE reminders.account_policy
SET email_gap = '11 minutes', phone_gap = '12 minutes', email_daily_cap = 2, email_weekly_cap = 3, phone_daily_cap = 4,
    phone_weekly_cap = 5, email_ceiling = 6, sms_ceiling = 7, call_ceiling = 8 WHERE account_id = '*'
"""


@pytest.mark.parametrize(
    ("channel", "gap", "caps", "ceiling", "in_all"),
    [("email", 11, (2, 3), 6, 50_000), ("sms", 12, (4, 5), 7, 20_000), ("call", 12, (4, 5), 8, 5_000)],
)
def test_a_contact_finds_the_limits_of_its_address_and_its_day(
    rows: Rows, channel: str, gap: int, caps: tuple[int, int], ceiling: int, in_all: int
) -> None:
    rows.owner.execute(BOUNDS)
    planned(rows, 1, channel=channel, zone="America/New_York")
    planned(rows, 2, channel="sms", address_hash=ELSEWHERE, account_id="vet")
    rows.ask(LOCK, contacts=[1], now=LATE)
    yesterday = TODAY - DAY
    assert rows.ask("SELECT address_hash, min_gap FROM reminders.address_gap") == [(HERE, gap * MINUTE)]
    assert rows.ask("SELECT address_hash, period, starts_on, cap FROM reminders.address_cap ORDER BY 2") == [
        (HERE, "day", yesterday, caps[0]), (HERE, "week", MONDAY, caps[1]),
    ]  # fmt: skip
    assert rows.ask("SELECT account_id, channel, day, ceiling FROM reminders.daily_ceiling ORDER BY 1") == [
        ("*", channel, TODAY, in_all), ("clinic", channel, TODAY, ceiling),
    ]  # fmt: skip


def limits_of(rows: Rows, days: Sequence[datetime]) -> None:
    """The limits of two addresses, three accounts and two channels that were there before."""
    for address in (HERE, ELSEWHERE):
        rows.put("address_gap", address_hash=address, min_gap=9 * MINUTE)
        for day in days:
            for period in ("day", "week"):
                rows.put("address_cap", address_hash=address, period=period, starts_on=day.date(), cap=9)
    for account in ("*", "clinic", "vet"):
        for channel in ("call", "sms"):
            for day in (NOW, NOW - DAY):
                rows.put("daily_ceiling", account_id=account, channel=channel, day=day.date(), ceiling=9)


def test_what_the_group_is_about_is_locked_and_nothing_else(rows: Rows) -> None:
    within, long_ago = NOW - 2 * DAY, NOW - 10 * DAY
    limits_of(rows, (NOW, within, long_ago))
    planned(rows, 1)
    planned(rows, 2, {"address_hash": ELSEWHERE}, channel="call", address_hash=ELSEWHERE, account_id="vet")
    rows.ask(LOCK, contacts=[1], now=NOW)
    found = {table: rows.ask(question) for table, question in LOCKED.items()}
    days = sorted({NOW.date(), within.date()})
    assert found == {
        "reminder": [("visit 1",)],
        "address_gap": [(HERE,)],
        "address_cap": [(HERE, period, day) for period in ("day", "week") for day in days],
        "daily_ceiling": [("*", "sms", TODAY), ("clinic", "sms", TODAY)],
    }
    for table, column in (("address_gap", "min_gap"), ("address_cap", "cap"), ("daily_ceiling", "ceiling")):
        assert len(rows.ask(f"SELECT DISTINCT {column} FROM reminders.{table}")) == 1, "they stay as they were"
