"""Twilio's error codes that matter here, and the destinations that provoke them.

Source of codes, messages and the form of an error's body: https://www.twilio.com/docs/api/errors and
https://www.twilio.com/docs/usage/twilios-response#exceptions. A number whose last five digits are one of the
codes below provokes that error, so a test needs no command: +1 202 552 1610 is a person who answered STOP. A number
that ends in one of `CALL_OUTCOMES` (after the SIP response of that meaning, RFC 3261 section 21) ends its calls so.
"""

from __future__ import annotations

import re

# At creation: nothing was accepted.
_REFUSALS: dict[int, tuple[int, str]] = {
    20001: (400, "Invalid parameter"),
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    20503: (503, "Service unavailable"),
    21201: (400, "No 'To' number is specified"),
    21205: (400, "Url parameter is required"),
    21210: (400, "'From' phone number not verified"),
    21211: (400, "Invalid 'To' Phone Number"),
    21212: (400, "Invalid 'From' Number"),
    21213: (400, "Caller phone number is required"),
    21214: (400, "'To' phone number cannot be reached"),
    21215: (400, "Account not authorized to call this number"),
    21217: (400, "Phone number does not appear to be valid"),
    21220: (400, "Invalid call state"),
    21408: (400, "Permission to send an SMS has not been enabled for the region indicated by the 'To' number"),
    21602: (400, "Message body is required"),
    21603: (400, "A 'From' phone number is required"),
    21604: (400, "A 'To' phone number is required"),
    21606: (400, "The 'From' phone number provided is not a valid message-capable Twilio phone number"),
    21609: (400, "Invalid 'StatusCallback' URL"),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21612: (400, "The 'To' phone number is not currently reachable using the 'From' phone number"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
    21635: (400, "'To' number cannot be a landline"),
    30409: (409, "Message cannot be canceled in its current state"),
}

# After acceptance: the message ends with this status and code and never reaches the phone.
FAILURES: dict[int, tuple[str, str]] = {
    30001: ("failed", "Queue overflow"),
    30003: ("undelivered", "Unreachable destination handset"),
    30004: ("undelivered", "Message blocked"),
    30005: ("undelivered", "Unknown destination handset"),
    30006: ("undelivered", "Landline or unreachable carrier"),
    30007: ("undelivered", "Message filtered"),
    30008: ("undelivered", "Unknown error"),
    30032: ("undelivered", "Toll-free number has not been verified"),
    30034: ("undelivered", "Message from an unregistered number"),
    30036: ("failed", "Validity period expired"),
}

CALL_OUTCOMES = {"00404": "failed", "00480": "no-answer", "00486": "busy"}

_E164 = re.compile(r"\+[1-9]\d{6,14}")


class Refusal(Exception):
    """The API's definite no. `status` is the HTTP status, `code` and `message` go into the body."""

    def __init__(self, code: int) -> None:
        self.code = code
        # A code without an entry was ordered by a test: Twilio answers 400 to what it does not like about a request.
        self.status, self.message = _REFUSALS.get(code, (400, f"Error {code}"))
        super().__init__(f"{code}: {self.message}")

    def as_json(self) -> dict[str, object]:
        """Twilio's error body."""
        more_info = f"https://www.twilio.com/docs/errors/{self.code}"
        return {"code": self.code, "message": self.message, "more_info": more_info, "status": self.status}


def is_number(value: str) -> bool:
    """Whether `value` has the form of an E.164 number (ITU-T E.164: at most 15 digits after the plus)."""
    return _E164.fullmatch(value) is not None


def magic_code(to: str) -> int:
    """The error code that the destination provokes, 0 for none."""
    code = int(to[-5:]) if to[-5:].isdigit() else 0
    return code if code in _REFUSALS or code in FAILURES else 0


def call_outcome(to: str) -> str:
    """How a call to this destination ends: `completed` unless its last digits say otherwise."""
    return CALL_OUTCOMES.get(to[-5:], "completed")
