"""A task that Airflow gave up on and that runs on contacts nobody: its intents are refused, or its deadline is past."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from reminders.errors import ClaimLost
from reminders.model import Acceptance, Contact
from tests.integration.scene import MINUTE, WEDNESDAY_2PM, Scene, clients

VISIT = WEDNESDAY_2PM + timedelta(hours=60)
TIME_LIMIT = 4 * MINUTE


@pytest.fixture
def batch_id(scene: Scene) -> int:
    """Of six emails in two batches, the batch with the first three."""
    [planned, _] = scene.at(WEDNESDAY_2PM).booked(*clients(6, VISIT)).prepare()
    return planned


def send_one_by_one(scene: Scene, batch_id: int) -> None:
    scene.send([batch_id], rate=1.0)


def test_of_two_tasks_only_the_one_that_took_the_batch_last_goes_on(scene: Scene, batch_id: int) -> None:
    def meanwhile(contact: Contact) -> Acceptance:
        scene.answer = None
        scene.watching.claim(batch_id, TIME_LIMIT)
        scene.reached.append(contact)
        return Acceptance("first", "sent", is_delivered=True)

    scene.answer = meanwhile
    with pytest.raises(ClaimLost):
        send_one_by_one(scene, batch_id)
    assert len(scene.reached) == 1
    send_one_by_one(scene, batch_id)
    assert len(scene.addresses()) == len(set(scene.addresses())) == 3


def test_a_task_whose_time_is_over_contacts_nobody_whatever_its_own_clock_says(scene: Scene, batch_id: int) -> None:
    """The machine was suspended: its monotonic clock stood still, and the ledger's went on."""

    def suspended(contact: Contact) -> Acceptance:
        scene.at(scene.now + TIME_LIMIT + MINUTE)
        scene.reached.append(contact)
        return Acceptance("first", "sent", is_delivered=True)

    scene.answer = suspended
    with pytest.raises(ClaimLost):
        send_one_by_one(scene, batch_id)
    assert len(scene.reached) == 1


def test_a_contact_whose_task_stood_still_until_its_deadline_is_not_made(scene: Scene, batch_id: int) -> None:
    """Stopped after the intent, the process goes on at the check before the socket; the contact goes a cycle later."""
    elapsed = [0.0]
    scene.before_check = lambda _contact: elapsed.__setitem__(0, elapsed[0] + 31.0)
    clock = replace(scene.flowing(), monotonic=lambda: elapsed[0])
    scene.send([batch_id], rate=3.0, clock=clock)
    assert scene.reached == []
    assert {state for state, _ in scene.states().values()} == {"pending"}
    scene.before_check = lambda _contact: None
    assert len(scene.at(scene.now + 5 * MINUTE).cycle()) == 6


def test_a_task_whose_batch_the_ledger_has_forgotten_is_told_so(scene: Scene) -> None:
    with pytest.raises(ClaimLost, match="no batch 999"):
        scene.ledger.claim(999, TIME_LIMIT)


def test_the_claim_of_a_batch_lasts_ten_minutes_at_most(scene: Scene, batch_id: int) -> None:
    scene.ledger.claim(batch_id, timedelta(days=1))
    [(lasts,)] = scene.owner.execute(
        "SELECT claimed_until - reminders.ledger_clock() FROM reminders.batch WHERE batch_id = %s", (batch_id,)
    ).fetchall()
    assert timedelta(minutes=9) < lasts <= timedelta(minutes=10)


def test_a_batch_is_not_taken_while_intents_under_its_claim_are_not_committed_yet(scene: Scene) -> None:
    first, second = scene.at(WEDNESDAY_2PM).booked(*clients(6, VISIT)).prepare()
    batch = scene.ledger.claim(first, TIME_LIMIT)
    scene.watching.connection.execute("SET lock_timeout = '200ms'")
    with scene.ledger.rolled_back():
        assert scene.ledger.intend(batch["contact_ids"], batch["claim"], scene.now, scene.now + MINUTE)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            scene.watching.claim(first, TIME_LIMIT)
        scene.watching.claim(second, TIME_LIMIT)


def test_who_takes_a_batch_leaves_the_others_to_their_tasks(scene: Scene) -> None:
    first, second = scene.at(WEDNESDAY_2PM).booked(*clients(6, VISIT)).prepare()
    claims = {batch_id: scene.ledger.claim(batch_id, TIME_LIMIT)["claim"] for batch_id in (first, second)}
    scene.watching.claim(second, TIME_LIMIT)
    [(kept,)] = scene.owner.execute("SELECT claim FROM reminders.batch WHERE batch_id = %s", (first,)).fetchall()
    assert kept == claims[first]
