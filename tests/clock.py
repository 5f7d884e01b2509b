"""Whether somebody may be contacted, by the clocks on the wall: worked out without the product's own policy."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from reminders.model import Hours, Office


def is_permitted(at: datetime, hours: Hours, zone: str, office: Office | None = None) -> bool:
    """Whether a text may go at `at`, by the client's clock; a call, if `office` is given, by the office's clock too."""
    return is_open(at, hours, zone) and (office is None or is_open(at, office.hours, office.zone))


def is_open(at: datetime, hours: Hours, zone: str) -> bool:
    clock = at.astimezone(ZoneInfo(zone))
    return clock.isoweekday() in hours.days and hours.opens <= clock.time() < hours.closes
