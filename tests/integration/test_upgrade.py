"""An upgrade of a ledger in use: what the code of migration 0007 left there, and what becomes of it in this release."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reminders.addresses import key, mask, normalise_phone, secret_fingerprint
from reminders.cycle.preflight import IDENTITY, preflight
from reminders.cycle.reconcile import close_dead, poll
from reminders.errors import SchemaError
from reminders.store.holds import Holds, LetGo
from reminders.store.ledger import Ledger
from reminders.store.logins import MEMBERSHIPS
from reminders.store.migrate import create_logins, migrate
from reminders.store.statements import sql_folder
from tests.databases import LOGIN_PASSWORD, SharedServer, TestDatabase
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene

Connection = psycopg.Connection[Any]

# The last whole cycle before the upgrade, and one that the upgrade cut off after its plan.
LAST_CYCLE = WEDNESDAY_2PM - 5 * MINUTE
CUT_OFF = WEDNESDAY_2PM - 3 * MINUTE
MONTH = timedelta(days=30)
# Whose text is due at the last cycle, and one whose text is no longer useful.
VISIT = LAST_CYCLE + 24 * HOUR
SOON = LAST_CYCLE + HOUR

# appointment -> what the provider said of its text: (outcome, reason, provider id); None: the worker died.
SENT = {
    "delivered": ("delivered", "read", "SM1"),
    "accepted": ("accepted", None, "SM2"),
    "failed": ("failed", "bad_address", ""),
    "in doubt": ("in_doubt", None, ""),
    "given back": ("not_contacted", "rate_limited", ""),
    "sending": None,
}
AFTER_THE_LAST_CYCLE = {
    "accepted": "accepted", "cut off": "pending", "delivered": "delivered", "due": "pending", "failed": "failed",
    "given back": "pending", "held": "held", "in doubt": "in_doubt", "missed": "expired", "not in book": "cancelled",
    "opted out": "suppressed", "sending": "sending",
}  # fmt: skip
APPOINTMENTS = sorted(AFTER_THE_LAST_CYCLE)

LADDER = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, 'sms', '24 hours', '2 hours', '0'), ('clinic', 2, 'call', '4 hours', '1 hour', '1 hour'),
       ('vet', 1, 'sms', '24 hours', '2 hours', '0')"""
POLICIES = """
INSERT INTO reminders.account_policy (account_id, opens, closes)
VALUES ('vet', '8:00', '18:00'), ('bar', '21:00', '23:00'), ('hospital', '0:00', '23:59:59.999999'),
       ('bakery', '4:00', '4:01')"""
CYCLE = """
INSERT INTO reminders.cycle (logical_date, run_kind, has_own_date, started_at, closed_at)
VALUES (%(date)s, 'scheduled', true, %(date)s, %(closed_at)s)"""
STAGED = """
INSERT INTO reminders.staged_appointment (
    logical_date, account_id, appointment_id, slot_at, ends_at, status, booked_at, zone, has_zone_problem, locale,
    client_name, location, account_name, account_phone, account_email, email_problem, phone, phone_hash, phone_masked,
    phone_country, phone_type, read_at)
VALUES (%(date)s, %(account)s, %(appointment)s, %(slot)s, %(slot)s, 'booked', %(created_at)s, 'UTC', false, 'en',
        'Ada Sample', '', 'Sample Clinic', '+442079460000', '', 'no_address', %(phone)s, %(hash)s, %(masked)s, 'GB',
        'mobile', %(date)s)"""
REMINDER = """
INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at,
                                expires_at, address_hash, address_masked, created_at)
VALUES (%(account)s, %(appointment)s, %(slot)s, 1, 'sms', %(date)s, %(date)s, %(slot)s::timestamptz - interval '24 h',
        %(slot)s::timestamptz - interval '2 hours', %(hash)s, %(masked)s, %(created_at)s)"""
SETTLE = "SELECT FROM reminders.settle(%(date)s, ARRAY(SELECT reminder_id FROM reminders.reminder))"
PLAN = """
WITH b AS (INSERT INTO reminders.batch (logical_date, channel, share, planned_at)
           VALUES (%(date)s, 'sms', 1, %(date)s) RETURNING batch_id),
     c AS (INSERT INTO reminders.contact (batch_id, account_id, channel, address_hash, zone, place)
           SELECT batch_id, account_id, channel, address_hash, 'UTC', row_number() OVER ()
           FROM reminders.reminder, b WHERE appointment_id = ANY (%(chosen)s) RETURNING contact_id, address_hash)
INSERT INTO reminders.contact_member
SELECT c.contact_id, r.reminder_id FROM c JOIN reminders.reminder r USING (address_hash)"""
INTEND = """
SELECT FROM reminders.intend(ARRAY(SELECT contact_id FROM reminders.contact), %(date)s,
                             %(date)s::timestamptz + interval '1 minute')"""
RECORD = """
SELECT reminders.record_outcomes(
    ARRAY(SELECT attempt_id FROM reminders.attempt JOIN reminders.reminder USING (contact_id)
          WHERE appointment_id = %(appointment)s),
    ARRAY[%(outcome)s], ARRAY[%(reason)s], ARRAY[''], ARRAY[%(provider_id)s], ARRAY['sent'],
    ARRAY[%(date)s::timestamptz], %(date)s)"""


def number(appointment: str) -> str:
    return f"+4420794600{APPOINTMENTS.index(appointment):02d}"


def account(appointment: str) -> str:
    return "vet" if appointment == "held" else "clinic"


def slot(appointment: str) -> datetime:
    return SOON if appointment == "missed" else VISIT


def acting(connection: Connection, role: str, *statements: str, **values: Any) -> None:
    """What the code of that release did under the role, in one transaction."""
    with connection.transaction():
        connection.execute(f"SET LOCAL ROLE reminders_{role}")
        for statement in statements:
            connection.execute(statement, values)


def migrate_to(connection: Connection, version: int, place: Path) -> None:
    """Only the release's first migrations."""
    folder = place / f"to_{version:04d}"
    folder.mkdir()
    for file in sorted((sql_folder() / "migrations").glob("*.sql"))[:version]:
        shutil.copy(file, folder)
    assert [migration.version for migration in migrate(connection, folder)][-1] == version


def live(connection: Connection) -> None:
    """A practice's life at migration 0007: a ladder and hours of its own, a hold, and a text in every state."""
    connection.execute("INSERT INTO reminders.clock (shift) VALUES (%s - clock_timestamp())", (LAST_CYCLE,))
    hold = "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at) VALUES "
    acting(connection, "operator", LADDER, POLICIES, hold + "('account', 'vet', 'Ana', 'the vet has moved', now())")
    mark = "UPDATE reminders.ledger_mark SET reserved_to = 1000, secret_fingerprint = %(key)s"
    acting(
        connection,
        "planner",
        mark,
        CYCLE,
        key=secret_fingerprint(SECRET),
        date=LAST_CYCLE,
        closed_at=LAST_CYCLE + MINUTE,
    )
    for appointment in APPOINTMENTS:
        phone = normalise_phone(number(appointment), None)
        values = {
            "account": account(appointment), "appointment": appointment, "slot": slot(appointment), "date": LAST_CYCLE,
            "phone": phone.value, "hash": key(phone, SECRET), "masked": mask(phone), "created_at": LAST_CYCLE - MONTH,
        }  # fmt: skip
        acting(connection, "planner", STAGED, REMINDER, **values)
        acting(connection, "planner", STAGED, **{**values, "date": CUT_OFF})
    silence = "INSERT INTO reminders.suppression SELECT address_hash, '*', 'opted_out' FROM reminders.reminder"
    acting(connection, "dispatcher", silence + " WHERE appointment_id = 'opted out'")
    gone = "UPDATE reminders.reminder SET state = 'cancelled', reason = 'not_in_book', ended_at = %(date)s"
    acting(connection, "planner", gone + " WHERE appointment_id = 'not in book'", SETTLE, date=LAST_CYCLE)
    acting(connection, "planner", PLAN, date=LAST_CYCLE, chosen=list(SENT))
    acting(connection, "dispatcher", INTEND, date=LAST_CYCLE)
    for appointment, said in SENT.items():
        if said is not None:
            outcome, reason, provider_id = said
            values = {"outcome": outcome, "reason": reason, "provider_id": provider_id, "appointment": appointment}
            acting(connection, "dispatcher", RECORD, date=LAST_CYCLE, **values)
    adopt = "UPDATE reminders.reminder SET adopted_by = %(date)s WHERE state IN ('pending', 'held')"
    acting(connection, "planner", CYCLE, adopt, PLAN, date=CUT_OFF, closed_at=None, chosen=["cut off"])


@pytest.fixture
def old(shared_server: SharedServer, tmp_path: Path) -> Iterator[TestDatabase]:
    """A ledger in use, at migration 0007."""

    def fill(connection: Connection) -> None:
        migrate_to(connection, 7, tmp_path)
        create_logins(connection, dict.fromkeys(MEMBERSHIPS, LOGIN_PASSWORD))
        live(connection)

    with shared_server.database(shared_server.template("ledger_0007_template", fill)) as database:
        yield database


def scene_on(database: TestDatabase) -> Scene:
    """The practice after the upgrade. Its gate knows no cycle and no account but those of before."""
    scene = Scene(
        database.connect(),
        Ledger(database.connect("reminders_app")),
        Ledger(database.connect("reminders_app")),
        has_gap=True,
        has_new_accounts=True,
    )
    rows = [
        Booked(slot(name), name, account(name), client_email=None, client_phone=number(name), booked_before=MONTH)
        for name in APPOINTMENTS
        if name != "not in book"
    ]
    return scene.at(WEDNESDAY_2PM).booked(*rows)


@pytest.fixture
def scene(old: TestDatabase) -> Scene:
    migrate(old.connect())
    return scene_on(old)


def texts(scene: Scene) -> dict[str, str]:
    return {appointment: state for (appointment, step), (state, _) in scene.states().items() if step == 1}


def reached(scene: Scene) -> list[str]:
    """The appointments of which somebody was told, as often as they were."""
    return sorted(visit.appointment_id for contact in scene.reached for visit in contact.visits)


def good_cycle(scene: Scene) -> None:
    scene.cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.at(scene.now + 5 * MINUTE)


def test_this_is_what_the_old_release_left(old: TestDatabase) -> None:
    found = old.connect().execute("SELECT appointment_id, state FROM reminders.reminder").fetchall()
    assert dict(found) == AFTER_THE_LAST_CYCLE


def test_an_upgrade_changes_no_reminder_and_forgets_nothing(old: TestDatabase) -> None:
    connection, app = old.connect(), Ledger(old.connect("reminders_app"))
    kept = {
        table: connection.execute(f"SELECT count(*) FROM reminders.{table}").fetchone()
        for table in ("attempt", "contact", "contact_guard", "address_cap", "address_gap", "suppression", "hold")
    }
    [(reserved_to,)] = connection.execute("SELECT reserved_to FROM reminders.ledger_mark").fetchall()
    migrate(connection)
    identity = app.identity()
    mark = json.dumps({**{name: identity[name] for name in IDENTITY}, "reserved_to": reserved_to})
    assert texts(scene_on(old)) == AFTER_THE_LAST_CYCLE
    assert kept == {table: connection.execute(f"SELECT count(*) FROM reminders.{table}").fetchone() for table in kept}
    preflight(app, mark, lambda _: None, secret_fingerprint(SECRET), WEDNESDAY_2PM)
    assert app.holds() == [{"scope": "account", "scope_value": "vet", "logical_date": None}]


def test_what_was_due_goes_once_and_who_was_contacted_is_left_alone(scene: Scene) -> None:
    """Also when the book has the appointment again under another id."""
    for name in ("delivered", "accepted", "in doubt", "sending"):
        scene.booked(
            Booked(slot(name), f"{name} again", client_email=None, client_phone=number(name), booked_before=MONTH)
        )
    scene.cycles(12)
    assert reached(scene) == ["cut off", "due", "given back"]
    assert scene.holds() == [("vet", "the vet has moved")]
    found = texts(scene)
    assert found["delivered again"] == "superseded"
    went = dict.fromkeys(reached(scene), "delivered")
    assert {name: found[name] for name in APPOINTMENTS} == {**AFTER_THE_LAST_CYCLE, **went}


def test_what_the_cut_off_cycle_had_planned_is_not_sent_unjudged(scene: Scene) -> None:
    [(batch_id,)] = scene.owner.execute("SELECT max(batch_id) FROM reminders.batch").fetchall()
    scene.send([batch_id])
    assert reached(scene) == []
    scene.cycle()
    assert "cut off" in reached(scene)


@pytest.mark.parametrize("cycles", [0, 2])
def test_what_was_held_stays_held_until_a_person_releases_it(scene: Scene, old: TestDatabase, cycles: int) -> None:
    """Also by a person who does not wait for the next cycle."""
    for _ in range(cycles):
        good_cycle(scene)
    holds = Holds(old.connect("reminders_operator"))
    [hold] = holds.in_force()
    assert (hold["scope_value"], hold["reminders"], texts(scene)["held"]) == ("vet", 1, "held")
    assert holds.release([hold["hold_id"]], "Bo") == LetGo(1, 0)
    for _ in range(2):
        good_cycle(scene)
    assert reached(scene).count("held") == 1


def test_attempts_that_were_open_are_closed(scene: Scene) -> None:
    assert close_dead(scene.ledger, WEDNESDAY_2PM)["attempts_past_deadline"] == 1
    asked = poll(scene.ledger, lambda *_: ("delivered", ""), lambda *_: ("delivered", "delivered"), WEDNESDAY_2PM)
    assert asked == {"asked": 1, "ended": 1, "unreadable": 0}
    scene.look_up_in_vain()
    assert close_dead(scene.ledger, WEDNESDAY_2PM + 2 * HOUR)["attempts_without_proof"] == 2
    found = texts(scene)
    assert [found[name] for name in ("accepted", "sending", "in doubt")] == ["delivered", "unknown", "unknown"]
    assert scene.owner.execute("SELECT count(*) FROM reminders.attempt WHERE ended_at IS NULL").fetchone() == (0,)


def usual_morning(starts_at: datetime) -> list[Booked]:
    return [
        Booked(starts_at + 24 * HOUR, f"{starts_at} {i}", client_email=None, client_phone=f"+4420794601{i:02d}")
        for i in range(60)
    ]


def test_the_gate_knows_the_accounts_and_the_cycles_of_before(scene: Scene) -> None:
    accounts = scene.owner.execute("SELECT account_id FROM reminders.account_seen ORDER BY 1").fetchall()
    assert accounts == [("clinic",), ("vet",)]
    cycles = scene.owner.execute("SELECT logical_date, is_good, judged_at FROM reminders.cycle ORDER BY 1").fetchall()
    assert cycles == [(LAST_CYCLE, True, LAST_CYCLE + MINUTE), (CUT_OFF, False, None)]


def test_the_gate_takes_a_usual_morning_of_a_known_practice_for_usual(scene: Scene) -> None:
    """Nothing was measured before the upgrade: that is no usual volume of none."""
    scene.booked(*usual_morning(WEDNESDAY_2PM))
    good_cycle(scene)
    assert scene.holds() == [("vet", "the vet has moved")]
    assert len(scene.reached) == 63


def test_hours_that_were_taken_before_are_taken_still(scene: Scene) -> None:
    """An account's hours are its office's, until it names those."""
    rows = scene.owner.execute(
        "SELECT account_id, opens = office_opens AND closes = office_closes FROM reminders.account_policy"
    ).fetchall()
    assert sorted(rows) == [(name, True) for name in ("*", "bakery", "bar", "hospital", "vet")]


def test_hours_that_somebody_forced_upon_the_ledger_stop_the_upgrade_and_lose_nothing(old: TestDatabase) -> None:
    connection = old.connect()
    connection.execute(
        "ALTER TABLE reminders.account_policy DROP CONSTRAINT hours_open, ADD CONSTRAINT hours_open CHECK (true)"
    )
    connection.execute("UPDATE reminders.account_policy SET opens = '19:00' WHERE account_id = 'vet'")
    with pytest.raises(SchemaError, match=r"0008_office_hours failed and left nothing behind: .*opens_before_closes"):
        migrate(connection)
    found = connection.execute("SELECT appointment_id, state FROM reminders.reminder").fetchall()
    assert dict(found) == AFTER_THE_LAST_CYCLE
    connection.execute("UPDATE reminders.account_policy SET opens = '8:00' WHERE account_id = 'vet'")
    assert migrate(connection)[0].version == 8


def test_a_ladder_from_before_its_check_is_climbed_on_and_refused_when_it_is_next_changed(
    blank_database: TestDatabase, tmp_path: Path
) -> None:
    """0006 is the first to refuse a ladder; one that was there already is not looked at."""
    connection = blank_database.connect()
    migrate_to(connection, 5, tmp_path)
    acting(connection, "operator", LADDER, "UPDATE reminders.cadence_step SET lead = '2 days' WHERE step = 2")
    migrate(connection)
    with pytest.raises(psycopg.errors.CheckViolation, match="ladder of account clinic: step 2 is due no later than"):
        acting(connection, "operator", "UPDATE reminders.cadence_step SET wait = '2 hours' WHERE account_id = 'clinic'")
