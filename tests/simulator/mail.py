"""The mail server. A local part that ends in +550 or +451 is refused with that code (RFC 5321 section 4.2)."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from .clock import Clock
from .faults import DATA_FAULTS, RECIPIENT_FAULTS, Faults
from .journal import Attachment, Event, Journal

_REPLIES = {"reject_550": "550 5.1.1 No such mailbox", "reject_451": "451 4.3.0 Try again later"}
_MAGIC = re.compile(r"\+(550|451)@")


def _content(part: MIMEPart) -> str:
    try:
        content = part.get_content()
    except (LookupError, ValueError):
        return ""
    return (
        content
        if isinstance(content, str)
        else content.decode("utf-8", "replace")
        if isinstance(content, bytes)
        else ""
    )


def _attachments(message: EmailMessage) -> tuple[Attachment, ...]:
    found = []
    for part in message.walk():
        is_calendar = part.get_content_type() in ("text/calendar", "application/ics")
        if part.is_multipart() or not (is_calendar or part.get_content_disposition() == "attachment"):
            continue
        text = _content(part) if is_calendar else ""
        raw = part.get_payload(decode=True)
        size = len(raw) if isinstance(raw, bytes) else 0
        name = part.get_filename() or ("invite.ics" if is_calendar else "attachment")
        found.append(Attachment(name, str(part["Content-Type"] or part.get_content_type()), size, text))
    return tuple(found)


class MailServer:
    """Receives for every mailbox. Any login is accepted, and needs no TLS: it listens on loopback."""

    def __init__(self, clock: Clock, journal: Journal, faults: Faults, settle: Callable[[], None]) -> None:
        self._clock = clock
        self._journal = journal
        self._faults = faults
        self._settle = settle

    def protocol(self) -> SMTP:
        """A new connection's protocol, for `loop.create_server`."""
        return SMTP(
            self,
            hostname="simulator.invalid",
            ident="phone-network simulator",
            enable_SMTPUTF8=True,
            auth_require_tls=False,
            authenticator=self._authenticate,
        )

    @staticmethod
    def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        login = data.login.decode("utf-8", "replace") if isinstance(data, LoginPassword) else ""
        return AuthResult(success=True, auth_data=login)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse one recipient."""
        del server, session
        fault = self._faults.take("email", RECIPIENT_FAULTS, address)
        magic = _MAGIC.search(address)
        if fault or magic:
            return _REPLIES[fault or f"reject_{magic[1]}" if magic else fault]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Put the message into each recipient's mailbox, then answer, or not."""
        self._settle()
        content = envelope.original_content or b""
        message = message_from_bytes(content, policy=policy.default)
        sid = "EM" + secrets.token_hex(16)
        for address in envelope.rcpt_tos:
            self._journal.record(self._event(message, sid, address, str(session.auth_data or ""), envelope))
        names = [self._faults.take("email", DATA_FAULTS, address) for address in envelope.rcpt_tos]
        fault = next((name for name in names if name), "")
        if fault == "drop_after_dot":
            cast(asyncio.Transport, server.transport).abort()
        if fault:
            # The connection's end cancels this.
            await asyncio.Event().wait()
        return f"250 2.0.0 Ok: queued as {sid}"

    def _event(self, message: EmailMessage, sid: str, address: str, account: str, envelope: Envelope) -> Event:
        part = message.get_body(("plain", "html"))
        return Event(
            at=self._clock.now().isoformat(),
            channel="email",
            to=address,
            sender=str(message["From"] or envelope.mail_from or ""),
            body=_content(part) if part is not None else "",
            sid=sid,
            account=account,
            subject=str(message["Subject"] or ""),
            message_id=str(message["Message-ID"] or ""),
            attachments=_attachments(message),
        )
