"""One mapped task for each reminder against a few batches, on real Airflow processes and the same dispatch path."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from local.airflow import Airflow
from local.databases import create_databases
from local.environment import ROOT, for_components, kept_secrets, whole_environment
from local.environment import Ports as PortNumbers
from local.ports import Ports
from local.processes import Processes
from reminders.model import Channel
from tests.bench import sending
from tests.bench.world import World

DAG_ID = "fan_out"
FEW_TASKS = 8
RUN_SECONDS = 300.0
# The name of the variable that says in which file the tasks find the ledger's connection string.
LEDGER_FILE = "RINGONCE_BENCH_LEDGER"


@dataclass(frozen=True, slots=True)
class FannedOut:
    """`reminders` sent by one run of `tasks` mapped tasks, which took `seconds` from its trigger to its end."""

    reminders: int
    tasks: int
    seconds: float

    @property
    def in_five_minutes(self) -> float:
        """How many reminders fit into one cycle at this rate."""
        return self.reminders / self.seconds * 300


def measure(world: World, shapes: list[tuple[int, int]], tell: Callable[[str], None]) -> list[FannedOut]:
    """One run for each of `shapes` (reminders, tasks), each on a ledger of its own. Raises when not all were sent."""
    with (
        tempfile.TemporaryDirectory(prefix="ringonce-bench-airflow-") as folder,
        started(world, Path(folder)) as airflow,
    ):
        found = []
        for reminders, tasks in shapes:
            tell(f"fan out: {reminders:,} reminders in {tasks} tasks")
            with world.ledger_database() as ledger:
                sending.plan(ledger, reminders, Channel.EMAIL.value, tasks)
                Path(airflow.environment[LEDGER_FILE]).write_text(ledger.conninfo)
                seconds = run_once(airflow)
                row = ledger.owner.execute(
                    "SELECT count(*) FROM reminders.attempt WHERE state = 'delivered'"
                ).fetchone()
            if row != (reminders,):
                raise RuntimeError(f"{row} of {reminders} reminders were sent")
            found.append(FannedOut(reminders, tasks, seconds))
        return found


@contextmanager
def started(world: World, folder: Path) -> Iterator[Airflow]:
    """Airflow with the one DAG of this benchmark, its metadata on the server of the run."""
    kept = kept_secrets(folder / "secrets.json")
    create_databases(world.server, dict(kept.passwords))
    free = Ports()
    ports = PortNumbers(world.server.port, *(free.take(first) for first in (38080, 38180, 38280, 38380, 38480)))
    environment = for_components(
        {"PATH": os.environ["PATH"]}, whole_environment({}, ports, kept, world.server.password, folder)
    )
    environment |= {
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).with_name("dags")),
        "PYTHONPATH": str(ROOT),
        LEDGER_FILE: str(folder / "ledger"),
    }
    processes = Processes(folder / "logs", folder / "processes.json")
    try:
        airflow = Airflow(processes, environment, ports.airflow_url)
        airflow.migrate()
        airflow.start_api_server()
        airflow.start_scheduling()
        airflow.unpause(DAG_ID)
        yield airflow
    finally:
        processes.stop()


def run_once(airflow: Airflow) -> float:
    """Trigger the DAG and wait for its end; returns the seconds that it took."""
    begun = time.perf_counter()
    run_id = airflow.trigger(DAG_ID).run_id
    airflow.processes.wait_for(DAG_ID, lambda: airflow.run(run_id, DAG_ID).has_ended, RUN_SECONDS)
    seconds = time.perf_counter() - begun
    if airflow.run(run_id, DAG_ID).state != "success":
        raise RuntimeError(f"{DAG_ID} failed; its logs are in {airflow.processes.folder}")
    return seconds


def conninfo() -> str:
    return Path(os.environ[LEDGER_FILE]).read_text()


def planned_batches() -> list[int]:
    """The batches of the ledger; each call is in a task of its own."""
    with psycopg.connect(conninfo()) as connection:
        connection.execute("SET ROLE reminders_dispatcher")
        return [row[0] for row in connection.execute("SELECT batch_id FROM reminders.batch ORDER BY batch_id")]


def send_batch(batch_id: int) -> int:
    """Send one batch as a dispatch task does; returns how many reminders went."""
    # The rate is only the size of a group here: nothing holds the sender back.
    return sending.send(conninfo(), batch_id, Channel.EMAIL, False, float(sending.GROUP * FEW_TASKS)).contacts
