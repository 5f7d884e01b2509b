"""When a rung of the ladder is due and when it stops being useful: pure rules, which read no clock.

Every time is a timezone-aware `datetime`, every answer is in UTC, every duration is a `timedelta` of elapsed time:
"24 hours before" is 24 hours even when the clocks change in between. Quiet hours are wall-clock hours in the client's
zone, as the tz database has it (https://www.iana.org/time-zones), so they follow every change of the clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from reminders.errors import ConfigurationError
from reminders.model import Channel, Hours, Rung, Window

HOUR, DAY, ZERO = timedelta(hours=1), timedelta(days=1), timedelta(0)
HALF_A_MINUTE = timedelta(seconds=30)

DEFAULT_LADDER = (
    Rung(step=1, channel=Channel.EMAIL, lead=72 * HOUR, useful_until=24 * HOUR, wait=ZERO),
    Rung(step=2, channel=Channel.SMS, lead=24 * HOUR, useful_until=2 * HOUR, wait=4 * HOUR),
    Rung(step=3, channel=Channel.CALL, lead=4 * HOUR, useful_until=1 * HOUR, wait=1 * HOUR),
)
DEFAULT_HOURS = Hours(opens=time(9), closes=time(20))

# How much earlier than its lead quiet hours can make a rung due. A whole local day is without a permitted minute when
# the clocks jump over its hours; then the last permitted hour is that of the day before it.
LONGEST_SHIFT = 48 * HOUR

# Longer than any run of days without a permitted minute that the clocks can make.
LONGEST_SEARCH_DAYS = 7

# Names that are no place: what the machine at hand is set to, and the tz database's "not set yet".
NO_PLACES = frozenset({"localtime", "Factory"})

# Abbreviations that name a zone too. PostgreSQL sees in them an offset without summer time, so each goes by its place
# (the tz database's file "backward").
PLACES = {
    "CET": "Europe/Brussels",
    "EET": "Europe/Athens",
    "EST": "America/Panama",
    "HST": "Pacific/Honolulu",
    "MET": "Europe/Brussels",
    "MST": "America/Phoenix",
    "WET": "Europe/Lisbon",
}

Span = tuple[datetime, datetime]


def minute(slot: datetime) -> datetime:
    """`slot` in UTC at the nearest minute: feeds that differ by a second name one slot. ValueError when naive."""
    if slot.tzinfo is None:
        raise ValueError("a slot needs a time zone")
    return (slot.astimezone(UTC) + HALF_A_MINUTE).replace(second=0, microsecond=0)


def zone_or(client_zone: str | None, account_zone: str | None) -> str | None:
    """The client's IANA zone where it is a known one, else the account's, else None. Never raises."""
    for name in (client_zone, account_zone):
        if name and (stripped := name.strip()) in _known_zones():
            return PLACES.get(stripped, stripped)
    return None


def window(slot_at: datetime, rung: Rung, hours: Hours, zone: str) -> Window:
    """When `rung` is due for the slot at `slot_at`, and when it stops being useful.

    An email is due at any hour. A text or call is due at the first permitted minute of its useful window; where
    there is none, it moves to the last permitted hour before the window, and has expired when that hour closes.
    The answer holds `due_at` < `expires_at` <= `slot_at` - `rung.useful_until`, in UTC.

    Raises ConfigurationError for an unknown zone (see `zone_or`), and for hours that do not open before they close.
    """
    slot = slot_at.astimezone(UTC)
    starts_at, ends_at = slot - rung.lead, slot - rung.useful_until
    if rung.channel is Channel.EMAIL:
        return Window(starts_at, ends_at)
    due_at = next_permitted(starts_at, hours, zone)
    if due_at < ends_at:
        return Window(due_at, ends_at)
    opened_at, closed_at = _last_span_before(starts_at, hours, zone)
    return Window(max(closed_at - HOUR, opened_at), closed_at)


def is_permitted(at: datetime, hours: Hours, zone: str) -> bool:
    """Whether a text or a call may go at `at`: the client's wall clock shows `opens` or later, and not yet `closes`."""
    return hours.opens <= at.astimezone(_zone(zone)).time() < hours.closes


def next_permitted(at: datetime, hours: Hours, zone: str) -> datetime:
    """`at` itself if a text or a call may go then, else the first moment after it, in UTC. Errors as for `window`."""
    today = _local_date(at, zone)
    # Yesterday too: clocks that go back over midnight show its last hour twice.
    for days in range(-1, LONGEST_SEARCH_DAYS):
        for opened_at, closed_at in _permitted_spans(today + days * DAY, hours, zone):
            if at < closed_at:
                return max(at.astimezone(UTC), opened_at)
    raise _never_open(hours)


def is_worth_creating(window: Window, booked_at: datetime) -> bool:
    """Whether the rung was of any use when the appointment was booked; one that had expired by then was never due."""
    return window.expires_at > booked_at


def horizon(rungs: Sequence[Rung]) -> timedelta:
    """How far ahead of now a slot can be whose rung is due now: the longest lead, and what quiet hours add to it."""
    return max(rung.lead for rung in rungs) + LONGEST_SHIFT


def _last_span_before(at: datetime, hours: Hours, zone: str) -> Span:
    """The last span of permitted time that has closed by `at`."""
    today = _local_date(at, zone)
    for days in range(1, -LONGEST_SEARCH_DAYS, -1):
        for span in reversed(_permitted_spans(today + days * DAY, hours, zone)):
            if span[1] <= at:
                return span
    raise _never_open(hours)


@lru_cache(maxsize=20_000)
def _permitted_spans(day: date, hours: Hours, zone: str) -> tuple[Span, ...]:
    """The permitted time of one local date, in UTC and in order.

    It is one span on nearly every date. It is none where the clocks jump over the hours or the date, and two where
    clocks that go back show part of the hours again after they had closed or before they had opened.
    """
    opens, closes = (datetime.combine(day, at, UTC) for at in (hours.opens, hours.closes))
    spans: list[Span] = []
    for starts_at, ends_at, offset in _offsets(day, zone):
        opened_at, closed_at = max(opens - offset, starts_at), min(closes - offset, ends_at)
        if opened_at >= closed_at:
            continue
        if spans and spans[-1][1] == opened_at:
            opened_at = spans.pop()[0]
        spans.append((opened_at, closed_at))
    return tuple(spans)


@lru_cache(maxsize=20_000)
def _offsets(day: date, zone: str) -> tuple[tuple[datetime, datetime, timedelta], ...]:
    """(from, until, offset from UTC) for all the time in which clocks anywhere could show `day`."""
    # Offsets have been within 16 hours of UTC wherever and whenever the tz database looks.
    at = datetime.combine(day, time(0), UTC) - 16 * HOUR
    segments = [(at, at, _offset(at, zone))]
    for _ in range(24 + 2 * 16):
        starts_at, _until, offset = segments[-1]
        following = at + HOUR
        if (changed := _offset(following, zone)) == offset:
            segments[-1] = (starts_at, following, offset)
        else:
            change = _change(at, following, zone)
            segments[-1:] = [(starts_at, change, offset), (change, following, changed)]
        at = following
    return tuple(segments)


def _change(before: datetime, after: datetime, zone: str) -> datetime:
    """The first second at which the offset is what it is at `after`."""
    old = _offset(before, zone)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if _offset(middle, zone) == old:
            before = middle
        else:
            after = middle
    return after


def _offset(at: datetime, zone: str) -> timedelta:
    return at.astimezone(_zone(zone)).utcoffset() or ZERO


def _local_date(at: datetime, zone: str) -> date:
    return at.astimezone(_zone(zone)).date()


@lru_cache(maxsize=1_000)
def _zone(name: str) -> ZoneInfo:
    if name not in _known_zones():
        raise ConfigurationError("a time zone is not in the tz database: ask zone_or for one that is")
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones() - NO_PLACES)


def _never_open(hours: Hours) -> ConfigurationError:
    return ConfigurationError(
        f"texts and calls are permitted from {hours.opens:%H:%M} to {hours.closes:%H:%M}, which is never: "
        "the hours must open before they close"
    )
