"""Attempts to make a recovery end too early or never, or to have somebody contacted again after it.

By runs of other dates, broken books, reports and people that come in its middle, further restores, and sheer size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reminders.cycle.preflight import ACCEPT
from reminders.cycle.recovery import recover
from reminders.errors import HoldError, PreflightError
from reminders.model import Channel, Listed
from reminders.store.evidence import Evidence
from reminders.store.holds import Holds
from tests.integration.deployment import ADA, BOB, CY, FAR, VISIT, RestorableDeployment, forgotten
from tests.integration.rows import NOW, Rows
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked

WIDE_CAPS = "UPDATE reminders.account_policy SET phone_gap = '1 minute', phone_daily_cap = 9, phone_weekly_cap = 9"
DAY = timedelta(days=1)
REPORT = """
INSERT INTO reminders.provider_event (provider_id, provider_status, reference, received_at)
VALUES (%s, 'delivered', %s, %s)
"""
EARLY_TEXT = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, 'sms', '72 hours', '1 hour', '0')
"""
MANY_FOUND = """
INSERT INTO reminders.found_contact (channel, provider_id, recovery_id, address_hash, address_masked, contacted_at,
                                     provider_status)
SELECT 'sms', reminder_id, 1, address_hash, '', due_at, 'sent' FROM reminders.reminder WHERE channel = 'sms'
"""
READ_THROUGH = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'reminders.attempt'::regclass"
MANY_EMAILS = """
INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by, due_at,
                                expires_at, address_hash)
SELECT 'clinic', i, %(now)s::timestamptz + interval '9 hours', 1, 'email', %(now)s, %(now)s,
       %(now)s::timestamptz - interval '1 hour', %(now)s::timestamptz + interval '8 hours', int8send(i)
FROM generate_series(1, 10001) AS i
"""
LOST = {"hold_id": 1, "why": "a loss", "missing_from": NOW - 3 * HOUR, "forgotten_until": NOW - 30 * MINUTE}


def texted_and_forgotten(deployment: RestorableDeployment) -> None:
    """Ada's text went after the dump that is then restored; preflight has looked, and no cycle has run since."""
    deployment.scene.with_a_wide_gate().owner.execute(WIDE_CAPS)
    deployment.cycle()
    saved = deployment.dump()
    deployment.scene.booked(Booked(VISIT, "ada", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later().check()


@pytest.mark.parametrize("kind", ["backfill", "scheduled"])
def test_a_run_of_an_old_date_does_not_end_the_recovery(deployment: RestorableDeployment, kind: str) -> None:
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
    deployment: RestorableDeployment,
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


def goes_on(deployment: RestorableDeployment) -> None:
    """Until the hold is released, and two cycles more."""
    deployment.recovered()
    deployment.release()
    for _ in range(2):
        deployment.later().cycle()


def test_a_report_that_proves_a_doubt_by_a_contact_that_was_found(deployment: RestorableDeployment) -> None:
    """Once: stuck for ever. The found text fits another visit too; put back as that one's, its provider's id is there
    twice, which refuses the merge of every cycle."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(WIDE_CAPS)
    scene.booked(Booked(VISIT, "doubted", client_email=None, client_phone=ADA))
    deployment.phones.network.fault("sms", "accept_then_500")
    deployment.cycle()
    [(reference,)] = scene.owner.execute("SELECT reference FROM reminders.contact").fetchall()
    deployment.restore(deployment.dump())
    deployment.scene.booked(Booked(VISIT + HOUR, "another", client_email=None, client_phone=ADA))
    deployment.later(MINUTE).cycle()
    assert deployment.later(11 * MINUTE).phones.reconcile()["found"] == 1
    owner = deployment.scene.owner
    [(sid,)] = owner.execute("SELECT provider_id FROM reminders.found_contact").fetchall()
    owner.execute(REPORT, (sid, reference, deployment.scene.now))
    assert deployment.phones.reconcile()["applied"] == 1
    deployment.later().cycle()
    deployment.release()
    assert deployment.later().cycle() == ["sms"]
    assert deployment.scene.states()["doubted", 2] == ("delivered", "delivered")
    assert deployment.scene.states()["another", 2] == ("accepted", None)


def test_a_book_that_is_empty_when_the_recovery_would_end(deployment: RestorableDeployment) -> None:
    """Once: texted twice. Whom the book lacks in that reading no found text can be of; the next one has them again."""
    scene = deployment.scene.with_a_wide_gate()
    scene.booked(*(Booked(FAR, f"{i}", client_email=None, client_phone=f"+4420794601{i:02}") for i in range(9)))
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later().check()
    deployment.later(11 * MINUTE).phones.reconcile()
    book, deployment.scene.book = deployment.scene.book, {}
    deployment.later().cycle()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
    deployment.scene.book = book
    holds = Holds(deployment.database.connect("reminders_operator_login"))
    books = [hold["hold_id"] for hold in holds.in_force() if hold["scope"] == "book"]
    holds.release(books, "Ana")
    deployment.later().cycle()
    deployment.release()
    deployment.later().cycle()
    assert deployment.phones.heard() == [("sms", BOB)]


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "forgotten"])
def test_the_notice_of_a_cancellation_whose_email_may_be_forgotten_too(
    deployment: RestorableDeployment, is_known: bool
) -> None:
    """Once: mailed twice, when the cycle that ends the recovery is its first whole one: a notice is made for an email
    that is in the ledger, where that very cycle put it."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(FAR, "ada", client_phone=None))
    assert deployment.later().cycle() == ["email"]
    saved = deployment.dump() if is_known else saved
    scene.changed("ada", status="cancelled")
    assert deployment.later(HOUR).cycle() == ["email"]
    deployment.restore(saved)
    deployment.later().check()
    goes_on(deployment)
    assert len(deployment.scene.addresses()) == 2


@pytest.mark.parametrize("action", ["release", "drop", "turn_down"])
def test_a_group_that_a_person_lets_go_while_the_ledger_recovers(deployment: RestorableDeployment, action: str) -> None:
    """Once: texted, then mailed about the same. A text that is turned down to an email is none that the list has.

    Here only the provider's report tells of the loss, as after a restore without a trace.
    """
    scene = deployment.scene
    scene.has_gap = True
    scene.booked(Booked(WEDNESDAY_2PM + 22 * HOUR, "ada", client_phone=ADA))
    assert deployment.cycle() == []
    scene.has_gap = False
    saved = deployment.dump()
    deployment.release()
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.mark = ACCEPT
    deployment.later().cycle()
    Evidence(deployment.scene.ledger.connection).begin_recovery("a report", "resolve_doubts", WEDNESDAY_2PM)
    holds = Holds(deployment.database.connect("reminders_operator_login"))
    groups = [hold["hold_id"] for hold in holds.in_force() if hold["scope"] == "group"]
    with pytest.raises(HoldError, match="provider's list"):
        getattr(holds, action)(groups, "Ana")
    goes_on(deployment)
    assert (deployment.phones.heard(), deployment.scene.addresses()) == ([("sms", ADA)], [])


def test_what_is_put_back_after_two_days_is_asked_about_before_it_is_unknown(deployment: RestorableDeployment) -> None:
    """Once: on a person's list, and proof for a call, though the provider knows how it ended: it was accepted more than
    48 hours ago, and had no final status."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(EARLY_TEXT)
    deployment.cycle()
    saved = deployment.dump()
    scene.booked(Booked(WEDNESDAY_2PM + 3 * DAY, "ada", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.later(50 * HOUR).restore(saved)
    deployment.later().cycle()
    goes_on(deployment)
    deployment.phones.reconcile()
    assert deployment.scene.states()["ada", 1] == ("delivered", "delivered")


def test_a_list_that_is_read_with_another_key(deployment: RestorableDeployment) -> None:
    """Once: texted twice. Preflight refuses that key; the list was read all the same, and no address was known."""
    forgotten(deployment).later(11 * MINUTE)
    evidence, now = Evidence(deployment.scene.ledger.connection), deployment.scene.now
    with pytest.raises(PreflightError, match="not the key"):
        recover(evidence, deployment.phones.twilio.listed, b"another secret", now)
    goes_on(deployment)
    assert sorted(deployment.phones.heard()) == [("sms", ADA), ("sms", BOB), ("sms", CY)]


def test_a_list_whose_reading_began_before_an_earlier_loss_was_known(deployment: RestorableDeployment) -> None:
    """Once: released too early. It took ten minutes, and counted as read for a recovery that by then went further back:
    what it had not read was not looked for."""
    forgotten(deployment).later(11 * MINUTE)
    ledger, twilio, begun_at = deployment.scene.ledger, deployment.phones.twilio, deployment.scene.now

    def slow(channel: Channel, since: datetime, to: str | None) -> Sequence[Listed]:
        if channel is Channel.SMS:
            Evidence(ledger.connection).begin_recovery("a report", "resolve_doubts", WEDNESDAY_2PM - 3 * HOUR)
            deployment.later(12 * MINUTE)
        return twilio.listed(channel, since, to)

    assert recover(Evidence(ledger.connection), slow, SECRET, begun_at) == {"lists_to_read": 1, "found": 1}
    deployment.later().cycle()
    with pytest.raises(HoldError, match="provider's list"):
        deployment.release()
    goes_on(deployment)
    assert sorted(deployment.phones.heard()) == [("sms", ADA), ("sms", BOB), ("sms", CY)]


@pytest.mark.parametrize("stage", ["noticed", "looked at", "listed", "taken over", "released", "gone on"])
def test_a_restore_to_a_dump_of_the_middle_of_a_recovery(deployment: RestorableDeployment, stage: str) -> None:
    """Held: after a whole recovery the ledger is set back to where that one was at this stage."""
    texted_and_forgotten(deployment)
    dumps = {"noticed": deployment.dump().rename(deployment.place / "noticed")}

    def reached(now: str) -> None:
        dumps[now] = deployment.dump().rename(deployment.place / now)

    deployment.cycle()
    reached("looked at")
    deployment.later(11 * MINUTE).phones.reconcile()
    reached("listed")
    deployment.later().cycle()
    reached("taken over")
    deployment.release()
    reached("released")
    deployment.scene.booked(Booked(VISIT, "bob", client_email=None, client_phone=BOB))
    assert deployment.later().cycle() == ["sms"]
    reached("gone on")
    deployment.restore(dumps[stage])
    deployment.later().cycle()
    goes_on(deployment)
    assert sorted(deployment.phones.heard()) == [("sms", ADA), ("sms", BOB)]


def test_a_text_that_failed_proves_nothing_of_a_visit_that_another_text_told(deployment: RestorableDeployment) -> None:
    """Once: called on top of a text. Both texts fit either visit, and the one that failed was taken for both's."""
    scene = deployment.scene.with_a_wide_gate()
    scene.owner.execute(WIDE_CAPS)
    deployment.cycle()
    saved = deployment.dump()
    deployment.phones.network.fault("sms", "30005")
    scene.booked(Booked(VISIT, "unreachable", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == []
    scene.booked(Booked(VISIT + 30 * MINUTE, "told", client_email=None, client_phone=ADA))
    assert deployment.later().cycle() == ["sms"]
    deployment.restore(saved)
    deployment.later().check()
    goes_on(deployment)
    deployment.phones.reconcile()
    deployment.phones.at(VISIT - 3 * HOUR)
    for _ in range(3):
        deployment.cycle()
        deployment.later().phones.reconcile()
    assert deployment.phones.heard() == [("sms", ADA)]
    assert deployment.scene.states()["told", 2] == ("unknown", "forgotten")


@pytest.mark.parametrize("status", ["queued", "sending", "canceled", "failed", "undelivered", "new to us"])
def test_a_found_contact_of_any_status_is_not_made_again(deployment: RestorableDeployment, status: str) -> None:
    """Held: whatever it came to, its own step was tried."""
    texted_and_forgotten(deployment)

    def listed(channel: Channel, since: datetime, to: str | None) -> Sequence[Listed]:
        return [replace(each, status=status) for each in deployment.phones.twilio.listed(channel, since, to)]

    deployment.later(11 * MINUTE)
    recover(Evidence(deployment.scene.ledger.connection), listed, SECRET, deployment.scene.now)
    goes_on(deployment)
    assert deployment.phones.heard() == [("sms", ADA)]


def test_a_ledger_is_not_read_through_for_each_contact_that_was_found(deployment: RestorableDeployment) -> None:
    """Once: stuck for ever. Of 300,000 attempts and 1,000 found contacts it took 103 s, where a task has 180."""
    scene = deployment.scene
    scene.booked(*(Booked(VISIT, f"{i}", client_email=None, client_phone=f"+4420794601{i:02}") for i in range(30)))
    scene.prepare()
    scene.ledger.begin_recovery("a loss", 0)
    scene.owner.execute(MANY_FOUND)
    with scene.owner.transaction():
        assert scene.owner.execute("SELECT reminders.rebuild(%(now)s, %(now)s)", {"now": scene.now}).fetchone() == (30,)
        assert scene.owner.execute(READ_THROUGH).fetchone()[0] < 30


def test_emails_of_a_large_ledger_are_put_back_in_several_cycles(rows: Rows) -> None:
    """Once: stuck for ever. Each counts in one row of the day's ceilings: 20,000 took 70 s, more the square."""
    rows.put("recovery", **LOST, begun_at=NOW - 30 * MINUTE, listed_at=NOW - 10 * MINUTE)
    rows.owner.execute(MANY_EMAILS, {"now": NOW})
    rebuild, taken = "SELECT reminders.rebuild(%(now)s, %(now)s)", "SELECT taken_at IS NOT NULL FROM reminders.recovery"
    assert (rows.ask(rebuild, now=NOW), rows.ask(taken)) == ([(10_000,)], [(False,)])
    assert (rows.ask(rebuild, now=NOW), rows.ask(taken)) == ([(1,)], [(True,)])
