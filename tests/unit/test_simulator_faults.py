"""The simulator's lies, callbacks included: what the customer is told, and what the phone knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl

import pytest
import requests
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from tests.simulator.client import Simulator
from tests.simulator.library import library

MONDAY = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
OFFICE = "+12025550100"
CLIENT = "+12025550123"
NEIGHBOUR = "+12025550124"
HELLO = "<Response><Say>Hello</Say></Response>"


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator.start(speed=0, start=MONDAY) as network:
        yield network


@pytest.fixture
def network(running: Simulator) -> Simulator:
    running.reset()
    return running


class Listener:
    """An HTTP server that keeps every request: path, form and signature. It answers with `twiml`."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], str]] = []
        self.twiml = "<Response/>"
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = dict(parse_qsl(form, keep_blank_values=True))
                listener.heard.append((self.path, fields, self.headers["X-Twilio-Signature"]))
                answer = listener.twiml.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def order(network: Simulator, channel: str, to: str, timeout: float = 5.0) -> requests.Response:
    """One text or call, asked for without the library, so that a broken answer shows as it is."""
    content = {"Body": "Hi"} if channel == "sms" else {"Twiml": HELLO}
    name = "Messages" if channel == "sms" else "Calls"
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            f"{network.base_url}/2010-04-01/Accounts/{network.account_sid}/{name}.json",
            data={"To": to, "From": OFFICE, **content},
            auth=(network.account_sid, network.auth_token),
            timeout=timeout,
        )


@pytest.mark.parametrize("channel", ["sms", "call"])
@pytest.mark.parametrize(
    ("fault", "outcome", "reached"),
    [
        ("accept_then_500", 500, 1),
        ("accept_then_hang", requests.exceptions.ReadTimeout, 1),
        ("accept_then_reset", requests.exceptions.ConnectionError, 1),
        ("accept_then_truncate", requests.exceptions.ChunkedEncodingError, 1),
        ("429", 429, 0),
        ("refuse_503_without_accepting", 503, 0),
        ("21610", 400, 0),
    ],
)
def test_the_answer_lies_and_the_phone_does_not(
    network: Simulator, channel: str, fault: str, outcome: int | type[Exception], reached: int
) -> None:
    network.fault(channel, fault, to=CLIENT)
    assert order(network, channel, NEIGHBOUR).status_code == 201
    if isinstance(outcome, int):
        assert order(network, channel, CLIENT).status_code == outcome
    else:
        with pytest.raises(outcome):
            order(network, channel, CLIENT, timeout=0.3 if fault == "accept_then_hang" else 5.0)
    assert len(network.log(channel, CLIENT)) == reached
    assert order(network, channel, CLIENT).status_code == 201, "the lie is told once"
    assert len(network.log(channel, CLIENT)) == reached + 1


def test_a_reset_is_a_reset_and_not_a_mere_end(network: Simulator) -> None:
    network.fault("sms", "accept_then_reset")
    with pytest.raises(requests.exceptions.ConnectionError, match="reset by peer"):
        order(network, "sms", CLIENT)


def test_a_failure_by_command_comes_after_acceptance(network: Simulator) -> None:
    network.fault("sms", "30007")
    assert order(network, "sms", CLIENT).status_code == 201
    network.advance(5)
    client, _ = library(network)
    assert [(each.status, each.error_code) for each in client.messages.list()] == [("undelivered", 30007)]
    assert network.log() == []


def test_a_late_list_hides_what_is_new(network: Simulator) -> None:
    client, _ = library(network)
    order(network, "sms", CLIENT)
    network.fault("sms", "lists_late", count=2)
    assert client.messages.list() == []
    network.advance(300)
    order(network, "sms", NEIGHBOUR)
    assert [each.to for each in client.messages.list()] == [CLIENT]
    assert [each.to for each in client.messages.list()] == [NEIGHBOUR, CLIENT]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("", ["sent", "delivered"]),
        ("repeat_callbacks", ["sent", "sent", "delivered", "delivered"]),
        ("reorder_callbacks", ["delivered", "sent"]),
    ],
)
def test_texts_call_back(network: Simulator, listener: Listener, fault: str, told: list[str]) -> None:
    client, _ = library(network)
    if fault:
        network.fault("sms", fault)
    url = f"{listener.url}/sms?ref=abc"
    client.messages.create(to=CLIENT, from_=OFFICE, body="Hi", status_callback=url + "#rc=5&rp=all")
    network.advance(10)
    assert [form["MessageStatus"] for _, form, _ in listener.heard] == told
    assert {path for path, _, _ in listener.heard} == {"/sms?ref=abc"}
    validator = RequestValidator(network.auth_token)
    assert all(validator.validate(url, form, signature) for _, form, signature in listener.heard)
    assert not validator.validate(url, listener.heard[0][1] | {"To": NEIGHBOUR}, listener.heard[0][2])
    assert [each["status"] for each in network.callbacks()] == [200] * len(told)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (None, ["completed"]),
        (["ringing"], ["ringing"]),
        (["initiated", "ringing", "answered", "completed"], ["ringing", "in-progress", "completed"]),
    ],
)
def test_calls_call_back_for_the_events_asked_for(
    network: Simulator, listener: Listener, events: list[str] | None, told: list[str]
) -> None:
    client: Client = library(network)[0]
    more = {"status_callback_event": events} if events else {}
    client.calls.create(to=CLIENT, from_=OFFICE, twiml=HELLO, status_callback=f"{listener.url}/call", **more)
    network.advance(until_idle=True)
    assert [form["CallStatus"] for _, form, _ in listener.heard] == told


def test_a_call_with_a_url_asks_what_to_say_when_it_is_answered(network: Simulator, listener: Listener) -> None:
    listener.twiml = "<Response><Say>From the webhook</Say></Response>"
    client, _ = library(network)
    client.calls.create(to=CLIENT, from_=OFFICE, url=f"{listener.url}/twiml")
    network.advance(2)
    assert listener.heard == []
    network.advance(1)
    [(path, form, signature)] = listener.heard
    assert (path, form["CallStatus"]) == ("/twiml", "in-progress")
    assert RequestValidator(network.auth_token).validate(f"{listener.url}/twiml", form, signature)
    assert network.calls()[0]["said"] == "From the webhook"


def test_a_callback_to_nobody_is_recorded_and_stops_nothing(network: Simulator, listener: Listener) -> None:
    listener.close()
    client, _ = library(network)
    client.messages.create(to=CLIENT, from_=OFFICE, body="Hi", status_callback=listener.url)
    network.advance(10)
    assert [(each["status"], each["error"]) for each in network.callbacks()] == [(0, "ConnectError")] * 2


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("faults", {"channel": "pigeon", "fault": "429"}),
        ("faults", {"channel": "sms", "fault": "drop_after_dot"}),
        ("faults", {"channel": "email", "fault": "21610"}),
        ("faults", {"channel": "sms", "fault": "429", "count": 0}),
        ("faults", {"channel": "sms", "fault": "429", "times": 2}),
        ("advance", {"seconds": "60"}),
        ("advance", {"seconds": -1}),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(network: Simulator, path: str, command: dict[str, Any]) -> None:
    with pytest.raises(HTTPError) as refused:
        network._ask(f"/_control/{path}", command)
    assert refused.value.code == 400
