"""The simulator against Twilio's own OpenAPI document, read in place and never copied.

The document is `../shared/twilio/twilio_api_v2010.json` beside the checkout, or where TWILIO_OPENAPI says. Its gaps:
no schemas of errors, no required response fields, `format: uri` on relative URIs, dates that are not checked, form
arrays without `encoding`. So every resource must also have exactly the document's fields, and dates are checked here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from tests.simulator.api import READ_PARAMETERS
from tests.simulator.client import Simulator
from tests.simulator.library import Exchange, RecordingHttpClient, library

DOCUMENT = Path(
    os.environ.get("TWILIO_OPENAPI", Path(__file__).resolve().parents[3] / "shared/twilio/twilio_api_v2010.json")
)
pytestmark = pytest.mark.skipif(not DOCUMENT.exists(), reason="Twilio's document is not there; set TWILIO_OPENAPI")

OFFICE = "+12025550100"
CLIENT = "+12025550123"
FEBRUARY_28 = datetime(2026, 2, 28, tzinfo=UTC)
APRIL_1 = datetime(2026, 4, 1, tzinfo=UTC)
HELLO = "<Response><Say>Hello</Say></Response>"
NAMES = {"sms": "Messages", "call": "Calls"}
COLLECTION = "/2010-04-01/Accounts/{AccountSid}/%s.json"
INSTANCE = "/2010-04-01/Accounts/{AccountSid}/%s/{Sid}.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def network() -> Iterator[Simulator]:
    with Simulator.start(speed=0, start=datetime(2026, 3, 2, tzinfo=UTC)) as network:
        yield network


def operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """The document's operation for a request's method and path."""
    for template in (INSTANCE, COLLECTION):
        for name in NAMES.values():
            pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template % name))
            if re.fullmatch(pattern, path):
                return document["paths"][template % name][method.lower()]
    raise AssertionError(f"{path} is not in the document")


def parameters(described: dict[str, Any]) -> set[str]:
    """The names that a request may carry, in its query or in its form."""
    names = {each["name"] for each in described.get("parameters", []) if each["in"] == "query"}
    form = described.get("requestBody", {}).get("content", {}).get("application/x-www-form-urlencoded", {})
    return names | set(form.get("schema", {}).get("properties", {}))


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema behind a reference."""
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def check_answer(document: dict[str, Any], exchange: Exchange) -> None:
    """Fails unless the document allows the answer."""
    described = operation(document, exchange.method, exchange.path)["responses"][str(exchange.status)]
    schema = described["content"]["application/json"]["schema"]
    answer = json.loads(exchange.text)
    OAS30Validator({**schema, "components": document["components"]}).validate(answer)
    whole = resolve(document, schema)
    assert set(answer) == set(whole["properties"])
    name = next((name for name in ("messages", "calls") if name in whole["properties"]), "")
    resources = answer[name] if name else [answer]
    fields = resolve(document, whole["properties"][name]["items"])["properties"] if name else whole["properties"]
    for resource in resources:
        assert set(resource) == set(fields)
        for field, described in fields.items():
            if described.get("format") == "date-time-rfc-2822" and resource[field] is not None:
                assert parsedate_to_datetime(resource[field]).utcoffset() is not None


def use_everything(client: Client, network: Simulator) -> None:
    """Texts and calls in every state that they can have, each created, fetched, listed and updated."""
    service = "MG" + "a" * 32
    later = datetime(2026, 3, 2, 1, tzinfo=UTC)
    client.messages.create(
        to=CLIENT, from_=OFFICE, body="Grüße", status_callback="http://127.0.0.1:9/sms", validity_period=600
    )
    client.messages.create(to="+120255530007", messaging_service_sid=service, body="Hi")
    client.messages.create(to=CLIENT, from_=OFFICE, body="Hi", media_url=["https://example.com/map.png"])
    scheduled = client.messages.create(
        to=CLIENT, messaging_service_sid=service, body="Hi", send_at=later, schedule_type="fixed"
    )
    client.messages(scheduled.sid).update(status="canceled")
    events = ["initiated", "ringing", "answered", "completed"]
    call = client.calls.create(
        to=CLIENT,
        from_=OFFICE,
        twiml=HELLO,
        timeout=30,
        status_callback="http://127.0.0.1:9/call",
        status_callback_method="POST",
        status_callback_event=events,
    )
    client.calls.create(to="+120255500486", from_=OFFICE, url="http://127.0.0.1:9/twiml", method="POST")
    for seconds in (0, 5, 20):
        network.advance(seconds)
        for message in client.messages.list(to=CLIENT, from_=OFFICE, page_size=1, date_sent_after=FEBRUARY_28):
            client.messages(message.sid).fetch()
        for each in client.calls.list(start_time_after=FEBRUARY_28, start_time_before=APRIL_1, page_size=1):
            client.calls(each.sid).fetch()
    client.messages.list(date_sent=later, date_sent_before=later)
    client.calls.list(to=CLIENT, from_=OFFICE, status="completed", start_time=later)
    ringing = client.calls.create(to=CLIENT, from_=OFFICE, twiml=HELLO)
    client.calls(ringing.sid).update(status="completed")
    with pytest.raises(TwilioRestException):
        client.calls(call.sid).update(status="canceled")


@pytest.fixture(scope="module")
def recorded(network: Simulator) -> RecordingHttpClient:
    client, recorder = library(network)
    use_everything(client, network)
    return recorder


def test_every_request_is_in_the_document(document: dict[str, Any], recorded: RecordingHttpClient) -> None:
    for exchange in recorded.exchanges:
        allowed = parameters(operation(document, exchange.method, exchange.path))
        assert set(exchange.names) <= allowed, exchange


def test_every_answer_is_as_the_document_says(document: dict[str, Any], recorded: RecordingHttpClient) -> None:
    good = [exchange for exchange in recorded.exchanges if exchange.status < 400]
    # Both resources, each created, updated, fetched and listed; and lists of more than a page.
    kinds = {(each.method, re.sub(r"/(SM|MM|CA)\w{32}", "/sid", each.path), each.status) for each in good}
    assert len(kinds) == 8, kinds
    assert any("PageToken" in exchange.text for exchange in good)
    for exchange in good:
        check_answer(document, exchange)


@pytest.mark.parametrize(
    "change",
    [{"status": "arrived"}, {"sid": "SM1"}, {"num_segments": 1}, {"date_sent": "2026-03-02T00:00:00Z"}, {"extra": 1}],
)
def test_the_check_can_fail(document: dict[str, Any], recorded: RecordingHttpClient, change: dict[str, Any]) -> None:
    exchange = next(each for each in recorded.exchanges if each.method == "GET" and "/Messages/" in each.path)
    spoiled = json.dumps(json.loads(exchange.text) | change)
    with pytest.raises(Exception, match=r".+"):
        check_answer(document, Exchange(exchange.method, exchange.path, exchange.names, exchange.status, spoiled))


@pytest.mark.parametrize("kind", ["sms", "call"])
@pytest.mark.parametrize(
    ("verb", "method", "path"),
    [("create", "post", COLLECTION), ("list", "get", COLLECTION), ("update", "post", INSTANCE)],
)
def test_what_the_simulator_reads_exists(
    document: dict[str, Any], kind: str, verb: str, method: str, path: str
) -> None:
    read = set(READ_PARAMETERS[kind][verb])
    assert read <= parameters(document["paths"][path % NAMES[kind]][method])


def test_the_fields_required_by_the_document_are_required_here(document: dict[str, Any], network: Simulator) -> None:
    client, _ = library(network)
    for name, fields in (("Messages", {"from_": OFFICE, "body": "Hi"}), ("Calls", {"from_": OFFICE, "twiml": HELLO})):
        form = document["paths"][COLLECTION % name]["post"]["requestBody"]["content"][
            "application/x-www-form-urlencoded"
        ]
        assert "To" in form["schema"]["required"]
        with pytest.raises(TwilioRestException) as refused:
            getattr(client, name.lower()).create(to="", **fields)
        assert refused.value.code in (21604, 21201)
