"""What happens to a message or a call after it was accepted, and who is told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .callbacks import Postman
from .clock import Agenda, Clock
from .journal import Event, Journal
from .refusals import FAILURES, Refusal, call_outcome, magic_code
from .resources import Call, Callback, Message, spoken

# In seconds of progress. Texts leave and phones ring at once, so that the log is complete when the answer is read.
_TEXT_DELIVERED = 2.0
_TEXT_FAILED = 1.0
# How long a call waits at the provider, which takes one a second.
_CALL_QUEUED = 0.0
_CALL_ANSWERED = 3.0
_CALL_ENDED = 15.0
_CALL_REFUSED = 1.0

_CALL_EVENTS = {"ringing": "ringing", "in-progress": "answered"}


@dataclass(frozen=True, slots=True)
class Customer:
    """The one account that the simulator knows. `numbers` are its own; none given means that any number is.

    `service_number` is what a Messaging Service sends from.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    numbers: frozenset[str] = frozenset()
    service_number: str = "+15005550006"


@dataclass(frozen=True, slots=True)
class TextOrder:
    """A validated request for a text. `send_at` schedules it; `validity` is in seconds; `forced_code` is a lie's."""

    to: str
    sender: str
    service: str
    body: str
    media_count: int = 0
    send_at: datetime | None = None
    validity: int | None = None
    callback: Callback | None = None
    forced_code: int = 0


@dataclass(frozen=True, slots=True)
class CallOrder:
    """A validated request for a call, by TwiML or by URL. `timeout` is how many seconds an unanswered phone rings."""

    to: str
    sender: str
    twiml: str = ""
    url: str = ""
    url_method: str = "POST"
    timeout: float = 60.0
    callback: Callback | None = None


class PhoneNetwork:
    """Holds every message and call, newest last, and moves them along the agenda."""

    def __init__(self, customer: Customer, clock: Clock, agenda: Agenda, journal: Journal, postman: Postman) -> None:
        self.customer = customer
        self._clock = clock
        self._agenda = agenda
        self._journal = journal
        self._postman = postman
        self._held_back: dict[str, list[dict[str, str]]] = {}
        self.messages: dict[str, Message] = {}
        self.calls: dict[str, Call] = {}
        self._restore()

    def _restore(self) -> None:
        # After a restart the customer still asks about what it sent: the log says that it arrived.
        for event in self._journal.events:
            at = datetime.fromisoformat(event.at)
            if event.channel == "sms":
                self.messages[event.sid] = Message(
                    event.sid,
                    event.account,
                    event.to,
                    event.sender,
                    "",
                    event.body,
                    "delivered",
                    at,
                    at,
                    at,
                    is_final=True,
                )
            elif event.channel == "call":
                self.calls[event.sid] = Call(
                    event.sid, event.account, event.to, event.sender, "completed", at, at,
                    event.body, event.url, said=spoken(event.body),
                    dialed_at=at, rang_at=at, answered_at=at, ended_at=at, is_final=True,
                )  # fmt: skip

    def clear(self) -> None:
        """Forget everything that was ever accepted."""
        self.messages.clear()
        self.calls.clear()
        self._held_back.clear()

    # Texts

    def accept_text(self, order: TextOrder) -> Message:
        """Take a text: `queued`, `accepted` when a Messaging Service sends it, `scheduled` when it has a time."""
        now = self._clock.now()
        status = "scheduled" if order.send_at else "accepted" if order.service else "queued"
        sid = ("MM" if order.media_count else "SM") + secrets.token_hex(16)
        message = Message(
            sid, self.customer.account_sid, order.to, order.sender, order.service, order.body, status, now, now,
            media_count=order.media_count, callback=order.callback,
        )  # fmt: skip
        self.messages[message.sid] = message
        delay = max(0.0, (order.send_at - now).total_seconds()) if order.send_at else 0.0
        code = order.forced_code or magic_code(order.to)
        if code == 30036:
            self._agenda.after(delay + float(order.validity or 36_000), lambda: self._fail_text(message, code))
        else:
            self._agenda.after(delay, lambda: self._send_text(message, code))
        return message

    def _send_text(self, message: Message, code: int) -> None:
        if message.is_final:
            return
        message.sent_at = self._clock.now()
        message.sender = message.sender or self.customer.service_number
        self._set_text(message, "sent")
        if code in FAILURES:
            self._agenda.after(_TEXT_FAILED, lambda: self._fail_text(message, code))
            return
        self._journal.record(
            Event(
                at=message.sent_at.isoformat(),
                channel="sms",
                to=message.to,
                sender=message.sender,
                body=message.body,
                sid=message.sid,
                account=message.account_sid,
            )
        )
        self._agenda.after(_TEXT_DELIVERED, lambda: self._set_text(message, "delivered", is_final=True))

    def _fail_text(self, message: Message, code: int) -> None:
        if not message.is_final:
            status, message.error_message = FAILURES[code]
            message.error_code = code
            self._set_text(message, status, is_final=True)

    def cancel_text(self, message: Message) -> None:
        """Cancel a scheduled text. Raises Refusal 30409 for one in any other state, as Twilio does."""
        if message.status != "scheduled":
            raise Refusal(30409)
        self._set_text(message, "canceled", is_final=True)

    def _set_text(self, message: Message, status: str, *, is_final: bool = False) -> None:
        message.status, message.updated_at, message.is_final = status, self._clock.now(), is_final
        params = {
            "AccountSid": message.account_sid,
            "ApiVersion": "2010-04-01",
            "From": message.sender,
            "MessageSid": message.sid,
            "MessageStatus": status,
            "SmsSid": message.sid,
            "SmsStatus": status,
            "To": message.to,
        }
        if message.service:
            params["MessagingServiceSid"] = message.service
        if message.error_code:
            params["ErrorCode"] = str(message.error_code)
        self._tell(message.sid, message.callback, params, is_final)

    # Calls

    def accept_call(self, order: CallOrder) -> Call:
        """Take a call, `queued`; the phone rings at the next settling, unless the line is busy or dead."""
        now = self._clock.now()
        call = Call(
            "CA" + secrets.token_hex(16), self.customer.account_sid, order.to, order.sender, "queued", now, now,
            order.twiml, order.url, order.url_method, callback=order.callback,
        )  # fmt: skip
        self.calls[call.sid] = call
        outcome = call_outcome(order.to)
        if outcome in ("busy", "failed"):
            call.dialed_at = now
            self._agenda.after(_CALL_REFUSED, lambda: self._end_call(call, outcome))
            return call
        self._agenda.after(_CALL_QUEUED, lambda: self._ring(call))
        if outcome == "no-answer":
            self._agenda.after(_CALL_QUEUED + order.timeout, lambda: self._end_call(call, outcome))
        else:
            self._agenda.after(_CALL_QUEUED + _CALL_ANSWERED, lambda: self._answer(call))
            self._agenda.after(_CALL_QUEUED + _CALL_ENDED, lambda: self._end_call(call, outcome))
        return call

    def _ring(self, call: Call) -> None:
        if call.is_final:
            return
        call.dialed_at = call.rang_at = self._clock.now()
        self._journal.record(
            Event(
                at=call.rang_at.isoformat(),
                channel="call",
                to=call.to,
                sender=call.sender,
                body=call.twiml,
                sid=call.sid,
                account=call.account_sid,
                url=call.url,
            )
        )
        self._set_call(call, "ringing")

    def _answer(self, call: Call) -> None:
        if call.is_final:
            return
        call.answered_at = self._clock.now()
        call.said = spoken(call.twiml)
        self._set_call(call, "in-progress")
        if call.url:
            self._postman.post(
                call.url, call.url_method, self._call_params(call), lambda twiml: self._hear(call, twiml)
            )

    @staticmethod
    def _hear(call: Call, twiml: str) -> None:
        call.said = spoken(twiml)

    def _end_call(self, call: Call, status: str) -> None:
        if call.is_final:
            return
        call.ended_at = self._clock.now()
        if call.rang_at:
            self._journal.hung_up(call.to)
        self._set_call(call, status, is_final=True)

    def update_call(self, call: Call, status: str) -> None:
        """End a call: `canceled` while it is queued or ringing, `completed` at any time before its end.

        Raises Refusal 21220 when the call is past that.
        """
        if call.is_final or (status == "canceled" and call.status not in ("queued", "ringing")):
            raise Refusal(21220)
        # A ringing phone that is hung up on was not spoken to, so its call is canceled whatever the word was.
        self._end_call(call, status if call.status == "in-progress" else "canceled")

    @staticmethod
    def _call_params(call: Call) -> dict[str, str]:
        params = {
            "AccountSid": call.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": call.sid,
            "CallStatus": call.status,
            "Called": call.to,
            "Caller": call.sender,
            "Direction": "outbound-api",
            "From": call.sender,
            "To": call.to,
        }
        return params | ({"CallDuration": call.duration} if call.duration else {})

    def _set_call(self, call: Call, status: str, *, is_final: bool = False) -> None:
        call.status, call.updated_at, call.is_final = status, self._clock.now(), is_final
        wanted = call.callback.events if call.callback else frozenset()
        if is_final or _CALL_EVENTS.get(status, "") in wanted:
            callback = call.callback if (not is_final or "completed" in wanted) else None
            self._tell(
                call.sid, callback, self._call_params(call) | {"CallbackSource": "call-progress-events"}, is_final
            )

    # Callbacks

    def _tell(self, sid: str, callback: Callback | None, params: dict[str, str], is_final: bool) -> None:
        if callback is None:
            return
        if not callback.is_reordered:
            self._post([params], callback)
            return
        self._held_back.setdefault(sid, []).append(params)
        if is_final:
            self._post(self._held_back.pop(sid)[::-1], callback)

    def _post(self, told: list[dict[str, str]], callback: Callback) -> None:
        for params in told:
            for _ in range(2 if callback.is_repeated else 1):
                self._postman.post(callback.url, callback.method, dict(params))

    # Reading

    def resources(self, kind: str) -> Mapping[str, Message | Call]:
        """The messages (`sms`) or the calls (`call`) by sid, oldest first."""
        found: Mapping[str, Message] | Mapping[str, Call] = self.messages if kind == "sms" else self.calls
        return found

    def age(self, resource: Message | Call) -> timedelta:
        """How long ago a resource was accepted."""
        return self._clock.now() - resource.created_at
