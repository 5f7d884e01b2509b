"""What the model led to in the ledger itself, all of it around a restore: contacted twice, or delivered to nobody.

Each is expected to fail until it is mended. Then strict `xfail` says so, and the test belongs to tests/integration.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from reminders.addresses import secret_fingerprint
from reminders.cycle.preflight import preflight
from tests.integration.conftest import owner, scene  # noqa: F401
from tests.integration.scene import HOUR, MINUTE, SECRET, Booked
from tests.integration.test_recovery import ADA, VISIT, Deployment, deployment  # noqa: F401

pytestmark = pytest.mark.chaos

SHORT_GAP = "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9"


def not_mended(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)


@not_mended("a doubt of before the loss takes the contact that recovery should have found")
def test_a_forgotten_contact_is_no_proof_for_a_doubt_that_is_remembered(deployment: Deployment) -> None:  # noqa: F811
    """Of two texts to a number the first was refused without a word and is in doubt; the second is forgotten.

    The variant `list_proves_nothing_of_before`. It takes a gap shorter than the six minutes in which a contact fits.
    """
    deployment.scene.owner.execute(SHORT_GAP)
    deployment.scene.booked(Booked(VISIT, "doubted", client_email=None, client_phone=ADA)).with_a_wide_gate()
    deployment.phones.network.fault("sms", "refuse_503_without_accepting")
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT + HOUR, "forgotten", client_email=None, client_phone=ADA))
    assert deployment.later(4 * MINUTE).cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later(MINUTE).cycle()
    deployment.recovered()
    deployment.release()
    deployment.later().cycle()
    assert deployment.phones.heard() == [("sms", ADA)]
    assert deployment.scene.states()["doubted", 2] == ("in_doubt", None)


@not_mended("preflight notes the database that it finds last, not the one that it compared")
def test_a_restore_while_preflight_looks_is_noticed(
    deployment: Deployment,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variant `checked_is_what_was_compared`: the restore comes between the comparison and the reservation."""
    scene = deployment.scene.booked(Booked(VISIT, client_email=None, client_phone=ADA)).with_a_wide_gate()  # noqa: F811
    looked(deployment)
    batch_ids = scene.prepare()
    saved = deployment.dump()
    scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]
    deployment.later(timedelta(minutes=5))
    monkeypatch.setattr(scene.ledger, "reserve_attempts", after(deployment, saved, scene.ledger.reserve_attempts))
    looked(deployment)
    deployment.reconnect(deployment.database)
    deployment.scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]


@not_mended("recovery does not mind a reminder that has ended, or is not in the book any more")
def test_a_forgotten_contact_that_may_have_been_anothers_is_no_delivery(deployment: Deployment) -> None:  # noqa: F811
    """The variant `recovery_minds_the_expired`: the text was about a visit that is cancelled when the list is read."""
    deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "cancelled", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.scene.changed("cancelled", status="cancelled")
    deployment.scene.booked(Booked(VISIT - HOUR, "another", client_email=None, client_phone=ADA))
    deployment.later().cycle()
    deployment.recovered()
    assert deployment.scene.states()["another", 2] == ("unknown", "forgotten")


@not_mended("a found contact counts only for whoever is due in the one cycle that takes it over")
def test_a_visit_that_is_cancelled_during_the_recovery_and_booked_again_is_not_told_twice(
    deployment: Deployment,  # noqa: F811
) -> None:
    """No variant: in the model the reminder of a forgotten contact is there while recovery looks for it."""
    deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "visit", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.scene.changed("visit", status="cancelled")
    deployment.later().cycle()
    deployment.recovered()
    deployment.release()
    deployment.scene.changed("visit", status="booked")
    deployment.later().cycle()
    deployment.later(19 * HOUR).cycle()
    assert deployment.phones.heard() == [("sms", ADA)]


def looked(deployment: Deployment) -> None:  # noqa: F811
    now = deployment.scene.now
    preflight(deployment.scene.ledger, deployment.mark, deployment._keep, secret_fingerprint(SECRET), now)


def after(deployment: Deployment, saved: Any, reserve: Callable[..., int]) -> Callable[..., int]:  # noqa: F811
    """`reserve_attempts`, once the ledger was put back under the connection that asks for it."""

    def restored_first(*arguments: Any) -> int:
        deployment._run("pg_restore", "--clean", "--if-exists", f"--dbname={deployment.database.conninfo}", str(saved))
        return reserve(*arguments)

    return restored_first
