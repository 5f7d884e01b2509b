"""What a test or a person sees of the network and may do to it; none of it is Twilio's.

GET  /                    the page          GET  /_log           the events; ?channel= and ?to= narrow them
GET  /_log/summary        counts            GET  /_log/calls     each call's times and what was heard
GET  /_callbacks          requests made     GET  /_health        ready
POST /_control/faults     {"channel": ..., "fault": ..., "count": 1, "to": ""}
POST /_control/advance    {"seconds": 60} or {"until_idle": true}; answers when all callbacks are sent
POST /_control/latency    {"seconds": 0.2}: every later API answer waits so long, in wall time
POST /_control/reset      forget everything, clock and faults included
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from .callbacks import Postman
from .clock import Agenda, Clock
from .faults import Faults
from .journal import Event, Journal
from .network import PhoneNetwork
from .resources import spoken

_SHOWN = 500
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Parts(Protocol):
    """The parts of a simulator that its commands reach."""

    clock: Clock
    agenda: Agenda
    journal: Journal
    faults: Faults
    postman: Postman
    network: PhoneNetwork
    latency: float

    def reset(self) -> None:
        """Forget everything."""


class Control:
    """The routes for tests and people."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        loader = FileSystemLoader(Path(__file__).parent)
        self._page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html")

    def routes(self) -> list[Route]:
        """The routes, for the application."""
        return [
            Route("/", self.show, methods=["GET"]),
            Route("/_health", self.health, methods=["GET"]),
            Route("/_log", self.log, methods=["GET"]),
            Route("/_log/summary", self.summary, methods=["GET"]),
            Route("/_log/calls", self.calls, methods=["GET"]),
            Route("/_callbacks", self.callbacks, methods=["GET"]),
            Route("/_control/faults", self.order_fault, methods=["POST"]),
            Route("/_control/advance", self.advance, methods=["POST"]),
            Route("/_control/latency", self.set_latency, methods=["POST"]),
            Route("/_control/reset", self.reset, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        """That the server answers."""
        del request
        return JSONResponse({"status": "ok", "now": self._parts.clock.now().isoformat()})

    async def log(self, request: Request) -> Response:
        """The events, oldest first."""
        self._parts.agenda.settle()
        query = request.query_params
        events = self._parts.journal.select(query.get("channel", ""), query.get("to", ""))
        return JSONResponse({"events": [event.as_json() for event in events]})

    async def summary(self, request: Request) -> Response:
        """The counts."""
        del request
        self._parts.agenda.settle()
        return JSONResponse(self._parts.journal.summary())

    async def calls(self, request: Request) -> Response:
        """The calls accepted since the start, oldest first, whether or not they rang."""
        del request
        self._parts.agenda.settle()
        return JSONResponse({"calls": [call.as_history() for call in self._parts.network.calls.values()]})

    async def callbacks(self, request: Request) -> Response:
        """The requests made to the customer's URLs, oldest first."""
        del request
        self._parts.agenda.settle()
        await self._parts.postman.drain()
        return JSONResponse({"deliveries": self._parts.postman.record()})

    async def order_fault(self, request: Request) -> Response:
        """Order a lie."""
        try:
            wish = await _read(request, {"channel": "", "fault": "", "count": 1, "to": ""})
            self._parts.faults.order(wish["channel"], wish["fault"], wish["count"], wish["to"])
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"ordered": wish})

    async def advance(self, request: Request) -> Response:
        """Let time pass."""
        try:
            wish = await _read(request, {"seconds": 0.0, "until_idle": False})
            if wish["seconds"] < 0:
                raise ValueError("seconds must not be negative")
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        self._parts.agenda.advance(wish["seconds"])
        if wish["until_idle"]:
            self._parts.agenda.run_out()
        await self._parts.postman.drain()
        return JSONResponse({"now": self._parts.clock.now().isoformat()})

    async def set_latency(self, request: Request) -> Response:
        """Make the API slow."""
        try:
            wish = await _read(request, {"seconds": 0.0})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        self._parts.latency = max(0.0, wish["seconds"])
        return JSONResponse(wish)

    async def reset(self, request: Request) -> Response:
        """Forget everything."""
        del request
        self._parts.reset()
        return JSONResponse({"status": "reset"})

    async def show(self, request: Request) -> Response:
        """The page: phones and mailboxes, the one that heard something last first."""
        del request
        self._parts.agenda.settle()
        newest_first = self._parts.journal.events[::-1]
        shown = newest_first[:_SHOWN]
        phones = _by_address([event for event in shown if event.channel != "email"])
        mailboxes = _by_address([event for event in shown if event.channel == "email"])
        html = self._page.render(
            phones=phones,
            mailboxes=mailboxes,
            summary=self._parts.journal.summary(),
            spoken=spoken,
            shown=len(shown),
            call=self._parts.network.calls.get,
        )
        return HTMLResponse(html, headers=_HEADERS)


def _by_address(newest_first: list[Event]) -> dict[str, list[Event]]:
    grouped: dict[str, list[Event]] = {}
    for event in newest_first:
        grouped.setdefault(event.to, []).append(event)
    return grouped


async def _read(request: Request, defaults: dict[str, Any]) -> dict[str, Any]:
    """A command's JSON body over its defaults. Raises ValueError for an unknown field or a value of another type."""
    given = json.loads(await request.body() or b"{}")
    if not isinstance(given, dict) or given.keys() - defaults.keys():
        raise ValueError(f"the body is a JSON object of {sorted(defaults)}")
    for name, value in given.items():
        kinds = (int, float) if isinstance(defaults[name], float) else type(defaults[name])
        if not isinstance(value, kinds):
            raise ValueError(f"{name} has the wrong type")
    return defaults | given
