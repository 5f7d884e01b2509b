"""Calls go only while the office can be called back: in its own zone, on its own weekdays, whatever the plan was."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reminders.store.migrate import migrate
from reminders.store.statements import sql_folder
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, Booked, Scene, channels

MONDAY_NOON = datetime(2026, 2, 9, 12, 0, tzinfo=UTC)
TUESDAY_8AM, TUESDAY_NOON = datetime(2026, 2, 10, 8, 0, tzinfo=UTC), datetime(2026, 2, 10, 12, 0, tzinfo=UTC)
TUESDAY_10AM, TUESDAY_11AM = TUESDAY_8AM + 2 * HOUR, TUESDAY_8AM + 3 * HOUR
FRIDAY_9AM, FRIDAY_4PM = datetime(2026, 2, 13, 9, 0, tzinfo=UTC), datetime(2026, 2, 13, 16, 0, tzinfo=UTC)
SUNDAY_9AM, SUNDAY_7PM = datetime(2026, 2, 15, 9, 0, tzinfo=UTC), datetime(2026, 2, 15, 19, 0, tzinfo=UTC)
NEXT_MONDAY_9AM, NEXT_MONDAY_10AM = SUNDAY_9AM + 24 * HOUR, SUNDAY_9AM + 25 * HOUR
LAST_MONDAY_4PM = FRIDAY_4PM - 96 * HOUR

ONLY_CALLS = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, 'call', '4 hours', '1 hour', '0')
"""


def office(scene: Scene, opens: str = "9:00", closes: str = "17:00", days: str = "{1,2,3,4,5}") -> Scene:
    """The office of account clinic is open at these hours of its own zone."""
    scene.owner.execute(
        """INSERT INTO reminders.account_policy (account_id, office_opens, office_closes, office_days)
           VALUES ('clinic', %(opens)s, %(closes)s, %(days)s)
           ON CONFLICT (account_id) DO UPDATE
           SET office_opens = %(opens)s, office_closes = %(closes)s, office_days = %(days)s""",
        {"opens": opens, "closes": closes, "days": days},
    )
    return scene


def calls(scene: Scene) -> Scene:
    """Account clinic's ladder is a single call, from four hours before until one."""
    scene.owner.execute(ONLY_CALLS)
    return scene


def went(scene: Scene, *moments: datetime) -> list[tuple[datetime, str]]:
    """What reached somebody in a cycle at each of the moments."""
    return [(at, channel) for at in moments for channel in channels(scene.at(at).cycle())]


def waits(scene: Scene) -> tuple[str, datetime]:
    row = scene.owner.execute("SELECT deferred_for, not_before_at FROM reminders.reminder").fetchone()
    return row[0], row[1]


def test_an_office_that_is_closed_at_weekends_calls_on_friday_about_monday_morning(scene: Scene) -> None:
    office(scene).booked(Booked(NEXT_MONDAY_9AM))
    assert went(scene, FRIDAY_9AM, FRIDAY_4PM, SUNDAY_9AM, SUNDAY_7PM, NEXT_MONDAY_9AM - HOUR) == [
        (FRIDAY_9AM, "email"),
        (FRIDAY_4PM, "call"),
        (SUNDAY_9AM, "sms"),
    ]


def test_a_call_that_moves_before_every_rung_below_could_reach_the_client_does_not_go(scene: Scene) -> None:
    office(scene).booked(Booked(NEXT_MONDAY_9AM, client_email=None))
    assert went(scene, FRIDAY_9AM, FRIDAY_4PM, SUNDAY_9AM, NEXT_MONDAY_9AM - HOUR) == [(SUNDAY_9AM, "sms")]
    assert scene.states()["appointment-1", 3] == ("expired", "no_lower_proof")


def test_an_office_of_one_day_a_week_is_looked_ahead_for(scene: Scene) -> None:
    calls(office(scene, days="{1}")).booked(Booked(NEXT_MONDAY_10AM))
    assert went(scene, LAST_MONDAY_4PM) == [(LAST_MONDAY_4PM, "call")]


@pytest.mark.parametrize(
    ("opens", "closes", "days", "opens_next", "ends"),
    [
        ("11:00", "17:00", "{1,2,3,4,5}", TUESDAY_11AM, ("delivered", "relay_accepted")),
        ("8:00", "9:30", "{2}", TUESDAY_8AM + 7 * 24 * HOUR, ("expired", "office_closed")),
        ("8:00", "17:00", "{1,3,5}", TUESDAY_8AM + 24 * HOUR, ("expired", "office_closed")),
        ("9:00", "17:00", "{5}", FRIDAY_9AM, ("expired", "office_closed")),
        ("9:00", "17:00", "{1}", NEXT_MONDAY_9AM, ("expired", "office_closed")),
    ],
)
def test_a_call_that_is_due_while_the_office_is_closed_waits_until_it_opens(
    scene: Scene, opens: str, closes: str, days: str, opens_next: datetime, ends: tuple[str, str]
) -> None:
    """The hours change after the call has come due, so that its window is that of the hours before."""
    calls(scene).at(TUESDAY_10AM).booked(Booked(TUESDAY_NOON + 30 * MINUTE))
    scene.prepare(kind="backfill")
    office(scene, opens, closes, days)
    assert went(scene, TUESDAY_10AM + MINUTE, TUESDAY_11AM - MINUTE) == []
    assert waits(scene) == ("wait_for_office", opens_next)
    went(scene, TUESDAY_11AM, TUESDAY_11AM + 30 * MINUTE)
    assert scene.states() == {("appointment-1", 1): ends}
    assert len(scene.reached) == (ends[0] == "delivered")


def test_the_office_opens_in_its_own_zone(scene: Scene) -> None:
    """In Los Angeles it is 9:00 when it is 17:00 in UTC, where the client is."""
    nearly_open = TUESDAY_8AM + 9 * HOUR - MINUTE
    calls(office(scene)).booked(Booked(TUESDAY_8AM + 11 * HOUR, account_zone="America/Los_Angeles"))
    assert went(scene, nearly_open, nearly_open + MINUTE) == [(nearly_open + MINUTE, "call")]


@pytest.mark.parametrize("unknown", [None, "", "Mars/Base"])
def test_an_office_of_an_unknown_zone_opens_by_the_client_s_clock(scene: Scene, unknown: str | None) -> None:
    """In Tokyo it is 17:00 when it is 8:00 in UTC."""
    calls(office(scene, closes="18:00"))
    scene.booked(Booked(TUESDAY_11AM, client_zone="Asia/Tokyo", account_zone=unknown, client_phone="+819012345678"))
    assert went(scene, TUESDAY_8AM, TUESDAY_8AM + HOUR) == [(TUESDAY_8AM, "call")]


def test_a_client_whom_the_office_can_never_call_is_on_its_list(scene: Scene) -> None:
    """It is from 23:00 to 7:00 in Tokyo while the office in New York is open."""
    calls(office(scene)).booked(
        Booked(TUESDAY_8AM, client_zone="Asia/Tokyo", account_zone="America/New_York", client_phone="+819012345678")
    )
    every_half_hour = [TUESDAY_8AM + number * 30 * MINUTE for number in range(-48, 1)]
    assert went(scene, *every_half_hour) == []
    assert scene.states() == {("appointment-1", 1): ("expired", "office_closed")}


def test_texts_do_not_wait_for_the_office(scene: Scene) -> None:
    office(scene, days="{7}").booked(Booked(TUESDAY_NOON))
    assert went(scene, MONDAY_NOON - 48 * HOUR, MONDAY_NOON, TUESDAY_8AM)[1:] == [(MONDAY_NOON, "sms")]


@pytest.mark.parametrize("changes", ["the clock", "the hours", "the days", "the book"])
def test_an_office_that_has_closed_since_the_plan_is_heeded(scene: Scene, changes: str) -> None:
    before_closing = TUESDAY_8AM + 9 * HOUR - MINUTE
    calls(office(scene)).at(before_closing).booked(Booked(before_closing + 2 * HOUR))
    planned = scene.prepare()
    if changes == "the clock":
        scene.at(before_closing + MINUTE)
    elif changes == "the book":
        scene.changed(account_zone="Asia/Tokyo").prepare()
    else:
        office(scene, **({"closes": "16:00"} if changes == "the hours" else {"days": "{1,3,4,5}"}))
    assert planned
    scene.send(planned)
    assert scene.reached == []
    assert scene.states()["appointment-1", 1] == ("pending", "wait_for_office")


def test_a_call_that_was_meant_before_closing_is_not_begun_after_it(scene: Scene) -> None:
    closing = TUESDAY_8AM + 9 * HOUR
    calls(office(scene)).at(closing - MINUTE).booked(Booked(closing + 2 * HOUR))
    [contact] = scene.cycle()
    assert contact.expires_at == closing


def test_an_account_s_hours_from_before_stay_its_hours_for_calls(blank_database: TestDatabase, tmp_path: Path) -> None:
    for path in (sql_folder() / "migrations").glob("000[1-7]_*.sql"):
        shutil.copy(path, tmp_path)
    owner = blank_database.connect()
    migrate(owner, tmp_path)
    owner.execute("INSERT INTO reminders.account_policy (account_id, opens, closes) VALUES ('early', '7:00', '8:30')")
    migrate(owner)
    found = owner.execute(
        "SELECT account_id, office_opens::text, office_closes::text, office_days FROM reminders.account_policy"
    ).fetchall()
    every_day = [1, 2, 3, 4, 5, 6, 7]
    assert sorted(found) == [("*", "09:00:00", "20:00:00", every_day), ("early", "07:00:00", "08:30:00", every_day)]
