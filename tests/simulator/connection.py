"""Answers that break, and the access to a connection that breaking one needs."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_SCOPE_KEY = "simulator.connection"


class BreakableProtocol(H11Protocol):
    """HTTP/1.1 that shows the application its own connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        served = self.app
        self.is_hanging = False

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_SCOPE_KEY] = self
            await served(scope, receive, send)

        self.app = app

    def shutdown(self) -> None:
        """The server is stopping: an answer that will never come is not waited for."""
        if self.is_hanging:
            self.transport.abort()
        else:
            super().shutdown()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class HangingAnswer(JSONResponse):
    """No answer, until the customer gives up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        scope[_SCOPE_KEY].is_hanging = True
        await _gone(receive)


class ResetAnswer(JSONResponse):
    """A TCP reset instead of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        transport: asyncio.Transport = scope[_SCOPE_KEY].transport
        # Closing with a linger time of nothing is what makes the kernel send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await _gone(receive)


class TruncatedAnswer(JSONResponse):
    """The head of the answer, half of its body, and the end of the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        transport: asyncio.Transport = scope[_SCOPE_KEY].transport
        body = bytes(self.body)
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"HTTP/1.1 {self.status_code} Created\r\n{fields}\r\n\r\n"
        transport.write(head.encode("ascii") + body[: len(body) // 2])
        transport.close()
        await _gone(receive)
