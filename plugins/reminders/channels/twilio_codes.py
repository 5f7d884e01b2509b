"""What Twilio's codes and statuses mean for the ledger: two pure decision tables.

Source: Twilio's error dictionary (one page a code) and the status values of its Message and Call resources.
"""

from __future__ import annotations

from reminders.errors import AddressRefused, Doubtful, Misconfigured, NeverContacted, OptedOut, SendError
from reminders.model import Channel, State

OPTED_OUT = frozenset({21610})
ADDRESS = frozenset({21211, 21214, 21217, 21614, 21635, 30005, 30006})
# This From with this To, and a text that the person's carrier blocks: about the number or about us, so neither a reason
# to stop the channel nor proof for a call.
UNEXPLAINED = frozenset({21612, 30004})
PASSING = frozenset({30001, 30003, 30008})
RATE_LIMITED = frozenset({20429})
TOO_LATE = frozenset({30036})
PASSING_RETRY = 300.0


def classify(http_status: int, code: int | str | None) -> SendError:
    """What an answer that is not a success means, by its HTTP status and Twilio's error code (None: it has none).

    5xx, 3xx and anything below are doubt, whatever their code: the provider may have acted. Among 4xx, 429 and 20429
    were never processed; known codes are about the person, the address or a passing trouble. Every other code is
    treated as ours, as 20003, 21408, 21606, 30007, 30032 and 30034 are known to be: `Misconfigured` stops the channel
    until a person has looked, and is never proof about a client.
    """
    number = _number(code)
    shown = str(number or http_status)
    if not 400 <= http_status < 500:
        return Doubtful("server_error" if http_status >= 500 else "unexpected_answer", shown)
    if http_status == 429 or number in RATE_LIMITED:
        return NeverContacted("rate_limited", shown)
    if http_status == 408:
        return Doubtful("timeout", shown)
    if number in OPTED_OUT:
        return OptedOut("opted_out", shown)
    if number in ADDRESS:
        return AddressRefused("bad_address", shown)
    if number in UNEXPLAINED:
        return AddressRefused("refused_unexplained", shown)
    if number in PASSING:
        return NeverContacted("passing_trouble", shown, PASSING_RETRY)
    if number in TOO_LATE:
        return NeverContacted("too_late", shown, 0)
    return Misconfigured("misconfigured", shown)


def final_status(channel: Channel, status: str, error_code: str) -> tuple[str, str] | None:
    """The ledger's end state and reason for a provider's status, or None while it is not final (or not known).

    `sent` is not final: whether it counts after a time is the ladder's rule. A status that is not in Twilio's pages
    stays open, and ends `unknown` when its time is over.
    """
    if channel is Channel.SMS:
        return _final_text(status, error_code)
    if channel is Channel.CALL:
        return _final_call(status, error_code)
    return None


def _final_text(status: str, error_code: str) -> tuple[str, str] | None:
    match status:
        case "delivered" | "read":
            return State.DELIVERED.value, status
        case "undelivered" | "failed":
            return State.UNDELIVERED.value, _why_undelivered(error_code, "refused_unexplained")
        case "canceled":
            return State.CANCELLED.value, "cancelled_at_provider"
    return None


def _final_call(status: str, error_code: str) -> tuple[str, str] | None:
    match status:
        case "completed":
            return State.DELIVERED.value, status
        case "busy":
            return State.UNDELIVERED.value, "busy"
        case "no-answer":
            return State.UNDELIVERED.value, "no_answer"
        case "failed":
            return State.UNDELIVERED.value, _why_undelivered(error_code, "call_failed")
        case "canceled":
            return State.CANCELLED.value, "cancelled_at_provider"
    return None


def _why_undelivered(error_code: str, without_code: str) -> str:
    """The reason behind an error code; a code that we do not know is ours, so that it is never proof about a client."""
    number = _number(error_code)
    if number is None:
        return without_code
    table = (
        (OPTED_OUT, "opted_out"),
        (ADDRESS, "bad_address"),
        (UNEXPLAINED, "refused_unexplained"),
        (PASSING, "unreachable"),
        (TOO_LATE, "too_late"),
    )
    return next((reason for codes, reason in table if number in codes), "misconfigured")


def _number(code: int | str | None) -> int | None:
    try:
        return int(code) if code not in (None, "", 0, "0") else None
    except (TypeError, ValueError):
        return None
