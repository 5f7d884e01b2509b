"""Two workers at once, workers that die, late answers: judged by what reached the phone, not by the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from reminders.cycle.extract import extract
from reminders.cycle.reconcile import close_dead, closing
from reminders.errors import ClaimLost, NeverContacted
from reminders.model import Acceptance, Contact
from reminders.store.ledger import Ledger
from tests.crash import Crash
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene, channels

PATIENCE = 60.0
TEXT_IS_DUE = WEDNESDAY_2PM + 20 * HOUR
CALL_IS_DUE = WEDNESDAY_2PM + 3 * HOUR
GUARDS = {
    "gap": "SELECT address_hash, last_contact_at FROM reminders.address_gap WHERE last_contact_at IS NOT NULL",
    "cap": "SELECT address_hash, period, starts_on, contact_count FROM reminders.address_cap WHERE contact_count > 0",
    "ceiling": "SELECT account_id, channel, day, contact_count FROM reminders.daily_ceiling WHERE contact_count > 0",
    "keys": "SELECT account_id, slot_at, step FROM reminders.contact_guard WHERE NOT is_uncontacted",
}


@pytest.fixture
def twin(scene: Scene, ledger: TestDatabase) -> Scene:
    """A second worker on connections of its own, with the same book, clock and phones."""
    other = Scene(scene.owner, Ledger(ledger.connect("reminders_app")), Ledger(ledger.connect("reminders_app")))
    other.book, other.reached = scene.book, scene.reached
    return other


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run the works in threads that start together; their results in order, or the first one's error."""
    start = threading.Barrier(len(works), timeout=PATIENCE)

    def begin(work: Callable[[], Any]) -> Any:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(begin, work) for work in works]]


def guards(scene: Scene) -> dict[str, list[Any]]:
    return {name: sorted(scene.owner.execute(query).fetchall()) for name, query in GUARDS.items()}


def told(reached: list[Contact]) -> list[tuple[str, str, Any]]:
    """Each (address, channel, start) that a contact named, sorted; a repetition is somebody told twice."""
    return sorted((c.address, c.channel.value, start) for c in reached for start in {v.starts_at for v in c.visits})


def many(count: int, accounts: int = 3) -> list[Booked]:
    return [
        Booked(
            TEXT_IS_DUE + i * MINUTE,
            appointment_id=f"appointment-{i}",
            account_id=f"account-{i % accounts}",
            client_email=None,
            client_phone=f"+4420794600{i:02d}",
        )
        for i in range(count)
    ]


def attempt_ids(scene: Scene) -> list[int]:
    return [row[0] for row in scene.owner.execute("SELECT attempt_id FROM reminders.attempt ORDER BY 1").fetchall()]


def outcome_of(attempt_id: int, outcome: str, provider_id: str = "") -> dict[str, Any]:
    """What a worker that comes late says of its attempt."""
    reasons = {"delivered": "read", "failed": "opted_out", "misconfigured": "misconfigured"}
    return {**closing(attempt_id, outcome, reasons.get(outcome)), "provider_id": provider_id}


@pytest.mark.parametrize("rate", [2.0, 1000.0])
def test_one_batch_sent_by_two_workers(scene: Scene, twin: Scene, rate: float) -> None:
    twin.at(WEDNESDAY_2PM)
    scene.at(WEDNESDAY_2PM).booked(*many(20))
    batches = scene.prepare()
    at_once(lambda: until_claimed(scene, batches, rate), lambda: until_claimed(twin, batches[::-1], rate))
    scene.send(batches, rate)
    assert len(told(scene.reached)) == 20 == len(set(told(scene.reached)))


def until_claimed(scene: Scene, batch_ids: list[int], rate: float) -> None:
    """A worker that sends each batch until the other takes it."""
    for batch_id in batch_ids:
        with suppress(ClaimLost):
            scene.send([batch_id], rate)


def test_two_cycles_at_once(scene: Scene, twin: Scene) -> None:
    twin.at(WEDNESDAY_2PM)
    scene.at(WEDNESDAY_2PM).booked(*many(20))
    at_once(lambda: scene.cycle(WEDNESDAY_2PM), lambda: twin.cycle(WEDNESDAY_2PM - 5 * MINUTE))
    scene.cycle(WEDNESDAY_2PM + MINUTE)
    assert len(told(scene.reached)) == 20 == len(set(told(scene.reached)))


def test_two_cycles_merge_at_once(scene: Scene, twin: Scene) -> None:
    twin.at(WEDNESDAY_2PM)
    scene.at(WEDNESDAY_2PM).booked(*many(20))
    at_once(
        lambda: scene.prepare(WEDNESDAY_2PM, "backfill"),
        lambda: twin.prepare(WEDNESDAY_2PM - 5 * MINUTE, "backfill"),
    )
    rows = scene.owner.execute("SELECT count(*), count(DISTINCT appointment_id) FROM reminders.reminder WHERE step = 2")
    assert rows.fetchone() == (20, 20)


def test_one_appointment_under_two_ids_in_two_batches(scene: Scene, twin: Scene) -> None:
    twin.at(WEDNESDAY_2PM)
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    first = scene.prepare()
    scene.book.clear()
    scene.booked(Booked(TEXT_IS_DUE, appointment_id="imported-again", client_email=None))
    second = scene.prepare(WEDNESDAY_2PM - MINUTE)
    at_once(lambda: scene.send(first), lambda: twin.send(second))
    scene.cycle(WEDNESDAY_2PM + 5 * MINUTE)
    assert len(scene.reached) == 1


def test_one_phone_in_two_accounts(scene: Scene, twin: Scene) -> None:
    twin.at(WEDNESDAY_2PM)
    scene.owner.execute("UPDATE reminders.cadence_step SET wait = '0'")
    scene.owner.execute(
        "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)"
        " VALUES ('vet', 1, 'call', '4 hours', '1 hour', '0')"
    )
    scene.booked(Booked(TEXT_IS_DUE, client_email=None))
    scene.at(WEDNESDAY_2PM)
    text = scene.prepare()
    scene.book.clear()
    scene.booked(Booked(CALL_IS_DUE, appointment_id="vet-1", account_id="vet", client_email=None))
    call = scene.prepare(WEDNESDAY_2PM - MINUTE)
    assert text and call
    at_once(lambda: scene.send(text), lambda: twin.send(call))
    assert len(scene.reached) == 1


def test_a_worker_that_dies_after_the_intent(scene: Scene) -> None:
    def die(contact: Contact) -> Acceptance:
        scene.reached.append(contact)
        raise Crash

    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 5 * HOUR, client_email=None))
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 3, phone_gap = '1 minute'")
    scene.answer = die
    with pytest.raises(Crash):
        scene.cycle()
    assert scene.states()["appointment-1", 2][0] == "sending"
    scene.answer = None
    assert scene.at(scene.now + 5 * MINUTE).cycle() == []
    close_dead(scene.ledger, scene.now)
    assert scene.states()["appointment-1", 2][0] == "in_doubt"
    assert scene.at(scene.now + 5 * MINUTE).cycle() == []
    scene.at(WEDNESDAY_2PM + 121 * MINUTE).look_up_in_vain()
    close_dead(scene.ledger, scene.now)
    assert scene.states()["appointment-1", 2] == ("unknown", "no_proof")
    assert channels(scene.cycle()) == ["call"]
    assert channels(scene.reached) == ["call", "sms"]


@pytest.mark.parametrize(
    ("resolved_as", "late", "ends"),
    [
        ("in_doubt", "accepted", "accepted"),
        ("in_doubt", "delivered", "delivered"),
        ("in_doubt", "not_contacted", "in_doubt"),
        ("in_doubt", "failed", "undelivered"),
        ("in_doubt", "misconfigured", "undelivered"),
        ("unknown", "accepted", "accepted"),
        ("unknown", "delivered", "delivered"),
        ("unknown", "not_contacted", "unknown"),
        ("unknown", "failed", "undelivered"),
        ("unknown", "misconfigured", "undelivered"),
        ("unknown", "in_doubt", "unknown"),
    ],
)
def test_a_record_that_comes_after_reconcile(scene: Scene, resolved_as: str, late: str, ends: str) -> None:
    abandoned(scene)
    close_dead(scene.ledger, scene.now + 2 * MINUTE)
    if resolved_as == "unknown":
        scene.look_up_in_vain()
        close_dead(scene.ledger, scene.now + 121 * MINUTE)
    [attempt_id] = attempt_ids(scene)
    spent = guards(scene)
    scene.ledger.record([outcome_of(attempt_id, late, "SM1" if late == ends else "")], scene.now + 122 * MINUTE)
    attempt = scene.owner.execute("SELECT state, provider_id FROM reminders.attempt").fetchone()
    assert (scene.states()["appointment-1", 2][0], attempt[0]) == (ends, ends)
    assert attempt[1] == ("SM1" if late == ends else None)
    assert guards(scene) == spent
    scene.answer = None
    assert scene.at(scene.now + 10 * MINUTE).cycle() == []


def abandoned(scene: Scene, *rows: Booked) -> None:
    """Texts whose worker died after the intent."""

    def die(_contact: Contact) -> Acceptance:
        raise Crash

    scene.at(WEDNESDAY_2PM).booked(*(rows or [Booked(TEXT_IS_DUE, client_email=None)]))
    scene.answer = die
    with pytest.raises(Crash):
        scene.send(scene.prepare(), 1.0 if not rows else 1000.0)


def test_a_provider_id_recorded_twice_costs_the_others_nothing(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(*many(4))
    scene.answer = lambda _contact: Acceptance("the same for all", "queued")
    scene.cycle()
    states = sorted(state for (_, step), (state, _) in scene.states().items() if step == 2)
    assert states == ["accepted", "in_doubt", "in_doubt", "in_doubt"]
    scene.answer = None
    assert scene.at(scene.now + 5 * MINUTE).cycle() == []


def test_what_contacted_nobody_is_given_back_exactly_and_tried_once(scene: Scene) -> None:
    def decline(_contact: Contact) -> Acceptance:
        raise NeverContacted("rate_limited", "429")

    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    before = guards(scene)
    scene.answer = decline
    scene.cycle()
    assert guards(scene) == before
    assert scene.states()["appointment-1", 2] == ("pending", "wait_until_not_before")
    scene.answer = None
    assert channels(scene.at(scene.now + 5 * MINUTE).cycle()) == ["sms"]
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert len(scene.reached) == 1
    assert [row[3] for row in guards(scene)["cap"]] == [1, 1]


def test_an_answer_recorded_again_does_not_reach_the_next_attempt(scene: Scene) -> None:
    def decline(_contact: Contact) -> Acceptance:
        raise NeverContacted("on_hold", retry_after=0)

    def die(_contact: Contact) -> Acceptance:
        raise Crash

    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    batches = scene.prepare()
    scene.answer = decline
    scene.send(batches)
    scene.answer = die
    with pytest.raises(Crash):
        scene.send(batches)
    first, _second = attempt_ids(scene)
    scene.ledger.record([outcome_of(first, "not_contacted")], scene.now)
    assert scene.states()["appointment-1", 2][0] == "sending"


def test_a_contact_that_was_made_is_not_made_again_for_a_member_that_waited(scene: Scene) -> None:
    later = Booked(TEXT_IS_DUE + HOUR, appointment_id="later", client_email=None)
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None), later)
    scene.owner.execute("UPDATE reminders.account_policy SET phone_daily_cap = 3, phone_gap = '1 minute'")
    batches = scene.prepare()
    scene.owner.execute(
        "UPDATE reminders.reminder SET deferred_for = 'wait_until_not_before', not_before_at = %s"
        " WHERE appointment_id = 'later' AND step = 2",
        (scene.now + 2 * MINUTE,),
    )
    scene.send(batches)
    scene.at(scene.now + 3 * MINUTE).send(batches)
    assert len(scene.reached) == 1
    assert len(scene.at(scene.now + 3 * MINUTE).cycle()) == 1


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        ({"status": "cancelled"}, "cancelled"),
        ({"status": "confirmed"}, "superseded"),
        ({"starts_at": TEXT_IS_DUE + 2 * HOUR}, "superseded"),
    ],
)
@pytest.mark.parametrize("is_merged", [True, False])
def test_the_book_changes_between_plan_and_intent(
    scene: Scene, change: dict[str, Any], ends: str, is_merged: bool
) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    batches = scene.prepare()
    scene.changed(**change)
    if is_merged:
        scene.prepare(WEDNESDAY_2PM + MINUTE)
    else:
        extract(scene.ledger, scene.read, WEDNESDAY_2PM, scene.now, SECRET)
    scene.send(batches)
    assert scene.reached == []
    rows = scene.owner.execute("SELECT state FROM reminders.reminder WHERE step = 2 AND slot_at = %s", (TEXT_IS_DUE,))
    assert rows.fetchall() == [(ends,)]


def test_a_cap_that_another_account_set_lower_is_a_reason_to_wait(scene: Scene) -> None:
    scene.owner.execute("INSERT INTO reminders.account_policy (account_id, phone_daily_cap) VALUES ('vet', 3)")
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    assert len(scene.cycle()) == 1
    scene.booked(Booked(TEXT_IS_DUE + HOUR, appointment_id="vet-1", account_id="vet", client_email=None))
    assert scene.at(scene.now + 3 * HOUR).cycle() == []
    assert scene.states()["vet-1", 2] == ("pending", "wait_for_day")


def test_a_cycle_dated_ahead_contacts_nobody_before_the_rung_is_due(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 90 * HOUR))
    assert scene.cycle(WEDNESDAY_2PM + 70 * HOUR) == []


def test_two_workers_that_give_back_while_others_intend(scene: Scene, twin: Scene) -> None:
    def decline(_contact: Contact) -> Acceptance:
        raise NeverContacted("on_hold", retry_after=0)

    twin.at(WEDNESDAY_2PM)
    scene.at(WEDNESDAY_2PM).booked(*many(24, accounts=8))
    batches = scene.prepare()
    scene.answer = twin.answer = decline
    for _ in range(4):
        at_once(lambda: until_claimed(scene, batches, 8.0), lambda: until_claimed(twin, batches[::-1], 8.0))
    assert {name: rows for name, rows in guards(scene).items() if rows} == {}
    assert {state for (_, step), (state, _) in scene.states().items() if step == 2} == {"pending"}


def test_an_error_of_the_database_quotes_no_row(scene: Scene) -> None:
    abandoned(scene)
    [attempt_id] = attempt_ids(scene)
    scene.owner.execute("ALTER TABLE reminders.attempt ADD CONSTRAINT never_accepted CHECK (state <> 'accepted')")
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        scene.ledger.record([outcome_of(attempt_id, "accepted", "SM1")], scene.now + timedelta(seconds=5))
    assert "never_accepted" in str(caught.value)
    assert "+442079460018" not in str(caught.value)


def test_one_contact_that_a_guard_refuses_is_named_and_stops_nobody_else(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.at(WEDNESDAY_2PM).booked(*many(4))
    batches = scene.prepare()
    scene.owner.execute("ALTER TABLE reminders.attempt ADD CONSTRAINT not_ours CHECK (account_id <> 'account-1')")
    scene.send(batches)
    assert {contact.account_id for contact in scene.reached} == {"account-0", "account-2"}
    assert scene.states()["appointment-1", 2] == ("pending", "refused_by_guard")
    assert "not_ours" in caplog.text and "+4420" not in caplog.text
    scene.owner.execute("ALTER TABLE reminders.attempt DROP CONSTRAINT not_ours")
    scene.at(TEXT_IS_DUE).cycle()
    assert scene.states()["appointment-1", 2] == ("expired", "refused_by_guard")


def test_a_deadlock_is_tried_again(scene: Scene, ledger: TestDatabase) -> None:
    scene.at(WEDNESDAY_2PM).booked(*many(4))
    batches = scene.prepare()
    members = "SELECT reminder_id FROM reminders.contact_member JOIN reminders.contact USING (contact_id)"
    first, last = scene.owner.execute(f"{members} WHERE batch_id = %s ORDER BY 1", (batches[0],)).fetchall()
    other = ledger.connect(autocommit=False)
    # The other party waits longer, so that the server ends the intent and not it.
    other.execute("SET LOCAL deadlock_timeout = '30s'")
    lock = "SELECT FROM reminders.reminder WHERE reminder_id = %s FOR UPDATE"
    other.execute(lock, last)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(scene.send, batches)
        while scene.owner.execute(waits).fetchone() == (0,):
            assert not sent.done()
        other.execute(lock, first)
        other.commit()
        sent.result(PATIENCE)
    assert len(told(scene.reached)) == 4


def test_what_was_accepted_in_time_is_not_called_doubtful_by_a_late_reconcile(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE, client_email=None))
    scene.answer = lambda _contact: Acceptance("SM1", "queued")
    scene.cycle()
    [attempt_id] = attempt_ids(scene)
    for outcome, reason in (("in_doubt", None), ("unknown", "no_proof")):
        assert scene.ledger.record([closing(attempt_id, outcome, reason)], scene.now) == 0
    assert scene.states()["appointment-1", 2][0] == "accepted"
