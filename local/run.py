"""`make run`: PostgreSQL, the sample book, the phone network's simulator and Airflow, until Ctrl-C.

BOOK=none begins with an empty book. ONCE=1 ends after the first cycle, with exit status 0 only if it did what it
should. A connection that is already in the environment as AIRFLOW_CONN_* is used as it is. Data is kept in .local/.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import httpx
import psycopg

from local.airflow import Airflow, Run
from local.databases import create_databases, ledger_counts, load_sample
from local.environment import (
    LOCAL,
    ROOT,
    Ports,
    Secrets,
    for_components,
    given,
    kept_secrets,
    shell_lines,
    whole_environment,
    write_private,
)
from local.ports import Ports as Claims
from local.ports import PortsTaken
from local.postgres import PostgresError, Server
from local.processes import ProcessDied, Processes, Stopped
from local.report import Reached, Screen, missing_channels, reached_of

CYCLE_SECONDS = 720.0
READING_SECONDS = 10.0
STARTS = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTHING_REACHED = Reached({"email": 0, "sms": 0, "call": 0}, {})


class FirstCycleFailed(Exception):
    """The first cycle did not do what it should; the message says what is missing."""


@dataclass
class Runner:
    """One `make run`. `own` is the caller's environment, `local` the folder for all that is kept."""

    own: Mapping[str, str]
    local: Path = LOCAL
    screen: Screen = field(default_factory=Screen)
    stop_requested: bool = False

    def __post_init__(self) -> None:
        self.processes = Processes(self.local / "logs", self.local / "processes.json", lambda: self.stop_requested)
        self.server = Server(self.local / "postgres")
        self.kept: Secrets = kept_secrets(self.local / "secrets.json")
        self.claims = Claims()
        self.simulator_url: str | None = None
        self.is_fresh_book = False

    @property
    def real_providers(self) -> list[str]:
        """The connection ids of the providers that come from the caller's environment."""
        return [name for name in ("twilio_default", "smtp_default") if given(self.own, name)]

    def run(self) -> int:
        """Start everything, show the first cycle, wait for a stop, stop what was started; return the exit status."""
        once = self.own.get("ONCE", "") not in ("", "0")
        is_up = False
        try:
            self._start()
            is_up = self._has_first_cycle()
            if not once:
                is_up = True
                self.screen.say("Ctrl-C stops everything; the data is kept for the next run.")
                self._wait_for_stop()
        except Stopped:
            return 0 if is_up else 130
        except (ProcessDied, PostgresError, PortsTaken, psycopg.Error, httpx.HTTPError) as error:
            if self.stop_requested and not is_up:
                return 130
            self.screen.loud("It did not work" if not is_up else "A part has ended", str(error))
            return 1
        finally:
            self._stop()
        return 0 if is_up else 1

    def _start(self) -> None:
        leftovers = self.processes.end_leftovers()
        if leftovers:
            self.screen.say(f"Ended {leftovers} processes that an earlier run had left behind.")
        with self.screen.stage("PostgreSQL 18") as stage:
            self.server.start()
            create_databases(self.server, dict(self.kept.passwords))
            stage.note = f"127.0.0.1:{self.server.port}"
        self.processes.check()
        self._start_parts()

    def _start_parts(self) -> None:
        """Start all but PostgreSQL; again on other ports when somebody took one between its choice and its use."""
        for start in range(1, STARTS + 1):
            self.ports = free_ports(self.claims, self.server.port)
            try:
                return self._start_on_ports()
            except (ProcessDied, httpx.HTTPError):
                self.processes.stop()
                taken = self.claims.in_use()
                if not taken or start == STARTS:
                    raise
                self.screen.say(f"Somebody else has taken port {taken[0]} meanwhile: starting again on another.")
                self.claims.release()

    def _start_on_ports(self) -> None:
        self.added = whole_environment(self.own, self.ports, self.kept, self.server.password, self.local)
        write_private(self.local / "env", shell_lines(self.added))
        self._migrate()
        self._load_book()
        self._start_simulator()
        self._warn_of_real_providers()
        self._start_airflow()

    def _start_airflow(self) -> None:
        self.airflow = Airflow(self.processes, for_components(self.own, self.added), self.ports.airflow_url)
        with self.screen.stage("Airflow's metadata"):
            self.airflow.migrate()
        with self.screen.stage("Airflow's api-server") as stage:
            self.airflow.start_api_server()
            stage.note = self.ports.airflow_url
        with self.screen.stage("Airflow's scheduler, dag-processor and triggerer"):
            self.known_runs = {run.run_id for run in self.airflow.runs()}
            self.airflow.start_scheduling()

    def _migrate(self) -> None:
        if given(self.own, "ledger_db") and not given(self.own, "ledger_db_migrate"):
            self.screen.say("ledger_db comes from the environment: it is not migrated here.")
            return
        command = [sys.executable, "-m", "reminders.store.migrate"]
        if not given(self.own, "ledger_db"):
            command.append("--logins")
        environment = {**self.own, **self.added, "PYTHONPATH": str(ROOT / "plugins")}
        with self.screen.stage("The ledger's schema and logins"):
            self.processes.do("migrate", command, environment, ROOT)

    def _load_book(self) -> None:
        if given(self.own, "booking_db"):
            self.screen.say("booking_db comes from the environment: no sample book.")
        elif self.own.get("BOOK") == "none":
            self.screen.say("BOOK=none: no sample book is loaded.")
        else:
            with self.screen.stage("The sample book") as stage:
                secret = self.kept.address_secret.encode()
                with_history = not given(self.own, "ledger_db")
                loaded = load_sample(self.server, datetime.now(UTC), secret, with_history=with_history)
                self.is_fresh_book |= loaded > 0
                stage.note = f"{loaded} appointments" if loaded else "kept from an earlier run"

    def _start_simulator(self) -> None:
        if len(self.real_providers) == 2:
            return
        command = [sys.executable, "-m", "tests.simulator"]
        command += ["--http-port", str(self.ports.simulator), "--smtp-port", str(self.ports.smtp)]
        command += ["--log", str(self.local / "simulator.jsonl"), "--account-sid", self.kept.simulator_sid]
        environment = {**self.own, "SIMULATOR_AUTH_TOKEN": self.kept.simulator_token}
        with self.screen.stage("The phone network's simulator") as stage:
            self.processes.start("simulator", command, environment, ROOT)
            self.simulator_url = self.ports.simulator_url
            self.processes.wait_for("the simulator", lambda: self._reached() is not None, 60)
            stage.note = self.simulator_url
        self.reached_before = self._reached() or NOTHING_REACHED

    def _warn_of_real_providers(self) -> None:
        if not self.real_providers:
            return
        names = " and ".join(self.real_providers)
        text = f"{names} come from your environment. They are the REAL provider: people will be contacted, for money."
        if not given(self.own, "booking_db") and self.own.get("BOOK") != "none":
            text += (
                "\nThe sample book's numbers and mailboxes are invented, and it will contact them: BOOK=none has none."
            )
        text += f"\nCtrl-C within {READING_SECONDS:.0f} seconds stops before anything is sent."
        self.screen.loud("REAL PROVIDER", text)
        self._pause(READING_SECONDS)

    def _has_first_cycle(self) -> bool:
        """Show the first cycle; whether it did what it should. What failed stays up to be looked at, unless ONCE."""
        try:
            self._first_cycle()
        except FirstCycleFailed as error:
            self.screen.loud("The first cycle failed", f"{error}\nThe tasks' logs are in {self.local}/airflow/logs.")
            return False
        return True

    def _first_cycle(self) -> None:
        dag_ids = self.airflow.dag_ids()
        with self.screen.stage("The first cycle") as stage:
            for dag_id in dag_ids:
                self.airflow.unpause(dag_id)
            run = self._finished(self.airflow.first_run(self.known_runs))
            stage.note = run.state
        counts = [] if given(self.own, "ledger_db") else ledger_counts(self.server, run.key)
        reached = self._reached()
        self.screen.first_cycle(run, self.airflow.tasks(run.run_id), counts, reached)
        self._show_addresses()
        if run.state != "success":
            raise FirstCycleFailed(f"it ended as {run.state}")
        if self.is_fresh_book and not self.real_providers and reached is not None:
            missing = missing_channels(self.reached_before, reached)
            if missing:
                raise FirstCycleFailed(f"nothing arrived by {', '.join(missing)}, though the sample book had some due")

    def _finished(self, run: Run) -> Run:
        deadline = time.monotonic() + CYCLE_SECONDS
        while not run.has_ended:
            if time.monotonic() > deadline:
                raise FirstCycleFailed(f"the first cycle is still {run.state} after {CYCLE_SECONDS:.0f} s")
            self._pause(0.5)
            run = self.airflow.run(run.run_id)
        return run

    def _show_addresses(self) -> None:
        self.screen.say(f"\nAirflow:            {self.ports.airflow_url}")
        if self.simulator_url:
            self.screen.say(f"Phones, mailboxes:  {self.simulator_url}")
        self.screen.say(f"From another shell: . {self.local / 'env'} && airflow dags list")
        self.screen.say(f"Logs:               {self.local / 'logs'}\n")

    def _reached(self) -> Reached | None:
        if self.simulator_url is None:
            return None
        try:
            answer = httpx.get(f"{self.simulator_url}/_log/summary", timeout=10, trust_env=False)
        except httpx.HTTPError:
            return None
        return reached_of(answer.raise_for_status().json())

    def _wait_for_stop(self) -> None:
        while True:
            self._pause(60)

    def _pause(self, seconds: float) -> None:
        """Wait, unless a stop is asked for or a part dies."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.processes.check()
            time.sleep(min(left, 0.2))

    def _stop(self) -> None:
        with self.screen.stage("Stopping"), ExitStack() as every:
            every.callback(self.claims.release)
            every.callback((self.local / "env").unlink, missing_ok=True)
            every.callback(self.server.stop)
            every.callback(self.processes.stop)


def free_ports(claims: Claims, postgres: int) -> Ports:
    """A port for each part, the usual one where it is free."""
    return Ports(
        postgres=postgres,
        airflow=claims.take(8080),
        worker_logs=claims.take(8793),
        triggerer_logs=claims.take(8794),
        simulator=claims.take(8025),
        smtp=claims.take(2525),
    )


@contextmanager
def only_one(path: Path) -> Iterator[TextIO | None]:
    """Holds the lock at `path`; None when another process has it. It goes with the process that holds it."""
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file


@contextmanager
def handled(request_stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal ask for a stop, as often as they come."""
    before = {number: signal.signal(number, lambda *_: request_stop()) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(local: Path = LOCAL) -> int:
    """Run until a stop: 0 if all went well, 1 if a part failed or another run has the lock, 130 for an early stop."""
    local.mkdir(parents=True, exist_ok=True)
    with only_one(local / "lock") as lock:
        if lock is None:
            holder = (local / "lock").read_text(encoding="utf-8").strip() or "unknown"
            print(f"make run is running already (pid {holder}): stop that one first, or use it.", file=sys.stderr)
            return 1
        runner = Runner(os.environ, local)

        def request_stop() -> None:
            runner.stop_requested = True

        with handled(request_stop):
            return runner.run()


if __name__ == "__main__":
    sys.exit(main())
