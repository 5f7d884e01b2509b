"""Email over SMTP: the message with its calendar entry, and what each answer of the relay means.

Sources: RFC 5321 (SMTP), RFC 3463 (enhanced status codes), RFC 5545 and 5546 (iCalendar, and publishing it), RFC 3834
(Auto-Submitted). SMTP has no idempotency key: once the message has been handed over, only an explicit answer is proof.
"""

from __future__ import annotations

import hashlib
import re
import smtplib
import ssl as tls
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any

from icalendar import Calendar, Event

from reminders import wording
from reminders.channels import LastCheck, WordingOf, house_wording, refuse_if_too_late, rendered
from reminders.errors import (
    AddressRefused,
    ConfigurationError,
    Doubtful,
    Misconfigured,
    NeverContacted,
    SendError,
)
from reminders.model import Acceptance, Contact, Visit

# The relay may not offer 8BITMIME: seven bits pass everywhere.
POLICY = SMTP.clone(cte_type="7bit")
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 10.0
DEFERRED_FOR = 300.0
_SAFE_REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_ENHANCED = re.compile(r"[245]\.(\d{1,3})\.\d{1,3}\b")
# RFC 3463: the subjects 1 (address) and 2 (mailbox) speak of the recipient; system, routing, protocol, content and
# policy speak of the relay, of our message or of us.
_ABOUT_THE_RECIPIENT = frozenset({"1", "2"})
_ABOUT_OUR_SESSION = frozenset({500, 501, 502, 503, 504, 530, 534, 535, 538})


def build_email(
    contact: Contact, sender: str, now: datetime, overrides: wording.Overrides | None = None
) -> EmailMessage:
    """Text and HTML, and a calendar file that adds, moves or (for a cancellation) cancels an entry for each visit.

    `sender` is our address, `now` is timezone-aware. Raises `AddressRefused` for an address that cannot be written in
    a header.
    """
    words = wording.email(contact, overrides)
    sender = parseaddr(sender)[1]
    message = EmailMessage(policy=POLICY)
    message["From"] = Address(display_name=wording.account_name(contact), addr_spec=sender)
    message["To"] = _recipient(contact.address)
    with suppress(AddressRefused):
        message["Reply-To"] = _recipient(contact.account_email)
    message["Subject"] = words.subject
    message["Date"] = format_datetime(now.astimezone(UTC))
    message["Message-ID"] = message_id(contact.reference, sender)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(words.text)
    message.add_alternative(words.html, subtype="html")
    message.add_attachment(
        calendar(contact, sender, now, words.summary).decode(),
        subtype="calendar",
        filename="appointment.ics",
        params={"method": method(contact)},
    )
    # After the parts: adding one takes the content headers away.
    message["Content-Language"] = words.language
    return message


def _recipient(address: str) -> Address:
    local, _, domain = (address or "").strip().rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode()
        if not local.isascii():
            # It needs SMTPUTF8 (RFC 6531) all the way, which we do not speak.
            raise AddressRefused("bad_address", "smtputf8_needed")
        return Address(addr_spec=f"{local}@{ascii_domain}")
    except (ValueError, IndexError, MessageError):
        pass
    raise AddressRefused("bad_address", "unwritable_address")


def message_id(reference: str, sender: str) -> str:
    """The Message-ID of a contact: the same at every try, with nothing personal in it."""
    if not _SAFE_REFERENCE.fullmatch(reference):
        reference = hashlib.sha256(reference.encode()).hexdigest()
    return f"<{reference}@{sender.rpartition('@')[2]}>"


def uid(contact: Contact, visit: Visit) -> str:
    """The calendar's UID of an appointment (RFC 5545, 3.8.4.7): a hash, the same in every email about it."""
    account = contact.account_id.encode()
    return hashlib.sha256(b"%d:%b:%b" % (len(account), account, visit.appointment_id.encode())).hexdigest()


def method(contact: Contact) -> str:
    """What calendars are to do with the entries (RFC 5546, 3.2.1 and 3.2.5)."""
    return "CANCEL" if contact.is_cancellation else "PUBLISH"


def calendar(contact: Contact, sender: str, now: datetime, summary: str) -> bytes:
    """The iCalendar object of the contact's visits, times in UTC.

    An entry has a summary and its time, and no place, person or description.
    """
    book = Calendar()
    book.add("prodid", "-//Ringonce//Appointment reminders//EN")
    book.add("version", "2.0")
    book.add("method", method(contact))
    for visit in contact.visits:
        entry = Event()
        entry.add("uid", uid(contact, visit))
        entry.add("dtstamp", now.astimezone(UTC))
        entry.add("dtstart", visit.starts_at.astimezone(UTC))
        if visit.ends_at > visit.starts_at:
            entry.add("dtend", visit.ends_at.astimezone(UTC))
        # RFC 5546, 2.1.4: a cancellation supersedes the last revision only with a higher number.
        entry.add("sequence", visit.sequence + int(contact.is_cancellation))
        entry.add("status", "CANCELLED" if contact.is_cancellation else "CONFIRMED")
        entry.add("summary", summary)
        entry.add("class", "PRIVATE")
        entry.add("organizer", f"mailto:{sender}")
        book.add_component(entry)
    return bytes(book.to_ical())


def refusal(code: int, answer: bytes | str) -> SendError:
    """What an explicit refusal of the relay (SMTP code 4yz or 5yz, and its text) means; nothing was delivered.

    4yz: `NeverContacted`, try later. 5yz about our session, or whose enhanced code is not about the recipient:
    `Misconfigured`. Any other 5yz: `AddressRefused`; without an enhanced code it may be about us all the same, and is
    no proof for a call. The answer's text, which can hold the address, is not kept.
    """
    if code < 500:
        return NeverContacted("deferred_by_relay", str(code), DEFERRED_FOR)
    text = answer.decode("ascii", "replace") if isinstance(answer, bytes) else answer
    enhanced = _ENHANCED.match(text.strip())
    is_ours = code in _ABOUT_OUR_SESSION or (enhanced is not None and enhanced[1] not in _ABOUT_THE_RECIPIENT)
    full_code = f"{code} {enhanced[0]}" if enhanced else str(code)
    if is_ours:
        return Misconfigured("misconfigured", full_code)
    return AddressRefused("bad_address" if enhanced else "refused_unexplained", full_code)


class Mailer:
    """A relay. Each contact has a connection of its own, so that a stop stops and a failure is that contact's alone.

    `host`, `port`, `login` and `password` are the relay's; `sender` is our address. `starttls` upgrades the
    connection, `ssl` opens it encrypted. `connect_timeout` and `answer_timeout` are seconds, the latter for each
    answer. `wording_of` gives an account's own wording. `smtp_factory` makes the client. Safe to use from threads.
    """

    def __init__(
        self,
        host: str | None,
        port: int,
        login: str | None,
        password: str | None,
        sender: str,
        starttls: bool = True,
        ssl: bool = False,
        connect_timeout: float = CONNECT_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
        smtp_factory: Callable[..., Any] = smtplib.SMTP,
        wording_of: WordingOf = house_wording,
    ) -> None:
        if not host:
            raise ConfigurationError("the connection smtp_default has no host")
        address = parseaddr(sender)[1]
        try:
            Address(addr_spec=address)
        except (ValueError, IndexError, MessageError):
            address = ""
        if "@" not in address:
            raise ConfigurationError("the connection smtp_default has no usable from_email")
        self._host, self._port, self._login, self._password = host, port, login, password
        self._sender, self._starttls, self._ssl = address, starttls, ssl
        self._connect_timeout, self._answer_timeout = connect_timeout, answer_timeout
        self._smtp_factory, self._wording_of = smtp_factory, wording_of

    def send(self, contact: Contact, now: datetime, last_check: LastCheck) -> Acceptance:
        """Hand the reminder to the relay. Its final 250 is delivery; `provider_id` is the Message-ID.

        `last_check` raises to decline, and is asked before the connection and again before the message. Raises a leaf
        of `SendError`.
        """
        refuse_if_too_late(contact, now)
        message, content = rendered(lambda: self._render(contact, now))
        recipient = message["To"].addresses[0].addr_spec
        last_check()
        smtp = _before_the_message(self._connect)
        try:
            _before_the_message(lambda: self._envelope(smtp, recipient))
            last_check()
            code = _hand_over(smtp, content)
            # The relay has taken the message: how it says goodbye changes nothing.
            with suppress(OSError, smtplib.SMTPException):
                smtp.quit()
        finally:
            smtp.close()
        return Acceptance(str(message["Message-ID"]), str(code), is_delivered=True)

    def _render(self, contact: Contact, now: datetime) -> tuple[EmailMessage, bytes]:
        message = build_email(contact, self._sender, now, self._wording_of(contact.account_id))
        return message, message.as_bytes()

    def _connect(self) -> Any:
        options: dict[str, Any] = {"timeout": self._connect_timeout}
        factory = self._smtp_factory
        if self._ssl and factory is smtplib.SMTP:
            factory, options["context"] = smtplib.SMTP_SSL, tls.create_default_context()
        return factory(self._host, self._port, **options)

    def _envelope(self, smtp: Any, recipient: str) -> None:
        if getattr(smtp, "sock", None) is not None:
            smtp.sock.settimeout(self._answer_timeout)
        smtp.ehlo_or_helo_if_needed()
        if self._starttls and not self._ssl:
            smtp.starttls(context=tls.create_default_context())
            smtp.ehlo_or_helo_if_needed()
        if self._login:
            smtp.login(self._login, self._password or "")
        code, answer = smtp.mail(self._sender)
        if not 200 <= code < 300:
            raise smtplib.SMTPResponseException(code, answer)
        code, answer = smtp.rcpt(recipient)
        if not 200 <= code < 300:
            raise refusal(code, answer)


def _before_the_message(step: Callable[[], Any]) -> Any:
    """Run a step during which nothing can have been delivered, its failures as leaves of `SendError`."""
    try:
        return step()
    except SendError:
        raise
    except smtplib.SMTPResponseException as error:
        # Greeting, EHLO, login or MAIL: the relay speaks of us, whatever it says.
        code = str(error.smtp_code)
        is_lasting = error.smtp_code >= 500
        failure: SendError = (
            Misconfigured("misconfigured", code)
            if is_lasting
            else NeverContacted("deferred_by_relay", code, DEFERRED_FOR)
        )
    except tls.SSLCertVerificationError:
        failure = Misconfigured("misconfigured", "certificate")
    except smtplib.SMTPServerDisconnected as error:
        failure = NeverContacted("not_connected", type(error).__name__)
    except smtplib.SMTPException as error:
        # The relay lacks STARTTLS, AUTH, or a way to log in that we know.
        failure = Misconfigured("misconfigured", type(error).__name__)
    except OSError as error:
        failure = NeverContacted("not_connected", type(error).__name__)
    # Raised here, not above: the original's text can hold our password or the client's address.
    raise failure


def _hand_over(smtp: Any, content: bytes) -> int:
    """DATA to the final answer. Returns the code 2yz; only an answer that was read decides, all else is doubt."""
    try:
        code, answer = smtp.data(content)
    except smtplib.SMTPResponseException as error:
        code, answer = error.smtp_code, error.smtp_error
    except Exception as error:
        code, answer = 0, type(error).__name__
    if 200 <= code < 300:
        return int(code)
    if 400 <= code < 600:
        raise refusal(code, answer)
    raise Doubtful("no_final_answer", str(code) if code else str(answer))
