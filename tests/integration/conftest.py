"""Fixtures of the tests on a real ledger: its `owner`, a `scene` to act on, the operator's command, a `deployment`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reminders.operate import run
from reminders.store.ledger import Ledger
from tests.databases import SharedServer, TestDatabase, fill_ledger
from tests.integration import phones
from tests.integration.deployment import RestorableDeployment
from tests.integration.practice import lives
from tests.integration.rows import Rows, placed
from tests.integration.scene import SECRET, WEDNESDAY_2PM, Scene

Operate = Callable[..., str]


@pytest.fixture(scope="module")
def placed_owner(shared_server: SharedServer) -> Iterator[Any]:
    """The superuser's connection to a ledger of the module's tests, in which no trigger fires."""
    with placed(shared_server) as connection:
        yield connection


@pytest.fixture
def rows(placed_owner: Any) -> Iterator[Rows]:
    """Rows as they look, placed there by the test and taken back at its end."""
    with placed_owner.transaction(force_rollback=True):
        yield Rows(placed_owner)


@pytest.fixture(scope="module")
def practice(shared_server: SharedServer) -> Iterator[Any]:
    """The superuser's connection to a ledger that lives; its tests roll back what they do."""
    with shared_server.database(shared_server.template("ledger_template", fill_ledger)) as database:
        owner = database.connect()
        app, watching = (Ledger(database.connect("reminders_app")) for _ in range(2))
        lives(Scene(owner, app, watching))
        yield owner


@pytest.fixture
def owner(ledger: TestDatabase) -> Any:
    """The superuser's connection: it breaks guards on purpose and acts as any role."""
    return ledger.connect()


@pytest.fixture
def scene(ledger: TestDatabase, owner: Any) -> Scene:
    return Scene(owner, Ledger(ledger.connect("reminders_app")), Ledger(ledger.connect("reminders_app")))


@pytest.fixture
def operate(scene: Scene, ledger: TestDatabase, booking: TestDatabase) -> Operate:
    """The command, on the scene's clock."""
    environment = {
        **ledger.airflow_connections(),
        "AIRFLOW_CONN_BOOKING_DB": booking.uri(),
        "AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET": SECRET.decode(),
    }
    return lambda *arguments: run(arguments, environment, scene.now)


@pytest.fixture
def deployment(scene: Scene, ledger: TestDatabase, tmp_path: Path) -> Iterator[RestorableDeployment]:
    for placed_scene in phones.placed(scene.at(WEDNESDAY_2PM)):
        yield RestorableDeployment(placed_scene, ledger, tmp_path)
