"""Twilio's own library pointed at a simulator, with a record of what it asked and was answered.

Uses the library's extension point for HTTP clients (https://www.twilio.com/docs/libraries/reference/twilio-python).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from .client import Simulator


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, its parameters without the unset ones, and the answer's status and text."""

    method: str
    path: str
    names: tuple[str, ...]
    status: int
    text: str


class RecordingHttpClient(HttpClient):
    """Sends what is meant for Twilio to `base_url` instead; `timeout` is in seconds."""

    def __init__(self, base_url: str, timeout: float = 5.0) -> None:
        super().__init__(logging.getLogger(__name__), False, timeout)
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False
        self.exchanges: list[Exchange] = []

    def request(
        self,
        method: str,
        uri: str,
        params: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """One request; errors of the connection are those of `requests`."""
        parts = urlsplit(uri)
        url = self._base_url + parts.path + (f"?{parts.query}" if parts.query else "")
        answer = self._session.request(
            method,
            url,
            params=params,
            data=data,
            headers=headers,
            auth=auth,
            timeout=timeout or self.timeout,
            allow_redirects=allow_redirects,
        )
        names = tuple(name for sent in (params, data) for name in sent or {})
        self.exchanges.append(Exchange(method, parts.path, names, answer.status_code, answer.text))
        return Response(answer.status_code, answer.text, answer.headers)


def library(network: Simulator, auth_token: str = "") -> tuple[Client, RecordingHttpClient]:
    """A client of Twilio's library for the simulator, with its token or another, and its recorder."""
    recorder = RecordingHttpClient(network.base_url)
    return Client(network.account_sid, auth_token or network.auth_token, http_client=recorder), recorder
