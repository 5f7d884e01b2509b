"""What begins a recovery, and what a contact that it finds counts for, clause by clause."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, NOW, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)
SINCE = NOW - 2 * HOUR

BEGIN = "SELECT reminders.begin_recovery('a loss', 'Ana', %(has_forgotten)s, %(missing_from)s, %(known_to)s)"
RECOVERIES = "SELECT hold_id, why, missing_from, forgotten_until, begun_at FROM reminders.recovery ORDER BY 1"
HOLDS = "SELECT hold_id FROM reminders.hold ORDER BY 1"
NUMBERS = "SELECT reserved_to, (SELECT last_value FROM reminders.attempt_attempt_id_seq) FROM reminders.ledger_mark"
COUNT = "SELECT reminders.count_found(%(account)s, %(channel)s, %(address)s, %(at)s, %(zone)s)"

Changes = dict[str, Any]


@pytest.fixture(autouse=True)
def clock(rows: Rows) -> None:
    """It stands still."""
    rows.owner.execute(
        "CREATE OR REPLACE FUNCTION reminders.ledger_clock() RETURNS timestamptz LANGUAGE sql STABLE"
        f" AS $$ SELECT '{NOW.isoformat()}'::timestamptz $$"
    )


def begin(rows: Rows, **changed: Any) -> int:
    """Begin a recovery; returns its hold."""
    [(hold_id,)] = rows.ask(BEGIN, **{"has_forgotten": True, "missing_from": SINCE, "known_to": 0, **changed})
    return int(hold_id)


@pytest.mark.parametrize(("has_forgotten", "forgotten_until"), [(True, NOW), (False, None)])
def test_a_recovery_begins_with_a_hold_of_everything(
    rows: Rows, has_forgotten: bool, forgotten_until: datetime | None
) -> None:
    hold_id = begin(rows, has_forgotten=has_forgotten)
    assert rows.ask(HOLDS) == [(hold_id,)]
    assert rows.ask(RECOVERIES) == [(hold_id, "a loss", SINCE, forgotten_until, NOW)]


def test_a_recovery_takes_the_hold_of_everything_that_is_in_force(rows: Rows) -> None:
    rows.hold("all", released_at=NOW)
    in_force = rows.hold("all")
    rows.hold("channel", "sms")
    before = rows.ask(HOLDS)
    assert begin(rows) == in_force
    assert rows.ask(HOLDS) == before


@pytest.mark.parametrize(
    ("checked_at", "attempts", "missing_from"),
    [
        (None, {}, NOW - 31 * DAY),
        (None, {1: NOW - 5 * HOUR, 2: NOW - 4 * HOUR}, NOW - 4 * HOUR),
        (NOW - 3 * HOUR, {1: NOW - 5 * HOUR, 2: NOW - HOUR}, NOW - 3 * HOUR),
    ],
    ids=["nothing is known", "no preflight has looked since the upgrade", "preflight has looked"],
)
def test_what_may_be_missing_begins_when_preflight_last_looked(
    rows: Rows, checked_at: datetime | None, attempts: dict[int, datetime], missing_from: datetime
) -> None:
    """And with no cycle that somebody may have run since a restore; nor with what a recovery has put back."""
    rows.owner.execute("UPDATE reminders.ledger_mark SET checked_at = %s", [checked_at])
    rows.put("cycle", logical_date=NOW - HOUR, run_kind="scheduled", has_own_date=True, started_at=NOW - HOUR)
    for number, at in attempts.items():
        rows.attempt(attempt_id=number, contact_id=number, intended_at=at)
    rows.attempt(attempt_id=3, contact_id=3, intended_at=NOW, state="accepted", is_rebuilt=True)
    begin(rows, missing_from=None)
    assert [row[2] for row in rows.ask(RECOVERIES)] == [missing_from]


@pytest.mark.parametrize(
    ("before", "again", "missing_from", "forgotten_until"),
    [
        ({}, {}, SINCE, NOW),
        ({"missing_from": SINCE - HOUR}, {}, SINCE - HOUR, NOW),
        ({}, {"missing_from": SINCE - HOUR}, SINCE - HOUR, NOW),
        ({"forgotten_until": None}, {}, SINCE, NOW),
        ({}, {"has_forgotten": False}, SINCE, NOW - HOUR),
        ({"forgotten_until": None}, {"has_forgotten": False}, SINCE, None),
    ],
)
def test_a_loss_during_a_recovery_begins_it_anew(
    rows: Rows, before: Changes, again: Changes, missing_from: datetime, forgotten_until: datetime | None
) -> None:
    known = {"hold_id": 99, "why": "the first", "missing_from": SINCE, "forgotten_until": NOW - HOUR}
    rows.put("recovery", **{**known, "begun_at": NOW - HOUR, **before})
    hold_id = begin(rows, **again)
    assert rows.ask(RECOVERIES) == [(hold_id, "a loss", missing_from, forgotten_until, NOW)]


@pytest.mark.parametrize(("known_to", "numbers"), [(400, (500, 600)), (550, (550, 600)), (700, (700, 700))])
def test_numbers_that_may_have_been_used_are_not_given_again(
    rows: Rows, known_to: int, numbers: tuple[int, int]
) -> None:
    rows.owner.execute("UPDATE reminders.ledger_mark SET reserved_to = 500")
    rows.owner.execute("SELECT setval('reminders.attempt_attempt_id_seq', 600)")
    begin(rows, known_to=known_to)
    assert rows.ask(NUMBERS) == [numbers]


# What a found contact counts for

AT = datetime(2026, 2, 8, 23, 30, tzinfo=NOW.tzinfo)  # a Sunday in UTC, and Monday in Paris
SUNDAY, MONDAY = AT.date(), AT.date() + DAY
WEEK_OF_SUNDAY = SUNDAY - 6 * DAY
OWN = "INSERT INTO reminders.account_policy (account_id) VALUES ('vet')"
GENEROUS = """
UPDATE reminders.account_policy
SET email_gap = '11 minutes', phone_gap = '12 minutes', email_daily_cap = 2, email_weekly_cap = 3, phone_daily_cap = 4,
    phone_weekly_cap = 5, email_ceiling = 6, sms_ceiling = 7, call_ceiling = 8 WHERE account_id = '*'
"""
IN_ALL = {"email": 50_000, "sms": 20_000, "call": 5_000}
GAPS = "SELECT address_hash, last_contact_at, previous_contact_at, min_gap FROM reminders.address_gap ORDER BY 1"
CAPS = "SELECT address_hash, period, starts_on, contact_count, cap FROM reminders.address_cap ORDER BY 1, 2"
CEILINGS = "SELECT account_id, channel, day, contact_count, ceiling FROM reminders.daily_ceiling ORDER BY 1"


def count(rows: Rows, **changed: Any) -> None:
    rows.ask(COUNT, **{"account": "clinic", "channel": "sms", "address": HERE, "at": AT, "zone": "UTC", **changed})


@pytest.mark.parametrize(
    ("channel", "gap", "day_cap", "week_cap", "ceiling"),
    [("email", 11, 2, 3, 6), ("sms", 12, 4, 5, 7), ("call", 12, 4, 5, 8)],
)
@pytest.mark.parametrize("account", ["clinic", "*"])
def test_the_first_contact_to_an_address_counts_by_its_channels_bounds(
    rows: Rows, account: str, channel: str, gap: int, day_cap: int, week_cap: int, ceiling: int
) -> None:
    rows.owner.execute(OWN)
    rows.owner.execute(GENEROUS)
    count(rows, channel=channel, account=account)
    assert rows.ask(GAPS) == [(HERE, AT, None, gap * MINUTE)]
    assert rows.ask(CAPS) == [(HERE, "day", SUNDAY, 1, day_cap), (HERE, "week", WEEK_OF_SUNDAY, 1, week_cap)]
    of_account = [] if account == "*" else [("clinic", channel, SUNDAY, 1, ceiling)]
    assert rows.ask(CEILINGS) == [("*", channel, SUNDAY, 1, IN_ALL[channel]), *of_account]


def test_an_address_has_its_days_in_its_own_zone(rows: Rows) -> None:
    count(rows, zone="Europe/Paris")
    assert [row[2] for row in rows.ask(CAPS)] == [MONDAY, MONDAY]
    assert {row[2] for row in rows.ask(CEILINGS)} == {SUNDAY}


@pytest.mark.parametrize(
    ("counted", "cap", "counts"), [(3, 9, 4), (9, 9, 9)], ids=["below the cap", "at the cap, which refuses nothing"]
)
def test_a_later_contact_counts_once_more(rows: Rows, counted: int, cap: int, counts: int) -> None:
    for address in (HERE, ELSEWHERE):
        for period, starts_on in (("day", SUNDAY), ("week", WEEK_OF_SUNDAY)):
            rows.put(
                "address_cap", address_hash=address, period=period, starts_on=starts_on, contact_count=counted, cap=cap
            )
    for account in ("*", "clinic", "vet"):
        rows.put("daily_ceiling", account_id=account, channel="sms", day=SUNDAY, contact_count=counted, ceiling=cap)
    count(rows)
    assert [row[3] for row in rows.ask(CAPS)] == [counts, counts, counted, counted]
    assert [row[3] for row in rows.ask(CEILINGS)] == [counts, counts, counted]


@pytest.mark.parametrize("known_at", [AT - HOUR, AT + HOUR], ids=["earlier", "later"])
def test_the_last_contact_is_the_latest(rows: Rows, known_at: datetime) -> None:
    for address in (HERE, ELSEWHERE):
        rows.put(
            "address_gap", address_hash=address, last_contact_at=known_at, min_gap=9 * MINUTE,
            previous_contact_at=known_at - HOUR,
        )  # fmt: skip
    count(rows)
    here, elsewhere = rows.ask(GAPS)
    assert here[1:3] == (max(known_at, AT), None)
    assert elsewhere[1:3] == (known_at, known_at - HOUR)
