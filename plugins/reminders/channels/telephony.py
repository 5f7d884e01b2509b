"""Texts and calls over Twilio, by its own package and its `HttpClient` extension point, and what each answer means.

Sources: Twilio's Message and Call resources, its error dictionary, and "API responses" for the HTTP codes. Creating a
message or a call has no idempotency key, so nothing is ever repeated here: no retries, no redirects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from twilio.base.exceptions import TwilioRestException, TwilioServiceException
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from reminders import wording
from reminders.channels import LastCheck, WordingOf, house_wording, refuse_if_too_late, rendered
from reminders.channels.twilio_codes import classify, final_status
from reminders.errors import ConfigurationError, Doubtful, Misconfigured, NeverContacted, SendError
from reminders.model import Acceptance, Channel, Contact, Listed

__all__ = ["HttpxClient", "Twilio", "classify", "final_status"]

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
LONGEST_VALIDITY = 36_000  # Twilio, Message resource, ValidityPeriod
LIST_PAGE = 1000  # Twilio, PageSize
LIST_SLACK = timedelta(days=1)
SHORTEST_RETRY = 1.0
LONGEST_RETRY = 3_600.0

# They print URLs and list filters, which hold phone numbers.
for _name in ("twilio", "twilio.http_client", "httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


# Twilio's interface has no place for it, and threads share the client.
_LAST_CHECK: ContextVar[LastCheck | None] = ContextVar("last_check", default=None)


@contextmanager
def checked_last(last_check: LastCheck) -> Iterator[None]:
    """Each request in this block asks `last_check` when its connection stands, directly before its first byte."""
    token = _LAST_CHECK.set(last_check)
    try:
        yield
    finally:
        _LAST_CHECK.reset(token)


def _before_the_first_byte(last_check: LastCheck) -> Callable[[str, Any], None]:
    """The check as httpx's trace extension, which httpcore asks at each step of a request."""

    def traced(step: str, _info: Any) -> None:
        if step.endswith(".send_request_headers.started"):
            last_check()

    return traced


class HttpxClient(HttpClient):
    """Twilio's HTTP over httpx: explicit timeouts, no retries, no redirects, nothing logged.

    `base_url` replaces the scheme, host and port of Twilio's URLs and goes before their path; None leaves them.
    `transport` is httpx's; None is the network. Timeouts are seconds. Safe to use from threads.
    """

    def __init__(
        self,
        base_url: str | None = None,
        transport: httpx.BaseTransport | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        super().__init__(logging.getLogger("twilio.http_client"), False, read_timeout)
        self._base = _base(base_url)
        self._client = httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(read_timeout, connect=connect_timeout, pool=connect_timeout),
            follow_redirects=False,
        )

    def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002
        allow_redirects: bool = False,  # noqa: ARG002
    ) -> Response:
        """One request, once. A failure of the transport, and HTTP 429, are raised as leaves of `SendError`.

        `timeout` and `allow_redirects` are part of Twilio's interface and are not heeded.
        """
        last_check = _LAST_CHECK.get()
        try:
            answer = self._client.request(
                method.upper(),
                self._url(uri),
                params=_set(params),
                data=_set(data),
                headers=headers,
                auth=auth,
                extensions={"trace": _before_the_first_byte(last_check)} if last_check else None,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            failure: SendError = NeverContacted("not_connected", type(error).__name__)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            failure = Misconfigured("misconfigured", type(error).__name__)
        except httpx.TimeoutException as error:
            failure = Doubtful("timeout", type(error).__name__)
        except (httpx.HTTPError, httpx.StreamError) as error:
            failure = Doubtful("connection_lost", type(error).__name__)
        else:
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return Response(answer.status_code, answer.text, answer.headers)
            failure = NeverContacted("rate_limited", "429", _retry_after(answer.headers))
        # Raised here, not above: httpx's exceptions hold the request, and with it the number.
        raise failure

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def _url(self, uri: str) -> httpx.URL:
        url = httpx.URL(uri)
        if self._base is None:
            return url
        path = self._base.raw_path.rstrip(b"/") + url.raw_path
        return self._base.copy_with(raw_path=path)


def _base(base_url: str | None) -> httpx.URL | None:
    if not base_url:
        return None
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("the connection twilio_default has a host that is no http or https address")
    return httpx.URL(base_url)


def _set(fields: dict[str, object] | None) -> dict[str, Any] | None:
    return {name: value for name, value in fields.items() if value is not None} if fields else None


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds of the Retry-After header (RFC 9110, 10.2.3: seconds or a date), between a second and an hour."""
    wish = headers.get("retry-after", "")
    try:
        seconds = float(wish) if not wish.endswith("GMT") else _until(wish, headers.get("date", ""))
    except ValueError:
        seconds = 60.0
    return min(max(seconds, SHORTEST_RETRY), LONGEST_RETRY) if seconds == seconds else 60.0


def _until(wish: str, answered: str) -> float:
    since = parsedate_to_datetime(answered) if answered else datetime.now(UTC)
    return (parsedate_to_datetime(wish) - since).total_seconds()


class Twilio:
    """Texts and calls of one Twilio account.

    `base_url` None is the real API. `from_sms` or `messaging_service_sid` sends texts, `from_call` calls. With
    `status_callback_base`, Twilio reports each status to `<base>/<contact.reference>`; without it, it reports nowhere.
    `wording_of` gives an account's own wording. Safe to use from threads.
    """

    def __init__(
        self,
        account_sid: str | None,
        auth_token: str | None,
        base_url: str | None = None,
        from_sms: str | None = None,
        from_call: str | None = None,
        messaging_service_sid: str | None = None,
        status_callback_base: str | None = None,
        transport: httpx.BaseTransport | None = None,
        wording_of: WordingOf = house_wording,
    ) -> None:
        if not account_sid or not auth_token:
            raise ConfigurationError("the connection twilio_default has no login (account SID) or no password")
        self._client = Client(account_sid, auth_token, http_client=HttpxClient(base_url, transport))
        self._from_sms, self._from_call = from_sms or None, from_call or None
        self._messaging_service_sid = messaging_service_sid or None
        self._status_callback_base = status_callback_base
        self._wording_of = wording_of

    def text(self, contact: Contact, now: datetime, last_check: LastCheck) -> Acceptance:
        """Send the contact's text, which dies unsent when the contact expires (error 30036).

        `last_check` raises to decline. It is asked before a connection is made, and again when that stands, directly
        before the first byte of the request. Raises a leaf of `SendError`.
        """
        refuse_if_too_late(contact, now)
        if self._from_sms is None and self._messaging_service_sid is None:
            raise Misconfigured("misconfigured", "no_from_sms")
        fields: dict[str, Any] = {
            "to": contact.address,
            "body": rendered(lambda: wording.sms(contact, self._wording_of(contact.account_id))),
            "validity_period": min(max(int((contact.expires_at - now).total_seconds()), 1), LONGEST_VALIDITY),
            **self._callback(contact),
        }
        if self._from_sms:
            fields["from_"] = self._from_sms
        if self._messaging_service_sid:
            fields["messaging_service_sid"] = self._messaging_service_sid
        return _accepted(_asked_last(last_check, lambda: self._client.messages.create(**fields)))

    def call(self, contact: Contact, now: datetime, last_check: LastCheck) -> Acceptance:
        """Place the contact's call, with its words in the request. As `text` in all else."""
        refuse_if_too_late(contact, now)
        if self._from_call is None:
            raise Misconfigured("misconfigured", "no_from_call")
        fields: dict[str, Any] = {
            "to": contact.address,
            "from_": self._from_call,
            "twiml": rendered(lambda: wording.call(contact, self._wording_of(contact.account_id))),
            **self._callback(contact),
        }
        return _accepted(_asked_last(last_check, lambda: self._client.calls.create(**fields)))

    def status(self, channel: Channel, provider_id: str) -> tuple[str, str]:
        """The provider's present status of a text or call, and its error code or ''. Raises a leaf of `SendError`."""
        if channel is Channel.EMAIL:
            raise ValueError("an email's delivery is known when it is handed over")
        found = _asked(lambda: self._resource(channel)(provider_id).fetch())
        if not found.status:
            raise Doubtful("unreadable_answer")
        return str(found.status), str(getattr(found, "error_code", None) or "")

    def cancel(self, channel: Channel, provider_id: str) -> None:
        """Ask the provider not to make a text or call that it took. Raises a `SendError` when it is too late."""
        _asked(lambda: self._resource(channel)(provider_id).update(status="canceled"))

    def listed(self, channel: Channel, since: datetime, to: str | None = None) -> list[Listed]:
        """Every text or call that the provider took from our senders since then, to one number where given.

        All pages are read, so that the list is complete, or a leaf of `SendError` is raised. Times are the provider's,
        to the second, and the newest of minutes may still be missing: the list lags.
        """
        filters = {"to": to} if to else {}

        def read() -> list[Listed]:
            # Twilio's package asks for the first page here, and for the others in the loop.
            return self._read_list(channel, self._resource(channel).stream(page_size=LIST_PAGE, **filters), since)

        found: list[Listed] = _asked(read)
        return found

    def _resource(self, channel: Channel) -> Any:
        return self._client.messages if channel is Channel.SMS else self._client.calls

    def _read_list(self, channel: Channel, newest_first: Iterable[Any], since: datetime) -> list[Listed]:
        found = []
        for each in newest_first:
            # Sorted by when it left: what others have scheduled for days stands before what is newer.
            if not self._is_ours(channel, each):
                continue
            if each.date_created < since - LIST_SLACK:
                break
            if each.date_created >= since:
                code = str(getattr(each, "error_code", None) or "")
                found.append(Listed(channel, each.sid, str(each.status), code, each.to, each.date_created))
        return found

    def _is_ours(self, channel: Channel, each: Any) -> bool:
        if not str(each.direction).startswith("outbound"):
            return False
        if channel is Channel.CALL:
            return bool(each._from == self._from_call)
        service = each.messaging_service_sid
        return each.from_ == self._from_sms or (service is not None and service == self._messaging_service_sid)

    def _callback(self, contact: Contact) -> dict[str, str]:
        if not self._status_callback_base:
            return {}
        return {"status_callback": f"{self._status_callback_base.rstrip('/')}/{quote(contact.reference, safe='')}"}


def _asked(request: Any) -> Any:
    """The provider's answer as Twilio's package reads it, or a leaf of `SendError`."""
    try:
        return request()
    except SendError:
        raise
    except (TwilioRestException, TwilioServiceException) as error:
        failure = classify(error.status, error.code)
    except Exception as error:
        # A 2xx that cannot be read: the provider has acted, and we do not know on what.
        failure = Doubtful("unreadable_answer", type(error).__name__)
    # Raised here, not above: Twilio's exceptions hold the number in their text.
    raise failure


def _asked_last(last_check: LastCheck, request: Any) -> Any:
    """As `_asked`; `last_check` may decline before the connection is made, and when it stands."""
    last_check()
    with checked_last(last_check):
        return _asked(request)


def _accepted(created: Any) -> Acceptance:
    if not isinstance(created.sid, str) or not created.sid:
        raise Doubtful("unreadable_answer", "no_sid")
    return Acceptance(created.sid, str(created.status or ""))
