"""When a rung of the ladder is due and when it stops being useful: pure rules, which read no clock.

Every time is a timezone-aware `datetime`, every answer is in UTC, every duration is a `timedelta` of elapsed time:
"24 hours before" is 24 hours even when the clocks change in between. Hours are wall-clock hours, those for texts and
calls in the client's zone and the office's in the account's, as the tz database has it
(https://www.iana.org/time-zones), so they follow every change of the clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from reminders.errors import ConfigurationError
from reminders.model import EVERY_DAY, Channel, Hours, Office, Rung, Window

HOUR, DAY, ZERO = timedelta(hours=1), timedelta(days=1), timedelta(0)
HALF_A_MINUTE = timedelta(seconds=30)

DEFAULT_LADDER = (
    Rung(step=1, channel=Channel.EMAIL, lead=72 * HOUR, useful_until=24 * HOUR, wait=ZERO),
    Rung(step=2, channel=Channel.SMS, lead=24 * HOUR, useful_until=2 * HOUR, wait=4 * HOUR),
    Rung(step=3, channel=Channel.CALL, lead=4 * HOUR, useful_until=1 * HOUR, wait=1 * HOUR),
)
DEFAULT_HOURS = Hours(opens=time(9), closes=time(20))

# How much earlier than its lead quiet hours can make a rung due. A whole local day is without a permitted minute when
# the clocks jump over its hours; then the last permitted hour is that of the day before it. Days on which the office
# is closed come on top (see `longest_shift`).
LONGEST_SHIFT = 48 * HOUR

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


def window(
    slot_at: datetime,
    rung: Rung,
    hours: Hours,
    zone: str,
    office: Office | None = None,
    since: datetime | None = None,
) -> Window:
    """When `rung` is due for the slot at `slot_at`, and when it stops being useful.

    `since` is when the appointment was booked: nothing is due before, and nobody is late with what nobody knew of.

    An email is due at any hour. A text is due at the first minute of its useful window that is within `hours` in the
    client's `zone`, a call at the first at which the `office` is open too (None: it always is). Where there is none,
    the rung moves to the last permitted hour before the window, and has expired when that hour closes. Where the
    office was closed in every such hour, as it is to a client at the other end of the world, a call is due and
    expires with the client's hours: the ledger then tells why nobody called.
    The answer holds `due_at` < `expires_at` <= `slot_at` - `rung.useful_until`, in UTC.

    Raises ConfigurationError for an unknown zone (see `zone_or`), and for hours that do not open before they close.
    """
    slot = slot_at.astimezone(UTC)
    starts_at, ends_at = slot - rung.lead, slot - rung.useful_until
    if since is not None and since < ends_at:
        starts_at = max(starts_at, since.astimezone(UTC))
    if rung.channel is Channel.EMAIL:
        return Window(starts_at, ends_at)
    if rung.channel is not Channel.CALL:
        office = None
    found = _permitted_window(starts_at, ends_at, hours, zone, office)
    if found is None and office is not None:
        found = _permitted_window(starts_at, ends_at, hours, zone, None)
        if found is not None:
            closes_at = next(closed_at for _, closed_at in _spans(found.due_at, ends_at, hours, zone, None))
            found = Window(found.due_at, min(closes_at, found.expires_at))
    if found is None:
        raise _never_open(hours)
    return found


def is_worth_creating(window: Window, booked_at: datetime) -> bool:
    """Whether the rung was of any use when the appointment was booked; one that had expired by then was never due."""
    return window.expires_at > booked_at


def horizon(rungs: Sequence[Rung], office_hours: Hours | None = None) -> timedelta:
    """How far ahead of now a slot can be whose rung is due now: the longest lead, and what closed hours add to it."""
    return max(rung.lead + longest_shift(office_hours if rung.channel is Channel.CALL else None) for rung in rungs)


def longest_shift(office_hours: Hours | None) -> timedelta:
    """How much earlier than its lead a rung can be due: one that waits for no office (None), or a call."""
    open_days = office_hours.days if office_hours else frozenset(EVERY_DAY)
    closed = longest = 0
    # Two weeks, for the days that are closed from one into the next.
    for day in (*EVERY_DAY, *EVERY_DAY):
        closed = 0 if day in open_days else closed + 1
        longest = max(longest, closed)
    return LONGEST_SHIFT + longest * DAY


def _permitted_window(
    starts_at: datetime, ends_at: datetime, hours: Hours, zone: str, office: Office | None
) -> Window | None:
    """From the first permitted minute of the useful window, else the last permitted hour before it; None: neither."""
    for opened_at, _closed_at in _spans(starts_at, ends_at, hours, zone, office):
        return Window(max(opened_at, starts_at), ends_at)
    earliest = starts_at - longest_shift(office.hours if office else None)
    for opened_at, closed_at in reversed([*_spans(earliest + HOUR, starts_at, hours, zone, office)]):
        return Window(max(closed_at - HOUR, opened_at), closed_at)
    return None


def _spans(from_at: datetime, until_at: datetime, hours: Hours, zone: str, office: Office | None) -> Iterator[Span]:
    """The spans of permitted time that are open at some time from `from_at` until `until_at`, in order and whole."""
    # A date more on either side: clocks that go back over midnight show the last hour of yesterday again.
    day, last = _local_date(from_at, zone) - DAY, _local_date(until_at, zone) + DAY
    while day <= last:
        for opened_at, closed_at in _permitted_spans(day, hours, zone, office):
            if closed_at > from_at and opened_at < until_at:
                yield opened_at, closed_at
        day += DAY


@lru_cache(maxsize=20_000)
def _permitted_spans(day: date, hours: Hours, zone: str, office: Office | None) -> tuple[Span, ...]:
    """The permitted time of one local date of the client's, in UTC and in order."""
    spans = _open_spans(day, hours, zone)
    if office is None or not spans:
        return spans
    overlaps = {
        (max(opened_at, office_opened_at), min(closed_at, office_closed_at))
        for office_opened_at, office_closed_at in _spans(spans[0][0], spans[-1][1], office.hours, office.zone, None)
        for opened_at, closed_at in spans
    }
    return tuple(sorted(overlap for overlap in overlaps if overlap[0] < overlap[1]))


@lru_cache(maxsize=20_000)
def _open_spans(day: date, hours: Hours, zone: str) -> tuple[Span, ...]:
    """The open hours of one local date, in UTC and in order.

    It is one span on nearly every date. It is none where the clocks jump over the hours or the date, and two where
    clocks that go back show part of the hours again after they had closed or before they had opened.
    """
    opens, closes = (datetime.combine(day, at, UTC) for at in (hours.opens, hours.closes))
    spans: list[Span] = []
    if day.isoweekday() not in hours.days:
        return ()
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
