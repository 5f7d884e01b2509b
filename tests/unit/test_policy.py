"""When each rung is due: decision tables in the client's own time."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reminders import policy
from reminders.errors import ConfigurationError
from reminders.model import Channel, Hours, Rung

EMAIL, TEXT, CALL = policy.DEFAULT_LADDER
HOURS = policy.DEFAULT_HOURS
NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
SUNDAY, MONDAY, TUESDAY, WEDNESDAY = (datetime(2026, 2, day) for day in (8, 9, 10, 11))  # noqa: DTZ001 (local dates)


def local(day: datetime, at: str, zone: str = NEW_YORK) -> datetime:
    return datetime.combine(day, time.fromisoformat(at), ZoneInfo(zone))


def said(moment: datetime, zone: str = NEW_YORK) -> str:
    return moment.astimezone(ZoneInfo(zone)).strftime("%a %H:%M")


@pytest.mark.parametrize(
    ("day", "at", "rung", "due", "useless"),
    [
        (WEDNESDAY, "08:00", EMAIL, "Sun 08:00", "Tue 08:00"),
        (WEDNESDAY, "08:00", TEXT, "Tue 09:00", "Wed 06:00"),
        (WEDNESDAY, "08:00", CALL, "Tue 19:00", "Tue 20:00"),
        (WEDNESDAY, "09:00", TEXT, "Tue 09:00", "Wed 07:00"),
        (WEDNESDAY, "09:00", CALL, "Tue 19:00", "Tue 20:00"),
        (WEDNESDAY, "10:30", TEXT, "Tue 10:30", "Wed 08:30"),
        (WEDNESDAY, "10:30", CALL, "Wed 09:00", "Wed 09:30"),
        (WEDNESDAY, "14:00", CALL, "Wed 10:00", "Wed 13:00"),
        (WEDNESDAY, "19:30", TEXT, "Tue 19:30", "Wed 17:30"),
        (WEDNESDAY, "19:30", CALL, "Wed 15:30", "Wed 18:30"),
        (MONDAY, "09:00", CALL, "Sun 19:00", "Sun 20:00"),
        (TUESDAY, "22:00", TEXT, "Tue 09:00", "Tue 20:00"),
        (WEDNESDAY, "00:30", CALL, "Tue 19:00", "Tue 20:00"),
    ],
)
def test_windows_of_the_default_ladder(day: datetime, at: str, rung: Rung, due: str, useless: str) -> None:
    window = policy.window(local(day, at), rung, HOURS, NEW_YORK)
    assert (said(window.due_at), said(window.expires_at)) == (due, useless)


@pytest.mark.parametrize(
    ("slot", "zone", "due"),
    [
        # The night the clocks go forward, a day has 23 hours: a lead is elapsed time, hours are the wall clock's.
        (datetime(2026, 3, 8, 14, tzinfo=ZoneInfo(NEW_YORK)), NEW_YORK, "Sat 13:00"),
        (datetime(2026, 11, 1, 14, tzinfo=ZoneInfo(NEW_YORK)), NEW_YORK, "Sat 15:00"),
        (datetime(2026, 3, 29, 9, tzinfo=ZoneInfo(LONDON)), LONDON, "Sat 09:00"),
        (datetime(2026, 10, 25, 9, tzinfo=ZoneInfo(LONDON)), LONDON, "Sat 10:00"),
        (datetime(2026, 4, 5, 12, tzinfo=ZoneInfo(LORD_HOWE)), LORD_HOWE, "Sat 12:30"),
    ],
)
def test_texts_around_a_night_when_the_clocks_change(slot: datetime, zone: str, due: str) -> None:
    assert said(policy.window(slot, TEXT, HOURS, zone).due_at, zone) == due


@given(
    slot=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    zone=st.sampled_from([NEW_YORK, LONDON, LORD_HOWE, "Asia/Kathmandu", "Pacific/Apia"]),
    rung=st.sampled_from(policy.DEFAULT_LADDER),
)
def test_every_window_is_open_useful_and_within_the_horizon(slot: datetime, zone: str, rung: Rung) -> None:
    window = policy.window(slot, rung, HOURS, zone)
    assert window.due_at < window.expires_at <= slot - rung.useful_until
    assert rung.channel is Channel.EMAIL or policy.is_permitted(window.due_at, HOURS, zone)
    assert slot - window.due_at <= policy.horizon(policy.DEFAULT_LADDER)


@pytest.mark.parametrize(
    ("client", "account", "zone"),
    [(LONDON, NEW_YORK, LONDON), ("Mars/Base", NEW_YORK, NEW_YORK), (None, "", None), ("../etc", None, None)],
)
def test_an_unknown_zone_falls_back(client: str | None, account: str | None, zone: str | None) -> None:
    assert policy.zone_or(client, account) == zone


def test_a_slot_is_a_minute() -> None:
    assert policy.minute(datetime(2026, 2, 11, 9, 0, 59, 9, ZoneInfo(NEW_YORK))) == local(WEDNESDAY, "09:00")


def test_a_rung_that_was_useless_when_booked_was_never_due() -> None:
    window = policy.window(local(WEDNESDAY, "14:00"), TEXT, HOURS, NEW_YORK)
    assert policy.is_worth_creating(window, local(WEDNESDAY, "11:59"))
    assert not policy.is_worth_creating(window, local(WEDNESDAY, "12:00"))


@pytest.mark.parametrize(
    ("ladder", "complaint"),
    [
        ((), "at least one step"),
        ((Rung(1, Channel.SMS, timedelta(hours=1), timedelta(hours=2), timedelta(0)),), "useful|lead"),
        ((Rung(1, Channel.SMS, timedelta(hours=2), timedelta(hours=1), timedelta(-1)),), "negative"),
        ((TEXT, EMAIL), "in order"),
        ((Rung(1, Channel.CALL, *[timedelta(hours=h) for h in (4, 1, 0)]), TEXT), "due no later"),
    ],
)
def test_a_ladder_that_makes_no_sense_is_refused(ladder: tuple[Rung, ...], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        policy.check_ladder(ladder)


def test_narrow_hours_are_kept() -> None:
    half_an_hour = Hours(time(9), time(9, 30))
    window = policy.window(local(WEDNESDAY, "14:00"), CALL, half_an_hour, NEW_YORK)
    assert (said(window.due_at), said(window.expires_at)) == ("Wed 09:00", "Wed 09:30")
