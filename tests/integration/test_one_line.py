"""One phone line is one phone line: never two calls at a time, and one call is one call however it ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from reminders.channels.telephony import Twilio, final_status
from reminders.cycle.reconcile import close_dead, poll
from reminders.model import Acceptance, Contact
from reminders.store.ledger import Ledger
from tests.crash import Crash
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene
from tests.simulator.client import Simulator

PATIENCE = 60.0
# So long a line stays engaged after the hang-up: a call that was begun meanwhile is seen beside it.
A_MOMENT = 0.02
VISIT = WEDNESDAY_2PM + 3 * HOUR
WEDNESDAY_230PM, WEDNESDAY_3PM, WEDNESDAY_4PM = (WEDNESDAY_2PM + n * HOUR for n in (0.5, 1, 2))
OFFICE_NUMBER = "+12025550100"
A_HOME = "+12025550123"

CALLS = "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait) VALUES "
ONE_CALL = "('{account}', 1, 'call', '4 hours', '1 hour', '0')"
SECOND_CALL = "('{account}', 2, 'call', '2 hours 30 minutes', '30 minutes', '1 hour')"


def calling(scene: Scene, *accounts: str, rungs: str = ONE_CALL, **own: Any) -> Scene:
    """Accounts whose ladder is calls, with these values of their policy."""
    for account in accounts:
        scene.owner.execute(CALLS + rungs.format(account=account))
        columns = ", ".join(["account_id", *own])
        scene.owner.execute(
            f"INSERT INTO reminders.account_policy ({columns}) VALUES ({', '.join(['%s'] * (1 + len(own)))})",
            (account, *own.values()),
        )
    return scene


@pytest.fixture
def twin(scene: Scene, ledger: TestDatabase) -> Scene:
    """A second worker on connections of its own, with the same book and phones."""
    other = Scene(scene.owner, Ledger(ledger.connect("reminders_app")), Ledger(ledger.connect("reminders_app")))
    other.book, other.reached = scene.book, scene.reached
    return other


class RingingPhones:
    """Answers the calls of all workers, each ringing until it is let go; knows how many ring at a number at once."""

    def __init__(self, scene: Scene, *workers: Scene) -> None:
        self.reached = scene.reached
        self.ringing: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.rings, self.hang_up = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        for worker in (scene, *workers):
            worker.answer = self.ring

    def ring(self, contact: Contact) -> Acceptance:
        with self._lock:
            self.reached.append(contact)
            self.ringing[contact.address] += 1
            self.most_at_once |= self.ringing
        self.rings.set()
        assert self.hang_up.wait(PATIENCE)
        time.sleep(A_MOMENT)
        with self._lock:
            self.ringing[contact.address] -= 1
        return Acceptance(f"CA{contact.attempt_id}", "completed", is_delivered=True)


def planned_apart(scene: Scene, *numbers: str) -> tuple[list[int], list[int]]:
    """A call of the vet and one of the clinic to each number, planned in two cycles, of which one knew of no clinic."""
    calling(scene, "clinic", "vet", phone_gap="1 minute", phone_daily_cap=9, phone_weekly_cap=9, call_pace=20)
    batches = []
    for account, logical_date in (("vet", WEDNESDAY_2PM - MINUTE), ("clinic", WEDNESDAY_2PM)):
        for number in numbers:
            scene.booked(Booked(VISIT, f"{account} {number}", account_id=account, client_phone=number))
        batches.append(scene.at(WEDNESDAY_2PM).prepare(logical_date))
    of_vet, of_clinic = batches
    assert of_vet and of_clinic
    return of_vet, of_clinic


@pytest.mark.parametrize("later", [90, 0])
def test_a_number_that_rings_is_not_called_by_another_account(scene: Scene, twin: Scene, later: int) -> None:
    """The second worker's clock is so far ahead that the gap between the two calls has passed."""
    of_vet, of_clinic = planned_apart(scene, A_HOME)
    phones = RingingPhones(scene, twin)
    twin.now = WEDNESDAY_2PM + timedelta(seconds=later)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(scene.send, of_vet)
        assert phones.rings.wait(PATIENCE)
        twin.send(of_clinic)
        assert [contact.account_id for contact in scene.reached] == ["vet"]
        phones.hang_up.set()
        first.result(PATIENCE)
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert [contact.account_id for contact in scene.reached] == ["vet", "clinic"]


def test_dispatchers_that_race_never_ring_a_number_twice_at_once(scene: Scene, twin: Scene) -> None:
    batches = planned_apart(scene, *(f"+120255501{number:02d}" for number in range(20)))
    phones = RingingPhones(scene, twin)
    phones.hang_up.set()
    twin.now = WEDNESDAY_2PM + timedelta(seconds=90)
    start = threading.Barrier(2, timeout=PATIENCE)

    def race(worker: Scene, batch_ids: list[int]) -> None:
        start.wait()
        worker.send(batch_ids, 4.0)

    with ThreadPoolExecutor(2) as pool:
        for sent in [pool.submit(race, *each) for each in zip((scene, twin), batches, strict=True)]:
            sent.result(PATIENCE)
    assert len(phones.most_at_once) == 20
    assert set(phones.most_at_once.values()) == {1}


@pytest.mark.parametrize("end", ["completed", "busy", "no-answer", "failed"])
def test_a_line_is_engaged_until_its_call_is_known_to_have_ended(scene: Scene, end: str) -> None:
    of_vet, of_clinic = planned_apart(scene, A_HOME)
    scene.answer = lambda contact: Acceptance(f"CA{contact.attempt_id}", "queued")
    scene.send(of_vet)
    scene.answer = None
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).send(of_clinic)
    assert scene.states()[f"clinic {A_HOME}", 1] == ("pending", "wait_for_line")
    assert scene.at(WEDNESDAY_2PM + 10 * MINUTE).cycle() == []
    poll(scene.ledger, lambda _channel, _id: (end, ""), final_status, scene.now)
    assert [contact.account_id for contact in scene.cycle(scene.now + MINUTE)] == ["clinic"]


def test_a_line_whose_caller_died_is_engaged_until_the_doubt_is_over(scene: Scene) -> None:
    def die(_contact: Contact) -> Acceptance:
        raise Crash

    of_vet, _of_clinic = planned_apart(scene, A_HOME)
    scene.answer = die
    with pytest.raises(Crash):
        scene.send(of_vet)
    scene.answer = None
    for minutes in (5, 30, 60, 115):
        scene.at(WEDNESDAY_2PM + minutes * MINUTE)
        close_dead(scene.ledger, scene.now)
        assert scene.cycle() == []
        assert scene.states()[f"clinic {A_HOME}", 1] == ("pending", "wait_for_line")


def when_called(scene: Scene, end: str) -> list[datetime]:
    """When the phone rang in cycles of a quarter of an hour, where every call comes to the same end."""

    def ring(contact: Contact) -> Acceptance:
        scene.reached.append(contact)
        return Acceptance(f"CA{contact.attempt_id}", "queued")

    scene.answer = ring
    found = []
    for quarter in range(13):
        now = WEDNESDAY_2PM + quarter * 15 * MINUTE
        found += [now] * len(scene.at(now).cycle())
        poll(scene.ledger, lambda _channel, _id: (end, ""), final_status, now)
    return found


@pytest.mark.parametrize(("end", "reason"), [("busy", "busy"), ("no-answer", "no_answer")])
def test_a_call_that_nobody_takes_is_not_made_again(scene: Scene, end: str, reason: str) -> None:
    calling(scene, "clinic", phone_daily_cap=9, phone_weekly_cap=9, phone_gap="1 minute").booked(Booked(VISIT))
    assert when_called(scene, end) == [WEDNESDAY_2PM]
    assert scene.states() == {("appointment-1", 1): ("undelivered", reason)}


@pytest.mark.parametrize(
    ("end", "own", "called_at", "second"),
    [
        ("busy", {"phone_gap": "1 minute"}, [WEDNESDAY_2PM, WEDNESDAY_230PM], "busy"),
        ("no-answer", {"phone_gap": "2 hours"}, [WEDNESDAY_2PM, WEDNESDAY_4PM], "no_answer"),
        ("completed", {"phone_gap": "1 minute"}, [WEDNESDAY_2PM, WEDNESDAY_3PM], "completed"),
        ("busy", {"phone_gap": "3 hours"}, [WEDNESDAY_2PM], "too_late"),
        ("busy", {"phone_daily_cap": 1}, [WEDNESDAY_2PM], "daily_cap"),
        ("no-answer", {"phone_weekly_cap": 1}, [WEDNESDAY_2PM], "weekly_cap"),
    ],
)
def test_an_account_that_wants_a_second_call_gets_it_under_its_gap_and_caps(
    scene: Scene, end: str, own: dict[str, Any], called_at: list[datetime], second: str
) -> None:
    limits = {"phone_daily_cap": 2, "phone_weekly_cap": 2, **own}
    calling(scene, "clinic", rungs=f"{ONE_CALL}, {SECOND_CALL}", **limits).booked(Booked(VISIT))
    assert when_called(scene, end) == called_at
    assert scene.states()["appointment-1", 2][1] == second


@pytest.fixture
def network() -> Iterator[Simulator]:
    with Simulator.start(speed=0, start=WEDNESDAY_2PM) as running:
        yield running


def test_an_answering_machine_has_the_words_of_one_call(scene: Scene, network: Simulator) -> None:
    """To the phone network a machine that answers is an answer: the call is completed, and the step is over."""
    twilio = Twilio(network.account_sid, network.auth_token, network.base_url, OFFICE_NUMBER, OFFICE_NUMBER)
    limits = {"phone_daily_cap": 9, "phone_weekly_cap": 9, "phone_gap": "1 minute"}
    calling(scene, "clinic", **limits).booked(Booked(VISIT, client_phone=A_HOME))
    scene.answer = lambda contact: twilio.call(contact, scene.now, lambda: None)
    for quarter in range(13):
        scene.at(WEDNESDAY_2PM + quarter * 15 * MINUTE).cycle()
        network.advance(15 * 60)
        poll(scene.ledger, twilio.status, final_status, scene.now)
    [call] = network.calls()
    assert (call["to"], call["status"]) == (A_HOME, "completed")
    assert [event["to"] for event in network.log()] == [A_HOME]
    assert call["said"].count("Sample Clinic") == 2, "the message and its repetition for the machine, once"
    assert scene.states() == {("appointment-1", 1): ("delivered", "completed")}
