"""Signed requests to the customer's URLs: status callbacks, and the TwiML of a call that is being answered.

Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security and
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urldefrag, urlencode

import httpx
from twilio.request_validator import RequestValidator

_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Delivery:
    """One request that was made, or tried. `status` is the HTTP status of the answer, 0 when there was none."""

    url: str
    method: str
    params: dict[str, str]
    status: int = 0
    error: str = ""


class Postman:
    """Sends requests one after the other, in the order in which they were posted, and keeps a record of them."""

    def __init__(self, auth_token: str) -> None:
        self._validator = RequestValidator(auth_token)
        self._queue: asyncio.Queue[tuple[Delivery, Callable[[str], None] | None]] = asyncio.Queue()
        self.deliveries: list[Delivery] = []

    def post(
        self, url: str, method: str, params: dict[str, str], on_answer: Callable[[str], None] | None = None
    ) -> None:
        """Queue a request. `on_answer` gets the body of a 2xx answer, or an empty string for any other end."""
        # What follows the # are overrides for Twilio itself; they do not travel.
        self._queue.put_nowait((Delivery(urldefrag(url).url, method.upper(), params), on_answer))

    async def run(self) -> None:
        """Send for ever, until cancelled."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            while True:
                delivery, on_answer = await self._queue.get()
                try:
                    answer = await self._send(client, delivery)
                    if on_answer:
                        on_answer(answer)
                finally:
                    self._queue.task_done()

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> str:
        self.deliveries.append(delivery)
        url, form = delivery.url, delivery.params
        if delivery.method == "GET":
            url, form = f"{url}{'&' if '?' in url else '?'}{urlencode(delivery.params)}", {}
        headers = {"X-Twilio-Signature": self._validator.compute_signature(url, form), "User-Agent": "TwilioProxy/1.1"}
        try:
            answer = await client.request(delivery.method, url, data=form or None, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            delivery.error = type(error).__name__
            return ""
        delivery.status = answer.status_code
        return answer.text if answer.is_success else ""

    async def drain(self) -> None:
        """Wait until everything queued has been sent or has failed; each request takes 5 s at most."""
        await self._queue.join()

    def record(self) -> list[dict[str, Any]]:
        """All requests made so far, oldest first."""
        return [asdict(delivery) for delivery in self.deliveries]

    def clear(self) -> None:
        """Forget the record, and what is still queued."""
        self.deliveries.clear()
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()
