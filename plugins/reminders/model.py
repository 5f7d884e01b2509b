"""The words of the domain as types: ids, channels, states, and the rows that travel between the layers.

Nothing here reads a clock, a database or a network. All times are timezone-aware; all durations are `timedelta`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import NewType

AccountId = NewType("AccountId", str)
AppointmentId = NewType("AppointmentId", str)
AttemptId = NewType("AttemptId", int)


class Channel(StrEnum):
    """How a client is contacted, from the quietest to the loudest."""

    EMAIL = "email"
    SMS = "sms"
    CALL = "call"


class State(StrEnum):
    """The states of a reminder, in the order in which a reminder can reach them."""

    PENDING = "pending"
    HELD = "held"
    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a cadence: sent from `lead` before the slot, useful until `useful_until` before it.

    `wait` is how long the client has to answer the rung below before this one may go.
    """

    step: int
    channel: Channel
    lead: timedelta
    useful_until: timedelta
    wait: timedelta


EVERY_DAY = range(1, 8)


@dataclass(frozen=True, slots=True)
class Hours:
    """Local hours from `opens` (included) to `closes` (excluded), on `days`: ISO weekdays, 1 is Monday and 7 Sunday."""

    opens: time
    closes: time
    days: frozenset[int] = frozenset(EVERY_DAY)


@dataclass(frozen=True, slots=True)
class Office:
    """The office that people who are called call back: open in `hours` of its own valid IANA `zone`."""

    hours: Hours
    zone: str


@dataclass(frozen=True, slots=True)
class Window:
    """When a rung is due and when it stops being useful, both timezone-aware, `due_at` < `expires_at`."""

    due_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Visit:
    """One appointment that a contact names, as the person contacted should hear of it.

    `starts_at` and `ends_at` are timezone-aware; `zone` is the client's valid IANA zone; `client_name` is cleaned
    text and may be empty; `sequence` counts the moves of the appointment (RFC 5545 SEQUENCE).
    """

    appointment_id: AppointmentId
    client_name: str = field(repr=False)
    starts_at: datetime
    ends_at: datetime
    zone: str
    location: str = field(repr=False)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Contact:
    """All that a channel needs for one email, text or call. Never logged, never pickled, never put into XCom; its repr
    leaves out who is contacted and where. `is_cancellation`: the email says that the visits do not take place.

    `reference` is stable for the contact, opaque, and free of personal data: it becomes the Message-ID and part of
    the status callback's URL. `address` is an email address or an E.164 number. `expires_at` is when the contact
    stops being useful. `visits` is never empty, sorted by start. `logical_dates` are those of the cycles that made its
    reminders: a hold of any of them stops it.
    """

    attempt_id: AttemptId
    reference: str
    channel: Channel
    address: str = field(repr=False)
    account_id: AccountId
    account_name: str
    account_phone: str = field(repr=False)
    account_email: str = field(repr=False)
    locale: str
    visits: tuple[Visit, ...]
    expires_at: datetime
    is_cancellation: bool = False
    logical_dates: frozenset[datetime] = frozenset()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The provider took the contact: its own id for it, the status it gave, and whether that is already delivery."""

    provider_id: str
    provider_status: str
    is_delivered: bool = False


@dataclass(frozen=True, slots=True)
class Reported:
    """What the provider says of a text or call of ours: `status` and `code` are its own words."""

    channel: Channel
    provider_id: str
    status: str
    code: str


@dataclass(frozen=True, slots=True)
class Listed(Reported):
    """A text or call as the provider's own list has it: `address` is the number (E.164) that it went to, `created_at`
    (timezone-aware) when the provider took it."""

    address: str = field(repr=False)
    created_at: datetime
