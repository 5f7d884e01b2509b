"""A ledger that has forgotten contacts nobody twice: it takes what it lacks from the provider's list first."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from reminders.errors import HoldError, SendError
from tests.integration.deployment import ADA, BOB, CY, FAR, VISIT, RestorableDeployment, forgotten
from tests.integration.scene import HOUR, MINUTE, Booked, Scene


def test_what_a_restored_ledger_has_forgotten_is_rebuilt_and_not_sent_again(deployment: RestorableDeployment) -> None:
    forgotten(deployment).recovered()
    deployment.phones.reconcile()
    assert deployment.scene.states()["bob", 2] == ("delivered", "delivered")
    deployment.release()
    assert deployment.later().cycle() == ["sms"]
    assert sorted(deployment.phones.heard()) == [("sms", ADA), ("sms", BOB), ("sms", CY)]
    assert deployment.later().cycle() == []


def test_a_mark_that_was_restored_with_the_ledger_hides_nothing(deployment: RestorableDeployment) -> None:
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


def test_nobody_releases_before_the_list_was_read_and_a_cycle_has_gone_by_it(deployment: RestorableDeployment) -> None:
    forgotten(deployment)
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
    deployment.later(11 * MINUTE)
    deployment.phones.reconcile()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
    deployment.later().cycle()
    deployment.release()


def test_a_list_that_is_not_settled_is_not_read(deployment: RestorableDeployment) -> None:
    forgotten(deployment)
    assert deployment.phones.reconcile()["lists_to_read"] == 1


def test_a_list_that_cannot_be_read_to_its_end_lets_nobody_release(deployment: RestorableDeployment) -> None:
    forgotten(deployment).later(11 * MINUTE)
    deployment.phones.network.stop()
    with pytest.raises(SendError):
        deployment.phones.reconcile()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()


def test_emails_of_the_time_that_is_forgotten_count_as_sent(deployment: RestorableDeployment) -> None:
    """Of emails there is no list. The client's text goes at its own time, and nobody is written to twice."""
    scene = deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(FAR, "ada", client_phone=ADA))
    assert deployment.later().cycle() == ["email"]
    deployment.restore(saved)
    deployment.later().cycle()
    assert deployment.scene.states()["ada", 1] == ("unknown", "forgotten")
    deployment.recovered()
    deployment.release()
    assert deployment.later().cycle() == []
    deployment.phones.at(FAR - 23 * HOUR)
    assert deployment.cycle() == ["sms"]


def test_an_empty_ledger_finds_what_was_sent(deployment: RestorableDeployment) -> None:
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


def test_a_text_for_one_of_two_accounts_counts_for_both_and_is_on_a_persons_list(
    deployment: RestorableDeployment,
) -> None:
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


def test_a_text_for_one_of_two_visits_counts_for_both_and_is_on_a_persons_list(
    deployment: RestorableDeployment,
) -> None:
    """Once: delivered, both of them, though it told of one."""
    deployment.scene.with_a_wide_gate()
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "told", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.scene.booked(Booked(VISIT + 30 * MINUTE, "untold", client_email=None, client_phone=ADA))
    deployment.later().cycle()
    deployment.recovered()
    deployment.phones.reconcile()
    states = deployment.scene.states()
    assert (states["told", 2], states["untold", 2]) == (("unknown", "forgotten"), ("unknown", "forgotten"))


def test_the_numbers_of_forgotten_attempts_are_not_given_again(deployment: RestorableDeployment) -> None:
    forgotten(deployment).recovered()
    deployment.release()
    deployment.later().cycle()
    assert deployment.scene.last_attempt() > 200_000


def test_a_found_contact_counts_for_its_address(deployment: RestorableDeployment) -> None:
    """Cap and gap know of it: another account does not text the same number an hour later."""
    forgotten(deployment).recovered()
    deployment.release()
    deployment.scene.booked(Booked(VISIT + HOUR, "vet's", account_id="vet", client_email=None, client_phone=BOB))
    deployment.later().cycle()
    assert deployment.scene.states()["vet's", 2] == ("pending", "wait_for_day")


def test_a_copy_of_the_ledger_sends_nothing_before_preflight_has_looked_at_it(deployment: RestorableDeployment) -> None:
    """A standby that takes over in the middle of a cycle, or a pooler that points elsewhere."""
    scene = deployment.scene.booked(Booked(VISIT, client_email=None))
    batch_ids = scene.prepare()
    scene.owner.execute("UPDATE reminders.ledger_mark SET checked_identity = 'another'")
    scene.send(batch_ids)
    assert deployment.phones.heard() == []


def test_a_dispatch_that_runs_while_the_ledger_is_restored_contacts_nobody_more(
    deployment: RestorableDeployment,
) -> None:
    """Into the same database: its batch is in the dump as it was, and the text has gone since."""
    scene = deployment.scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA)).with_a_wide_gate()
    batch_ids = scene.prepare()
    saved = deployment.dump()
    scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]
    deployment.restore(saved)
    deployment.scene.send(batch_ids)
    assert deployment.phones.heard() == [("sms", ADA)]


def test_a_second_loss_begins_the_recovery_anew(deployment: RestorableDeployment) -> None:
    forgotten(deployment).later(9 * MINUTE)
    scene = deployment.scene
    scene.ledger.begin_recovery("another loss", 300_000)
    deployment.later(2 * MINUTE)
    assert deployment.phones.reconcile()["lists_to_read"] == 1
    [(recoveries,)] = scene.owner.execute("SELECT count(*) FROM reminders.recovery").fetchall()
    assert recoveries == 1


def test_a_persons_hold_is_the_recoverys_too(deployment: RestorableDeployment) -> None:
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
