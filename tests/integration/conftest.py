"""Fixtures of the tests on a real ledger: its `owner`, and a `scene` to act on."""

from __future__ import annotations

from typing import Any

import pytest

from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.integration.scene import Scene


@pytest.fixture
def owner(ledger: TestDatabase) -> Any:
    """The superuser's connection: it breaks guards on purpose and acts as any role."""
    return ledger.connect()


@pytest.fixture
def scene(ledger: TestDatabase, owner: Any) -> Scene:
    return Scene(owner, Ledger(ledger.connect("reminders_app")), Ledger(ledger.connect("reminders_app")))
