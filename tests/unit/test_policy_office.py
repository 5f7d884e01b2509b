"""When calls are due to clients of an office that closes, and what holds for every slot, office, zone and hour."""

from __future__ import annotations

from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reminders import policy
from reminders.model import Channel, Hours, Office, Window
from tests.unit.test_policy import (
    CALL,
    EMAIL,
    FRIDAY_8AM,
    HOUR,
    LONDON,
    MINUTE,
    MONDAY_1PM,
    MONDAY_2PM,
    MONDAY_8AM,
    MONDAY_9AM,
    MONDAY_10AM,
    MONDAY_330PM,
    MONDAY_630PM,
    MONDAY_730PM,
    MONDAY_930AM,
    MONDAY_1001AM,
    MONDAY_1030AM,
    NEW_YORK,
    NINE_TO_EIGHT,
    SUNDAY_8AM,
    SUNDAY_9AM,
    TEXT,
    TUESDAY_MIDNIGHT,
    any_hours,
    local,
    next_permitted,
    rungs,
    slots,
    steady,
    zones,
)

SYDNEY, HONOLULU, TOKYO = "Australia/Sydney", "Pacific/Honolulu", "Asia/Tokyo"
WEEKDAYS, MONDAYS = frozenset({1, 2, 3, 4, 5}), frozenset({1})
NINE_TO_FIVE = Hours(time(9), time(17), WEEKDAYS)
ON_MONDAYS = Hours(time(9), time(17), MONDAYS)
PRACTICE = Office(NINE_TO_FIVE, NEW_YORK)

FRIDAY_11AM, FRIDAY_NOON = local(2, 6, "11:00"), local(2, 6, "12:00")
FRIDAY_4PM, FRIDAY_5PM = local(2, 6, "16:00"), local(2, 6, "17:00")
SATURDAY_NOON, SATURDAY_4PM = local(2, 7, "12:00"), local(2, 7, "16:00")
LAST_MONDAY_4PM, LAST_MONDAY_5PM = local(2, 2, "16:00"), local(2, 2, "17:00")
MONDAY_7AM, MONDAY_859AM, MONDAY_11AM = local(2, 9, "07:00"), local(2, 9, "08:59"), local(2, 9, "11:00")
MONDAY_NOON, MONDAY_4PM, MONDAY_5PM = local(2, 9, "12:00"), local(2, 9, "16:00"), local(2, 9, "17:00")
MONDAY_901AM = local(2, 9, "09:01")


@pytest.mark.parametrize(
    ("slot", "due_at", "expires_at"),
    [
        (MONDAY_8AM, FRIDAY_4PM, FRIDAY_5PM),
        (MONDAY_9AM, FRIDAY_4PM, FRIDAY_5PM),
        (MONDAY_10AM, FRIDAY_4PM, FRIDAY_5PM),
        (MONDAY_1001AM, MONDAY_9AM, MONDAY_901AM),
        (MONDAY_1030AM, MONDAY_9AM, MONDAY_930AM),
        (MONDAY_2PM, MONDAY_10AM, MONDAY_1PM),
        (MONDAY_730PM, MONDAY_330PM, MONDAY_630PM),
        (TUESDAY_MIDNIGHT, MONDAY_4PM, MONDAY_5PM),
        (SATURDAY_NOON, FRIDAY_4PM, FRIDAY_5PM),
        (SATURDAY_4PM, FRIDAY_4PM, FRIDAY_5PM),
    ],
)
def test_calls_of_an_office_that_is_closed_at_weekends(slot: datetime, due_at: datetime, expires_at: datetime) -> None:
    assert policy.window(slot, CALL, NINE_TO_EIGHT, NEW_YORK, PRACTICE) == Window(due_at, expires_at)


def test_emails_and_texts_do_not_ask_whether_the_office_is_open() -> None:
    for rung, due_at, expires_at in ((EMAIL, FRIDAY_8AM, SUNDAY_8AM), (TEXT, SUNDAY_9AM, MONDAY_8AM - 2 * HOUR)):
        assert policy.window(MONDAY_8AM, rung, NINE_TO_EIGHT, NEW_YORK, PRACTICE) == Window(due_at, expires_at)


def test_an_office_of_one_day_a_week_calls_a_week_ahead() -> None:
    found = policy.window(MONDAY_9AM, CALL, NINE_TO_EIGHT, NEW_YORK, Office(ON_MONDAYS, NEW_YORK))
    assert found == Window(LAST_MONDAY_4PM, LAST_MONDAY_5PM)


@pytest.mark.parametrize(
    ("slot", "due_at", "expires_at"),
    [
        # From 9 to 17 in London it is from 4 to 12 in New York, where the first five hours are quiet.
        (MONDAY_9AM, FRIDAY_11AM, FRIDAY_NOON),
        (MONDAY_2PM, MONDAY_10AM, MONDAY_1PM),
        (MONDAY_730PM, MONDAY_11AM, MONDAY_NOON),
    ],
)
def test_the_office_opens_by_its_own_clock(slot: datetime, due_at: datetime, expires_at: datetime) -> None:
    found = policy.window(slot, CALL, NINE_TO_EIGHT, NEW_YORK, Office(NINE_TO_FIVE, LONDON))
    assert found == Window(due_at, expires_at)


def test_its_weekdays_are_those_of_its_own_calendar() -> None:
    """Monday has begun in Sydney while it is Sunday in Honolulu, and Saturday while it is Friday there."""
    sydney = Office(NINE_TO_FIVE, SYDNEY)
    for day, may_go in ((6, False), (7, False), (8, True)):
        at = local(2, day, "14:00", HONOLULU)
        assert (next_permitted(at, NINE_TO_EIGHT, HONOLULU, sydney) == at) is may_go


@pytest.mark.parametrize(
    ("slot", "due_at", "expires_at"),
    [
        (local(2, 9, "14:00", TOKYO), local(2, 9, "10:00", TOKYO), local(2, 9, "13:00", TOKYO)),
        (local(2, 9, "22:30", TOKYO), local(2, 9, "18:30", TOKYO), local(2, 9, "20:00", TOKYO)),
        (local(2, 9, "08:00", TOKYO), local(2, 8, "19:00", TOKYO), local(2, 8, "20:00", TOKYO)),
    ],
)
def test_a_call_that_can_never_go_has_the_clients_hours(slot: datetime, due_at: datetime, expires_at: datetime) -> None:
    """From 9 to 17 in New York it is from 23 to 7 in Tokyo."""
    assert policy.window(slot, CALL, NINE_TO_EIGHT, TOKYO, PRACTICE) == Window(due_at, expires_at)


@pytest.mark.parametrize(
    ("at", "following"),
    [
        (FRIDAY_5PM - MINUTE, FRIDAY_5PM - MINUTE),
        (FRIDAY_5PM, MONDAY_9AM),
        (SATURDAY_NOON, MONDAY_9AM),
        (MONDAY_7AM, MONDAY_9AM),
        (MONDAY_859AM, MONDAY_9AM),
        (MONDAY_9AM, MONDAY_9AM),
    ],
)
def test_the_office_is_open_from_its_opening_to_its_close(at: datetime, following: datetime) -> None:
    assert next_permitted(at, NINE_TO_EIGHT, NEW_YORK, PRACTICE) == following


@pytest.mark.parametrize(
    ("days", "of_a_call", "of_the_ladder"),
    [
        ({1, 2, 3, 4, 5, 6, 7}, 52, 120),
        (WEEKDAYS, 52 + 48, 120),
        ({1, 2, 4, 5}, 52 + 48, 120),
        ({2, 3, 4}, 52 + 96, 148),
        (MONDAYS, 52 + 144, 196),
    ],
)
def test_the_horizon_grows_with_the_days_on_which_nobody_is_called(
    days: set[int], of_a_call: int, of_the_ladder: int
) -> None:
    office_hours = Hours(time(9), time(17), frozenset(days))
    assert policy.horizon([CALL], office_hours) == of_a_call * HOUR
    assert policy.horizon(policy.DEFAULT_LADDER, office_hours) == of_the_ladder * HOUR
    assert policy.horizon([EMAIL, TEXT], office_hours) == 120 * HOUR


office_days = st.sets(st.integers(1, 7), min_size=1).map(frozenset)
offices = st.builds(
    lambda permitted, days, zone: Office(Hours(permitted.opens, permitted.closes, days), zone),
    any_hours,
    office_days,
    zones,
)


@steady
@given(slots, rungs, any_hours, zones, offices)
def test_every_window_is_forward_useful_and_within_the_horizon(
    slot: datetime, rung: policy.Rung, permitted: Hours, zone: str, office: Office
) -> None:
    found = policy.window(slot, rung, permitted, zone, office)
    assert found.due_at < found.expires_at <= slot - rung.useful_until <= slot
    assert found.due_at >= slot - policy.horizon([rung], office.hours)


@steady
@given(slots, rungs, any_hours, zones, offices)
def test_every_call_s_window_is_the_one_that_reading_both_clocks_minute_by_minute_finds(
    slot: datetime, rung: policy.Rung, permitted: Hours, zone: str, office: Office
) -> None:
    client_wall, office_wall = ZoneInfo(zone), ZoneInfo(office.zone)

    def is_quiet(at: datetime) -> bool:
        return not permitted.opens <= at.astimezone(client_wall).time() < permitted.closes

    def is_open(at: datetime) -> bool:
        clock = at.astimezone(office_wall)
        is_day = clock.isoweekday() in office.hours.days
        return is_day and office.hours.opens <= clock.time() < office.hours.closes and not is_quiet(at)

    starts_at, ends_at = slot - rung.lead, slot - rung.useful_until
    found = policy.window(slot, rung, permitted, zone, office)
    if rung.channel is not Channel.CALL:
        assert found == policy.window(slot, rung, permitted, zone)
        return
    minutes = [starts_at + number * MINUTE for number in range(int((ends_at - starts_at) / MINUTE))]
    if (due_at := next(filter(is_open, minutes), None)) is not None:
        assert found == Window(due_at, ends_at)
        return
    earlier = [starts_at - number * MINUTE for number in range(1, int(policy.longest_shift(office.hours) / MINUTE))]
    if (last := next(filter(is_open, earlier), None)) is not None:
        opened_at = last
        while last + MINUTE - opened_at < HOUR and is_open(opened_at - MINUTE):
            opened_at -= MINUTE
        # An hour that began before the horizon is none that a cycle could have found.
        if opened_at > starts_at - policy.longest_shift(office.hours):
            assert found == Window(opened_at, last + MINUTE)
        return
    assert not any(is_open(found.due_at + n * MINUTE) for n in range(int((found.expires_at - found.due_at) / MINUTE)))
    assert not any(is_quiet(found.due_at + n * MINUTE) for n in range(int((found.expires_at - found.due_at) / MINUTE)))
