"""Attempts to hide a loss by what stands in the mark's place: a value in the environment, which Airflow reads first."""

from __future__ import annotations

import pytest

from reminders.addresses import secret_fingerprint
from reminders.cycle.preflight import ACCEPT, kept_surely, preflight
from reminders.errors import PreflightError
from tests.integration.deployment import BOB, VISIT, RestorableDeployment
from tests.integration.scene import SECRET, Booked


def check(deployment: RestorableDeployment, before_it: str | None = None) -> None:
    """A preflight of a deployment where `before_it` is read before what is kept."""

    def read() -> str | None:
        return before_it or deployment.mark

    scene = deployment.scene
    keep = kept_surely("reminders_mark", deployment._keep, read)
    preflight(scene.ledger, read(), keep, secret_fingerprint(SECRET), scene.now)


def refused(deployment: RestorableDeployment, before_it: str) -> str:
    with pytest.raises(PreflightError) as caught:
        check(deployment, before_it)
    return str(caught.value)


def test_a_mark_that_is_read_as_it_was_kept(deployment: RestorableDeployment) -> None:
    for _ in range(2):
        check(deployment.later())
    deployment.mark = ACCEPT
    check(deployment.later())
    check(deployment.later())
    assert deployment.scene.holds() == []


@pytest.mark.parametrize("word", [ACCEPT, "unknown", "{}"])
def test_a_word_that_stays_in_the_mark_s_place_is_refused(deployment: RestorableDeployment, word: str) -> None:
    """Once: every restore was accepted, and everything since the dump was sent again; or the recovery began anew with
    each cycle, and its list was never settled."""
    words = refused(deployment, word)
    assert "AIRFLOW_VAR_REMINDERS_MARK" in words and "secrets backend" in words


def test_what_was_restored_while_everything_was_accepted_is_found_afterwards(deployment: RestorableDeployment) -> None:
    """The refused preflight has not taken the ledger as it is: the next that is not refused looks for a loss."""
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    batch_ids = deployment.scene.go_on(deployment.scene.now)
    refused(deployment.later(), ACCEPT)
    deployment.scene.send(batch_ids)
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    deployment.later().cycle()
    assert deployment.phones.heard() == [("sms", BOB)]
