"""The email and its calendar entry, and what each way in which a relay can answer or fail means."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from icalendar import Calendar

from reminders.channels.mail import Mailer, build_email, refusal
from reminders.errors import AddressRefused, ConfigurationError, Doubtful, Misconfigured, NeverContacted, SendError
from reminders.model import AccountId, AppointmentId, AttemptId, Channel, Contact, Visit

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
START = datetime(2026, 11, 27, 12, tzinfo=UTC)
SENDER = "reminders@ringonce.example"
VISIT = Visit(AppointmentId("A1"), "Ana Pérez", START, START + timedelta(minutes=30), "America/New_York", "Oncology", 2)
CONTACT = Contact(
    attempt_id=AttemptId(1),
    reference="c0ffee-1",
    channel=Channel.EMAIL,
    address="ana@client.example",
    account_id=AccountId("smith"),
    account_name="Dr. Smith’s office",
    account_phone="+12125550100",
    account_email="office@smith.example",
    locale="en-US",
    visits=(VISIT,),
    expires_at=START - timedelta(hours=24),
)
PERSONAL = ("Ana", "Pérez", "ana@client.example", "Smith", "office@smith.example", "Oncology", "2125550100")


def received(message: EmailMessage) -> EmailMessage:
    """The message as the recipient's program reads it from the wire."""
    read = message_from_bytes(message.as_bytes(), policy=default)
    assert isinstance(read, EmailMessage)
    return read


def events(message: EmailMessage) -> list[Any]:
    part = next(part for part in received(message).walk() if part.get_content_type() == "text/calendar")
    return list(Calendar.from_ical(part.get_content()).walk("VEVENT"))


def test_the_email_has_text_html_and_a_calendar_file() -> None:
    message = build_email(CONTACT, SENDER, NOW)
    read = received(message)
    assert [part.get_content_type() for part in read.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/calendar",
    ]  # fmt: skip
    assert read["From"].addresses[0].addr_spec == SENDER
    assert read["From"].addresses[0].display_name == "Dr. Smith’s office"
    assert read["To"] == "ana@client.example"
    assert read["Reply-To"] == "office@smith.example"
    assert read["Message-ID"] == "<c0ffee-1@ringonce.example>"
    assert (read["Auto-Submitted"], read["Content-Language"]) == ("auto-generated", "en-US")
    body = read.get_body(("plain",))
    assert body is not None and "Ana: Friday, November 27, 2026, 7:00 AM" in body.get_content()
    assert message.as_bytes().isascii() and max(map(len, message.as_bytes().split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("is_cancellation", "method", "status", "sequence"),
    [(False, "PUBLISH", "CONFIRMED", 2), (True, "CANCEL", "CANCELLED", 3)],
)
def test_the_calendar_entry_says_when_and_with_whom_and_nothing_else(
    is_cancellation: bool, method: str, status: str, sequence: int
) -> None:
    message = build_email(replace(CONTACT, is_cancellation=is_cancellation), SENDER, NOW)
    part = next(part for part in received(message).walk() if part.get_content_type() == "text/calendar")
    (event,) = events(message)
    assert part.get_param("method") == method
    assert Calendar.from_ical(part.get_content())["METHOD"] == method
    assert (event["STATUS"], int(event["SEQUENCE"])) == (status, sequence)
    assert (event["DTSTART"].dt, event["DTEND"].dt, event["DTSTAMP"].dt) == (START, VISIT.ends_at, NOW)
    assert str(event["SUMMARY"]) == "Appointment with Dr. Smith’s office"
    assert set(event) == {
        "UID", "DTSTAMP", "DTSTART", "DTEND", "SEQUENCE", "STATUS", "SUMMARY", "CLASS", "ORGANIZER",
    }  # fmt: skip
    assert "Oncology" not in received(message).as_string()


def test_a_moved_appointment_keeps_its_uid_and_another_has_another() -> None:
    moved = replace(VISIT, starts_at=START + timedelta(days=1), ends_at=START + timedelta(days=2), sequence=3)
    contacts = [
        CONTACT,
        replace(CONTACT, visits=(moved,), reference="other", attempt_id=AttemptId(9)),
        replace(CONTACT, visits=(replace(VISIT, appointment_id=AppointmentId("A2")),)),
        replace(CONTACT, account_id=AccountId("smithA"), visits=(replace(VISIT, appointment_id=AppointmentId("1")),)),
    ]
    first, after_move, other, other_account = (str(events(build_email(c, SENDER, NOW))[0]["UID"]) for c in contacts)
    assert first == after_move
    assert len({first, other, other_account}) == 3
    assert re.fullmatch("[0-9a-f]{64}", first)


def test_each_visit_has_an_entry_and_one_without_an_end_has_none() -> None:
    endless = replace(VISIT, appointment_id=AppointmentId("A2"), ends_at=START)
    found = events(build_email(replace(CONTACT, visits=(VISIT, endless)), SENDER, NOW))
    assert ["DTEND" in event for event in found] == [True, False]


@pytest.mark.parametrize("reply_to", ["", "not an address", "a@b.example, c@d.example", "x\r\nBcc: y@z.example"])
def test_an_unusable_address_of_the_account_is_left_out(reply_to: str) -> None:
    assert build_email(replace(CONTACT, account_email=reply_to), SENDER, NOW)["Reply-To"] is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "@client.example",
        "a@",
        "a@b.example, c@d.example",
        "a@b.example\r\nBcc: c@d.example",
        "añа@b.example",
    ],
)
def test_an_address_that_cannot_be_written_is_refused_before_any_connection(address: str) -> None:
    relay = Relay()
    with pytest.raises(AddressRefused) as refused:
        mailer(relay).send(replace(CONTACT, address=address), NOW, lambda: None)
    assert relay.log == [] and (address == "" or address not in str(refused.value))


def test_an_international_domain_is_written_in_ascii() -> None:
    assert "ana@xn--bcher-kva.example" in str(
        build_email(replace(CONTACT, address="ana@bücher.example"), SENDER, NOW)["To"]
    )


def test_a_hostile_account_name_adds_no_header() -> None:
    hostile = replace(CONTACT, account_name='Smith"\r\nBcc: victim@x.example <a@b.example>', reference="r\r\nX: y")
    read = received(build_email(hostile, SENDER, NOW))
    assert read["Bcc"] is None and read["X"] is None
    assert [address.addr_spec for address in read["From"].addresses] == [SENDER]


class Relay:
    """A relay that answers as told: `faults` maps a step to an exception, or to a code and text."""

    sock = None

    def __init__(self, **faults: Any) -> None:
        self.faults, self.log = faults, []  # type: tuple[dict[str, Any], list[str]]
        self.content = b""

    def __call__(self, *_server: object, **options: Any) -> Relay:
        assert 0 < options["timeout"] <= 15
        self.step("connect")
        return self

    def step(self, name: str, usual: int = 250) -> tuple[int, bytes]:
        self.log.append(name)
        fault = self.faults.get(name)
        if isinstance(fault, BaseException):
            raise fault
        return fault or (usual, b"ok")

    def ehlo_or_helo_if_needed(self) -> None:
        self.step("ehlo")

    def starttls(self, context: ssl.SSLContext) -> None:
        assert context.verify_mode is ssl.CERT_REQUIRED
        self.step("starttls")

    def login(self, *_secrets: str) -> None:
        self.step("login")

    def mail(self, _sender: str) -> tuple[int, bytes]:
        return self.step("mail")

    def rcpt(self, _recipient: str) -> tuple[int, bytes]:
        return self.step("rcpt")

    def data(self, content: bytes) -> tuple[int, bytes]:
        self.content = content
        return self.step("data")

    def quit(self) -> None:
        self.step("quit")

    def close(self) -> None:
        self.log.append("close")


def mailer(relay: Relay) -> Mailer:
    return Mailer("relay.example", 587, "user", "s3cret", f"Ringonce <{SENDER}>", smtp_factory=relay)


def test_the_final_250_is_delivery_and_the_stop_is_looked_at_before_the_socket_and_before_the_message() -> None:
    relay = Relay()
    accepted = mailer(relay).send(CONTACT, NOW, lambda: relay.log.append("last_check"))
    assert relay.log == [
        "last_check", "connect", "ehlo", "starttls", "ehlo", "login", "mail", "rcpt", "last_check", "data", "quit",
        "close",
    ]  # fmt: skip
    assert (accepted.provider_id, accepted.is_delivered) == ("<c0ffee-1@ringonce.example>", True)
    assert b"Message-ID: <c0ffee-1@ringonce.example>" in relay.content


@pytest.mark.parametrize(("declines_at", "steps"), [(1, []), (2, ["connect", "rcpt"])])
def test_a_stop_ends_the_contact_without_a_message(declines_at: int, steps: list[str]) -> None:
    relay, asked = Relay(), iter(range(1, 9))

    def last_check() -> None:
        if next(asked) == declines_at:
            raise NeverContacted("on_hold", retry_after=0)

    with pytest.raises(NeverContacted, match="on_hold"):
        mailer(relay).send(CONTACT, NOW, last_check)
    assert "data" not in relay.log and [step for step in relay.log if step in ("connect", "rcpt")] == steps
    assert not relay.log or relay.log[-1] == "close"


ANA = b"<ana@client.example> says no"
DECISIONS: list[tuple[str, Any, type[SendError]]] = [
    ("connect", ConnectionRefusedError(), NeverContacted),
    ("connect", socket.gaierror(-2, "relay.example"), NeverContacted),
    ("connect", TimeoutError(), NeverContacted),
    ("connect", smtplib.SMTPConnectError(421, b"busy"), NeverContacted),
    ("connect", smtplib.SMTPConnectError(554, b"go away"), Misconfigured),
    ("connect", ssl.SSLCertVerificationError(), Misconfigured),
    ("connect", ssl.SSLError(), NeverContacted),
    ("ehlo", smtplib.SMTPServerDisconnected("gone"), NeverContacted),
    ("ehlo", smtplib.SMTPHeloError(501, b"bad name"), Misconfigured),
    ("starttls", smtplib.SMTPNotSupportedError("no STARTTLS"), Misconfigured),
    ("starttls", ssl.SSLCertVerificationError(), Misconfigured),
    ("login", smtplib.SMTPAuthenticationError(535, b"user s3cret"), Misconfigured),
    ("login", smtplib.SMTPAuthenticationError(454, b"later"), NeverContacted),
    ("login", smtplib.SMTPException("No suitable authentication method found."), Misconfigured),
    ("mail", (451, b"later"), NeverContacted),
    ("mail", (550, b"5.7.1 not yours"), Misconfigured),
    ("mail", (530, b"log in first"), Misconfigured),
    ("mail", ConnectionResetError(), NeverContacted),
    ("rcpt", (450, b"4.2.1 " + ANA), NeverContacted),
    ("rcpt", (421, b"closing"), NeverContacted),
    ("rcpt", (550, b"5.1.1 " + ANA), AddressRefused),
    ("rcpt", (552, b"5.2.2 full"), AddressRefused),
    ("rcpt", (550, ANA), AddressRefused),
    ("rcpt", (554, b"5.7.1 Relay access denied"), Misconfigured),
    ("rcpt", (530, b"Authentication required"), Misconfigured),
    ("rcpt", smtplib.SMTPServerDisconnected("gone"), NeverContacted),
    ("rcpt", TimeoutError(), NeverContacted),
    ("data", smtplib.SMTPDataError(451, b"not now"), NeverContacted),
    ("data", smtplib.SMTPDataError(554, b"5.1.1 no"), AddressRefused),
    ("data", (452, b"4.3.1 later"), NeverContacted),
    ("data", (550, ANA), AddressRefused),
    ("data", (554, b"5.7.1 looks like spam"), Misconfigured),
    ("data", (552, b"5.3.4 too big"), Misconfigured),
    ("data", (-1, b""), Doubtful),
    ("data", (199, b"?"), Doubtful),
    ("data", TimeoutError(), Doubtful),
    ("data", ConnectionResetError(), Doubtful),
    ("data", BrokenPipeError(), Doubtful),
    ("data", smtplib.SMTPServerDisconnected("gone"), Doubtful),
    ("data", ValueError("odd"), Doubtful),
]


@pytest.mark.parametrize(("step", "fault", "decision"), DECISIONS)
def test_each_failure_is_its_decision_and_says_nothing_personal(
    step: str, fault: Any, decision: type[SendError]
) -> None:
    relay = Relay(**{step: fault})
    with pytest.raises(SendError) as caught:
        mailer(relay).send(CONTACT, NOW, lambda: None)
    assert type(caught.value) is decision
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    assert not any(word in str(caught.value) + repr(caught.value) for word in (*PERSONAL, "s3cret", "ana@"))
    assert relay.log[-1] == ("connect" if step == "connect" else "close")
    assert relay.log.count("data") == (step == "data")


def test_a_relay_that_hangs_up_after_its_250_has_still_delivered() -> None:
    relay = Relay(quit=smtplib.SMTPServerDisconnected("gone"))
    assert mailer(relay).send(CONTACT, NOW, lambda: None).is_delivered


def test_an_expired_contact_is_not_sent() -> None:
    relay = Relay()
    with pytest.raises(NeverContacted, match="too_late"):
        mailer(relay).send(CONTACT, CONTACT.expires_at, lambda: None)
    assert relay.log == []


def test_words_that_cannot_be_made_are_proof_of_no_contact() -> None:
    relay = Relay()
    with pytest.raises(NeverContacted, match="not_rendered"):
        mailer(relay).send(replace(CONTACT, visits=(replace(VISIT, zone="Mars/Base"),)), NOW, lambda: None)
    assert relay.log == []


@pytest.mark.parametrize(("host", "sender"), [("", SENDER), (None, SENDER), ("h", "user"), ("h", "")])
def test_a_mailer_without_a_host_or_a_sender_names_what_is_missing(host: str | None, sender: str) -> None:
    with pytest.raises(ConfigurationError, match="smtp_default"):
        Mailer(host, 25, None, None, sender)


def test_a_refusal_keeps_the_codes_and_drops_the_words() -> None:
    assert str(refusal(550, b"5.1.1 " + ANA)) == "bad_address (550 5.1.1)"
