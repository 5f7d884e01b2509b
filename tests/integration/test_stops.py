"""A pause of the DAG, or an operator's hold, while a batch is running: judged by what still arrives."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from reminders.model import Acceptance, Contact
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

SECOND = timedelta(seconds=1)
TEXTS = 12
# In two batches, each at half of it: a contact a second.
ONE_A_SECOND = 2.0
ALL_AT_ONCE = 1000.0
PLACE = """
INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at)
VALUES (%s, %s, 'an operator', 'drilled', now() + interval '1 hour')
"""
SCOPES = [("all", ""), ("channel", "sms"), ("account", "clinic"), ("cycle", "2026-02-11 14:00Z")]
GIVEN_BACK = """
SELECT (SELECT count(*) FROM reminders.contact_guard WHERE NOT is_uncontacted),
       (SELECT sum(contact_count) FROM reminders.address_cap), (SELECT sum(contact_count) FROM reminders.daily_ceiling),
       (SELECT count(*) FROM reminders.address_gap WHERE last_contact_at IS NOT NULL)
"""


def texts(count: int = TEXTS, **changes: Any) -> list[Booked]:
    return [
        Booked(
            WEDNESDAY_2PM + 20 * HOUR + number * MINUTE,
            appointment_id=f"appointment-{number}",
            client_email=None,
            client_phone=f"+4420794600{number:02d}",
            **changes,
        )
        for number in range(count)
    ]


def attempts(scene: Scene) -> Counter[tuple[str, str | None]]:
    """(state, reason) -> how many attempts."""
    return Counter(scene.owner.execute("SELECT state, reason FROM reminders.attempt").fetchall())


def one_text_was_given_back(scene: Scene, reason: str) -> bool:
    return (
        scene.reached == []
        and attempts(scene) == {("not_contacted", reason): 1}
        and scene.states()["appointment-0", 2] == ("pending", "wait_until_not_before")
        and scene.owner.execute(GIVEN_BACK).fetchone() == (0, 0, 0, 0)
    )


def each_was_texted_once(scene: Scene, count: int = TEXTS) -> bool:
    return Counter(contact.address for contact in scene.reached) == {row.client_phone: 1 for row in texts(count)}


@dataclass
class Pause:
    """The DAG's switch; `asked_by` are the threads that asked for it."""

    is_on: bool = False
    asked_by: set[int] = field(default_factory=set)

    def __call__(self) -> bool:
        self.asked_by.add(threading.get_ident())
        return self.is_on


@pytest.fixture
def pause(scene: Scene) -> Pause:
    scene.is_paused = switch = Pause()
    return switch


@pytest.fixture
def operator(ledger: TestDatabase) -> Any:
    return ledger.connect("reminders_operator")


def the_third(happens: Callable[[], None]) -> Callable[[Contact], None]:
    """A hook that lets something happen to the third contact that comes by."""
    seen: list[Contact] = []

    def hook(contact: Contact) -> None:
        seen.append(contact)
        if len(seen) == 3:
            happens()

    return hook


def test_a_pause_stops_a_running_batch_within_five_seconds(
    scene: Scene, pause: Pause, caplog: pytest.LogCaptureFixture
) -> None:
    scene.at(WEDNESDAY_2PM).booked(*texts())
    paused_at: list[datetime] = []
    reached_at: list[datetime] = []

    def press() -> None:
        pause.is_on = True
        paused_at.append(scene.now)

    hook = the_third(press)

    def arrive(contact: Contact) -> Acceptance:
        hook(contact)
        reached_at.append(scene.now)
        scene.reached.append(contact)
        return Acceptance(f"SM{contact.attempt_id}", "sent", is_delivered=True)

    scene.answer = arrive
    scene.send(scene.prepare(), ONE_A_SECOND, scene.flowing())
    assert 3 <= len(scene.reached) < TEXTS / 2
    assert max(reached_at) <= paused_at[0] + 5 * SECOND
    assert sum(attempts(scene).values()) == len(scene.reached), "what is left was not even begun"
    assert [record.getMessage() for record in caplog.records] == [
        f"paused: {TEXTS // 2 - len(scene.reached)} contacts left for the next cycle",
        f"paused: {TEXTS // 2} contacts left for the next cycle",
    ]
    pause.is_on = False
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert each_was_texted_once(scene)


def test_a_pause_after_the_intent_gives_the_attempt_back(scene: Scene, pause: Pause) -> None:
    scene.at(WEDNESDAY_2PM).booked(*texts(1))

    def press(_contact: Contact) -> None:
        pause.is_on = True
        scene.at(scene.now + 2 * SECOND)

    scene.before_check = press
    scene.send(scene.prepare(), ALL_AT_ONCE, scene.flowing())
    assert one_text_was_given_back(scene, "paused")
    pause.is_on, scene.before_check = False, lambda _contact: None
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert each_was_texted_once(scene, 1)


def test_a_pause_reaches_the_threads_of_a_group_and_only_the_first_one_asks(
    scene: Scene, pause: Pause, caplog: pytest.LogCaptureFixture
) -> None:
    scene.at(WEDNESDAY_2PM).booked(*texts())
    turn = threading.Lock()
    came: set[int] = set()

    def press(_contact: Contact) -> None:
        with turn:
            came.add(threading.get_ident())
            if not pause.is_on:
                pause.is_on = True
                scene.at(scene.now + 2 * SECOND)

    scene.before_check = press
    scene.send(scene.prepare()[:1], ALL_AT_ONCE, scene.flowing())
    assert scene.reached == []
    assert attempts(scene) == {("not_contacted", "paused"): TEXTS // 2}
    assert caplog.messages == [f"paused: {TEXTS // 2} contacts left for the next cycle"]
    assert pause.asked_by == {threading.get_ident()} and not pause.asked_by & came


def test_a_slow_group_goes_on_asking_and_is_not_taken_for_paused(scene: Scene, pause: Pause) -> None:
    """A relay that takes its time to greet: what was known at the intent is old when the message may go."""
    scene.at(WEDNESDAY_2PM).booked(*texts())
    turn = threading.Lock()

    def greet(_contact: Contact) -> None:
        with turn:
            scene.at(scene.now + 4 * SECOND)

    scene.before_check = greet
    scene.send(scene.prepare(), 8.0, scene.flowing())
    assert each_was_texted_once(scene)
    assert pause.asked_by == {threading.get_ident()}


@pytest.mark.parametrize("rate", [ONE_A_SECOND, ALL_AT_ONCE])
def test_a_pause_that_cannot_be_read_is_one(scene: Scene, caplog: pytest.LogCaptureFixture, rate: float) -> None:
    def unreadable() -> bool:
        raise RuntimeError("no answer about +442079460000")

    scene.is_paused = unreadable
    scene.at(WEDNESDAY_2PM).booked(*texts())
    scene.send(scene.prepare(), rate, scene.flowing())
    assert scene.reached == [] and attempts(scene) == {}
    unread = "whether the DAG is paused cannot be read (RuntimeError): it counts as paused"
    assert caplog.messages == [unread, f"paused: {TEXTS // 2} contacts left for the next cycle"] * 2
    scene.is_paused = lambda: False
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert each_was_texted_once(scene)


@pytest.mark.parametrize(("scope", "value"), SCOPES)
def test_a_hold_in_the_middle_of_a_batch_stops_the_next_intent(
    scene: Scene, operator: Any, scope: str, value: str
) -> None:
    scene.at(WEDNESDAY_2PM).booked(*texts())
    hook = the_third(lambda: operator.execute(PLACE, (scope, value)))

    def arrive(contact: Contact) -> Acceptance:
        hook(contact)
        scene.reached.append(contact)
        return Acceptance(f"SM{contact.attempt_id}", "sent", is_delivered=True)

    scene.answer = arrive
    scene.send(scene.prepare(), ONE_A_SECOND, scene.flowing())
    assert len(scene.reached) == 3
    assert attempts(scene) == {("delivered", "relay_accepted"): 3}
    held = Counter(state for (_, step), state in scene.states().items() if step == 2)
    assert held[("held", "on_hold")] == TEXTS - 3


@pytest.mark.parametrize(("scope", "value"), SCOPES)
def test_a_hold_after_the_intent_is_known_at_the_socket_within_a_second(
    scene: Scene, operator: Any, scope: str, value: str
) -> None:
    """The first contact's check has read the holds just before."""
    scene.at(WEDNESDAY_2PM).booked(*texts(4))
    checked: list[Contact] = []

    def place(contact: Contact) -> None:
        checked.append(contact)
        if len(checked) == 2:
            operator.execute(PLACE, (scope, value))
            scene.at(scene.now + SECOND)

    scene.before_check = place
    scene.send(scene.prepare(), ONE_A_SECOND, scene.flowing())
    assert scene.reached == checked[:1] and len(checked) == 2
    assert attempts(scene) == {("delivered", "relay_accepted"): 1, ("not_contacted", "on_hold"): 1}
    name = checked[1].visits[0].appointment_id
    assert scene.states()[name, 2] == ("pending", "wait_until_not_before")
    assert scene.owner.execute(GIVEN_BACK).fetchone() == (1, 2, 2, 1)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("channel", "call"),
        ("account", "vet"),
        ("cycle", "2026-02-11 13:55Z"),
        ("cycle", "infinity"),
        ("cycle", "-infinity"),
    ],
)
def test_a_hold_on_something_else_stops_nobody(scene: Scene, operator: Any, scope: str, value: str) -> None:
    scene.at(WEDNESDAY_2PM).booked(*texts())
    operator.execute(PLACE, (scope, value))
    scene.cycle()
    assert each_was_texted_once(scene)


@pytest.mark.parametrize("value", ["2026-02-11 13:55Z", "2026-02-11 15:55+02", "2026-02-11 14:00Z"])
def test_a_hold_of_either_cycle_stops_the_contact_that_has_reminders_of_both(
    scene: Scene, operator: Any, value: str
) -> None:
    first, second = texts(2)
    scene.at(WEDNESDAY_2PM).booked(first).prepare(WEDNESDAY_2PM - 5 * MINUTE)
    scene.booked(Booked(second.starts_at, "appointment-1", client_email=None, client_phone=first.client_phone))
    batches = scene.prepare()
    asked: list[Contact] = []

    def place(contact: Contact) -> None:
        asked.append(contact)
        operator.execute(PLACE, ("cycle", value))

    scene.before_check = place
    scene.send(batches)
    assert [len(contact.visits) for contact in asked] == [2]
    assert scene.reached == []


def test_the_watch_reads_only_holds_that_stop_a_contact_as_a_whole(scene: Scene) -> None:
    """However many rows hold single groups of reminders: they are the intent's to heed."""
    scene.at(WEDNESDAY_2PM)
    for scope, value in SCOPES:
        scene.owner.execute(PLACE, (scope, value))
    scene.owner.execute(
        "INSERT INTO reminders.hold (scope, scope_value, account_id, step, age, placed_by, why, review_at)"
        " VALUES ('group', 'clinic 1 fresh', 'clinic', 1, 'fresh', 'triage', 'test', now())"
    )
    read = {row["scope"]: row["logical_date"] for row in scene.ledger.holds()}
    assert read == {"all": None, "channel": None, "account": None, "cycle": WEDNESDAY_2PM}


def test_a_hold_that_was_placed_while_the_machine_was_suspended(scene: Scene) -> None:
    """For 25 seconds between an intent and its last check, in which the monotonic clock stood still."""
    checked: list[Contact] = []

    def suspended(contact: Contact) -> None:
        checked.append(contact)
        if len(checked) == 2:
            scene.at(scene.now + 25 * SECOND).hold()

    scene.at(WEDNESDAY_2PM).with_a_wide_gate().booked(*texts(3)).before_check = suspended
    scene.send(scene.prepare(), rate=1.0)
    assert len(scene.reached) == 1
