"""What a test holds of a simulator.

with Simulator.start(speed=0) as network:
    ...point the code under test at network.base_url, network.smtp_port...
    assert [event["to"] for event in network.log("call")] == ["+12025550123"]
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from .__main__ import DEFAULT_ACCOUNT_SID, DEFAULT_AUTH_TOKEN
from .network import Customer
from .server import PhoneSimulator, bind

_CHECKOUT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 20.0


class Simulator:
    """A running simulator. `base_url` has no trailing slash; SMTP listens on `smtp_host`:`smtp_port`.

    `start` runs it in a thread of the test's own process; `spawn` in a process of its own, for tests whose code under
    test must not share an interpreter with it. With `speed=0` nothing progresses except by `advance`.
    """

    smtp_host = "127.0.0.1"

    def __init__(self, http_port: int, smtp_port: int, account_sid: str, auth_token: str) -> None:
        self.base_url = f"http://127.0.0.1:{http_port}"
        self.http_port = http_port
        self.smtp_port = smtp_port
        self.account_sid = account_sid
        self.auth_token = auth_token
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._stop: Any = None
        # A proxy in the environment must not come between a test and loopback.
        self._opener = build_opener(ProxyHandler({}))

    @classmethod
    def start(
        cls,
        *,
        speed: float = 1.0,
        start: datetime | None = None,
        log: Path | None = None,
        numbers: frozenset[str] = frozenset(),
    ) -> Simulator:
        """Serve from a thread on free ports; returns when it answers."""
        http, smtp = bind(0), bind(0)
        customer = Customer(DEFAULT_ACCOUNT_SID, DEFAULT_AUTH_TOKEN, numbers)
        self = cls(http.getsockname()[1], smtp.getsockname()[1], customer.account_sid, customer.auth_token)
        ready = threading.Event()

        async def serve() -> None:
            simulator = PhoneSimulator(customer, log=log, speed=speed, start=start)
            loop = asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(simulator.stop)
            await simulator.serve(http, smtp, ready.set)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="simulator", daemon=True)
        self._thread.start()
        if not ready.wait(_PATIENCE_S):
            raise TimeoutError("the simulator did not start")
        return self

    @classmethod
    def spawn(
        cls,
        *,
        speed: float = 1.0,
        log: Path | None = None,
        options: tuple[str, ...] = (),
        auth_token: str = DEFAULT_AUTH_TOKEN,
    ) -> Simulator:
        """Serve from a process of its own on free ports; returns when it answers."""
        command = [sys.executable, "-m", "tests.simulator", "--speed", str(speed), *options]
        command += ["--log", str(log)] if log else []
        settings = {"SIMULATOR_ACCOUNT_SID": DEFAULT_ACCOUNT_SID, "SIMULATOR_AUTH_TOKEN": auth_token}
        process = subprocess.Popen(
            command, cwd=_CHECKOUT, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulator ended with status {process.wait(_PATIENCE_S)}")
        ports = json.loads(line)
        self = cls(ports["http_port"], ports["smtp_port"], DEFAULT_ACCOUNT_SID, auth_token)
        self._process = process
        return self

    def stop(self) -> int:
        """Stop it and wait until it has ended; the process's exit status, 0 for a thread. May be called twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                status = self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                status = self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            return status
        if self._thread is not None and self._thread.is_alive():
            self._stop()
            self._thread.join(_PATIENCE_S)
        return 0

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, path: str, command: dict[str, Any] | None = None) -> Any:
        body = None if command is None else json.dumps(command).encode()
        request = Request(self.base_url + path, body, {"Content-Type": "application/json"})
        with self._opener.open(request, timeout=_PATIENCE_S) as answer:
            return json.load(answer)

    def log(self, channel: str = "", to: str = "") -> list[dict[str, Any]]:
        """What reached phones and mailboxes, oldest first, in one channel and at one address where given."""
        return self._ask("/_log?" + urlencode({"channel": channel, "to": to}))["events"]

    def summary(self) -> dict[str, Any]:
        """Counts in all, by channel, by number and by mailbox, with the most calls that rang at one number at once."""
        return self._ask("/_log/summary")

    def calls(self) -> list[dict[str, Any]]:
        """Every accepted call with its status, its times and what was heard, oldest first."""
        return self._ask("/_log/calls")["calls"]

    def callbacks(self) -> list[dict[str, Any]]:
        """Every request made to the customer's URLs, oldest first, with the HTTP status that came back."""
        return self._ask("/_callbacks")["deliveries"]

    def fault(self, channel: str, fault: str, count: int = 1, to: str = "") -> None:
        """Order a lie, told `count` times, to one destination where given."""
        self._ask("/_control/faults", {"channel": channel, "fault": fault, "count": count, "to": to})

    def advance(self, seconds: float = 0.0, *, until_idle: bool = False) -> None:
        """Let time pass, until nothing is left to happen if wanted; callbacks have been sent when it returns."""
        self._ask("/_control/advance", {"seconds": seconds, "until_idle": until_idle})

    def latency(self, seconds: float) -> None:
        """Make each later answer of the API wait so long, in wall time."""
        self._ask("/_control/latency", {"seconds": seconds})

    def reset(self) -> None:
        """Forget everything, clock and faults included; the log file stays."""
        self._ask("/_control/reset", {})
