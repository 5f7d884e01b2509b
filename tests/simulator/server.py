"""Puts the parts together and serves them on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from .api import TwilioApi
from .callbacks import Postman
from .clock import Agenda, Clock
from .connection import BreakableProtocol
from .control import Control
from .faults import Faults
from .journal import Journal
from .mail import MailServer
from .network import Customer, PhoneNetwork
from .resources import API

_HOST = "127.0.0.1"
_TICK_S = 0.05
_STOP_S = 1
# Longer than a test: an idle connection closed under a customer would be a lie that nobody ordered.
_KEEP_ALIVE_S = 600


def bind(port: int) -> socket.socket:
    """A listening-ready TCP socket on loopback; port 0 takes a free one. Raises OSError when the port is taken."""
    # asyncio turns Nagle's delay off, 40 ms an answer, only where the protocol is named.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_HOST, port))
    except OSError:
        bound.close()
        raise
    return bound


class PhoneSimulator:
    """All parts, wired. Construct and `serve` it in the same thread's event loop."""

    def __init__(
        self, customer: Customer, *, log: Path | None = None, speed: float = 1.0, start: datetime | None = None
    ) -> None:
        self.clock = Clock(speed, start)
        self.agenda = Agenda(self.clock)
        self.journal = Journal(log)
        self.faults = Faults()
        self.postman = Postman(customer.auth_token)
        self.network = PhoneNetwork(customer, self.clock, self.agenda, self.journal, self.postman)
        self.mail = MailServer(self.clock, self.journal, self.faults, self.agenda.settle)
        self.latency = 0.0
        self._server: uvicorn.Server | None = None
        api = TwilioApi(self.network, self.faults, self.agenda.settle)
        self._app = Starlette(routes=[*api.routes(), *Control(self).routes()])

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application; the API's answers, and only these, are as late as was asked for."""
        if self.latency and scope["type"] == "http" and scope["path"].startswith(API):
            await asyncio.sleep(self.latency)
        await self._app(scope, receive, send)

    def reset(self) -> None:
        """Forget everything but the log file."""
        self.agenda.clear()
        self.clock.restart()
        self.network.clear()
        self.journal.clear()
        self.faults.clear()
        self.postman.clear()
        self.latency = 0.0

    async def serve(
        self, http: socket.socket, smtp: socket.socket, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """Serve both protocols on bound sockets until `stop`; `on_ready` is called when both answer."""
        loop = asyncio.get_running_loop()
        mail = await loop.create_server(self.mail.protocol, sock=smtp)
        config = uvicorn.Config(
            self.application,
            http=BreakableProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            # uvicorn would otherwise set up logging for the whole process, which may be a test's.
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_STOP_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._server = uvicorn.Server(config)
        tasks = [asyncio.create_task(self.postman.run()), asyncio.create_task(self._tick())]
        serving = asyncio.create_task(self._server.serve(sockets=[http]))
        try:
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.005)
            on_ready()
            await serving
        finally:
            mail.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self.agenda.settle()
            await asyncio.sleep(_TICK_S)

    def stop(self) -> None:
        """End `serve`; connections still open get a second."""
        if self._server is not None:
            self._server.should_exit = True
