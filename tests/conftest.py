"""Fixtures of all tests: `ledger` and `booking`, a fresh database each, `blank_database`, and a `place` for servers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import (
    FOLDER_VARIABLE,
    SharedServer,
    TestDatabase,
    claim_folder,
    fill_booking,
    fill_ledger,
    remove_folder,
)


def is_first_process(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if is_first_process(config):
        claim_folder()


def pytest_unconfigure(config: pytest.Config) -> None:
    if is_first_process(config) and (folder := os.environ.pop(FOLDER_VARIABLE, None)):
        remove_folder(Path(folder))


@pytest.fixture(scope="session")
def shared_server() -> SharedServer:
    """The PostgreSQL server of this test run."""
    return SharedServer(Path(os.environ[FOLDER_VARIABLE]))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="ringonce-place-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def blank_database(shared_server: SharedServer) -> Iterator[TestDatabase]:
    """An empty database."""
    with shared_server.database() as database:
        yield database


@pytest.fixture
def ledger(shared_server: SharedServer) -> Iterator[TestDatabase]:
    """A migrated ledger with every login, and nothing in it."""
    with shared_server.database(shared_server.template("ledger_template", fill_ledger)) as database:
        yield database


@pytest.fixture
def booking(shared_server: SharedServer) -> Iterator[TestDatabase]:
    """An empty book: schema booking."""
    with shared_server.database(shared_server.template("booking_template", fill_booking)) as database:
        yield database
