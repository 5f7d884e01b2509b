"""Messages and calls as Twilio describes them.

Source of every field: https://www.twilio.com/docs/messaging/api/message-resource and
https://www.twilio.com/docs/voice/api/call-resource.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from xml.etree import ElementTree

API = "/2010-04-01"

# GSM 03.38, the basic alphabet and the characters that cost two: https://www.twilio.com/docs/glossary/what-is-gsm-7-character-encoding
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("\f^{}\\[~]|€")


def segments(body: str) -> int:
    """How many segments a text is sent in: 160 GSM-7 or 70 UCS-2 characters, 153 or 67 each in a longer one."""
    if all(character in _GSM_BASIC or character in _GSM_EXTENDED for character in body):
        length, single, each = sum(2 if c in _GSM_EXTENDED else 1 for c in body), 160, 153
    else:
        length, single, each = len(body.encode("utf-16-be")) // 2, 70, 67
    return 1 if length <= single else -(-length // each)


def spoken(twiml: str) -> str:
    """What a person hears of some TwiML: the words of its Say verbs; empty when it says nothing or is not XML."""
    try:
        root = ElementTree.fromstring(twiml)
    except ElementTree.ParseError:
        return ""
    return " ".join(" ".join("".join(verb.itertext()).split()) for verb in root.iter("Say"))


def rfc2822(moment: datetime | None) -> str | None:
    """A time as the API writes it, in GMT, or null."""
    return format_datetime(moment) if moment else None


@dataclass(frozen=True, slots=True)
class Callback:
    """Where and when the customer wants to hear of a status. `events` are those of a call; a message has none.

    `is_repeated` and `is_reordered` are the lies told about it.
    """

    url: str
    method: str = "POST"
    events: frozenset[str] = frozenset()
    is_repeated: bool = False
    is_reordered: bool = False


@dataclass(slots=True)
class Message:
    """A text. `status` is one of Twilio's message statuses; `sent_at` is empty until it left."""

    sid: str
    account_sid: str
    to: str
    sender: str
    service: str
    body: str
    status: str
    created_at: datetime
    updated_at: datetime
    sent_at: datetime | None = None
    error_code: int | None = None
    error_message: str | None = None
    media_count: int = 0
    callback: Callback | None = None
    is_final: bool = field(default=False)

    @property
    def dated_at(self) -> datetime | None:
        """The time that the list's DateSent filters compare."""
        return self.sent_at

    def as_json(self) -> dict[str, Any]:
        """The resource's representation."""
        uri = f"{API}/Accounts/{self.account_sid}/Messages/{self.sid}"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": self.body,
            "date_created": rfc2822(self.created_at),
            "date_sent": rfc2822(self.sent_at),
            "date_updated": rfc2822(self.updated_at),
            "direction": "outbound-api",
            "error_code": self.error_code,
            "error_message": self.error_message,
            "from": self.sender or None,
            "messaging_service_sid": self.service or None,
            "num_media": str(self.media_count),
            "num_segments": str(segments(self.body)),
            "price": None,
            "price_unit": "USD",
            "sid": self.sid,
            "status": self.status,
            "subresource_uris": {"media": f"{uri}/Media.json", "feedback": f"{uri}/Feedback.json"},
            "to": self.to,
            "uri": f"{uri}.json",
        }


@dataclass(slots=True)
class Call:
    """A call. `dialed_at` is its start; a busy line never rang (`rang_at`); `said` is what was heard."""

    sid: str
    account_sid: str
    to: str
    sender: str
    status: str
    created_at: datetime
    updated_at: datetime
    twiml: str = ""
    url: str = ""
    url_method: str = "POST"
    said: str = ""
    dialed_at: datetime | None = None
    rang_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    callback: Callback | None = None
    is_final: bool = field(default=False)

    @property
    def dated_at(self) -> datetime | None:
        """The time that the list's StartTime filters compare."""
        return self.dialed_at

    @property
    def duration(self) -> str | None:
        """Whole seconds from the answer to the end, as the API writes them; null unless somebody answered."""
        if self.answered_at is None or self.ended_at is None:
            return None
        return str(round((self.ended_at - self.answered_at).total_seconds()))

    def as_json(self) -> dict[str, Any]:
        """The resource's representation."""
        uri = f"{API}/Accounts/{self.account_sid}/Calls/{self.sid}"
        parts = ("notifications", "recordings", "payments", "events", "siprec", "streams", "transcriptions")
        return {
            "account_sid": self.account_sid,
            "answered_by": None,
            "api_version": "2010-04-01",
            "caller_name": None,
            "date_created": rfc2822(self.created_at),
            "date_updated": rfc2822(self.updated_at),
            "direction": "outbound-api",
            "duration": self.duration,
            "end_time": rfc2822(self.ended_at),
            "forwarded_from": None,
            "from": self.sender,
            "from_formatted": self.sender,
            "group_sid": None,
            "parent_call_sid": None,
            "phone_number_sid": None,
            "price": None,
            "price_unit": "USD",
            "queue_time": "0",
            "sid": self.sid,
            "start_time": rfc2822(self.dialed_at),
            "status": self.status,
            "subresource_uris": {part: f"{uri}/{part.capitalize()}.json" for part in parts},
            "to": self.to,
            "to_formatted": self.to,
            "trunk_sid": None,
            "uri": f"{uri}.json",
        }

    def as_history(self) -> dict[str, Any]:
        """The call as GET /_log/calls shows it, times in ISO 8601 UTC."""
        moments = {"rang_at": self.rang_at, "answered_at": self.answered_at, "ended_at": self.ended_at}
        history = {name: moment.isoformat() if moment else None for name, moment in moments.items()}
        return {
            "sid": self.sid,
            "to": self.to,
            "from": self.sender,
            "status": self.status,
            "said": self.said,
            **history,
        }
