"""A ledger that has forgotten contacts nobody twice: it takes what it lacks from the provider's list first."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from reminders.addresses import secret_fingerprint
from reminders.cycle.preflight import preflight
from reminders.errors import HoldError, SendError
from reminders.store.holds import Holds
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.integration.phones import Phones, placed
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene, channels

VISIT = WEDNESDAY_2PM + 23 * HOUR
FAR = WEDNESDAY_2PM + 48 * HOUR
ADA, BOB, CY = "+442079460018", "+442079460019", "+442079460020"
FIVE = 5 * MINUTE


class Deployment:
    """A scene on the network whose cycles keep the mark, as Airflow does, and whose ledger can be set back."""

    def __init__(self, phones: Phones, ledger: TestDatabase, place: Path) -> None:
        self.phones, self.database, self.place = phones, ledger, place
        self.mark: str | None = None

    @property
    def scene(self) -> Scene:
        return self.phones.scene

    def cycle(self) -> list[str]:
        """A cycle with its preflight; the channels of the contacts that were made in it."""
        scene, before = self.scene, len(self.phones.heard())
        preflight(scene.ledger, self.mark, self._keep, secret_fingerprint(SECRET), scene.now)
        mailed = channels(scene.cycle())
        return [*mailed, *(channel for channel, _ in self.phones.heard()[before:])]

    def _keep(self, mark: str) -> None:
        self.mark = mark

    def later(self, by: timedelta = FIVE) -> Deployment:
        self.phones.at(self.scene.now + by)
        return self

    def dump(self) -> Path:
        path = self.place / "ledger.dump"
        self._run("pg_dump", "--format=custom", f"--file={path}", self.database.conninfo)
        return path

    def restore(self, saved: Path) -> None:
        """Into the same database of the same server: nothing but its contents changes."""
        self._run("pg_restore", "--clean", "--if-exists", f"--dbname={self.database.conninfo}", str(saved))
        self.reconnect(self.database)

    def reconnect(self, database: TestDatabase) -> None:
        before = self.scene
        app = [Ledger(database.connect("reminders_app")) for _ in range(2)]
        again = Scene(
            database.connect(), app[0], app[1], book=before.book, reached=before.reached, number=before.number
        )
        self.phones.on(again.at(before.now))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.database.server.programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def release(self) -> None:
        holds = Holds(self.database.connect("reminders_operator_login"))
        now = self.scene.now
        holds.release([hold["hold_id"] for hold in holds.in_force(now)], "Ana", now)

    def recovered(self) -> None:
        """The list settles, is read, and a cycle goes by it."""
        self.later(11 * MINUTE)
        assert self.phones.reconcile()["open"] == 0
        self.later()
        assert self.cycle() == []


@pytest.fixture
def deployment(scene: Scene, ledger: TestDatabase, tmp_path: Path) -> Iterator[Deployment]:
    scene.at(WEDNESDAY_2PM)
    for phones in placed(scene):
        yield Deployment(phones, ledger, tmp_path)


def forgotten(deployment: Deployment) -> Deployment:
    """Ada's text is known; Bob's went after the dump that is then restored; Cy's comes due after that."""
    scene = deployment.scene
    scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).with_a_wide_gate()
    assert deployment.cycle() == ["sms"]
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    scene.booked(Booked(VISIT, "cy", client_email=None, client_phone=CY))
    deployment.restore(saved)
    assert deployment.later().cycle() == []
    return deployment


def test_what_a_restored_ledger_has_forgotten_is_rebuilt_and_not_sent_again(deployment: Deployment) -> None:
    forgotten(deployment).recovered()
    deployment.phones.reconcile()
    assert deployment.scene.states()["bob", 2] == ("delivered", "delivered")
    deployment.release()
    assert deployment.later().cycle() == ["sms"]
    assert sorted(deployment.phones.heard()) == [("sms", ADA), ("sms", BOB), ("sms", CY)]
    assert deployment.later().cycle() == []


def test_a_mark_that_was_restored_with_the_ledger_hides_nothing(deployment: Deployment) -> None:
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved, mark = deployment.dump(), deployment.mark
    scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.mark = mark
    assert deployment.later().cycle() == []
    deployment.recovered()
    deployment.release()
    assert deployment.later().cycle() == []
    assert deployment.phones.heard() == [("sms", ADA)]


def test_nobody_releases_before_the_list_was_read_and_a_cycle_has_gone_by_it(deployment: Deployment) -> None:
    forgotten(deployment)
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
    deployment.later(11 * MINUTE)
    deployment.phones.reconcile()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
    deployment.later().cycle()
    deployment.release()


def test_a_list_that_is_not_settled_is_not_read(deployment: Deployment) -> None:
    forgotten(deployment)
    assert deployment.phones.reconcile()["open"] == 1


def test_a_list_that_cannot_be_read_to_its_end_lets_nobody_release(deployment: Deployment) -> None:
    forgotten(deployment).later(11 * MINUTE)
    deployment.phones.network.stop()
    with pytest.raises(SendError):
        deployment.phones.reconcile()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()


def test_emails_of_the_time_that_is_forgotten_count_as_sent(deployment: Deployment) -> None:
    """Of emails there is no list. The client's text goes at its own time, and nobody is written to twice."""
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(FAR, "ada", client_phone=ADA))
    scene.answer = None
    assert deployment.later().cycle() == ["email"]
    deployment.restore(saved)
    deployment.later().cycle()
    assert deployment.scene.states()["ada", 1] == ("unknown", "forgotten")
    deployment.recovered()
    deployment.release()
    assert deployment.later().cycle() == []
    deployment.phones.at(FAR - 23 * HOUR)
    assert deployment.cycle() == ["sms"]


def test_an_empty_ledger_finds_what_was_sent(deployment: Deployment) -> None:
    scene = deployment.scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).with_a_wide_gate()
    assert deployment.cycle() == ["sms"]
    scene.owner.execute("SET session_replication_role = replica")
    for (table,) in scene.owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'reminders'").fetchall():
        if table in ("reminder", "attempt", "contact", "contact_member", "contact_guard", "batch", "cycle"):
            scene.owner.execute(sql.SQL("DELETE FROM reminders.{}").format(sql.Identifier(table)))
    scene.owner.execute("UPDATE reminders.ledger_mark SET reserved_to = 0, checked_identity = NULL")
    scene.owner.execute("SET session_replication_role = origin")
    assert deployment.later().cycle() == []
    deployment.recovered()
    deployment.release()
    assert deployment.later().cycle() == []
    assert deployment.phones.heard() == [("sms", ADA)]


def test_a_text_for_one_of_two_accounts_counts_for_both_and_is_on_a_persons_list(deployment: Deployment) -> None:
    """Nobody can tell which account it was from: neither texts the number again."""
    deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "clinic's", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.scene.booked(Booked(VISIT, "vet's", account_id="vet", client_email=None, client_phone=ADA))
    deployment.restore(saved)
    deployment.later().cycle()
    deployment.recovered()
    states = deployment.scene.states()
    assert (states["clinic's", 2], states["vet's", 2]) == (("unknown", "forgotten"), ("unknown", "forgotten"))
    deployment.release()
    assert deployment.later(3 * HOUR).cycle() == []


def test_the_numbers_of_forgotten_attempts_are_not_given_again(deployment: Deployment) -> None:
    forgotten(deployment).recovered()
    deployment.release()
    deployment.later().cycle()
    assert deployment.scene.last_attempt() > 200_000


def test_a_found_contact_counts_for_its_address(deployment: Deployment) -> None:
    """Cap and gap know of it: another account does not text the same number an hour later."""
    forgotten(deployment).recovered()
    deployment.release()
    deployment.scene.booked(Booked(VISIT + HOUR, "vet's", account_id="vet", client_email=None, client_phone=BOB))
    deployment.later().cycle()
    assert deployment.scene.states()["vet's", 2] == ("pending", "wait_for_day")


def test_a_copy_of_the_ledger_sends_nothing_before_preflight_has_looked_at_it(deployment: Deployment) -> None:
    """A standby that takes over in the middle of a cycle, or a pooler that points elsewhere."""
    scene = deployment.scene.booked(Booked(VISIT, client_email=None))
    batch_ids = scene.prepare()
    scene.owner.execute("UPDATE reminders.ledger_mark SET checked_identity = 'another'")
    scene.send(batch_ids)
    assert deployment.phones.heard() == []


def test_a_dispatch_that_runs_while_the_ledger_is_restored_contacts_nobody_more(deployment: Deployment) -> None:
    """Into the same database: its batch is in the dump as it was, and the text has gone since."""
    scene = deployment.scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).with_a_wide_gate()
    batch_ids = scene.prepare()
    saved = deployment.dump()
    scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]
    deployment.restore(saved)
    deployment.scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]


def test_a_second_loss_begins_the_recovery_anew(deployment: Deployment) -> None:
    forgotten(deployment).later(9 * MINUTE)
    scene = deployment.scene
    scene.ledger.begin_recovery("another loss", 300_000)
    deployment.later(2 * MINUTE)
    assert deployment.phones.reconcile()["open"] == 1
    [(recoveries,)] = scene.owner.execute("SELECT count(*) FROM reminders.recovery").fetchall()
    assert recoveries == 1


def test_a_persons_hold_is_the_recoverys_too(deployment: Deployment) -> None:
    deployment.scene.booked(Booked(VISIT, client_email=None)).hold()
    deployment.scene.ledger.begin_recovery("a loss", 0)
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()


@pytest.mark.parametrize("role", ["planner", "dispatcher", "operator"])
def test_no_role_makes_an_attempt_that_no_fence_looks_at(scene: Scene, role: str) -> None:
    scene.owner.execute(f"SET ROLE reminders_{role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        scene.owner.execute("INSERT INTO reminders.attempt (is_rebuilt) VALUES (true)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        scene.owner.execute("SELECT reminders.rebuild_attempt('a', 'sms', '', '{}', now(), 'x', 'x')")
