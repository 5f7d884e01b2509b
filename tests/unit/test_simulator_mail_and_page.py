"""The simulator's mailboxes, its page, its log file, and the process as `make run` starts it."""

from __future__ import annotations

import json
import smtplib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from urllib.request import urlopen

import pytest
from twilio.base.exceptions import TwilioRestException

from tests.simulator.client import Simulator
from tests.simulator.clock import Agenda, Clock
from tests.simulator.library import library

MONDAY = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
OFFICE = "+12025550100"
CLIENT = "+12025550123"
MAILBOX = "client@example.com"
NASTY = '<script>alert("1")</script> & \u202eright to left'


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator.start(speed=0, start=MONDAY) as network:
        yield network


@pytest.fixture
def network(running: Simulator) -> Simulator:
    running.reset()
    return running


def email(to: str = MAILBOX, subject: str = "Tomorrow") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "office@example.com", to, subject
    message["Message-ID"] = "<ref-1@example.com>"
    message.set_content("See you at 9")
    message.add_alternative("<p>See you at <b>9</b></p>", subtype="html")
    calendar = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
    message.add_attachment(calendar, maintype="text", subtype="calendar", filename="visit.ics")
    return message


def send(network: Simulator, message: EmailMessage) -> None:
    with smtplib.SMTP(network.smtp_host, network.smtp_port, timeout=5) as smtp:
        smtp.login("office", "secret")
        smtp.send_message(message)


def test_an_email_reaches_each_mailbox_with_its_calendar(network: Simulator) -> None:
    send(network, email(to=f"{MAILBOX}, other@example.com"))
    events = network.log("email")
    assert [event["to"] for event in events] == [MAILBOX, "other@example.com"]
    event = events[0]
    assert (event["subject"], event["body"].strip(), event["account"]) == ("Tomorrow", "See you at 9", "office")
    assert (event["message_id"], event["from"]) == ("<ref-1@example.com>", "office@example.com")
    [attachment] = event["attachments"]
    assert attachment["name"] == "visit.ics"
    assert "METHOD:REQUEST" in attachment["text"]
    assert network.summary()["mailboxes"][MAILBOX] == {"emails": 1}


@pytest.mark.parametrize(
    ("fault", "error", "reached"),
    [
        ("reject_550", smtplib.SMTPRecipientsRefused, 0),
        ("reject_451", smtplib.SMTPRecipientsRefused, 0),
        ("drop_after_dot", smtplib.SMTPServerDisconnected, 1),
        ("hang_after_dot", smtplib.SMTPServerDisconnected, 1),
    ],
)
def test_the_mail_server_lies_and_the_mailbox_does_not(
    network: Simulator, fault: str, error: type[Exception], reached: int
) -> None:
    network.fault("email", fault)
    with pytest.raises(error) as raised, smtplib.SMTP(network.smtp_host, network.smtp_port, timeout=0.5) as smtp:
        smtp.send_message(email())
    if isinstance(raised.value, smtplib.SMTPRecipientsRefused):
        assert raised.value.recipients[MAILBOX][0] == int(fault[-3:])
    else:
        # smtplib tells a silence from an end by its words only.
        assert ("timed out" in str(raised.value)) == (fault == "hang_after_dot")
    assert len(network.log("email")) == reached
    send(network, email())
    assert len(network.log("email")) == reached + 1


@pytest.mark.parametrize("code", [550, 451])
def test_an_address_can_ask_to_be_refused(network: Simulator, code: int) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(network, email(to=f"client+{code}@example.com"))
    assert refused.value.recipients[f"client+{code}@example.com"][0] == code
    assert network.log() == []


@pytest.mark.parametrize("content", [b"", b"no header at all", b"Content-Type: text/plain; charset=none\r\n\r\n\xff"])
def test_a_malformed_email_arrives_all_the_same(network: Simulator, content: bytes) -> None:
    with smtplib.SMTP(network.smtp_host, network.smtp_port, timeout=5) as smtp:
        smtp.sendmail("office@example.com", [MAILBOX], content)
    assert [event["to"] for event in network.log("email")] == [MAILBOX]


def page(network: Simulator) -> str:
    with urlopen(network.base_url + "/", timeout=5) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return answer.read().decode()


def test_the_page_shows_the_newest_first_and_escapes_all(network: Simulator) -> None:
    assert "No phone has rung yet" in page(network)
    client, _ = library(network)
    for body in ("older text", NASTY):
        client.messages.create(to=CLIENT, from_=OFFICE, body=body)
    for _ in range(2):
        client.calls.create(to=CLIENT, from_=OFFICE, twiml="<Response><Say>a spoken reminder</Say></Response>")
    send(network, email(subject=NASTY))
    html = page(network)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2
    assert html.index("&lt;script&gt;") < html.index("older text")
    assert "a spoken reminder" in html
    assert "visit.ics" in html
    assert "2 calls at once" in html
    assert "http://" not in html and "https://" not in html, "nothing is loaded from elsewhere"


def test_reset_forgets(network: Simulator) -> None:
    network.fault("email", "reject_550")
    network.advance(3600)
    library(network)[0].messages.create(to=CLIENT, from_=OFFICE, body="Hi")
    network.reset()
    send(network, email())
    assert [(event["channel"], event["time"]) for event in network.log()] == [("email", MONDAY.isoformat())]
    assert library(network)[0].messages.list() == []


def test_a_process_keeps_its_log_and_stops_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "phones.jsonl"
    with Simulator.spawn(speed=0, log=path) as network:
        sid = library(network)[0].messages.create(to=CLIENT, from_=OFFICE, body="Grüße").sid
        assert network.log()[0]["sid"] == sid
        assert network.stop() == 0
        for port in (network.http_port, network.smtp_port):
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                pass
    with path.open("a") as file:
        file.write('{"half a line')
    [line] = path.read_text().splitlines()[:1]
    assert json.loads(line)["body"] == "Grüße"
    with Simulator.spawn(speed=0, log=path) as network:
        assert [event["sid"] for event in network.log()] == [sid]
        assert library(network)[0].messages(sid).fetch().status == "delivered"


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RuntimeError, match="status 1"):
            Simulator.spawn(options=("--http-port", str(taken.getsockname()[1])))


def test_speed_drives_progress_and_leaves_the_stamps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 100.0
    monkeypatch.setattr("tests.simulator.clock.time.monotonic", lambda: wall)
    clock = Clock(speed=60, start=MONDAY)
    wall = 102.0
    assert (clock.elapsed(), (clock.now() - MONDAY).total_seconds()) == (120.0, 2.0)
    clock.skip(10)
    assert (clock.elapsed(), (clock.now() - MONDAY).total_seconds()) == (130.0, 12.0)


def test_a_number_that_is_not_ours_cannot_send() -> None:
    with Simulator.start(speed=0, numbers=frozenset({OFFICE})) as network:
        client, _ = library(network)
        client.messages.create(to=CLIENT, from_=OFFICE, body="Hi")
        for create, code in ((client.messages.create, 21606), (client.calls.create, 21210)):
            fields = {"body": "Hi"} if code == 21606 else {"twiml": "<Response/>"}
            with pytest.raises(TwilioRestException) as refused:
                create(to=CLIENT, from_="+12025550199", **fields)
            assert refused.value.code == code
        assert len(network.log()) == 1


def test_advancing_stops_at_each_time_in_order() -> None:
    clock = Clock(speed=0, start=MONDAY)
    agenda = Agenda(clock)
    seen: list[tuple[str, float]] = []
    agenda.after(5, lambda: seen.append(("second", clock.elapsed())))
    agenda.after(2, lambda: agenda.after(1, lambda: seen.append(("nested", clock.elapsed()))))
    agenda.after(5, lambda: seen.append(("third", clock.elapsed())))
    agenda.after(20, lambda: seen.append(("later", clock.elapsed())))
    agenda.advance(10)
    assert seen == [("nested", 3.0), ("second", 5.0), ("third", 5.0)]
    assert (clock.now() - MONDAY).total_seconds() == 10
