"""The simulator as Twilio's own library sees it: texts and calls from acceptance to their end, lists, errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from tests.simulator.client import Simulator
from tests.simulator.library import library
from tests.simulator.resources import segments, spoken

MONDAY = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
OFFICE = "+12025550100"
CLIENT = "+12025550123"
NEIGHBOUR = "+12025550124"
HELLO = "<Response><Say>Hello from the office</Say></Response>"


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator.start(speed=0, start=MONDAY) as network:
        yield network


@pytest.fixture
def network(running: Simulator) -> Simulator:
    running.reset()
    return running


@pytest.fixture
def twilio(network: Simulator) -> Client:
    return library(network)[0]


def test_a_text_arrives_once_and_is_delivered_when_time_passes(network: Simulator, twilio: Client) -> None:
    message = twilio.messages.create(to=CLIENT, from_=OFFICE, body="Tomorrow at 9")
    assert (message.status, message.num_segments, message.date_sent) == ("queued", "1", None)

    [event] = network.log()
    assert (
        event | {"channel": "sms", "to": CLIENT, "from": OFFICE, "body": "Tomorrow at 9", "sid": message.sid} == event
    )
    assert event["time"] == MONDAY.isoformat()
    assert twilio.messages(message.sid).fetch().status == "sent"

    network.advance(1.9)
    assert twilio.messages(message.sid).fetch().status == "sent"
    network.advance(0.1)
    assert twilio.messages(message.sid).fetch().status == "delivered"
    assert len(network.log()) == 1


def test_a_service_sends_from_its_own_number(twilio: Client) -> None:
    message = twilio.messages.create(to=CLIENT, messaging_service_sid="MG" + "a" * 32, body="Hi")
    assert (message.status, message.from_) == ("accepted", None)
    assert twilio.messages(message.sid).fetch().from_ == "+15005550006"


def test_a_scheduled_text_can_be_cancelled_and_then_never_arrives(network: Simulator, twilio: Client) -> None:
    at = MONDAY + timedelta(hours=1)
    order = {
        "to": CLIENT,
        "messaging_service_sid": "MG" + "a" * 32,
        "body": "Hi",
        "send_at": at,
        "schedule_type": "fixed",
    }
    cancelled, kept = twilio.messages.create(**order), twilio.messages.create(**order)
    assert cancelled.status == "scheduled"
    assert twilio.messages(cancelled.sid).update(status="canceled").status == "canceled"
    network.advance(3600)
    assert [(event["sid"], event["time"]) for event in network.log()] == [(kept.sid, at.isoformat())]
    with pytest.raises(TwilioRestException) as refused:
        twilio.messages(kept.sid).update(status="canceled")
    assert refused.value.code == 30409


@pytest.mark.parametrize(
    ("suffix", "status", "reached"),
    [
        ("30003", "undelivered", 0),
        ("30007", "undelivered", 0),
        ("30034", "undelivered", 0),
        ("30036", "failed", 0),
        ("55123", "delivered", 1),
    ],
)
def test_the_destination_decides_how_a_text_ends(
    network: Simulator, twilio: Client, suffix: str, status: str, reached: int
) -> None:
    message = twilio.messages.create(to=f"+1202555{suffix}", from_=OFFICE, body="Hi", validity_period=600)
    network.advance(600)
    ended = twilio.messages(message.sid).fetch()
    assert (ended.status, ended.error_code) == (status, int(suffix) if not reached else None)
    assert len(network.log()) == reached


def test_a_call_rings_is_answered_and_ends(network: Simulator, twilio: Client) -> None:
    call = twilio.calls.create(to=CLIENT, from_=OFFICE, twiml=HELLO)
    assert call.status == "queued"
    seen = []
    for seconds in (0, 3, 12):
        network.advance(seconds)
        seen.append(twilio.calls(call.sid).fetch().status)
    assert seen == ["ringing", "in-progress", "completed"]
    ended = twilio.calls(call.sid).fetch()
    assert (ended.duration, ended.end_time) == ("12", MONDAY + timedelta(seconds=15))
    assert [event["sid"] for event in network.log("call", CLIENT)] == [call.sid]
    assert network.calls()[0]["said"] == "Hello from the office"


@pytest.mark.parametrize(
    ("suffix", "status", "rang"), [("00486", "busy", 0), ("00404", "failed", 0), ("00480", "no-answer", 1)]
)
def test_the_destination_decides_how_a_call_ends(
    network: Simulator, twilio: Client, suffix: str, status: str, rang: int
) -> None:
    call = twilio.calls.create(to=f"+1202555{suffix}", from_=OFFICE, twiml=HELLO, timeout=20)
    network.advance(20)
    assert twilio.calls(call.sid).fetch().status == status
    assert len(network.log()) == rang
    # A call that never rang was dialled all the same, so a list by date contains it.
    assert [each.sid for each in twilio.calls.list(start_time=MONDAY.date())] == [call.sid]


@pytest.mark.parametrize(
    ("seconds", "asked", "status"),
    [(0, "canceled", "canceled"), (0, "completed", "canceled"), (3, "completed", "completed"), (3, "canceled", 21220)],
)
def test_a_call_can_be_ended(network: Simulator, twilio: Client, seconds: int, asked: str, status: str | int) -> None:
    call = twilio.calls.create(to=CLIENT, from_=OFFICE, twiml=HELLO)
    network.advance(seconds)
    if isinstance(status, int):
        with pytest.raises(TwilioRestException) as refused:
            twilio.calls(call.sid).update(status=asked)
        assert refused.value.code == status
    else:
        assert twilio.calls(call.sid).update(status=asked).status == status
        assert network.summary()["numbers"][CLIENT]["open_calls"] == 0


def test_simultaneous_calls_are_counted_by_number(network: Simulator, twilio: Client) -> None:
    for _ in range(3):
        twilio.calls.create(to=CLIENT, from_=OFFICE, twiml=HELLO)
    for _ in range(2):
        twilio.calls.create(to=NEIGHBOUR, from_=OFFICE, twiml=HELLO)
        network.advance(15)
    summary = network.summary()
    counts = {number: (each["calls"], each["max_simultaneous_calls"]) for number, each in summary["numbers"].items()}
    assert counts == {CLIENT: (3, 3), NEIGHBOUR: (2, 1)}
    assert (summary["max_simultaneous_calls"], summary["total"]) == (3, 5)


def test_lists_are_filtered_and_paged(network: Simulator, twilio: Client) -> None:
    sids = []
    for hour in range(5):
        sids.append(twilio.messages.create(to=CLIENT, from_=OFFICE, body=f"{hour}").sid)
        twilio.messages.create(to=NEIGHBOUR, from_=OFFICE, body="other")
        network.advance(3600)
    client, http = library(network)
    assert [each.sid for each in client.messages.list(to=CLIENT, page_size=2, limit=20)] == sids[::-1]
    assert len(http.exchanges) == 3
    at_two = MONDAY + timedelta(hours=2)
    after = client.messages.list(to=CLIENT, date_sent_after=at_two)
    before = client.messages.list(to=CLIENT, date_sent_before=at_two)
    assert ([each.sid for each in after], [each.sid for each in before]) == (sids[:1:-1], sids[2::-1])
    assert client.messages.list(from_=CLIENT) == []


def test_a_page_stays_where_it_was_when_new_messages_come(twilio: Client) -> None:
    old = [twilio.messages.create(to=CLIENT, from_=OFFICE, body="old").sid for _ in range(4)]
    pages = twilio.messages.page(page_size=2)
    first = [each.sid for each in pages]
    twilio.messages.create(to=CLIENT, from_=OFFICE, body="new")
    following = pages.next_page()
    assert following is not None
    assert first + [each.sid for each in following] == old[::-1]


@pytest.mark.parametrize(
    ("day", "on", "before", "after"), [("2026-03-01", 0, 0, 1), ("2026-03-02", 1, 0, 1), ("2026-03-03", 0, 1, 0)]
)
def test_calls_are_found_by_day(twilio: Client, day: str, on: int, before: int, after: int) -> None:
    twilio.calls.create(to=CLIENT, from_=OFFICE, twiml=HELLO)
    found = (
        len(twilio.calls.list(start_time=day)),
        len(twilio.calls.list(start_time_before=day)),
        len(twilio.calls.list(start_time_after=day)),
    )
    assert found == (on, before, after)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": "12", "from_": OFFICE, "body": "Hi"}, 21211),
        ({"to": CLIENT, "from_": "office", "body": "Hi"}, 21212),
        ({"to": CLIENT, "body": "Hi"}, 21603),
        ({"to": CLIENT, "from_": OFFICE}, 21602),
        ({"to": CLIENT, "from_": OFFICE, "body": "x" * 1601}, 21617),
        ({"to": CLIENT, "from_": OFFICE, "body": "Hi", "status_callback": "nowhere"}, 21609),
        ({"to": "+120255520003", "from_": OFFICE, "body": "Hi"}, 20003),
        ({"to": "+120255520429", "from_": OFFICE, "body": "Hi"}, 20429),
        ({"to": "+120255521606", "from_": OFFICE, "body": "Hi"}, 21606),
        ({"to": "+120255521610", "from_": OFFICE, "body": "Hi"}, 21610),
        ({"to": "+120255521614", "from_": OFFICE, "body": "Hi"}, 21614),
    ],
)
def test_a_refused_text_reaches_nobody_and_says_why(
    network: Simulator, twilio: Client, fields: dict[str, str], code: int
) -> None:
    with pytest.raises(TwilioRestException) as refused:
        twilio.messages.create(**fields)
    assert refused.value.code == code
    assert refused.value.status == {20003: 401, 20429: 429}.get(code, 400)
    assert network.log() == []
    assert twilio.messages.list() == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"to": CLIENT, "from_": OFFICE}, 21205), ({"to": "+120255521214", "from_": OFFICE, "twiml": HELLO}, 21214)],
)
def test_a_refused_call_rings_nowhere(network: Simulator, twilio: Client, fields: dict[str, str], code: int) -> None:
    with pytest.raises(TwilioRestException) as refused:
        twilio.calls.create(**fields)
    assert refused.value.code == code
    assert network.log() == []


def test_a_wrong_token_is_refused_before_anything_else(network: Simulator) -> None:
    stranger, http = library(network, auth_token="wrong")
    with pytest.raises(TwilioRestException) as refused:
        stranger.messages.create(to=CLIENT, from_=OFFICE, body="Hi")
    assert (refused.value.status, refused.value.code) == (401, 20003)
    assert '"more_info":"https://www.twilio.com/docs/errors/20003"' in http.exchanges[0].text
    assert network.log() == []


def test_an_unknown_sid_is_not_found(twilio: Client) -> None:
    for resource in (twilio.messages("SM" + "0" * 32), twilio.calls("CA" + "0" * 32)):
        with pytest.raises(TwilioRestException) as refused:
            resource.fetch()
        assert (refused.value.status, refused.value.code) == (404, 20404)


@pytest.mark.parametrize(
    ("body", "count"),
    [("x" * 160, 1), ("x" * 161, 2), ("€" * 80, 1), ("€" * 81, 2), ("あ" * 70, 1), ("あ" * 71, 2), ("x" * 307, 3)],
)
def test_segments(body: str, count: int) -> None:
    assert segments(body) == count


@pytest.mark.parametrize(
    ("twiml", "heard"), [(HELLO, "Hello from the office"), ("<Response><Reject/></Response>", ""), ("not XML", "")]
)
def test_what_a_person_hears(twiml: str, heard: str) -> None:
    assert spoken(twiml) == heard
