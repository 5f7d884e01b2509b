"""What an account allows is asked again at the intent: what has changed since the plan is heeded, for it alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

WEDNESDAY_9AM, WEDNESDAY_8PM = WEDNESDAY_2PM - 5 * HOUR, WEDNESDAY_2PM + 6 * HOUR
WEDNESDAY_5PM, WEDNESDAY_6PM = WEDNESDAY_2PM + 3 * HOUR, WEDNESDAY_2PM + 4 * HOUR
TUESDAY_11AM = WEDNESDAY_2PM - 27 * HOUR
NUMBERS = {"clinic": "+442079460018", "vet": "+442079460019"}

OWN = """
INSERT INTO reminders.account_policy (account_id, phone_gap, phone_daily_cap, phone_weekly_cap, email_gap,
                                      email_daily_cap, email_weekly_cap)
VALUES ('clinic', '1 minute', 9, 9, '1 minute', 9, 9), ('vet', '1 minute', 9, 9, '1 minute', 9, 9)
"""
STEP = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES (%s, 1, %s, '12 hours', %s, '0')
"""


def practices(scene: Scene, operator: Any, channel: str, useful_until: str = "1 hour") -> Scene:
    """Two accounts of one kind, each with a ladder of one step and a policy of its own, written by the operator."""
    operator.execute(OWN)
    for account, until in (("clinic", useful_until), ("vet", "1 hour")):
        operator.execute(STEP, (account, channel, until))
    return scene


def visits(scene: Scene, name: str, starts_at: datetime) -> Scene:
    """A client of each account is booked, each with an address that the account's other visits share."""
    for account, number in NUMBERS.items():
        email = f"ada@{account}.example.com"
        scene.booked(Booked(starts_at, f"{account} {name}", account, client_email=email, client_phone=number))
    return scene


@pytest.fixture
def operator(ledger: TestDatabase) -> Any:
    return ledger.connect("reminders_operator")


def sent_after(scene: Scene, operator: Any, change: str) -> list[str]:
    """The accounts whose contacts, planned for both, reach somebody when the clinic's row is changed before they go."""
    planned = scene.prepare()
    contacts = scene.owner.execute(
        "SELECT count(*) FROM reminders.contact WHERE batch_id = ANY (%s)", (planned,)
    ).fetchone()
    assert contacts == (2,)
    operator.execute(f"UPDATE reminders.account_policy SET {change} WHERE account_id = 'clinic'")
    before = len(scene.reached)
    scene.send(planned)
    return sorted(contact.account_id for contact in scene.reached[before:])


@pytest.mark.parametrize(
    ("channel", "change", "waits_for"),
    [
        ("sms", "opens = '14:01'", "wait_for_hours"),
        ("sms", "closes = '14:00'", "wait_for_hours"),
        ("call", "opens = '14:01'", "wait_for_hours"),
        ("call", "closes = '14:00'", "wait_for_hours"),
        ("call", "office_opens = '14:01'", "wait_for_office"),
        ("call", "office_closes = '14:00'", "wait_for_office"),
        ("call", "office_days = '{1,2,4,5,6,7}'", "wait_for_office"),
    ],
)
def test_hours(scene: Scene, operator: Any, channel: str, change: str, waits_for: str) -> None:
    visits(practices(scene, operator, channel), "visit", WEDNESDAY_6PM).at(WEDNESDAY_2PM)
    assert sent_after(scene, operator, change) == ["vet"]
    assert scene.states()["clinic visit", 1] == ("pending", waits_for)


@pytest.mark.parametrize(
    ("channel", "first_at", "change", "waits_for"),
    [
        ("sms", WEDNESDAY_9AM, "phone_daily_cap = 1", "wait_for_day"),
        ("sms", TUESDAY_11AM, "phone_weekly_cap = 1", "wait_for_week"),
        ("sms", WEDNESDAY_9AM, "phone_gap = '5 hours 1 minute'", "wait_for_gap"),
        ("call", WEDNESDAY_9AM, "phone_daily_cap = 1", "wait_for_day"),
        ("call", TUESDAY_11AM, "phone_weekly_cap = 1", "wait_for_week"),
        ("call", WEDNESDAY_9AM, "phone_gap = '5 hours 1 minute'", "wait_for_gap"),
        ("email", WEDNESDAY_9AM, "email_daily_cap = 1", "wait_for_day"),
        ("email", TUESDAY_11AM, "email_weekly_cap = 1", "wait_for_week"),
        ("email", WEDNESDAY_9AM, "email_gap = '5 hours 1 minute'", "wait_for_gap"),
    ],
)
def test_caps_and_the_gap(
    scene: Scene, operator: Any, channel: str, first_at: datetime, change: str, waits_for: str
) -> None:
    """Each client has been contacted once; a second contact is planned, and the account then allows fewer."""
    visits(practices(scene, operator, channel), "first", first_at + 4 * HOUR).at(first_at).cycle()
    assert len(scene.reached) == 2
    visits(scene, "second", WEDNESDAY_6PM).at(WEDNESDAY_2PM)
    assert sent_after(scene, operator, change) == ["vet"]
    assert scene.states()["clinic second", 1] == ("pending", waits_for)


@pytest.mark.parametrize(
    ("channel", "count"), [("email", "email_ceiling"), ("sms", "sms_ceiling"), ("call", "call_ceiling")]
)
def test_the_ceiling_of_the_day(scene: Scene, operator: Any, channel: str, count: str) -> None:
    """Two contacts of the clinic are planned, and it then allows one a day."""
    visits(practices(scene, operator, channel), "visit", WEDNESDAY_6PM).at(WEDNESDAY_2PM)
    scene.booked(Booked(WEDNESDAY_6PM, "clinic other", client_email="ben@example.com", client_phone="+442079460020"))
    planned = scene.prepare()
    operator.execute(f"UPDATE reminders.account_policy SET {count} = 1 WHERE account_id = 'clinic'")
    scene.send(planned)
    assert sorted(contact.account_id for contact in scene.reached) == ["clinic", "vet"]
    [left] = [state for (name, _step), state in scene.states().items() if name != "vet visit" and state[0] == "pending"]
    assert left in (("pending", None), ("pending", "wait_for_ceiling")), "no guard had to refuse it"
    assert scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle() == []


@pytest.mark.parametrize("channel", ["email", "sms", "call"])
def test_the_step_s_own_end(scene: Scene, operator: Any, channel: str) -> None:
    """The clinic finds its step useless four hours before a visit; the vet's is useful until an hour before."""
    visits(practices(scene, operator, channel, "4 hours"), "visit", WEDNESDAY_6PM).at(WEDNESDAY_2PM - MINUTE)
    planned = scene.prepare()
    scene.at(WEDNESDAY_2PM).send(planned)
    assert [contact.account_id for contact in scene.reached] == ["vet"]
    assert scene.states()["clinic visit", 1] == ("expired", "too_late")


@pytest.mark.parametrize(
    ("channel", "own", "closing", "waits_for"),
    [
        ("sms", "closes = '17:00'", WEDNESDAY_5PM, "wait_for_hours"),
        ("call", "closes = '17:00'", WEDNESDAY_5PM, "wait_for_hours"),
        ("call", "office_closes = '17:00'", WEDNESDAY_5PM, "wait_for_office"),
    ],
)
def test_closing_time_has_come(
    scene: Scene, operator: Any, channel: str, own: str, closing: datetime, waits_for: str
) -> None:
    visits(practices(scene, operator, channel), "visit", WEDNESDAY_8PM).at(closing - MINUTE)
    operator.execute(f"UPDATE reminders.account_policy SET {own} WHERE account_id = 'clinic'")
    planned = scene.prepare()
    scene.at(closing).send(planned)
    assert [contact.account_id for contact in scene.reached] == ["vet"]
    assert scene.states()["clinic visit", 1] == ("pending", waits_for)
