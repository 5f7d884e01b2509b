"""The ledger keeps its promises whatever order its operations come in."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.databases import SharedServer
from tests.soak.machine import LedgerMachine

QUIET = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
PROFILES = {
    # The same examples each time.
    "short": settings(QUIET, max_examples=20, stateful_step_count=40, derandomize=True, phases=[Phase.generate]),
    "long": settings(QUIET, max_examples=400, stateful_step_count=60),
    "longest": settings(QUIET, max_examples=5000, stateful_step_count=100),
}


def test_the_ledger_keeps_its_promises_in_any_order(shared_server: SharedServer) -> None:
    run_state_machine_as_test(lambda: LedgerMachine(shared_server), settings=PROFILES["short"])


@pytest.mark.chaos
def test_the_ledger_keeps_its_promises_for_long(shared_server: SharedServer) -> None:
    """`LEDGER_MACHINE=longest make chaos` goes on for an hour or so."""
    profile = PROFILES[os.environ.get("LEDGER_MACHINE", "long")]
    run_state_machine_as_test(lambda: LedgerMachine(shared_server), settings=profile)
