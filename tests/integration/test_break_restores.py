"""Attempts to make a recovery end too early or never: by a backfill, a run of an old date, a reading that is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reminders.errors import HoldError
from tests.integration.deployment import ADA, FAR, VISIT, Deployment
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, clients

WIDE_CAPS = "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9"
DAY = timedelta(days=1)
BELIEVE_THE_BOOK = """
UPDATE reminders.hold SET released_at = reminders.ledger_clock(), released_by = 'Ana'
WHERE scope = 'book' AND released_at IS NULL
"""


def texted_and_forgotten(deployment: Deployment) -> None:
    """Ada's text went after the dump that is then restored; preflight has looked, and no cycle has run since."""
    deployment.scene.with_a_wide_gate().owner.execute(WIDE_CAPS)
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later().check()


@pytest.mark.parametrize("kind", ["backfill", "scheduled"])
def test_a_run_of_an_old_date_does_not_end_the_recovery(deployment: Deployment, kind: str) -> None:
    texted_and_forgotten(deployment)
    deployment.later(11 * MINUTE)
    assert deployment.phones.reconcile()["found"] == 1
    deployment.scene.prepare(WEDNESDAY_2PM - 6 * HOUR, kind)
    with pytest.raises(HoldError):
        deployment.release()
    deployment.later().cycle()
    deployment.release()
    deployment.later().cycle()
    assert deployment.phones.heard() == [("sms", ADA)]


def test_a_reminder_that_expired_while_nobody_could_read_the_list_is_put_back_all_the_same(
    deployment: Deployment,
) -> None:
    """Its reading is no longer staged."""
    texted_and_forgotten(deployment)
    for _ in range(3):
        deployment.cycle()
        deployment.later(DAY)
    assert deployment.scene.states()["ada", 2][0] == "expired"
    deployment.recovered()
    deployment.release()
    assert deployment.scene.states()["ada", 2] == ("unknown", "forgotten")


def test_a_book_that_lost_its_rows_when_the_list_was_taken_over_brings_nobody_a_second_text(
    deployment: Deployment,
) -> None:
    deployment.scene.booked(*clients(10, FAR, client_phone=None))
    texted_and_forgotten(deployment)
    deployment.later(11 * MINUTE).phones.reconcile()
    whole, scene = dict(deployment.scene.book), deployment.scene
    scene.book.clear()
    deployment.later().cycle()
    with pytest.raises(HoldError):
        deployment.release()
    scene.book.update(whole)
    deployment.later().cycle()
    scene.owner.execute(BELIEVE_THE_BOOK)
    deployment.later().cycle()
    deployment.release()
    deployment.later().cycle()
    assert deployment.phones.heard() == [("sms", ADA)]
