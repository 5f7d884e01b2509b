"""The part of Twilio's 2010-04-01 API that reminders need: Messages and Calls, create, fetch, list and update.

Source: https://www.twilio.com/docs/usage/twilios-response and the resources' own pages. Parameters that are read
here are named in `READ_PARAMETERS`; all others are ignored, as Twilio does.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .connection import HangingAnswer, ResetAnswer, TruncatedAnswer
from .faults import CREATE_FAULTS, LIST_FAULTS, Faults, is_error_code
from .listing import FILTERS, PAGING, matches, page
from .network import CallOrder, PhoneNetwork, TextOrder
from .refusals import FAILURES, Refusal, is_number, magic_code
from .resources import API, Call, Callback, Message

Form = dict[str, list[str]]
Resource = TypeVar("Resource", Message, Call)

LATE_LISTS_S = 300.0
_LONGEST_BODY = 1600
_CALL_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})

READ_PARAMETERS = {
    "sms": {
        "create": (
            "To", "From", "MessagingServiceSid", "Body", "MediaUrl", "ContentSid", "SendAt", "ScheduleType",
            "ValidityPeriod", "StatusCallback",
        ),
        "update": ("Status", "Body"),
        "list": (*FILTERS["sms"], *PAGING),
    },
    "call": {
        "create": (
            "To", "From", "Twiml", "Url", "Method", "Timeout", "StatusCallback", "StatusCallbackMethod",
            "StatusCallbackEvent",
        ),
        "update": ("Status", "Twiml"),
        "list": (*FILTERS["call"], *PAGING),
    },
}  # fmt: skip


def _first(form: Form, name: str) -> str:
    return form.get(name, [""])[0]


async def read_form(request: Request) -> Form:
    """The fields of a form body, each with all its values, empty ones included."""
    return parse_qs((await request.body()).decode("utf-8"), keep_blank_values=True)


def _is_url(value: str) -> bool:
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class TwilioApi:
    """The routes. `settle` lets everything that is due happen before a request is looked at."""

    def __init__(self, network: PhoneNetwork, faults: Faults, settle: Callable[[], None]) -> None:
        self._network = network
        self._faults = faults
        self._settle = settle

    def routes(self) -> list[Route]:
        """The API's routes, for the application."""
        routes = []
        for kind, name in (("sms", "Messages"), ("call", "Calls")):
            path = f"{API}/Accounts/{{account}}/{name}"
            routes += [
                Route(f"{path}.json", self._guarded(kind, self._create), methods=["POST"]),
                Route(f"{path}.json", self._guarded(kind, self._list), methods=["GET"]),
                Route(f"{path}/{{sid}}.json", self._guarded(kind, self._fetch), methods=["GET"]),
                Route(f"{path}/{{sid}}.json", self._guarded(kind, self._update), methods=["POST"]),
            ]
        return routes

    def _guarded(
        self, kind: str, answer: Callable[[str, Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            self._settle()
            try:
                self._authenticate(request)
                return await answer(kind, request)
            except Refusal as refusal:
                headers = {"Retry-After": "1"} if refusal.status == 429 else None
                return JSONResponse(refusal.as_json(), refusal.status, headers)

        return guarded

    def _authenticate(self, request: Request) -> None:
        customer = self._network.customer
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            given = b""
        expected = f"{customer.account_sid}:{customer.auth_token}".encode()
        if scheme.lower() != "basic" or not secrets.compare_digest(given, expected):
            raise Refusal(20003)
        if request.path_params["account"] != customer.account_sid:
            raise Refusal(20404)

    # Create

    async def _create(self, kind: str, request: Request) -> Response:
        form = await read_form(request)
        to = _first(form, "To")
        fault = self._faults.take(kind, CREATE_FAULTS, to, codes=True)
        if fault == "429":
            raise Refusal(20429)
        if fault == "refuse_503_without_accepting":
            raise Refusal(20503)
        forced = int(fault) if is_error_code(fault) else 0
        if forced and forced not in FAILURES:
            raise Refusal(forced)
        resource: Message | Call
        if kind == "sms":
            resource = self._network.accept_text(self._text_order(form, forced))
        else:
            resource = self._network.accept_call(self._call_order(form))
        answer = resource.as_json()
        # The provider has it; only now may the customer be told something else.
        self._settle()
        if fault == "accept_then_500":
            return JSONResponse(Refusal(20500).as_json(), 500)
        broken = {
            "accept_then_hang": HangingAnswer,
            "accept_then_reset": ResetAnswer,
            "accept_then_truncate": TruncatedAnswer,
        }.get(fault)
        return broken(answer, 201) if broken else JSONResponse(answer, 201)

    def _refuse_numbers(self, kind: str, to: str, sender: str) -> None:
        if not to:
            raise Refusal(21604 if kind == "sms" else 21201)
        if not is_number(to):
            raise Refusal(21211)
        if sender and not is_number(sender):
            raise Refusal(21212)
        own = self._network.customer.numbers
        if sender and own and sender not in own:
            raise Refusal(21606 if kind == "sms" else 21210)
        code = magic_code(to)
        if code and code not in FAILURES:
            raise Refusal(code)

    def _callback(self, kind: str, form: Form, to: str) -> Callback | None:
        url = _first(form, "StatusCallback")
        # Both lies are ordered for the next resource, whether or not it has a callback to lie about.
        is_repeated = bool(self._faults.take(kind, frozenset({"repeat_callbacks"}), to))
        is_reordered = bool(self._faults.take(kind, frozenset({"reorder_callbacks"}), to))
        if not url:
            return None
        if not _is_url(url):
            raise Refusal(21609)
        asked = " ".join(form.get("StatusCallbackEvent", ["completed"])).split()
        events = frozenset(asked) & _CALL_EVENTS if kind == "call" else frozenset()
        return Callback(url, _first(form, "StatusCallbackMethod") or "POST", events, is_repeated, is_reordered)

    def _text_order(self, form: Form, forced: int) -> TextOrder:
        to, sender, service = _first(form, "To"), _first(form, "From"), _first(form, "MessagingServiceSid")
        self._refuse_numbers("sms", to, sender)
        if not sender and not service:
            raise Refusal(21603)
        body, media = _first(form, "Body"), form.get("MediaUrl", [])
        if not body and not media and not _first(form, "ContentSid"):
            raise Refusal(21602)
        if len(body) > _LONGEST_BODY:
            raise Refusal(21617)
        send_at, validity = _first(form, "SendAt"), _first(form, "ValidityPeriod")
        return TextOrder(
            to=to,
            sender=sender,
            service=service,
            body=body,
            media_count=len(media),
            # A time without ScheduleType is ignored, so the text leaves at once: Twilio does that too.
            send_at=_utc(send_at) if send_at and _first(form, "ScheduleType") == "fixed" else None,
            validity=int(validity) if validity else None,
            callback=self._callback("sms", form, to),
            forced_code=forced,
        )

    def _call_order(self, form: Form) -> CallOrder:
        to, sender = _first(form, "To"), _first(form, "From")
        self._refuse_numbers("call", to, sender)
        if not sender:
            raise Refusal(21213)
        # Twilio prefers Twiml where both are given.
        twiml = _first(form, "Twiml")
        url = "" if twiml else _first(form, "Url")
        if not twiml and not _is_url(url):
            raise Refusal(21205)
        return CallOrder(
            to=to,
            sender=sender,
            twiml=twiml,
            url=url,
            url_method=_first(form, "Method") or "POST",
            timeout=float(_first(form, "Timeout") or 60),
            callback=self._callback("call", form, to),
        )

    # Read and update

    async def _list(self, kind: str, request: Request) -> Response:
        query = dict(request.query_params)
        oldest_hidden = LATE_LISTS_S if self._faults.take(kind, LIST_FAULTS, query.get("To", "")) else 0.0
        newest_first = reversed(list(self._network.resources(kind).values()))
        try:
            found = [
                each
                for each in newest_first
                if matches(each, kind, query) and self._network.age(each).total_seconds() >= oldest_hidden
            ]
            name = "messages" if kind == "sms" else "calls"
            return JSONResponse(page(found, name, request.url.path, query))
        except ValueError:
            raise Refusal(20001) from None

    def _find(self, kind: str, request: Request) -> Message | Call:
        try:
            return self._network.resources(kind)[request.path_params["sid"]]
        except KeyError:
            raise Refusal(20404) from None

    async def _fetch(self, kind: str, request: Request) -> Response:
        return JSONResponse(self._find(kind, request).as_json())

    async def _update(self, kind: str, request: Request) -> Response:
        resource, form = self._find(kind, request), await read_form(request)
        status = _first(form, "Status")
        if isinstance(resource, Message):
            if status and status != "canceled":
                raise Refusal(20001)
            if status:
                self._network.cancel_text(resource)
            elif form.get("Body") == [""]:
                resource.body = ""
        elif status:
            if status not in ("canceled", "completed"):
                raise Refusal(20001)
            self._network.update_call(resource, status)
        elif _first(form, "Twiml"):
            resource.twiml = _first(form, "Twiml")
        return JSONResponse(resource.as_json())


def _utc(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Refusal(20001) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
