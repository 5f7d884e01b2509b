"""Attempts to let a loss that was noticed pass, while a person lets go of what it would be held by."""

from __future__ import annotations

import threading

import pytest

from reminders.store.evidence import Evidence
from reminders.store.holds import Holds
from tests.databases import TestDatabase
from tests.integration.scene import Scene

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="begin_recovery does not look again for the hold that it has waited for"
)
def test_a_recovery_that_begins_while_a_person_releases_their_hold_on_everything(
    scene: Scene, ledger: TestDatabase
) -> None:
    """Not begun at all: the hold that it found in force is gone when it has waited for it, and its function fails."""
    scene.hold()
    holds, raised = Holds(ledger.connect("reminders_operator_login")), []

    def begin() -> None:
        try:
            Evidence(scene.ledger.connection).begin_recovery("a loss", "resolve_doubts", scene.now)
        except Exception as error:
            raised.append(error)

    beginning = threading.Thread(target=begin)
    with holds.acting_as("reminders_operator", "release"):
        hold_ids = [hold["hold_id"] for hold in holds.rows("holds_in_force", now=scene.now)]
        holds._lock(hold_ids)
        beginning.start()
        while scene.owner.execute(WAITS).fetchone() == (0,):
            assert beginning.is_alive()
        holds._release(hold_ids, "Ana", scene.now)
    beginning.join(10)
    assert raised == []
    assert len(scene.holds()) == 1
