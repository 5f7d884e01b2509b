"""A real standby takes over: whatever it had not received, nobody is contacted twice."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.postgres import Server
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase, fill_ledger
from tests.integration import phones
from tests.integration.deployment import ADA, BOB, VISIT, RestorableDeployment
from tests.integration.scene import WEDNESDAY_2PM, Booked, Scene

LEDGER = "ledger"
FOLLOWS_WITHIN_SECONDS = 30


@dataclass
class Pair:
    """A primary and the standby that streams from it; the deployment goes to whichever is the primary."""

    primary: Server
    standby: Server
    deployment: RestorableDeployment

    def wait_until_received(self) -> None:
        """The standby has replayed all that the primary has written."""
        written = answer(self.primary, "SELECT pg_current_wal_insert_lsn()::text")
        deadline = time.monotonic() + FOLLOWS_WITHIN_SECONDS
        while not answer(self.standby, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written):
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.02)

    def fall_behind(self) -> None:
        """The standby has received all so far, and nothing from now on."""
        self.wait_until_received()
        self.standby.stop()

    def fail_over(self) -> None:
        """The primary is gone, and the deployment's connections lead to the standby, which is promoted."""
        self.primary.stop(at_once=True)
        self.standby.start()
        assert answer(self.standby, "SELECT pg_promote()")
        self.deployment.reconnect(TestDatabase(LEDGER, self.standby))


def answer(server: Server, query: str, *values: str) -> Any:
    """The one value that a query yields."""
    with psycopg.connect(server.conninfo()) as connection:
        ((value,),) = connection.execute(query.encode(), values).fetchall()
    return value


@pytest.fixture
def pair(place: Path, tmp_path: Path) -> Iterator[Pair]:
    with Server(place / "primary", fsync=False) as primary:
        primary.create_database(LEDGER)
        with psycopg.connect(primary.conninfo(LEDGER), autocommit=True) as connection:
            fill_ledger(connection)
        with standby_of(primary, place / "standby") as standby:
            database = TestDatabase(LEDGER, primary)
            app, watching = (Ledger(database.connect("reminders_app")) for _ in range(2))
            scene = Scene(database.connect(), app, watching).at(WEDNESDAY_2PM)
            for placed in phones.placed(scene.with_a_wide_gate()):
                yield Pair(primary, standby, RestorableDeployment(placed, database, tmp_path))


def standby_of(primary: Server, place: Path) -> Server:
    """A copy of a running server, which streams from it when it is started."""
    standby = Server(place, fsync=False)
    shutil.copy(primary.folder / "password", standby.folder)
    copy = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--pgdata={standby.folder / 'data'}")
    program = str(primary.programs / "pg_basebackup")
    done = primary.user.run([program, *copy, f"--dbname={primary.conninfo()}"])
    assert done.returncode == 0, done.stderr
    return standby


def told(appointment_id: str, phone: str) -> Booked:
    return Booked(VISIT, appointment_id, client_email=None, client_phone=phone)


def test_what_the_standby_had_not_received_is_not_sent_again(pair: Pair) -> None:
    deployment = pair.deployment
    deployment.scene.booked(told("ada", ADA))
    assert deployment.cycle() == ["sms"]
    pair.fall_behind()
    deployment.scene.booked(told("bob", BOB))
    assert deployment.later().cycle() == ["sms"]
    pair.fail_over()
    assert ("bob", 2) not in deployment.scene.states()
    assert deployment.later().cycle() == []
    deployment.recovered()
    deployment.release()
    assert deployment.later().cycle() == []
    assert sorted(deployment.phones.heard()) == [("sms", ADA), ("sms", BOB)]


def test_a_standby_that_had_received_everything_waits_for_a_person_and_goes_on(pair: Pair) -> None:
    deployment = pair.deployment
    deployment.scene.booked(told("ada", ADA))
    assert deployment.cycle() == ["sms"]
    pair.wait_until_received()
    pair.fail_over()
    deployment.scene.booked(told("bob", BOB))
    assert deployment.later().cycle() == []
    deployment.recovered()
    deployment.release()
    assert deployment.later().cycle() == ["sms"]
    assert deployment.phones.heard() == [("sms", ADA), ("sms", BOB)]


def test_a_cycle_in_whose_middle_the_standby_takes_over_contacts_nobody(pair: Pair) -> None:
    """The standby does not know of the text: neither a dispatch that goes on there nor a new plan sends it again."""
    deployment = pair.deployment
    batch_ids = deployment.scene.booked(told("ada", ADA)).prepare()
    pair.fall_behind()
    deployment.scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]
    pair.fail_over()
    deployment.scene.send(batch_ids)
    deployment.scene.send(deployment.scene.go_on(deployment.scene.now))
    assert deployment.phones.heard() == [("sms", ADA)]
