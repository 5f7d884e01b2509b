"""Filters and pages of the lists of messages and calls.

Source: https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources, the call resource's
page of the same name, and https://www.twilio.com/docs/usage/twilios-response#response-formats-list-paging-information.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from .resources import Call, Message

DEFAULT_PAGE_SIZE = 50
_MOST = 1000
_DAY = timedelta(days=1)

FILTERS = {
    "sms": ("To", "From", "DateSent", "DateSent<", "DateSent>"),
    "call": ("To", "From", "Status", "StartTime", "StartTime<", "StartTime>"),
}
PAGING = ("PageSize", "Page", "PageToken")
_DATED = {"sms": "DateSent", "call": "StartTime"}


def _moment(value: str) -> tuple[datetime, timedelta]:
    """A filter's first instant, in UTC, and how long it lasts: a day for a date, a second for a date and time."""
    try:
        if len(value) == 10:
            return datetime.fromisoformat(value).replace(tzinfo=UTC), _DAY
        moment = datetime.fromisoformat(value)
    except ValueError:
        # Twilio ignores what it cannot read as a date; here that would hide a mistake of the customer's.
        raise ValueError(f"not a date or an ISO 8601 time: {value}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC), timedelta(seconds=1)


def _is_dated(resource: Message | Call, kind: str, query: dict[str, str]) -> bool:
    name, at = _DATED[kind], resource.dated_at
    for operator in ("", "<", ">"):
        value = query.get(name + operator)
        if not value:
            continue
        if at is None:
            return False
        first, lasting = _moment(value)
        # Messages are found on and before a date, calls before it only: each as its own page says. Equality is by day
        # for both, also where the library sends a date as its midnight.
        last = first + lasting if kind == "sms" or lasting < _DAY else first
        if {"": at.date() != first.date(), "<": at >= last, ">": at < first}[operator]:
            return False
    return True


def matches(resource: Message | Call, kind: str, query: dict[str, str]) -> bool:
    """Whether a list with these filters contains the resource. Raises ValueError for an unreadable date."""
    exact = {"To": resource.to, "From": resource.sender, "Status": resource.status}
    wanted = {name: query[name] for name in exact if name in FILTERS[kind] and query.get(name)}
    return all(exact[name] == value for name, value in wanted.items()) and _is_dated(resource, kind, query)


def page(found: Sequence[Message | Call], name: str, path: str, query: dict[str, str]) -> dict[str, Any]:
    """One page of `found` (newest first) under the key `name`, with the URIs of its neighbours.

    A page token names the last resource of the page before, so that new ones do not shift the pages. Raises ValueError
    for a token that names none, and for a size or a number that is no number.
    """
    size = min(max(int(query.get("PageSize") or DEFAULT_PAGE_SIZE), 1), _MOST)
    number = max(int(query.get("Page") or 0), 0)
    token = query.get("PageToken", "")
    if token:
        start = next((place + 1 for place, each in enumerate(found) if f"PA{each.sid}" == token), 0)
        if not start:
            # Starting over would send a customer who follows the pages round for ever.
            raise ValueError("unknown page token")
    else:
        start = number * size
    shown = found[start : start + size]
    has_more = start + size < len(found)

    def uri(page_number: int, page_token: str = "") -> str:
        kept = {key: value for key, value in query.items() if key not in PAGING and value}
        kept |= {"PageSize": str(size), "Page": str(page_number)} | ({"PageToken": page_token} if page_token else {})
        return f"{path}?{urlencode(kept)}"

    return {
        name: [each.as_json() for each in shown],
        "page": number,
        "page_size": size,
        "start": start,
        "end": start + max(len(shown) - 1, 0),
        "uri": uri(number, token),
        "first_page_uri": uri(0),
        "next_page_uri": uri(number + 1, f"PA{shown[-1].sid}") if has_more else None,
        "previous_page_uri": uri(number - 1) if number else None,
    }
