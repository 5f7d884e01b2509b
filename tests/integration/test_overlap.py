"""Two cycles overlap: one plans while the other's dispatch commits the intents of what both of them see as waiting."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

PATIENCE = 60.0
PACE = 6
LATER = WEDNESDAY_2PM + MINUTE
INTEND = "SELECT attempt_id FROM reminders.batch, reminders.intend(%s, claim, %s, %s)"
MEMBERS = """
SELECT m.reminder_id FROM reminders.contact_member m JOIN reminders.reminder r USING (reminder_id)
WHERE m.contact_id = ANY (%s) ORDER BY r.appointment_id"""
LOCK = "SELECT FROM reminders.reminder WHERE reminder_id = ANY (%s) ORDER BY reminder_id FOR UPDATE"
WAITING_FOR_LOCKS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@pytest.fixture
def planned(scene: Scene) -> list[int]:
    """The contacts that the first cycle has planned, as many as the account's pace; the rest of its calls wait."""
    scene.owner.execute(
        "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)"
        " VALUES ('vet', 1, 'call', '4 hours', '1 hour', '0')"
    )
    scene.at(WEDNESDAY_2PM).booked(
        *(
            Booked(
                WEDNESDAY_2PM + 3 * HOUR,
                appointment_id=f"appointment-{number}",
                account_id="vet",
                client_phone=f"+4420794600{number:02d}",
            )
            for number in range(2 * PACE)
        )
    )
    [batch_id] = scene.prepare()
    contact_ids: list[int] = scene.ledger.claim(batch_id, 4 * MINUTE)["contact_ids"]
    return contact_ids


@pytest.fixture
def other(ledger: TestDatabase) -> Any:
    """The connection of the first cycle's dispatch, whose transactions end when the test says so."""
    return ledger.connect(autocommit=False)


def overlapped(scene: Scene, work: Callable[[], Any], meanwhile: Callable[[], Any]) -> Any:
    """What `work` returns; `meanwhile` happens as soon as it waits for a lock, which it must."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        while scene.owner.execute(WAITING_FOR_LOCKS).fetchone() == (0,):
            assert not working.done()
        meanwhile()
        return working.result(PATIENCE)


def test_what_another_cycle_sends_meanwhile_is_not_put_off_for_the_pace(
    scene: Scene, planned: list[int], other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = scene.ledger.plan

    def plan_while_sending(*args: Any) -> Any:
        other.execute("SET LOCAL ROLE reminders_dispatcher")
        other.execute(INTEND, (planned, scene.now, scene.now + MINUTE))
        return overlapped(scene, lambda: plan(*args), other.commit)

    monkeypatch.setattr(scene.ledger, "plan", plan_while_sending)
    assert scene.prepare(LATER) == []
    waiting = [("pending", "wait_for_pace")] * PACE
    assert sorted(scene.states().values(), key=str) == [*waiting, *[("sending", None)] * PACE]


def test_what_an_orphaned_dispatch_sends_is_not_held_when_its_date_runs_again(
    scene: Scene, planned: list[int], other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate acts as the owner, whom the ledger lets do what any role may."""
    rows = scene.ledger.rows

    def judge_while_sending(name: str, **values: Any) -> Any:
        if name != "judge":
            return rows(name, **values)
        # Else the orphan is refused: its date is not judged again yet.
        scene.owner.execute("UPDATE reminders.cycle SET judged_at = started_at")
        other.execute("SET LOCAL ROLE reminders_dispatcher")
        other.execute(INTEND, (planned, scene.now, scene.now + MINUTE))
        return overlapped(scene, lambda: rows(name, **values), other.commit)

    monkeypatch.setattr(scene.ledger, "rows", judge_while_sending)
    scene.has_gap = True
    assert scene.prepare(scene.now) == []
    held = [("held", "on_hold")] * PACE
    assert sorted(scene.states().values(), key=str) == [*held, *[("sending", None)] * PACE]


def test_a_plan_that_ends_in_a_deadlock_is_made_again(
    scene: Scene, planned: list[int], other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, rows, tried = scene.ledger.plan, scene.ledger.rows, []
    reminder_ids = scene.owner.execute(MEMBERS, (planned,)).fetchall()

    def plan_in_a_ring(*args: Any) -> Any:
        # The dispatch waits longer, so that the server ends the plan and not it.
        other.execute("SET LOCAL deadlock_timeout = '30s'")
        other.execute(LOCK, ([reminder_ids[-1][0]],))
        return overlapped(scene, lambda: plan(*args), lambda: (other.execute(LOCK, (ids,)), other.commit()))

    ids = [row[0] for row in reminder_ids]
    monkeypatch.setattr(scene.ledger, "plan", plan_in_a_ring)
    monkeypatch.setattr(scene.ledger, "rows", lambda name, **values: tried.append(name) or rows(name, **values))
    assert scene.prepare(LATER) == []
    # Where the dispatch is slow to take what the plan gave up, the second plan ends as the first did.
    assert tried.count("plan_contacts") > 1
