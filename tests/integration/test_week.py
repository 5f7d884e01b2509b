"""A week of five-minute cycles backfilled by two workers at once: history fills up, and nobody is contacted for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Lock
from typing import Any

import pytest

from reminders import policy
from reminders.cycle.extract import extract
from reminders.store.guards import PLANNER
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene

DAY = 24 * HOUR
WEEK_AGO = WEDNESDAY_2PM - 7 * DAY
TICKS = [WEEK_AGO + number * 5 * MINUTE for number in range(2016)]
PATIENCE = 300.0
ZONES = ("UTC", "Europe/London", "America/New_York", "Asia/Tokyo")

Key = tuple[str, datetime, int]


def practice() -> list[Booked]:
    """Dozens of appointments from a week ago to five days ahead, in four zones, some confirmed, cancelled or over."""
    rows = []
    for number in range(60):
        starts_at = WEEK_AGO + number * (12 * DAY / 60) + 17 * MINUTE
        is_over = starts_at < WEDNESDAY_2PM
        rows.append(
            Booked(
                starts_at,
                appointment_id=f"appointment-{number}",
                account_id=f"account-{number % 3}",
                status="cancelled" if number % 10 == 7 else "completed" if is_over and number % 2 else "booked",
                client_email=f"client{number}@example.com" if number % 5 else None,
                client_phone=f"+4420794600{number:02d}",
                client_zone=ZONES[number % len(ZONES)],
                account_zone=ZONES[number % len(ZONES)],
                booked_before=2 * HOUR if is_over and number % 12 == 5 else 30 * DAY,
            )
        )
    return rows


def due_in(ticks: list[datetime], rows: list[Booked]) -> set[Key]:
    """(appointment, slot, step) of every reminder that one of the ticks finds due, by the policy alone."""
    found = set()
    for row in rows:
        if row.status == "cancelled":
            continue
        for rung in policy.DEFAULT_LADDER:
            window = policy.window(row.starts_at, rung, policy.DEFAULT_HOURS, row.client_zone or "UTC")
            is_worth_it = policy.is_worth_creating(window, row.starts_at - row.booked_before)
            if is_worth_it and any(window.due_at <= tick <= row.starts_at for tick in ticks):
                found.add((row.appointment_id, row.starts_at, rung.step))
    return found


def backfill(scene: Scene, ticks: list[datetime], *ledgers: Ledger) -> None:
    """Each ledger is a worker's; they take the ticks in order, as Airflow hands out runs, and work at once."""
    waiting, turn = iter(ticks), Lock()

    def taken() -> Iterator[datetime]:
        while True:
            with turn:
                tick = next(waiting, None)
            if tick is None:
                return
            yield tick

    def work(ledger: Ledger) -> None:
        for tick in taken():
            extract(ledger, scene.read, tick, scene.now, SECRET)
            ledger.merge(tick, "backfill", True, scene.now)
            ledger.triage(tick, "backfill", scene.now)

    with ThreadPoolExecutor(len(ledgers)) as pool:
        for done in [pool.submit(work, ledger) for ledger in ledgers]:
            done.result(PATIENCE)


def rows_of(scene: Scene) -> dict[Key, Any]:
    """(appointment, slot, step) -> (state, reason, logical date); every row of the ledger is one."""
    found = scene.owner.execute(
        "SELECT appointment_id, slot_at, step, state, reason, logical_date, expires_at FROM reminders.reminder"
    ).fetchall()
    rows = {(row[0], row[1], row[2]): row[3:] for row in found}
    assert len(rows) == len(found)
    return rows


@pytest.fixture
def workers(ledger: TestDatabase) -> tuple[Ledger, Ledger]:
    return Ledger(ledger.connect("reminders_app")), Ledger(ledger.connect("reminders_app"))


def test_a_week_backfilled_by_two_workers_is_history_and_no_contact(
    scene: Scene, workers: tuple[Ledger, Ledger]
) -> None:
    book = practice()
    contacted_then = []
    for then in (WEEK_AGO, WEEK_AGO + 20 * HOUR, WEEK_AGO + 44 * HOUR):
        scene.booked(*(row for row in book if row.starts_at - row.booked_before <= then))
        contacted_then += scene.at(then).cycle()
    assert contacted_then, "the week was not all missed"
    scene.booked(*book).at(WEDNESDAY_2PM)
    before = rows_of(scene)

    backfill(scene, TICKS, *workers)

    rows = rows_of(scene)
    assert len(scene.reached) == len(contacted_then)
    assert set(rows) == due_in(TICKS, book)
    assert [key for key, row in before.items() if rows[key][2] != row[2]] == []
    still_open = {key for key, (state, *_) in rows.items() if state in ("pending", "held")}
    assert {key for key in still_open if rows[key][3] <= scene.now} == set()
    assert {key for key, (state, reason, *_) in rows.items() if key not in still_open and not reason} == set()
    assert planned_for_backfills(scene) == 0

    backfill(scene, TICKS[::7], *workers)
    again = rows_of(scene)
    assert {key: row[2] for key, row in again.items()} == {key: row[2] for key, row in rows.items()}

    # The database's clock has gone on while the week was filled.
    sent = scene.at(WEDNESDAY_2PM).cycle()
    assert sent, "what is still useful goes with the next scheduled cycle"
    assert {visit.starts_at < scene.now for contact in sent for visit in contact.visits} == {False}
    assert {contact.expires_at <= scene.now for contact in sent} == {False}
    named = [(c.address, c.channel, visit.starts_at) for c in scene.reached for visit in c.visits]
    assert len(named) == len(set(named))
    assert scene.at(scene.now + 5 * MINUTE).cycle() == []


def planned_for_backfills(scene: Scene) -> int:
    row = scene.owner.execute(
        "SELECT count(*) FROM reminders.batch JOIN reminders.cycle USING (logical_date) WHERE run_kind = 'backfill'"
    ).fetchone()
    return int(row[0])


def test_a_tick_belongs_to_one_logical_date_however_often_it_is_run(
    scene: Scene, workers: tuple[Ledger, Ledger]
) -> None:
    """In order, each reminder bears the first tick at which it was due."""
    book = practice()
    scene.booked(*book).at(WEDNESDAY_2PM)
    ticks = TICKS[: 12 * 12]
    backfill(scene, ticks, workers[0])
    expected = {}
    for row in book:
        for rung in policy.DEFAULT_LADDER:
            window = policy.window(row.starts_at, rung, policy.DEFAULT_HOURS, row.client_zone or "UTC")
            expected[row.appointment_id, row.starts_at, rung.step] = next(
                (tick for tick in ticks if tick >= window.due_at), None
            )
    assert {key: row[2] for key, row in rows_of(scene).items()} == {
        key: tick for key, tick in expected.items() if key in due_in(ticks, book)
    }


def test_a_reading_costs_the_same_however_many_are_kept(scene: Scene, workers: tuple[Ledger, Ledger]) -> None:
    """A day of readings is kept: a cycle replaces its own and goes through none of the others."""
    scene.booked(*practice()).at(WEDNESDAY_2PM)
    backfill(scene, TICKS[:40], scene.ledger)
    scene.owner.execute("ANALYZE")
    read = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname LIKE 'staged%%'"
    fresh = workers[0]
    with fresh.acting_as(PLANNER, "stage") as connection:
        fresh.stage(TICKS[20], scene.now, [])
        assert connection.execute(read).fetchone() == {"sum": 0}


def test_a_reading_goes_after_a_day_with_its_rungs(scene: Scene) -> None:
    scene.booked(*practice()).at(WEDNESDAY_2PM)
    backfill(scene, TICKS[:3], scene.ledger)
    scene.at(WEDNESDAY_2PM + 25 * HOUR)
    backfill(scene, TICKS[3:4], scene.ledger)
    for table in ("staged_appointment", "staged_rung"):
        kept = scene.owner.execute(f"SELECT DISTINCT logical_date FROM reminders.{table}").fetchall()
        assert kept == [(TICKS[3],)]
