"""What is asked of Twilio, and what each answer and each failure of the wire means."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

import httpx
import pytest

from reminders.channels.telephony import Twilio, classify, final_status
from reminders.errors import (
    AddressRefused,
    ConfigurationError,
    Doubtful,
    Misconfigured,
    NeverContacted,
    OptedOut,
    SendError,
)
from reminders.model import AccountId, AppointmentId, AttemptId, Channel, Contact, Visit

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
START = NOW + timedelta(hours=10)
SID, TOKEN = "AC" + "0" * 32, "s3cret-token"
MESSAGE_SID, CALL_SID = "SM" + "1" * 32, "CA" + "2" * 32
CONTACT = Contact(
    attempt_id=AttemptId(1),
    reference="c0ffee/1",
    channel=Channel.SMS,
    address="+12125550123",
    account_id=AccountId("smith"),
    account_name="Dr. Smith",
    account_phone="+12125550100",
    account_email="",
    locale="en",
    visits=(Visit(AppointmentId("A1"), "Ana Pérez", START, START, "America/New_York", ""),),
    expires_at=NOW + timedelta(hours=2),
)
Answer = Callable[[httpx.Request], httpx.Response]


def twilio(answer: Answer, **options: Any) -> Twilio:
    usual: dict[str, Any] = {"from_sms": "+12125550999", "from_call": "+12125550998"}
    return Twilio(SID, TOKEN, transport=httpx.MockTransport(answer), **(usual | options))


class Provider:
    """A provider that keeps what it was asked and answers 201 with an id."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        sid = CALL_SID if "/Calls" in request.url.path else MESSAGE_SID
        return httpx.Response(201, json={"sid": sid, "status": "queued"})

    @property
    def form(self) -> dict[str, str]:
        (request,) = self.requests
        return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}


def test_a_text_is_one_post_with_the_contacts_words_and_lifetime() -> None:
    provider = Provider()
    accepted = twilio(provider).text(CONTACT, NOW, lambda: None)
    (request,) = provider.requests
    assert (request.method, str(request.url)) == (
        "POST", f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json",
    )  # fmt: skip
    assert request.headers["authorization"] == httpx.BasicAuth(SID, TOKEN)._auth_header
    body = provider.form.pop("Body")
    assert "Ana" in body and "Pérez" not in body
    assert {name: value for name, value in provider.form.items() if name != "Body"} == {
        "To": "+12125550123", "From": "+12125550999", "ValidityPeriod": "7200",
    }  # fmt: skip
    assert (accepted.provider_id, accepted.provider_status, accepted.is_delivered) == (MESSAGE_SID, "queued", False)


def test_a_call_is_one_post_with_its_twiml() -> None:
    provider = Provider()
    accepted = twilio(provider).call(CONTACT, NOW, lambda: None)
    assert provider.requests[0].url.path == f"/2010-04-01/Accounts/{SID}/Calls.json"
    assert "Ana" in "".join(ElementTree.fromstring(provider.form["Twiml"]).itertext())
    assert {name: value for name, value in provider.form.items() if name != "Twiml"} == {
        "To": "+12125550123", "From": "+12125550998",
    }  # fmt: skip
    assert accepted.provider_id == CALL_SID


@pytest.mark.parametrize(
    ("lifetime", "period"),
    [(timedelta(milliseconds=5), "1"), (timedelta(hours=10), "36000"), (timedelta(days=2), "36000")],
)
def test_a_text_lives_between_a_second_and_ten_hours(lifetime: timedelta, period: str) -> None:
    provider = Provider()
    twilio(provider).text(replace(CONTACT, expires_at=NOW + lifetime), NOW, lambda: None)
    assert provider.form["ValidityPeriod"] == period


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"messaging_service_sid": "MG1", "from_sms": ""}, {"MessagingServiceSid": "MG1"}),
        ({"messaging_service_sid": "MG1"}, {"MessagingServiceSid": "MG1", "From": "+12125550999"}),
        ({"status_callback_base": "https://x.example/in/"}, {"StatusCallback": "https://x.example/in/c0ffee%2F1"}),
        ({}, {}),
    ],
)
def test_the_sender_and_the_callback_are_those_configured(options: dict[str, str], expected: dict[str, str]) -> None:
    provider = Provider()
    twilio(provider, **options).text(CONTACT, NOW, lambda: None)
    assert expected.items() <= provider.form.items()
    assert ("StatusCallback" in provider.form) is ("status_callback_base" in options)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://127.0.0.1:8025", "http://127.0.0.1:8025/2010-04-01/Accounts/"),
        ("http://127.0.0.1:8025/", "http://127.0.0.1:8025/2010-04-01/Accounts/"),
        ("https://proxy.example/twilio/", "https://proxy.example/twilio/2010-04-01/Accounts/"),
        ("", "https://api.twilio.com/2010-04-01/Accounts/"),
    ],
)
def test_another_host_gets_the_same_paths(base_url: str, url: str) -> None:
    provider = Provider()
    twilio(provider, base_url=base_url).text(CONTACT, NOW, lambda: None)
    assert str(provider.requests[0].url) == f"{url}{SID}/Messages.json"


@pytest.mark.parametrize("channel", ["text", "call"])
def test_the_last_check_can_decline_before_a_connection_is_made(channel: str) -> None:
    provider = Provider()

    def last_check() -> None:
        raise NeverContacted("on_hold", retry_after=0)

    with pytest.raises(NeverContacted, match="on_hold"):
        getattr(twilio(provider), channel)(CONTACT, NOW, last_check)
    with pytest.raises(NeverContacted, match="too_late"):
        getattr(twilio(provider), channel)(CONTACT, CONTACT.expires_at, lambda: None)
    assert provider.requests == []


@pytest.mark.parametrize("channel", ["text", "call"])
def test_the_last_check_is_asked_again_when_the_connection_stands(channel: str) -> None:
    """On a real socket: the server takes the connection, then the check declines, and not a byte arrives."""
    answers = iter([None, NeverContacted("deadline_passed", retry_after=0)])

    def last_check() -> None:
        if refusal := next(answers):
            raise refusal

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        client = Twilio(SID, TOKEN, f"http://127.0.0.1:{server.getsockname()[1]}", from_sms="+1", from_call="+1")
        with pytest.raises(NeverContacted, match="deadline_passed"):
            getattr(client, channel)(CONTACT, NOW, last_check)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(1) == b""
    assert list(answers) == []


@pytest.mark.parametrize(("channel", "missing"), [("text", "from_sms"), ("call", "from_call")])
def test_without_a_sender_nothing_is_asked(channel: str, missing: str) -> None:
    provider = Provider()
    with pytest.raises(Misconfigured, match=f"no_{missing}"):
        getattr(twilio(provider, **{missing: None}), channel)(CONTACT, NOW, lambda: None)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("sid", "token", "base"), [("", TOKEN, ""), (SID, "", ""), (SID, TOKEN, "ftp://x"), (SID, TOKEN, "x:80")]
)
def test_a_client_that_cannot_work_names_its_connection_and_no_secret(sid: str, token: str, base: str) -> None:
    with pytest.raises(ConfigurationError, match="twilio_default") as refused:
        Twilio(sid, token, base_url=base)
    assert TOKEN not in str(refused.value)


def error_body(code: int | None, status: int) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": "no: +12125550123", "status": status})


def raising(error: type[Exception]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error(f"to {request.url} +12125550123")

    return answer


PROBLEM = {"type": "t", "title": "t", "status": 400, "code": 21610}
WIRE: list[tuple[str, Answer, type[SendError]]] = [
    ("refused", raising(httpx.ConnectError), NeverContacted),
    ("connect timeout", raising(httpx.ConnectTimeout), NeverContacted),
    ("pool timeout", raising(httpx.PoolTimeout), NeverContacted),
    ("read timeout", raising(httpx.ReadTimeout), Doubtful),
    ("write timeout", raising(httpx.WriteTimeout), Doubtful),
    ("reset", raising(httpx.ReadError), Doubtful),
    ("broken pipe", raising(httpx.WriteError), Doubtful),
    ("truncated", raising(httpx.RemoteProtocolError), Doubtful),
    ("bad encoding", raising(httpx.DecodingError), Doubtful),
    ("429", lambda _: error_body(20429, 429), NeverContacted),
    ("429 without a body", lambda _: httpx.Response(429), NeverContacted),
    ("500", lambda _: error_body(20500, 500), Doubtful),
    ("500 with an address code", lambda _: error_body(21211, 500), Doubtful),
    ("503 page", lambda _: httpx.Response(503, text="<html>+12125550123</html>"), Doubtful),
    ("redirect", lambda _: httpx.Response(307, headers={"location": "https://other.example/"}), Doubtful),
    ("empty 201", lambda _: httpx.Response(201), Doubtful),
    ("half a body", lambda _: httpx.Response(201, text='{"sid": "SM1'), Doubtful),
    ("list", lambda _: httpx.Response(201, json=["x"]), Doubtful),
    ("no sid", lambda _: httpx.Response(201, json={"status": "queued"}), Doubtful),
    ("bad number", lambda _: error_body(21211, 400), AddressRefused),
    ("opted out", lambda _: error_body(21610, 400), OptedOut),
    ("wrong token", lambda _: error_body(20003, 401), Misconfigured),
    ("page for a 404", lambda _: httpx.Response(404, text="<html>"), Misconfigured),
    ("unknown 4xx", lambda _: error_body(99999, 400), Misconfigured),
    ("problem details", lambda _: httpx.Response(400, json=PROBLEM), OptedOut),
]  # fmt: skip


@pytest.mark.parametrize("channel", ["text", "call"])
@pytest.mark.parametrize(("answer", "decision"), [row[1:] for row in WIRE], ids=[row[0] for row in WIRE])
def test_each_answer_is_its_decision_is_asked_once_and_says_nothing_personal(
    channel: str, answer: Answer, decision: type[SendError], caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def counted(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer(request)

    with caplog.at_level(logging.INFO), pytest.raises(SendError) as caught:
        getattr(twilio(counted), channel)(CONTACT, NOW, lambda: None)
    assert type(caught.value) is decision
    assert len(asked) == 1
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    said = str(caught.value) + repr(caught.value) + caplog.text
    assert not [word for word in ("2125550123", "Ana", TOKEN, SID) if word in said]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60), ({"retry-after": "7"}, 7), ({"retry-after": "0"}, 1), ({"retry-after": "999999"}, 3600),
        ({"retry-after": "nan"}, 60), ({"retry-after": "soon"}, 60), ({"retry-after": "-5"}, 1),
        ({"retry-after": "Fri, 27 Nov 2026 09:02:00 GMT", "date": "Fri, 27 Nov 2026 09:00:00 GMT"}, 120),
    ],
)  # fmt: skip
def test_the_providers_wish_to_wait_is_kept_within_reason(headers: dict[str, str], seconds: float) -> None:
    with pytest.raises(NeverContacted) as caught:
        twilio(lambda _: httpx.Response(429, headers=headers)).text(CONTACT, NOW, lambda: None)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("http_status", "code", "decision"),
    [
        *[(400, code, AddressRefused) for code in (21211, 21214, 21217, 21614, 21635, 30005, 30006)],
        *[(400, code, Misconfigured) for code in (20003, 21606, 21408, 30032, 30034, 30007, 21602, None, "odd", 0)],
        *[(400, code, NeverContacted) for code in (30001, 30003, 30008, 20429, 30036)],
        *[(status, 21211, Doubtful) for status in (500, 502, 503, 504, 301, 304, 200, 0)],
        (400, 21610, OptedOut), (400, "21610", OptedOut), (403, 21610, OptedOut), (429, 21211, NeverContacted),
        (401, None, Misconfigured), (403, None, Misconfigured), (404, 20404, Misconfigured), (408, None, Doubtful),
    ],
)  # fmt: skip
def test_codes_are_classified(http_status: int, code: int | str | None, decision: type[SendError]) -> None:
    assert type(classify(http_status, code)) is decision


@pytest.mark.parametrize(
    ("channel", "status", "code", "end"),
    [
        *[(Channel.SMS, status, "", None) for status in ("accepted", "queued", "sending", "sent", "new", "")],
        (Channel.SMS, "delivered", "", ("delivered", "delivered")),
        (Channel.SMS, "read", "", ("delivered", "read")),
        (Channel.SMS, "undelivered", "", ("undelivered", "refused_unexplained")),
        (Channel.SMS, "failed", "", ("undelivered", "refused_unexplained")),
        (Channel.SMS, "undelivered", "30003", ("undelivered", "unreachable")),
        (Channel.SMS, "undelivered", "30005", ("undelivered", "bad_address")),
        (Channel.SMS, "undelivered", "30006", ("undelivered", "bad_address")),
        *[(Channel.SMS, "undelivered", c, ("undelivered", "misconfigured")) for c in ("30007", "30032", "30034", "3")],
        (Channel.SMS, "failed", "21610", ("undelivered", "opted_out")),
        (Channel.SMS, "failed", "30036", ("undelivered", "too_late")),
        (Channel.SMS, "canceled", "", ("cancelled", "cancelled_at_provider")),
        (Channel.SMS, "completed", "", None),
        *[(Channel.CALL, status, "", None) for status in ("queued", "ringing", "in-progress", "delivered")],
        (Channel.CALL, "completed", "", ("delivered", "completed")),
        (Channel.CALL, "busy", "", ("undelivered", "busy")),
        (Channel.CALL, "no-answer", "", ("undelivered", "no_answer")),
        (Channel.CALL, "failed", "", ("undelivered", "call_failed")),
        (Channel.CALL, "failed", "21211", ("undelivered", "bad_address")),
        (Channel.CALL, "canceled", "", ("cancelled", "cancelled_at_provider")),
        (Channel.EMAIL, "delivered", "", None),
    ],
)  # fmt: skip
def test_a_final_status_is_the_ledgers_end_state(
    channel: Channel, status: str, code: str, end: tuple[str, str] | None
) -> None:
    assert final_status(channel, status, code) == end


@pytest.mark.parametrize(
    ("channel", "sid", "body", "found"),
    [
        (Channel.SMS, MESSAGE_SID, {"status": "undelivered", "error_code": 30003}, ("undelivered", "30003")),
        (Channel.SMS, MESSAGE_SID, {"status": "sent", "error_code": None}, ("sent", "")),
        (Channel.CALL, CALL_SID, {"status": "no-answer"}, ("no-answer", "")),
    ],
)
def test_the_status_is_fetched_by_the_providers_id(
    channel: Channel, sid: str, body: dict[str, Any], found: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, text=json.dumps({"sid": sid, "to": "+12125550123"} | body))

    with caplog.at_level(logging.INFO):
        assert twilio(answer).status(channel, sid) == found
    kind = "Messages" if channel is Channel.SMS else "Calls"
    assert asked == [f"GET /2010-04-01/Accounts/{SID}/{kind}/{sid}.json"]
    assert "HTTP" not in caplog.text and "2125550123" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [lambda _: httpx.Response(200, text="{"), lambda _: httpx.Response(200, json={}), raising(httpx.ReadTimeout)],
)
def test_a_status_that_cannot_be_read_is_an_error_and_no_status(answer: Answer) -> None:
    with pytest.raises(Doubtful):
        twilio(answer).status(Channel.SMS, MESSAGE_SID)


def test_requests_carry_explicit_timeouts_and_never_follow_a_redirect() -> None:
    seen: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(201, json={"sid": MESSAGE_SID, "status": "queued"})

    twilio(answer).text(CONTACT, NOW, lambda: None)
    assert seen == [{"connect": 5.0, "read": 15.0, "write": 15.0, "pool": 5.0}]


@pytest.mark.parametrize("failing_page", [1, 2])
@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_list_of_which_a_page_cannot_be_read_is_none(status: int, failing_page: int) -> None:
    pages = 0

    def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal pages
        pages += 1
        if pages == failing_page:
            return httpx.Response(status, json={"code": 20503, "message": "no", "status": status})
        return httpx.Response(200, json={"messages": [], "next_page_uri": "/2010-04-01/next.json"})

    with pytest.raises(SendError):
        twilio(answer).listed(Channel.SMS, NOW, CONTACT.address)
    assert pages == failing_page
