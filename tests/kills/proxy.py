"""A network between two of our parts that is cut after the n-th byte: reset, closed, or silent from then on."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

PATIENCE = 20.0


class Way(StrEnum):
    """The two directions: what the client says, and what the server does."""

    REQUEST = "request"
    ANSWER = "answer"


class End(StrEnum):
    """What a cut looks like to both sides."""

    RESET = "reset"
    CLOSED = "closed"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Cut:
    """The network ends as soon as `after` bytes have gone in one direction; none of the rest arrives."""

    way: Way
    after: int
    end: End


class Link:
    """A port that leads to a server, for any number of connections, each of which has the link's cut.

    `passed` counts the bytes that have arrived, of all connections since the start or since `cut`; `happened` is set
    when the cut has.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, cut: Cut | None) -> None:
        self.port = 0
        self.passed = dict.fromkeys(Way, 0)
        self.happened = threading.Event()
        self._loop = loop
        self._cut = cut
        self.sides: set[Side] = set()

    @property
    def is_cut(self) -> bool:
        return self.happened.is_set()

    def cut(self, cut: Cut) -> None:
        """From now on count anew, towards this cut. Nothing may be on its way meanwhile."""
        asyncio.run_coroutine_threadsafe(self._set(cut), self._loop).result(PATIENCE)

    async def _set(self, cut: Cut) -> None:
        self._cut, self.passed = cut, dict.fromkeys(Way, 0)
        self.cut_when_due()

    def admitted(self, way: Way, data: bytes) -> bytes:
        """What of `data` still arrives."""
        if self.is_cut:
            return b""
        if self._cut is not None and self._cut.way is way:
            data = data[: self._cut.after - self.passed[way]]
        self.passed[way] += len(data)
        return data

    def cut_when_due(self) -> None:
        if self._cut is None or self.is_cut or self.passed[self._cut.way] < self._cut.after:
            return
        self.happened.set()
        for side in list(self.sides):
            side.end(self._cut.end)


class Side(asyncio.Protocol):
    """One end of a connection: what it receives goes to the other end."""

    def __init__(self, link: Link, way: Way) -> None:
        self._link, self._way = link, way
        self._other: Side | None = None
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def joined(self, other: Side) -> None:
        self._other, other._other = other, self
        for data in self._waiting:
            other.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._link.sides.add(self)

    def data_received(self, data: bytes) -> None:
        data = self._link.admitted(self._way, data)
        if self._other is not None:
            self._other.write(data)
        else:
            self._waiting.append(data)
        self._link.cut_when_due()

    def write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._link.sides.discard(self)
        if self._other is not None and self._other._transport is not None:
            self._other._transport.close()

    def end(self, how: End) -> None:
        if self._transport is None or how is End.SILENCE:
            return
        if how is End.RESET:
            # Closing with a linger time of nothing is what makes the kernel send RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        self._transport.close()


class Proxy:
    """Lays links; use it in `with`. Its connections are served by a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    @contextmanager
    def link(self, target: int, cut: Cut | None = None) -> Iterator[Link]:
        """A link to a port of this machine; its connections are closed at its end. Safe to use from threads."""
        link = Link(self._loop, cut)
        server = asyncio.run_coroutine_threadsafe(self._listen(link, target), self._loop).result(PATIENCE)
        try:
            yield link
        finally:
            asyncio.run_coroutine_threadsafe(self._close(link, server), self._loop).result(PATIENCE)

    async def _listen(self, link: Link, target: int) -> asyncio.Server:
        def accepted() -> Side:
            client = Side(link, Way.REQUEST)
            self._loop.create_task(self._connect(link, client, target))
            return client

        server = await self._loop.create_server(accepted, "127.0.0.1", 0)
        link.port = server.sockets[0].getsockname()[1]
        return server

    async def _connect(self, link: Link, client: Side, target: int) -> None:
        try:
            _, served = await self._loop.create_connection(lambda: Side(link, Way.ANSWER), "127.0.0.1", target)
        except OSError:
            client.end(End.RESET)
            return
        client.joined(served)
        link.cut_when_due()

    @staticmethod
    async def _close(link: Link, server: asyncio.Server) -> None:
        server.close()
        for side in list(link.sides):
            side.end(End.CLOSED)
