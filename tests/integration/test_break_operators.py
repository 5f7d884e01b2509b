"""Two operators at once, one beside a cycle, one whose clock is off, one whose command stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from reminders import failpoints
from reminders import operate as operator_command
from reminders.cycle.extract import extract
from reminders.cycle.rehearse import rehearse
from reminders.errors import HoldError, PreflightError
from reminders.operate import run
from reminders.store import session
from reminders.store.guards import PLANNER
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from tests.crash import Crash
from tests.databases import TestDatabase
from tests.integration.conftest import Operate
from tests.integration.deployment import ADA, BOB, VISIT, RestorableDeployment
from tests.integration.phones import SENDER
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene

PATIENCE = 10.0
THURSDAY_3AM = WEDNESDAY_2PM + 13 * HOUR
OVERDUE_TEXT = WEDNESDAY_2PM + 22 * HOUR
TWO_TEXTS_A_SLOT = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 2, 'sms', '30 hours', '1 hour', '0'), ('clinic', 3, 'sms', '25 hours', '1 hour', '0')"""
GROUPS = "SELECT step, hold_id FROM reminders.hold WHERE scope = 'group' AND released_at IS NULL"
IDLE = "SELECT current_setting('idle_in_transaction_session_timeout') AS idle"
WAITING_FOR_LOCKS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@pytest.fixture
def operators(ledger: TestDatabase) -> Callable[[], Holds]:
    """An operator more, each with a connection of their own."""
    return lambda: Holds(ledger.connect("reminders_operator_login"))


def groups_of(scene: Scene) -> dict[int, int]:
    """The hold of each step's group."""
    return dict(scene.owner.execute(GROUPS).fetchall())


def first_time(point: str, act: Callable[[], None]) -> Callable[[str], None]:
    """What to arm, so that `act` happens the first time that this point is reached, and never again."""
    reached: list[str] = []

    def armed(name: str) -> None:
        if name == point and not reached:
            reached.append(name)
            act()

    return armed


@contextmanager
def beside(scene: Scene, point: str, other: Callable[[], Any]) -> Iterator[None]:
    """In this block another acts at that point, until they are done or wait for a lock; at its end they are done."""
    acting = []
    with ThreadPoolExecutor(1) as pool:

        def act() -> None:
            acting.append(pool.submit(other))
            while scene.owner.execute(WAITING_FOR_LOCKS).fetchone() == (0,) and not acting[0].done():
                pass

        with failpoints.armed(first_time(point, act)):
            yield
        acting[0].result(PATIENCE)


# Two operators, and an operator beside a cycle


def test_two_operators_who_turn_down_two_groups_of_one_visit_at_once(
    scene: Scene, operators: Callable[[], Holds]
) -> None:
    scene.at(WEDNESDAY_2PM).owner.execute(TWO_TEXTS_A_SLOT)
    scene.has_gap = True
    scene.booked(Booked(WEDNESDAY_2PM + 20 * HOUR, "ada")).cycle()
    scene.has_gap = False
    groups, ana, ben = groups_of(scene), operators(), operators()
    with beside(scene, "turn_down.before_commit", lambda: ben.turn_down([groups[3]], "Ben")):
        ana.turn_down([groups[2]], "Ana")
    for _ in range(12):
        scene.at(scene.now + 20 * MINUTE).cycle()
    assert scene.addresses() == ["ada@example.com"]


@pytest.mark.parametrize("action", ["drop", "turn_down"])
def test_a_group_that_is_let_go_while_the_gate_adds_to_it(
    scene: Scene, operators: Callable[[], Holds], action: str
) -> None:
    """After the gate has looked and before triage commits: nobody is texted whom no person has let go."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE_TEXT, "first", client_phone=ADA)).cycle()
    groups, ana = list(groups_of(scene).values()), operators()
    scene.booked(Booked(OVERDUE_TEXT, "second", client_email="b@example.com", client_phone=BOB))
    scene.at(scene.now + 5 * MINUTE)
    with beside(scene, "triage.before_commit", lambda: getattr(ana, action)(groups, "Ana")):
        scene.prepare()
    scene.has_gap = False
    for _ in range(3):
        scene.at(scene.now + 5 * MINUTE).cycle()
    assert BOB not in scene.addresses()


def test_a_release_waits_for_the_cycle_that_is_at_work(scene: Scene, operators: Callable[[], Holds]) -> None:
    """Whom the gate adds to a group until then is released with it, after the pace and canary of a backlog."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE_TEXT, "first", client_phone=ADA)).cycle()
    groups, ana = list(groups_of(scene).values()), operators()
    scene.booked(Booked(OVERDUE_TEXT, "second", client_email="b@example.com", client_phone=BOB))
    scene.at(scene.now + 5 * MINUTE)
    said: list[Any] = []
    with beside(scene, "triage.before_commit", lambda: said.append(ana.release(groups, "Ana"))):
        scene.prepare()
    assert said[0].going == 2


def test_a_stop_waits_for_no_cycle(scene: Scene, operators: Callable[[], Holds]) -> None:
    ana = operators()
    placed: list[int] = []

    def stop() -> None:
        placed.append(ana.place("all", "", "Ana", "a look", HOUR))

    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE_TEXT))
    with failpoints.armed(first_time("triage.before_commit", stop)):
        scene.cycle()
    assert placed
    assert scene.reached == []


# An operator whose machine has another clock


Command = Callable[..., str]


@pytest.fixture
def command(deployment: RestorableDeployment, booking: TestDatabase) -> Command:
    """The operator's command on a machine whose clock is `off`."""
    environment = {
        **deployment.database.airflow_connections(),
        "AIRFLOW_CONN_BOOKING_DB": booking.uri(),
        "AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET": SECRET.decode(),
    }
    return lambda *arguments, off: run(arguments, environment, deployment.scene.now + off)


def test_a_hold_that_is_placed_by_a_clock_that_is_slow_makes_no_breach(
    deployment: RestorableDeployment, command: Command
) -> None:
    phones, scene = deployment.phones, deployment.scene.with_a_wide_gate()
    scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).cycle()
    phones.at(scene.now + 5 * MINUTE)
    command("hold", "channel", "sms", "--why", "a look", "--by", "Ana", off=-10 * MINUTE)
    phones.reconcile()
    phones.at(THURSDAY_3AM)
    assert (phones.heard(), phones.audit()["breaches"]) == ([("sms", ADA)], {})


def test_a_hold_that_is_released_by_a_clock_that_is_fast_makes_no_breach(
    deployment: RestorableDeployment, command: Command
) -> None:
    phones, scene = deployment.phones, deployment.scene.with_a_wide_gate()
    scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    command("hold", "channel", "sms", "--why", "a look", "--by", "Ana", off=0 * MINUTE)
    phones.at(scene.now + 5 * MINUTE)
    command("release", "1", "--by", "Ana", off=10 * MINUTE)
    scene.at(scene.now + 5 * MINUTE).cycle()
    phones.reconcile()
    phones.at(THURSDAY_3AM)
    assert (phones.heard(), phones.audit()["breaches"]) == ([("sms", ADA)], {})


def test_who_drops_a_group_by_a_clock_that_is_fast_drops_all_of_it(
    deployment: RestorableDeployment, command: Command
) -> None:
    """Also what will have expired only by that clock: the release would let it go."""
    scene = deployment.scene
    scene.has_gap = True
    scene.booked(Booked(OVERDUE_TEXT, "ada", client_email=None, client_phone=ADA))
    deployment.cycle()
    scene.has_gap = False
    [hold_id] = groups_of(scene).values()
    deployment.phones.at(WEDNESDAY_2PM + 20 * HOUR - 8 * MINUTE)
    command("drop", str(hold_id), "--by", "Ana", off=10 * MINUTE)
    deployment.later().cycle()
    assert deployment.phones.heard() == []
    assert scene.states()["ada", 2] == ("cancelled", "dropped")


def test_a_rehearsal_by_another_clock_is_refused(command: Command) -> None:
    with pytest.raises(PreflightError, match="10 minutes ahead of the ledger's"):
        command("rehearse", off=10 * MINUTE)


# What stands still in the middle of a transaction


HALF_A_SECOND = timedelta(seconds=0.5)
Beside = Callable[[Scene, str, Callable[[], Any]], BaseException | None]


@pytest.fixture
def goes_on_beside(monkeypatch: pytest.MonkeyPatch) -> Beside:
    """A cycle of the scene goes on while other work stands still at a point for longer than the ledger lets it; what
    that raised when it went on afterwards."""

    def go_on(scene: Scene, point: str, work: Callable[[], Any]) -> BaseException | None:
        is_there, let_go = threading.Event(), threading.Event()

        def stand_still() -> None:
            is_there.set()
            let_go.wait(2 * PATIENCE)

        scene.ledger.connection.execute("SET lock_timeout = '5 s'")
        with ThreadPoolExecutor(1) as pool, failpoints.armed(first_time(point, stand_still)):
            with monkeypatch.context() as patched:
                patched.setattr(session, "IDLE_AT_MOST", HALF_A_SECOND)
                still = pool.submit(work)
                assert is_there.wait(PATIENCE)
            try:
                scene.cycle()
            finally:
                let_go.set()
            return still.exception(PATIENCE)

    return go_on


def test_a_persons_command_that_stands_still(
    scene: Scene, operators: Callable[[], Holds], goes_on_beside: Beside
) -> None:
    """Ctrl-Z, or a laptop that is shut: nothing of it happens, and the cycles do not wait until somebody finds it."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE_TEXT, "held", client_phone=ADA)).cycle()
    scene.has_gap = False
    ana, groups = operators(), list(groups_of(scene).values())
    scene.at(scene.now + 5 * MINUTE).booked(Booked(VISIT, "due", client_email=None, client_phone=BOB))
    raised = goes_on_beside(scene, "drop.before_commit", lambda: ana.drop(groups, "Ana"))
    assert isinstance(raised, psycopg.Error)
    assert scene.addresses() == [BOB]
    assert scene.states()["held", 2] == ("held", "on_hold")


def test_a_rehearsal_that_stands_still(scene: Scene, ledger: TestDatabase, goes_on_beside: Beside) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, "due", client_email=None, client_phone=BOB)).prepare()
    other = Ledger(ledger.connect("reminders_app"))
    scene.at(scene.now + 5 * MINUTE)
    raised = goes_on_beside(scene, "plan.before_commit", lambda: rehearse(other, scene.read, scene.now, SECRET))
    assert isinstance(raised, psycopg.Error)
    assert scene.addresses() == [BOB]


def test_a_dispatch_that_stands_still_in_its_intent(scene: Scene, ledger: TestDatabase, goes_on_beside: Beside) -> None:
    """A worker's machine that is frozen, or cut off so that the server hears no end of its connection."""
    scene.at(WEDNESDAY_2PM).booked(Booked(VISIT, "frozen", client_email=None, client_phone=ADA))
    batches = scene.prepare()
    app = [Ledger(ledger.connect("reminders_app")) for _ in range(2)]
    other = Scene(scene.owner, app[0], app[1], book=scene.book).at(scene.now + MINUTE)
    scene.booked(Booked(VISIT, "due", client_email=None, client_phone=BOB))
    raised = goes_on_beside(other, "intend.before_commit", lambda: scene.send(batches))
    assert isinstance(raised, psycopg.Error)
    assert (scene.addresses(), other.addresses()) == ([], [ADA, BOB])


def test_a_command_whose_transaction_was_ended_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: Any) -> str:
        raise psycopg.errors.IdleInTransactionSessionTimeout("25P03")

    monkeypatch.setattr(operator_command, "run", ended)
    assert operator_command.main() == 1
    assert "did not finish this (IdleInTransactionSessionTimeout)" in capsys.readouterr().err


def test_only_the_reading_of_a_slow_book_has_longer(scene: Scene) -> None:
    def read(*_: Any) -> Iterator[Any]:
        idle.append(scene.ledger.connection.execute(IDLE).fetchone()["idle"])
        yield from ()

    idle: list[str] = []
    scene.at(WEDNESDAY_2PM)
    extract(scene.ledger, read, scene.now, scene.now, SECRET)
    with scene.ledger.acting_as(PLANNER, "merge") as connection:
        idle.append(connection.execute(IDLE).fetchone()["idle"])
    assert idle == ["5min", "1min"]


# An audit that finds something while a person holds everything, or that dies on the way


def die() -> None:
    raise Crash


@pytest.fixture
def found_broken(deployment: RestorableDeployment) -> RestorableDeployment:
    """In the night the audit will find that the ledger is open to changes."""
    scene = deployment.scene.with_a_wide_gate()
    scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).cycle()
    deployment.phones.at(THURSDAY_3AM)
    scene.owner.execute("ALTER TABLE reminders.attempt DISABLE TRIGGER never_deleted")
    return deployment


def test_a_persons_release_of_their_own_hold_is_no_release_of_the_audits(
    found_broken: RestorableDeployment, operators: Callable[[], Holds], operate: Operate
) -> None:
    scene, ana = found_broken.scene, operators()
    mine = ana.place("all", "", "Ana", "a move", HOUR)
    assert found_broken.phones.audit()["breaches"]
    assert "audit 2026-02-11" in operate("holds")
    ana.release([mine], "Ana")
    scene.owner.execute("ALTER TABLE reminders.attempt ENABLE TRIGGER never_deleted")
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    found_broken.later().scene.cycle()
    assert found_broken.phones.heard() == [("sms", ADA)]
    [hold] = ana.in_force()
    assert (hold["placed_by"], hold["why"]) == (
        "audit_ledger",
        "the audit of 2026-02-11 found guards are not as the migrations left them: 2",
    )
    ana.release([hold["hold_id"]], "Ana")
    for hours in (4, 1, 1, 1):
        found_broken.later(hours * HOUR).scene.cycle()
    assert found_broken.phones.heard() == [("sms", ADA), ("sms", BOB)]


def test_each_nights_stop_is_released_by_itself(
    found_broken: RestorableDeployment, operators: Callable[[], Holds]
) -> None:
    """However many stop everything, each reminder waits once."""
    scene, phones, ana = found_broken.scene, found_broken.phones, operators()
    phones.audit()
    phones.at(THURSDAY_3AM + 24 * HOUR)
    phones.audit()
    phones.audit()
    ana.place("all", "", "Ana", "a move", HOUR)
    scene.owner.execute("ALTER TABLE reminders.attempt ENABLE TRIGGER never_deleted")
    scene.booked(Booked(scene.now + 72 * HOUR, "bob", client_phone=None))
    assert found_broken.later().scene.cycle() == []
    assert [(hold["scope_value"], hold["reminders"]) for hold in ana.in_force()] == [
        ("2026-02-11", 0),
        ("2026-02-12", 0),
        ("", 1),
    ]


@pytest.mark.parametrize(
    "point", ["begin_recovery.committed", "hold_everything.before_commit", "hold_everything.committed"]
)
def test_an_audit_that_dies_between_its_recovery_and_its_hold(deployment: RestorableDeployment, point: str) -> None:
    """Contacts that the ledger does not know are recovered before anybody can release what stops for them."""
    deployment.scene.with_a_wide_gate()
    deployment.cycle()
    phones = deployment.phones
    phones.twilio._client.messages.create(to=ADA, from_=SENDER, body="forgotten")
    phones.at(THURSDAY_3AM)
    with pytest.raises(Crash), failpoints.armed(first_time(point, die)):
        phones.audit()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
