"""A deployment whose ledger can be dumped, restored and released, on the simulator's network."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

from reminders.addresses import secret_fingerprint
from reminders.cycle.preflight import preflight
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.integration.phones import Phones
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene, channels

VISIT = WEDNESDAY_2PM + 23 * HOUR
FAR = WEDNESDAY_2PM + 48 * HOUR
ADA, BOB, CY = "+442079460018", "+442079460019", "+442079460020"
FIVE = 5 * MINUTE


class RestorableDeployment:
    """A scene on the network whose cycles keep the mark, as Airflow does, and whose ledger can be set back."""

    def __init__(self, phones: Phones, ledger: TestDatabase, place: Path) -> None:
        self.phones, self.database, self.place = phones, ledger, place
        self.mark: str | None = None

    @property
    def scene(self) -> Scene:
        return self.phones.scene

    def cycle(self) -> list[str]:
        """A cycle with its preflight; the channels of the contacts that were made in it."""
        before = len(self.phones.heard())
        self.check()
        mailed = channels(self.scene.cycle())
        return [*mailed, *(channel for channel, _ in self.phones.heard()[before:])]

    def check(self) -> None:
        """A preflight whose cycle comes no further."""
        scene = self.scene
        preflight(scene.ledger, self.mark, self._keep, secret_fingerprint(SECRET), scene.now)

    def _keep(self, mark: str) -> None:
        self.mark = mark

    def later(self, by: timedelta = FIVE) -> RestorableDeployment:
        self.phones.at(self.scene.now + by)
        return self

    def dump(self) -> Path:
        path = self.place / "ledger.dump"
        self._run("pg_dump", "--format=custom", f"--file={path}", self.database.conninfo)
        return path

    def restore(self, saved: Path) -> None:
        """Into the same database of the same server: nothing but its contents changes."""
        self.put_back(saved)
        self.reconnect(self.database)

    def put_back(self, saved: Path) -> None:
        """Under the connections that are open."""
        self._run("pg_restore", "--clean", "--if-exists", f"--dbname={self.database.conninfo}", str(saved))

    def reconnect(self, database: TestDatabase) -> None:
        self.database, before = database, self.scene
        app = [Ledger(database.connect("reminders_app")) for _ in range(2)]
        again = Scene(
            database.connect(), app[0], app[1], book=before.book, reached=before.reached, number=before.number
        )
        self.phones.on(again.at(before.now))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.database.server.programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def release(self) -> None:
        holds = Holds(self.database.connect("reminders_operator_login"))
        holds.release([hold["hold_id"] for hold in holds.in_force()], "Ana")

    def recovered(self) -> None:
        """The list settles, is read, and a cycle goes by it."""
        self.later(11 * MINUTE)
        assert self.phones.reconcile()["lists_to_read"] == 0
        self.later()
        assert self.cycle() == []


def forgotten(deployment: RestorableDeployment) -> RestorableDeployment:
    """Ada's text is known; Bob's went after the dump that is then restored; Cy's comes due after that."""
    scene = deployment.scene
    scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).with_a_wide_gate()
    assert deployment.cycle() == ["sms"]
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    scene.booked(Booked(VISIT, "cy", client_email=None, client_phone=CY))
    deployment.restore(saved)
    assert deployment.later().cycle() == []
    return deployment
