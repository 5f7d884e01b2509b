"""The simulated phone network in this process: the simulator's own parts, reached without sockets.

The product's real channels talk to it, Twilio's through httpx's transport and the mailer through its factory of SMTP
clients; an answer that breaks, breaks as it would on a wire. Its log is the only witness of what reached people.
"""

from __future__ import annotations

import smtplib
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from secrets import token_hex
from typing import Any, TypeVar
from unittest.mock import patch
from urllib.parse import parse_qs

import httpx
from starlette.requests import Request
from starlette.routing import Match, Route

from tests.simulator import network as phone_network
from tests.simulator.__main__ import DEFAULT_ACCOUNT_SID, DEFAULT_AUTH_TOKEN
from tests.simulator.api import TwilioApi
from tests.simulator.callbacks import Postman
from tests.simulator.clock import Agenda, Clock
from tests.simulator.connection import HangingAnswer, ResetAnswer, TruncatedAnswer
from tests.simulator.faults import DATA_FAULTS, RECIPIENT_FAULTS, Faults
from tests.simulator.journal import Event, Journal
from tests.simulator.network import Customer, PhoneNetwork
from tests.simulator.refusals import Refusal

# Seconds that the product waits for an answer over HTTP, and for one of the relay.
HTTP_PATIENCE, SMTP_PATIENCE = 15.0, 10.0
OUT_OF_ORDER = {"429": 20429, "503": 20503}
REPLIES = {"reject_550": (550, b"5.1.1 No such mailbox"), "reject_451": (451, b"4.3.0 Try again later")}
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a contact, whatever came of it: `answer` is `accepted`, `doubtful` (the customer cannot know),
    `not_taken` (the customer is told that nothing happened) or a refusal's code. `delay` is how long the customer was
    held up between its last check and the request."""

    at: datetime
    channel: str
    to: str
    body: str
    answer: str
    delay: float


class Mailbag(Postman):
    """Callbacks that wait for the webhook, in the order in which the network tells them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, dict[str, str]]] = []

    def post(
        self, url: str, method: str, params: dict[str, str], on_answer: Callable[[str], None] | None = None
    ) -> None:
        del method, on_answer
        self.waiting.append((url, params))


class Network:
    """One provider and one relay. `sleep` lets virtual time pass while a customer waits for an answer.

    `outages` maps what is down (`email`, `sms`, `call`, or `status` for questions) to how: `unreachable`, `hang`,
    `429` or `503`; `turned_away` counts whom it met. `codes` are the numbers whose texts are refused, by Twilio's code.
    `takes` maps a channel to the seconds that each of its next contacts takes to be delivered, or a call to end.
    """

    base_url = "http://provider.invalid"
    account_sid, auth_token = DEFAULT_ACCOUNT_SID, DEFAULT_AUTH_TOKEN

    def __init__(self, now: datetime) -> None:
        self.clock = Clock(0, now)
        self.agenda = Agenda(self.clock)
        self.journal = Journal()
        self.faults = Faults()
        self.mailbag = Mailbag()
        customer = Customer(self.account_sid, self.auth_token)
        self.phones = PhoneNetwork(customer, self.clock, self.agenda, self.journal, self.mailbag)
        self.asked: list[Asked] = []
        self.delays: dict[str, float] = {}
        self.outages: dict[str, str] = {}
        self.codes: dict[str, str] = {}
        self.takes: dict[str, list[float]] = defaultdict(list)
        self.turned_away = 0
        self.next_delay = 0.0
        self.sleep: Callable[[float], None] = self.advance
        self.transport = httpx.MockTransport(self._answer)
        self._routes = TwilioApi(self.phones, self.faults, self.agenda.settle).routes()

    def advance(self, seconds: float) -> None:
        self.agenda.advance(seconds)

    def smtp(self, host: str, port: int, timeout: float) -> Relay:
        """A connection to the relay, as `smtplib.SMTP` makes one."""
        del host, port
        match self.outages.get("email"):
            case None:
                return Relay(self)
            case "hang":
                self.turned_away += 1
                self.sleep(timeout)
                raise TimeoutError
            case _:
                self.turned_away += 1
                raise ConnectionRefusedError

    def note(self, channel: str, to: str, body: str, answer: str, since: int) -> None:
        """Keep a request; what the log has had since its `since`th event came of it."""
        delay, self.next_delay = self.next_delay, 0.0
        self.asked.append(Asked(self.clock.now(), channel, to, body, answer, delay))
        if delay:
            self.delays.update({event.sid: delay for event in self.journal.events[since:]})

    # Twilio's side

    def _answer(self, request: httpx.Request) -> httpx.Response:
        kind = "sms" if "/Messages" in request.url.path else "call"
        is_creation = request.method == "POST"
        form = {name: values[0] for name, values in parse_qs(request.read().decode()).items()} if is_creation else {}
        to, since = form.get("To", ""), len(self.journal.events)
        outage = self.outages.get(kind if is_creation else "status")
        try:
            if outage == "unreachable":
                self.turned_away += 1
                raise httpx.ConnectError("refused", request=request)
            if trace := request.extensions.get("trace"):
                # The connection stands: the customer looks once more before the first byte.
                trace("http11.send_request_headers.started", {})
            answer = self._out_of_order(outage, request)
            if answer is None:
                if kind == "sms" and to in self.codes:
                    self.faults.order("sms", self.codes[to], 1, to)
                with self._pace(kind if is_creation else ""):
                    answer = self._answered(request)
        except httpx.HTTPError as error:
            if is_creation:
                is_doubt = not isinstance(error, httpx.ConnectError)
                self.note(kind, to, spoken(form), "doubtful" if is_doubt else "not_taken", since)
            raise
        if is_creation:
            self.note(kind, to, spoken(form), meaning(answer), since)
        return answer

    def _out_of_order(self, outage: str | None, request: httpx.Request) -> httpx.Response | None:
        if outage is None:
            return None
        self.turned_away += 1
        if outage == "hang":
            self.sleep(HTTP_PATIENCE)
            raise httpx.ReadTimeout("no answer", request=request)
        refusal = Refusal(OUT_OF_ORDER[outage])
        return httpx.Response(refusal.status, json=refusal.as_json())

    def _answered(self, request: httpx.Request) -> httpx.Response:
        route, scope = self._route(request)
        answer = finished(route.endpoint(Request(scope, _body(request))))
        if isinstance(answer, HangingAnswer):
            self.sleep(HTTP_PATIENCE)
            raise httpx.ReadTimeout("no answer", request=request)
        if isinstance(answer, ResetAnswer):
            raise httpx.ReadError("reset", request=request)
        if isinstance(answer, TruncatedAnswer):
            raise httpx.RemoteProtocolError("half an answer", request=request)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=bytes(answer.body))

    def _route(self, request: httpx.Request) -> tuple[Route, dict[str, Any]]:
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.url.path,
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return route, {**scope, **child}
        raise AssertionError(f"the provider has no {request.method} {request.url.path}")

    @contextmanager
    def _pace(self, kind: str) -> Iterator[None]:
        """How long what is taken now is under way."""
        if not self.takes[kind]:
            yield
            return
        constant = "_TEXT_DELIVERED" if kind == "sms" else "_CALL_ENDED"
        with patch.object(phone_network, constant, self.takes[kind].pop(0)):
            yield


class Relay:
    """The relay's end of one SMTP conversation; the product's `Mailer` holds the other."""

    sock = None

    def __init__(self, network: Network) -> None:
        self._network = network
        self._to = ""

    def ehlo_or_helo_if_needed(self) -> None:
        """Nothing to agree on."""

    def mail(self, sender: str) -> tuple[int, bytes]:
        del sender
        return 250, b"OK"

    def rcpt(self, address: str) -> tuple[int, bytes]:
        network = self._network
        fault = network.faults.take("email", RECIPIENT_FAULTS, address)
        fault = fault or ("reject_550" if "+550@" in address else "")
        if fault:
            network.note("email", address, "", str(REPLIES[fault][0]), len(network.journal.events))
            return REPLIES[fault]
        self._to = address
        return 250, b"OK"

    def data(self, content: bytes) -> tuple[int, bytes]:
        network, since = self._network, len(self._network.journal.events)
        network.agenda.settle()
        event = received(content, self._to, network.clock.now())
        network.journal.record(event)
        fault = network.faults.take("email", DATA_FAULTS, self._to)
        network.note("email", self._to, event.body, "doubtful" if fault else "accepted", since)
        if fault == "drop_after_dot":
            raise smtplib.SMTPServerDisconnected
        if fault:
            network.sleep(SMTP_PATIENCE)
            raise TimeoutError
        return 250, f"2.0.0 Ok: queued as {event.sid}".encode()

    def quit(self) -> None:
        """The relay hangs up."""

    def close(self) -> None:
        """Nothing to close."""


def received(content: bytes, to: str, now: datetime) -> Event:
    """The message as its reader sees it: read by the old, quick parser, as one of thousands."""
    message = message_from_bytes(content)
    part = next(part for part in message.walk() if part.get_content_type() == "text/plain")
    return Event(
        at=now.isoformat(),
        channel="email",
        to=to,
        sender=message["From"],
        body=part.get_payload(decode=True).decode(),
        sid="EM" + token_hex(16),
        account="",
        subject=message["Subject"],
        message_id=message["Message-ID"],
    )


def spoken(form: dict[str, str]) -> str:
    """The words of a request for a text or a call."""
    return form.get("Body") or form.get("Twiml", "")


def meaning(answer: httpx.Response) -> str:
    """What the customer can know from an answer to a request for a contact; see `Asked`."""
    if answer.is_success:
        return "accepted"
    if answer.is_server_error:
        return "doubtful"
    return "not_taken" if answer.status_code == 429 else str(answer.json()["code"])


def finished(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Answer = done.value
        return result
    raise AssertionError("the simulator waits for something that is not there")


def _body(request: httpx.Request) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.read(), "more_body": False}

    return receive
