"""When rungs are due, as tables of named moments, and what holds for every slot, ladder, zone and hour."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminders import policy
from reminders.errors import ConfigurationError
from reminders.model import Channel, Hours, Office, Rung, Window
from tests.clock import is_permitted

NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
EMAIL, TEXT, CALL = policy.DEFAULT_LADDER
NINE_TO_EIGHT = policy.DEFAULT_HOURS
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
steady = settings(derandomize=True, deadline=None, max_examples=150)


def local(month: int, day: int, clock: str, zone: str = NEW_YORK) -> datetime:
    """A moment of 2026 by the clock on the wall; of a time that comes twice, the first."""
    return datetime.combine(datetime(2026, month, day), time.fromisoformat(clock), ZoneInfo(zone)).astimezone(UTC)  # noqa: DTZ001


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}:00+00:00")


def next_permitted(at: datetime, permitted: Hours, zone: str, office: Office | None = None) -> datetime:
    """When a text (a call, if `office` is given) goes that is due at `at`, and of use for two weeks."""
    channel = Channel.CALL if office else Channel.SMS
    rung = Rung(1, channel, lead=14 * DAY, useful_until=timedelta(0), wait=timedelta(0))
    return policy.window(at + 14 * DAY, rung, permitted, zone, office).due_at


def hours(opens: str, closes: str) -> Hours:
    return Hours(time.fromisoformat(opens), time.fromisoformat(closes))


# A week in February in which no clock changes.
FRIDAY_8AM, FRIDAY_9AM = local(2, 6, "08:00"), local(2, 6, "09:00")
FRIDAY_1030AM, FRIDAY_2PM, FRIDAY_730PM = local(2, 6, "10:30"), local(2, 6, "14:00"), local(2, 6, "19:30")
SUNDAY_8AM, SUNDAY_9AM, SUNDAY_1030AM = local(2, 8, "08:00"), local(2, 8, "09:00"), local(2, 8, "10:30")
SUNDAY_2PM, SUNDAY_7PM, SUNDAY_730PM, SUNDAY_8PM = (local(2, 8, at) for at in ("14:00", "19:00", "19:30", "20:00"))
MONDAY_MIDNIGHT, MONDAY_6AM, MONDAY_7AM = local(2, 9, "00:00"), local(2, 9, "06:00"), local(2, 9, "07:00")
MONDAY_8AM, MONDAY_830AM, MONDAY_9AM = local(2, 9, "08:00"), local(2, 9, "08:30"), local(2, 9, "09:00")
MONDAY_901AM, MONDAY_930AM, MONDAY_10AM = local(2, 9, "09:01"), local(2, 9, "09:30"), local(2, 9, "10:00")
MONDAY_1001AM, MONDAY_1030AM, MONDAY_NOON = local(2, 9, "10:01"), local(2, 9, "10:30"), local(2, 9, "12:00")
MONDAY_1PM, MONDAY_2PM, MONDAY_330PM = local(2, 9, "13:00"), local(2, 9, "14:00"), local(2, 9, "15:30")
MONDAY_530PM, MONDAY_630PM, MONDAY_7PM = local(2, 9, "17:30"), local(2, 9, "18:30"), local(2, 9, "19:00")
MONDAY_730PM, MONDAY_8PM, MONDAY_10PM = local(2, 9, "19:30"), local(2, 9, "20:00"), local(2, 9, "22:00")
TUESDAY_MIDNIGHT = local(2, 10, "00:00")
SUNDAY_930AM = local(2, 8, "09:30")


@pytest.mark.parametrize(
    ("slot", "rung", "due_at", "expires_at"),
    [
        (MONDAY_8AM, EMAIL, FRIDAY_8AM, SUNDAY_8AM),
        (MONDAY_8AM, TEXT, SUNDAY_9AM, MONDAY_6AM),
        (MONDAY_8AM, CALL, SUNDAY_7PM, SUNDAY_8PM),
        (MONDAY_9AM, EMAIL, FRIDAY_9AM, SUNDAY_9AM),
        (MONDAY_9AM, TEXT, SUNDAY_9AM, MONDAY_7AM),
        (MONDAY_9AM, CALL, SUNDAY_7PM, SUNDAY_8PM),
        (MONDAY_10AM, CALL, SUNDAY_7PM, SUNDAY_8PM),
        (MONDAY_1001AM, CALL, MONDAY_9AM, MONDAY_901AM),
        (MONDAY_1030AM, EMAIL, FRIDAY_1030AM, SUNDAY_1030AM),
        (MONDAY_1030AM, TEXT, SUNDAY_1030AM, MONDAY_830AM),
        (MONDAY_1030AM, CALL, MONDAY_9AM, MONDAY_930AM),
        (MONDAY_2PM, EMAIL, FRIDAY_2PM, SUNDAY_2PM),
        (MONDAY_2PM, TEXT, SUNDAY_2PM, MONDAY_NOON),
        (MONDAY_2PM, CALL, MONDAY_10AM, MONDAY_1PM),
        (MONDAY_730PM, EMAIL, FRIDAY_730PM, SUNDAY_730PM),
        (MONDAY_730PM, TEXT, SUNDAY_730PM, MONDAY_530PM),
        (MONDAY_730PM, CALL, MONDAY_330PM, MONDAY_630PM),
        (TUESDAY_MIDNIGHT, TEXT, MONDAY_9AM, MONDAY_10PM),
        (TUESDAY_MIDNIGHT, CALL, MONDAY_7PM, MONDAY_8PM),
    ],
)
def test_a_week_without_a_change_of_clocks(slot: datetime, rung: Rung, due_at: datetime, expires_at: datetime) -> None:
    assert policy.window(slot, rung, NINE_TO_EIGHT, NEW_YORK) == Window(due_at, expires_at)


def test_a_call_moves_to_the_opening_where_the_last_hour_is_shorter_than_an_hour() -> None:
    moved = policy.window(MONDAY_8AM, CALL, hours("09:00", "09:30"), NEW_YORK)
    assert moved == Window(SUNDAY_9AM, SUNDAY_930AM)


def test_the_same_moment_is_another_hour_for_a_client_in_another_zone() -> None:
    # Seven in the morning in New York is noon in London: one may be called, the other may not.
    assert next_permitted(MONDAY_7AM, NINE_TO_EIGHT, NEW_YORK) == MONDAY_9AM
    assert next_permitted(MONDAY_7AM, NINE_TO_EIGHT, LONDON) == MONDAY_7AM
    assert policy.window(MONDAY_9AM, CALL, NINE_TO_EIGHT, LONDON) == Window(MONDAY_9AM - 4 * HOUR, MONDAY_8AM)


# In 2026 the clocks go forward on 8 March in New York, on 29 March in London and on 4 October on Lord Howe, there by
# half an hour only; they go back on 1 November, 25 October and 5 April.
@pytest.mark.parametrize(
    ("zone", "slot", "rung", "due_at", "expires_at"),
    [
        # 24 elapsed hours before 9:00 summer time are 8:00 winter time: quiet until 9:00.
        (NEW_YORK, local(3, 8, "09:00"), TEXT, local(3, 7, "09:00"), local(3, 8, "07:00")),
        (NEW_YORK, local(3, 8, "14:00"), TEXT, local(3, 7, "13:00"), local(3, 8, "12:00")),
        (NEW_YORK, local(3, 8, "14:00"), EMAIL, local(3, 5, "13:00"), local(3, 7, "13:00")),
        (NEW_YORK, local(3, 8, "08:00"), CALL, local(3, 7, "19:00"), local(3, 7, "20:00")),
        (NEW_YORK, local(11, 1, "09:00"), TEXT, local(10, 31, "10:00"), local(11, 1, "07:00")),
        (NEW_YORK, local(11, 1, "19:30"), TEXT, local(11, 1, "09:00"), local(11, 1, "17:30")),
        (NEW_YORK, local(11, 1, "08:00"), CALL, local(10, 31, "19:00"), local(10, 31, "20:00")),
        (NEW_YORK, local(11, 2, "08:00"), CALL, utc("11-02T00:00"), utc("11-02T01:00")),
        (LONDON, local(3, 29, "14:00", LONDON), TEXT, utc("03-28T13:00"), utc("03-29T11:00")),
        (LONDON, local(3, 30, "08:00", LONDON), CALL, utc("03-29T18:00"), utc("03-29T19:00")),
        (LONDON, local(10, 25, "09:00", LONDON), TEXT, utc("10-24T09:00"), utc("10-25T07:00")),
        (LONDON, local(10, 26, "08:00", LONDON), CALL, utc("10-25T19:00"), utc("10-25T20:00")),
        # Half an hour is gained, and 24 hours before 9:00 it is 9:30; half an hour is lost, and it is 8:30, quiet.
        (LORD_HOWE, local(4, 5, "09:00", LORD_HOWE), TEXT, utc("04-03T22:30"), utc("04-04T20:30")),
        (LORD_HOWE, local(10, 4, "09:00", LORD_HOWE), TEXT, utc("10-02T22:30"), utc("10-03T20:00")),
        (LORD_HOWE, local(10, 5, "08:00", LORD_HOWE), CALL, utc("10-04T08:00"), utc("10-04T09:00")),
    ],
)
def test_windows_across_a_change_of_clocks(
    zone: str, slot: datetime, rung: Rung, due_at: datetime, expires_at: datetime
) -> None:
    assert policy.window(slot, rung, NINE_TO_EIGHT, zone) == Window(due_at, expires_at)


@pytest.mark.parametrize(
    ("zone", "permitted", "at", "following"),
    [
        # The clocks jump over all the hours of that night: the next are those of the day after.
        (NEW_YORK, hours("02:00", "02:45"), utc("03-08T06:30"), utc("03-09T06:00")),
        (LONDON, hours("01:00", "01:30"), utc("03-29T00:30"), utc("03-30T00:00")),
        (LORD_HOWE, hours("02:00", "02:15"), utc("10-03T15:00"), utc("10-04T15:00")),
        # They jump over the opening only: open at once when they have jumped.
        (NEW_YORK, hours("02:30", "05:00"), utc("03-08T06:30"), utc("03-08T07:00")),
        (LONDON, hours("01:30", "05:00"), utc("03-29T00:30"), utc("03-29T01:00")),
        (LORD_HOWE, hours("02:15", "05:00"), utc("10-03T15:00"), utc("10-03T15:30")),
        # They go back after the hours have closed: the hours come twice.
        (NEW_YORK, hours("01:00", "01:30"), utc("11-01T04:30"), utc("11-01T05:00")),
        (NEW_YORK, hours("01:00", "01:30"), utc("11-01T05:30"), utc("11-01T06:00")),
        (NEW_YORK, hours("01:00", "01:30"), utc("11-01T06:30"), utc("11-02T06:00")),
        (LONDON, hours("01:00", "01:30"), utc("10-25T00:30"), utc("10-25T01:00")),
        (LORD_HOWE, hours("01:30", "01:45"), utc("04-04T14:45"), utc("04-04T15:00")),
        # They go back before the opening: closed again until the clock has come round to it.
        (NEW_YORK, hours("01:30", "05:00"), utc("11-01T06:10"), utc("11-01T06:30")),
    ],
)
def test_the_nights_on_which_the_clocks_change(zone: str, permitted: Hours, at: datetime, following: datetime) -> None:
    assert not is_permitted(at, permitted, zone)
    assert next_permitted(at, permitted, zone) == following
    assert is_permitted(following, permitted, zone)


def test_a_call_whose_night_lost_its_hours_moves_to_the_night_before() -> None:
    slot = local(3, 8, "08:00")
    assert policy.window(slot, CALL, hours("02:00", "02:45"), NEW_YORK) == Window(
        local(3, 7, "02:00"), local(3, 7, "02:45")
    )


def test_a_jump_of_the_clocks_within_the_last_hour_does_not_shorten_it() -> None:
    # Open from 1:00 to 3:15, and 3:00 follows 2:00 at once: the last hour is from 1:15 to 3:15 by the clock.
    assert policy.window(local(3, 8, "08:00"), CALL, hours("01:00", "03:15"), NEW_YORK) == Window(
        utc("03-08T06:15"), utc("03-08T07:15")
    )


def test_clocks_that_go_back_over_midnight_show_an_evening_again() -> None:
    # In St John's the clocks went back from 0:01 on 7 November 2010 to 23:01 on the 6th.
    went_back = datetime(2010, 11, 7, 2, 31, tzinfo=UTC)
    zone = "America/St_Johns"
    assert next_permitted(went_back - MINUTE, hours("23:10", "23:30"), zone) == went_back + 9 * MINUTE
    brief = Rung(3, Channel.CALL, lead=85 * MINUTE, useful_until=40 * MINUTE, wait=HOUR)
    slot = went_back + 89 * MINUTE
    assert policy.window(slot, brief, hours("00:00", "00:01"), zone) == Window(went_back - MINUTE, went_back)


@pytest.mark.parametrize(
    ("at", "may_go"),
    [
        (MONDAY_9AM - MINUTE, False),
        (MONDAY_9AM, True),
        (MONDAY_8PM - MINUTE, True),
        (MONDAY_8PM, False),
        (MONDAY_MIDNIGHT, False),
    ],
)
def test_the_hours_include_the_opening_and_not_the_close(at: datetime, may_go: bool) -> None:
    assert (next_permitted(at, NINE_TO_EIGHT, NEW_YORK) == at) is may_go


@pytest.mark.parametrize(
    ("booked_at", "is_worth"),
    [
        (SUNDAY_9AM - DAY, True),
        (MONDAY_6AM, True),
        (MONDAY_7AM - MINUTE, True),
        (MONDAY_7AM, False),
        (MONDAY_8AM, False),
    ],
)
def test_a_text_for_monday_9am_is_created_only_if_it_was_still_useful_at_booking(
    booked_at: datetime, is_worth: bool
) -> None:
    text = policy.window(MONDAY_9AM, TEXT, NINE_TO_EIGHT, NEW_YORK)
    assert policy.is_worth_creating(text, booked_at) is is_worth


@pytest.mark.parametrize(
    ("client", "account", "zone"),
    [
        (NEW_YORK, LONDON, NEW_YORK),
        (f" {NEW_YORK}\n", LONDON, NEW_YORK),
        *((unknown, LONDON, LONDON) for unknown in (None, "", " ", "Mars/Olympus", "America", "../London", "EST5 EDT")),
        *((unknown, LONDON, LONDON) for unknown in ("\0", "x" * 10_000, "\ud800", "localtime", "Factory")),
        ("Mars/Olympus", "Mars/Phobos", None),
        (None, None, None),
    ],
)
def test_an_unknown_zone_falls_back_to_the_accounts(client: str | None, account: str | None, zone: str | None) -> None:
    assert policy.zone_or(client, account) == zone


def test_minute_is_the_nearest_and_turns_to_utc() -> None:
    for second in (timedelta(seconds=29, microseconds=999_999), timedelta(seconds=-30), timedelta(milliseconds=-1)):
        slot = policy.minute((MONDAY_9AM + second).astimezone(ZoneInfo(LORD_HOWE)))
        assert (slot, slot.tzinfo) == (MONDAY_9AM, UTC)
    with pytest.raises(ValueError, match="time zone"):
        policy.minute(datetime(2026, 2, 9, 9))  # noqa: DTZ001


def test_the_horizon_is_the_longest_lead_and_two_days_for_quiet_hours() -> None:
    assert policy.horizon(policy.DEFAULT_LADDER) == 120 * HOUR
    assert policy.horizon((CALL, TEXT)) == 72 * HOUR


@pytest.mark.parametrize("never", [hours("20:00", "09:00"), hours("09:00", "09:00")])
def test_hours_that_never_open_are_refused_and_do_not_search_for_ever(never: Hours) -> None:
    with pytest.raises(ConfigurationError, match="open before they close"):
        policy.window(MONDAY_9AM, TEXT, never, NEW_YORK)


@pytest.mark.parametrize("unknown", ["Mars/Olympus", "", "../etc/passwd"])
def test_a_window_in_an_unknown_zone_is_refused(unknown: str) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        policy.window(MONDAY_9AM, TEXT, NINE_TO_EIGHT, unknown)


# Zones whose clocks change at midnight, by half an hour, twice a year beside Ramadan, or not at all.
ZONES = f"""{NEW_YORK} {LONDON} {LORD_HOWE} UTC America/Santiago America/St_Johns Africa/Cairo Africa/Casablanca
    Asia/Kathmandu Atlantic/Azores Pacific/Chatham Pacific/Kiritimati"""
zones = st.sampled_from(ZONES.split())
# Slots near a change of the clocks in some zone, and anywhere else.
slots = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.builds(
        lambda night, minutes: night + minutes * MINUTE,
        st.sampled_from([utc(f"{day}T00:00") for day in ("03-08", "03-29", "04-05", "10-04", "10-25", "11-01")]),
        st.integers(-3 * 1440, 3 * 1440),
    ),
).map(policy.minute)
opening = st.tuples(st.integers(0, 1438), st.integers(1, 1439)).map(lambda pair: (pair[0], min(1439, sum(pair))))
any_hours = opening.map(lambda pair: Hours(*(time(*divmod(at, 60)) for at in pair)))
rungs = st.builds(
    lambda channel, until, length: Rung(2, channel, (until + length) * MINUTE, until * MINUTE, HOUR),
    st.sampled_from(Channel),
    st.integers(0, 2000),
    st.integers(1, 2000),
)


@steady
@given(slots, rungs, any_hours, zones)
def test_every_window_is_forward_useful_permitted_and_within_the_horizon(
    slot: datetime, rung: Rung, permitted: Hours, zone: str
) -> None:
    found = policy.window(slot, rung, permitted, zone)
    assert found.due_at < found.expires_at <= slot - rung.useful_until <= slot
    assert found.due_at >= slot - policy.horizon([rung])
    if rung.channel is not Channel.EMAIL:
        assert is_permitted(found.due_at, permitted, zone)


@steady
@given(slots, rungs, any_hours, zones)
def test_every_window_is_the_one_that_reading_the_wall_clock_minute_by_minute_finds(
    slot: datetime, rung: Rung, permitted: Hours, zone: str
) -> None:
    wall = ZoneInfo(zone)

    def is_open(at: datetime) -> bool:
        return permitted.opens <= at.astimezone(wall).time() < permitted.closes

    starts_at, ends_at = slot - rung.lead, slot - rung.useful_until
    found = policy.window(slot, rung, permitted, zone)
    if rung.channel is Channel.EMAIL:
        assert found == Window(starts_at, ends_at)
        return
    at = starts_at
    while at < ends_at and not is_open(at):
        at += MINUTE
    if at < ends_at:
        assert found == Window(at, ends_at)
        return
    while not is_open(closed_at := at - MINUTE) or at > starts_at:
        at = closed_at
    opened_at = at - MINUTE
    while at - opened_at < HOUR and is_open(opened_at - MINUTE):
        opened_at -= MINUTE
    assert found == Window(opened_at, at)
