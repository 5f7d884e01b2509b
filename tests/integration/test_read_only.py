"""A transaction that has no name, and so no failpoints, can write nothing: the database refuses it."""

from __future__ import annotations

import psycopg
import pytest

from reminders.store.guards import PLANNER
from reminders.store.ledger import Ledger
from reminders.store.session import Session
from tests.databases import TestDatabase
from tests.integration.deployment import ADA, VISIT
from tests.integration.scene import WEDNESDAY_2PM, Booked, Scene

WRITES = "UPDATE reminders.ledger_mark SET reserved_to = reserved_to"


@pytest.fixture
def session(ledger: TestDatabase) -> Session:
    return Session(ledger.connect("reminders_app"))


def test_what_has_no_name_cannot_write(session: Session) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), session.acting_as(PLANNER) as connection:
        connection.execute(WRITES)


def test_what_has_a_name_writes_before_and_after_a_reading(session: Session) -> None:
    for work in ("stage", "", "stage", *[""] * 9, "stage"):
        with session.acting_as(PLANNER, work) as connection:
            connection.execute(WRITES if work else "SELECT")


def test_a_reading_within_what_is_rolled_back_leaves_the_rest_its_right_to_write(session: Session) -> None:
    with session.acting_as(PLANNER):
        pass
    with session.rolled_back():
        for work in ("stage", "", "stage"):
            with session.acting_as(PLANNER, work) as connection:
                connection.execute(WRITES if work else "SELECT")


def test_a_ledger_that_its_administrator_has_made_read_only_sends_nothing(scene: Scene, ledger: TestDatabase) -> None:
    """As for a move, or while a standby takes over."""
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    scene.owner.execute(f'ALTER DATABASE "{ledger.name}" SET default_transaction_read_only = on')
    app = [Ledger(ledger.connect("reminders_app")) for _ in range(2)]
    frozen = Scene(scene.owner, app[0], app[1], book=scene.book)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        frozen.cycle()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), app[0].rolled_back():
        app[0].reserve_attempts(1, "", "")
    assert frozen.reached == []


@pytest.mark.parametrize("work", ["", "stage"])
def test_whoever_uses_the_connection_afterwards_finds_it_as_it_was(session: Session, work: str) -> None:
    """As `make run` does: it writes the sample book by the connection by which it has read the ladders."""
    with pytest.raises(psycopg.errors.DivisionByZero), session.acting_as(PLANNER, work) as connection:
        connection.execute("SELECT 1 / 0")
    with session.acting_as(PLANNER, work) as connection:
        connection.execute("SELECT")
    session.connection.execute("CREATE TEMPORARY TABLE book (appointment_id text)")
    assert session.connection.read_only is None
