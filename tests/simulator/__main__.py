"""`python -m tests.simulator`: serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import sys
from datetime import datetime
from pathlib import Path

from .network import Customer
from .server import PhoneSimulator, bind

DEFAULT_ACCOUNT_SID = "AC" + "0" * 31 + "1"
DEFAULT_AUTH_TOKEN = "simulated-token-simulated-token-"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="A phone network on loopback.")
    parser.add_argument("--http-port", type=int, default=0, help="Twilio's API, the page and the log; 0: any free port")
    parser.add_argument("--smtp-port", type=int, default=0, help="SMTP; 0: any free port")
    parser.add_argument("--log", type=Path, help="JSON lines file; read at the start, then appended to")
    parser.add_argument("--speed", type=float, default=1.0, help="progress per second of wall time; 0: by command only")
    parser.add_argument("--start", type=datetime.fromisoformat, help="the first time stamp, ISO 8601 with an offset")
    parser.add_argument("--own-number", action="append", default=[], help="a From that is ours; none: any is")
    parser.add_argument("--account-sid", default=os.environ.get("SIMULATOR_ACCOUNT_SID", DEFAULT_ACCOUNT_SID))
    arguments = parser.parse_args()
    if not re.fullmatch(r"AC[0-9a-f]{32}", arguments.account_sid):
        parser.error("an account SID is AC and 32 hexadecimal digits")
    if arguments.start is not None and arguments.start.tzinfo is None:
        parser.error("--start needs an offset from UTC")
    return arguments


def _bind(port: int, option: str) -> socket.socket:
    try:
        return bind(port)
    except OSError as error:
        sys.exit(f"{option} {port}: {error.strerror}. Choose another port, or 0 for any free one.")


async def _main(arguments: argparse.Namespace) -> None:
    # The token comes from the environment because a command line can be read by every user of the machine.
    token = os.environ.get("SIMULATOR_AUTH_TOKEN", DEFAULT_AUTH_TOKEN)
    customer = Customer(arguments.account_sid, token, frozenset(arguments.own_number))
    simulator = PhoneSimulator(customer, log=arguments.log, speed=arguments.speed, start=arguments.start)
    http, smtp = _bind(arguments.http_port, "--http-port"), _bind(arguments.smtp_port, "--smtp-port")
    ports = {"http_port": http.getsockname()[1], "smtp_port": smtp.getsockname()[1]}
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, simulator.stop)
    await simulator.serve(http, smtp, lambda: print(json.dumps(ports), flush=True))


if __name__ == "__main__":
    asyncio.run(_main(_arguments()))
