"""The operator's command: stop, list, release, drop, turn down to email, rehearse."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import psycopg
import pytest

from reminders.errors import ConfigurationError, HoldError, Misconfigured, RemindersError
from reminders.model import Acceptance, Contact
from reminders.operate import run
from reminders.store.holds import Holds, LetGo
from tests.databases import TestDatabase
from tests.integration.conftest import Operate
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels

OVERDUE = WEDNESDAY_2PM + 70 * HOUR
TEXT_IS_OVERDUE = WEDNESDAY_2PM + 22 * HOUR


@pytest.fixture
def backlog(scene: Scene) -> Scene:
    """After a gap an email and a text are held in two groups; from now on the cycles are good."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(
        Booked(OVERDUE, "mail"), Booked(TEXT_IS_OVERDUE, "text", client_email="ben@example.com")
    )
    scene.cycle()
    assert not scene.reached
    scene.has_gap = False
    return scene


def next_cycle(scene: Scene) -> Scene:
    scene.at(scene.now + 5 * MINUTE).cycle()
    return scene


# Stop


@pytest.mark.parametrize(
    "scope", [("all",), ("channel", "email"), ("account", "clinic"), ("cycle", "2026-02-11T14:00:00+00:00")]
)
def test_one_command_stops_what_is_planned_already(scene: Scene, operate: Operate, scope: tuple[str, ...]) -> None:
    batches = scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).prepare()
    assert "until a person releases it" in operate("hold", *scope, "--why", "wrong wording", "--by", "Ana")
    scene.send(batches)
    assert not scene.reached
    operate("release", "1", "--by", "Ana")
    assert channels(next_cycle(scene).reached) == ["email"]


def test_the_list_says_who_why_when_and_when_to_look_again(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM)
    assert operate("holds") == "no hold is in force"
    operate("hold", "account", "clinic", "--why", "they moved house", "--by", "Ana", "--review", "2")
    listed = operate("holds")
    for said in ("account clinic", "Ana", "they moved house", "2026-02-11 14:00", "2026-02-11 16:00"):
        assert said in listed
    scene.at(WEDNESDAY_2PM + 3 * HOUR)
    assert "16:00 (over)" in operate("holds")


def test_what_a_refusal_of_our_configuration_holds_is_counted_with_its_hold(scene: Scene, ledger: TestDatabase) -> None:
    """Dispatch holds the text and does not write by which hold; whoever releases that one is told that a text goes."""

    def refuse(_contact: Contact) -> Acceptance:
        raise Misconfigured("misconfigured", "20003")

    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_OVERDUE + HOUR, client_email=None)).answer = refuse
    scene.cycle()
    next_cycle(scene)
    holds = Holds(ledger.connect("reminders_operator"))
    [hold] = holds.in_force()
    assert (hold["placed_by"], hold["scope_value"], hold["reminders"]) == ("dispatch", "sms", 1)
    assert holds.release([hold["hold_id"]], "Ana") == LetGo(1, 0)


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("hold", "channel", "fax"), "no such scope: channel fax"),
        (("hold", "cycle", "yesterday noonish"), "yesterday noonish is no cycle's logical date"),
        (("hold", "all", "clinic"), "`hold all` takes no value"),
        (("hold", "account"), "take one"),
    ],
)
def test_a_hold_on_nothing_is_refused(scene: Scene, operate: Operate, arguments: tuple[str, ...], refusal: str) -> None:
    scene.at(WEDNESDAY_2PM)
    with pytest.raises(HoldError, match=refusal):
        operate(*arguments, "--why", "test", "--by", "Ana")


def test_a_second_hold_on_the_same_names_the_first(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM)
    operate("hold", "all", "--why", "test", "--by", "Ana")
    with pytest.raises(HoldError, match="hold 1 of Ana, placed 2026-02-11 14:00 UTC, is in force there already"):
        operate("hold", "all", "--why", "test", "--by", "Ben")


def test_an_account_that_nobody_has_seen_is_held_with_a_question(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM)
    assert operate("hold", "account", "clinik", "--why", "test", "--by", "Ana").endswith("is its id right?")


# Let go


def test_a_released_group_goes_and_the_other_stays(backlog: Scene, operate: Operate) -> None:
    said = operate("release", backlog.hold_in_force("group clinic 1 to 6 hours"), "--by", "Ana")
    assert said.endswith("1 reminder goes out nearest first, 0 were dropped")
    assert channels(next_cycle(backlog).reached) == ["email"]
    assert backlog.states()["text", 2] == ("held", "on_hold")


def test_the_groups_of_an_account_are_chosen_by_step_and_age(backlog: Scene, operate: Operate) -> None:
    operate("release", "--account", "clinic", "--step", "2", "--age", "to 6 hours", "--by", "Ana")
    assert channels(next_cycle(backlog).reached) == ["sms"]
    with pytest.raises(HoldError, match="no group of account clinic is held like that"):
        operate("release", "--account", "clinic", "--step", "3", "--by", "Ana")


def test_what_is_dropped_never_goes_and_says_so(backlog: Scene, operate: Operate) -> None:
    operate("drop", backlog.hold_in_force("group clinic 2 to 6 hours"), "--by", "Ana")
    for _ in range(60):
        backlog.at(backlog.now + 20 * MINUTE).cycle()
    assert not backlog.reached
    assert backlog.states()["text", 2] == ("cancelled", "dropped")
    assert backlog.states()["text", 3] == ("expired", "missed_by_us")


def test_a_text_that_is_turned_down_goes_by_email_and_keeps_its_step(backlog: Scene, operate: Operate) -> None:
    said = operate("turn-down", backlog.hold_in_force("group clinic 2 to 6 hours"), "--by", "Ana")
    assert "1 reminder goes out" in said
    next_cycle(backlog)
    assert [(c.channel.value, c.address) for c in backlog.reached] == [("email", "ben@example.com")]
    assert backlog.states()["text", 2] == ("delivered", "relay_accepted")
    backlog.at(backlog.now + 40 * MINUTE).cycle()
    assert len(backlog.reached) == 1


@pytest.mark.parametrize(
    ("case", "changes"),
    [("no address", {"client_email": None}), ("an address that cannot be used", {"client_email": "ben at home"})],
)
def test_turned_down_without_a_usable_email_is_dropped(
    scene: Scene, operate: Operate, case: str, changes: dict[str, str]
) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_OVERDUE, "text", **changes)).cycle()
    operate("turn-down", "--account", "clinic", "--step", "2", "--by", "Ana")
    next_cycle(scene)
    assert not scene.reached
    assert scene.states()["text", 2] == ("cancelled", "dropped"), case


def test_who_had_an_email_about_the_slot_gets_none_more(scene: Scene, operate: Operate) -> None:
    """The email went two days ago; the text is overdue after a gap, and a person turns it down."""
    scene.at(TEXT_IS_OVERDUE - 72 * HOUR).booked(Booked(TEXT_IS_OVERDUE)).cycle()
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).cycle()
    operate("turn-down", "--account", "clinic", "--by", "Ana")
    next_cycle(scene)
    assert channels(scene.reached) == ["email"]
    assert scene.states()["appointment-1", 2] == ("cancelled", "dropped")


def test_a_text_and_a_call_of_one_slot_become_one_email(scene: Scene, operate: Operate) -> None:
    scene.has_gap = True
    visit = WEDNESDAY_2PM + 3 * HOUR
    scene.owner.execute("UPDATE reminders.cadence_step SET wait = '0', lead = lead - interval '0' WHERE step = 3")
    scene.owner.execute("DELETE FROM reminders.cadence_step WHERE step = 1")
    scene.at(WEDNESDAY_2PM).booked(Booked(visit)).cycle()
    scene.owner.execute(
        "UPDATE reminders.reminder SET state = 'held', hold_id = (SELECT min(hold_id) FROM reminders.hold)"
        " WHERE state = 'pending'"
    )
    hold_ids = [row[0] for row in scene.owner.execute("SELECT hold_id FROM reminders.hold").fetchall()]
    operate("turn-down", *map(str, hold_ids), "--by", "Ana")
    for _ in range(8):
        next_cycle(scene)
    assert channels(scene.reached) == ["email"]


def test_a_ladder_can_be_changed_while_a_text_is_turned_down(backlog: Scene, operate: Operate) -> None:
    operate("turn-down", backlog.hold_in_force("group clinic 2 to 6 hours"), "--by", "Ana")
    with backlog.owner.transaction():
        backlog.owner.execute("SET LOCAL ROLE reminders_operator")
        backlog.owner.execute("UPDATE reminders.cadence_step SET useful_until = '90 minutes' WHERE step = 2")
    assert len(next_cycle(backlog).reached) == 1


# Mistakes


def test_groups_are_chosen_by_number_or_by_account_and_not_by_both(backlog: Scene, operate: Operate) -> None:
    with pytest.raises(HoldError, match="not both"):
        operate("release", backlog.hold_in_force("group clinic 1 to 6 hours"), "--step", "2", "--by", "Ana")
    assert next_cycle(backlog).reached == []


def test_a_hold_is_released_once(backlog: Scene, operate: Operate) -> None:
    hold_id = backlog.hold_in_force("group clinic 1 to 6 hours")
    operate("release", hold_id, "--by", "Ana")
    backlog.at(backlog.now + MINUTE)
    for action in ("release", "drop", "turn-down"):
        with pytest.raises(HoldError, match="was released by Ana at 2026-02-11 14:00 UTC already; nothing was changed"):
            operate(action, hold_id, "--by", "Ben")


def test_one_hold_that_is_unknown_releases_none(backlog: Scene, operate: Operate) -> None:
    with pytest.raises(HoldError, match="there is no hold 99"):
        operate("release", backlog.hold_in_force("group clinic 1 to 6 hours"), "99", "--by", "Ana")
    assert len(backlog.ledger.connection.execute("SELECT 1").fetchall()) == 1
    next_cycle(backlog)
    assert not backlog.reached


def test_releasing_what_has_expired_says_that_nothing_goes(backlog: Scene, operate: Operate) -> None:
    backlog.at(TEXT_IS_OVERDUE - HOUR).cycle()
    said = operate("release", backlog.hold_in_force("group clinic 2 to 6 hours"), "--by", "Ana")
    assert said.endswith("it held no reminder that is still of use")
    next_cycle(backlog)
    assert backlog.states()["text", 2] == ("expired", "held_too_long")


def test_what_a_second_hold_stops_is_counted_and_released_with_it(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE))
    operate("hold", "channel", "email", "--why", "wrong wording", "--by", "Ana")
    scene.cycle()
    operate("hold", "account", "clinic", "--why", "wrong number", "--by", "Ben")
    operate("release", "1", "--by", "Ana")
    next_cycle(scene)
    assert not scene.reached
    assert operate("release", "2", "--by", "Ben") == "released 2: 1 reminder goes out nearest first, 0 were dropped"
    next_cycle(scene)
    released_at = scene.owner.execute("SELECT released_at FROM reminders.hold WHERE hold_id = 2").fetchall()
    assert scene.owner.execute("SELECT DISTINCT released_at FROM reminders.contact").fetchall() == released_at
    assert channels(scene.reached) == ["email"]


@pytest.mark.parametrize("action", ["drop", "turn-down"])
def test_only_groups_are_dropped_or_turned_down(scene: Scene, operate: Operate, action: str) -> None:
    scene.at(WEDNESDAY_2PM)
    operate("hold", "account", "clinic", "--why", "test", "--by", "Ana")
    with pytest.raises(HoldError, match="hold 1 stops account clinic, which is no group"):
        operate(action, "1", "--by", "Ana")


def test_of_two_operators_at_once_one_is_told_of_the_other(backlog: Scene, ledger: TestDatabase) -> None:
    """Ana releases while Ben drops the same group: what happens is one of the two, whole."""
    hold_id = int(backlog.hold_in_force("group clinic 1 to 6 hours"))
    start = threading.Barrier(2)
    said: list[LetGo | str] = []

    def act(action: str, who: str) -> None:
        holds = Holds(ledger.connect("reminders_operator_login"))
        start.wait()
        try:
            said.append(getattr(holds, action)([hold_id], who))
        except HoldError as error:
            said.append(str(error))

    people = [threading.Thread(target=act, args=at) for at in (("release", "Ana"), ("drop", "Ben"))]
    for person in people:
        person.start()
    for person in people:
        person.join()
    (winner,) = [one for one in said if isinstance(one, LetGo)]
    (loser,) = [one for one in said if isinstance(one, str)]
    assert "was released by " in loser
    next_cycle(backlog)
    assert len(backlog.reached) == winner.going


def test_a_hold_placed_while_the_cycle_runs_holds(scene: Scene, operate: Operate) -> None:
    """Between the merge and the triage, and between the plan and the dispatch."""
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE))
    batches = scene.prepare()
    operate("hold", "account", "clinic", "--why", "test", "--by", "Ana")
    scene.send(batches)
    next_cycle(scene)
    assert not scene.reached
    assert scene.states()["appointment-1", 1] == ("held", "on_hold")


def test_a_connection_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_LEDGER_DB_OPERATOR is not set"):
        run(["holds"], {}, WEDNESDAY_2PM)


@pytest.mark.parametrize("hours", ["0", "-1", "169", "soon"])
def test_a_review_is_within_a_week(operate: Operate, hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        operate("hold", "all", "--why", "test", "--by", "Ana", "--review", hours)
    assert "--review" in capsys.readouterr().err


# Rehearse


def appointment(booking: TestDatabase, name: str, starts_at: datetime) -> None:
    owner = booking.connect()
    owner.execute(
        "INSERT INTO booking.account VALUES ('clinic', 'Clinic', 'UTC', '+442079460000', 'clinic@example.com', 'en')"
        " ON CONFLICT DO NOTHING"
    )
    owner.execute(
        "INSERT INTO booking.client VALUES (%s, 'clinic', 'Ada Sample', %s, '+442079460018', 'UTC', 'en')",
        (name, f"{name}@example.com"),
    )
    owner.execute(
        "INSERT INTO booking.appointment (appointment_id, account_id, client_id, starts_at, ends_at, status,"
        " created_at) VALUES (%s, 'clinic', %s, %s, %s, 'booked', %s)",
        (name, name, starts_at, starts_at + HOUR, starts_at - timedelta(days=30)),
    )


def everything(owner: psycopg.Connection) -> list[tuple[object, ...]]:
    """All that the ledger holds, apart from the guards' own definitions."""
    tables = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'reminders' ORDER BY 1").fetchall()
    content = "SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM reminders.{} t"
    return [(name, owner.execute(content.format(name)).fetchone()) for (name,) in tables]


def test_a_rehearsal_tells_what_would_go_and_what_is_withheld_and_changes_nothing(
    scene: Scene, operate: Operate, booking: TestDatabase
) -> None:
    scene.at(WEDNESDAY_2PM)
    appointment(booking, "fresh", WEDNESDAY_2PM + 72 * HOUR - 5 * MINUTE)
    appointment(booking, "late", OVERDUE)
    before = everything(scene.owner)
    said = operate("rehearse")
    assert everything(scene.owner) == before
    assert "The next cycle would make 1 contacts to 1 people, and hold back 1 reminders." in said
    line = next(line for line in said.splitlines() if line.startswith("clinic"))
    assert line.split()[:5] == ["clinic", "email", "1", "1", "2"]
    assert "no good cycle before this one" in line
    assert "@" not in said and "Ada" not in said


def test_a_rehearsal_tells_no_reason_that_a_person_has_written(
    scene: Scene, operate: Operate, booking: TestDatabase
) -> None:
    """It goes into a task's log, and who writes a reason may name somebody."""
    scene.at(WEDNESDAY_2PM)
    appointment(booking, "fresh", WEDNESDAY_2PM + 72 * HOUR - 5 * MINUTE)
    operate("hold", "account", "clinic", "--why", "Mrs Sample has complained", "--by", "Ana")
    said = operate("rehearse")
    assert "stopped by the hold on account clinic (hold 1)" in said
    assert "Sample" not in said


def test_a_rehearsal_of_an_empty_book_says_so(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM)
    assert operate("rehearse") == (
        "The next cycle would make 0 contacts to 0 people, and hold back 0 reminders. Nothing was sent or changed."
    )


def test_a_rehearsal_and_the_cycle_after_it_agree(scene: Scene, operate: Operate, booking: TestDatabase) -> None:
    scene.at(WEDNESDAY_2PM)
    for number in range(8):
        appointment(booking, f"fresh{number}", WEDNESDAY_2PM + 72 * HOUR - (number + 1) * MINUTE)
    said = operate("rehearse")
    for number in range(8):
        starts_at = WEDNESDAY_2PM + 72 * HOUR - (number + 1) * MINUTE
        scene.booked(Booked(starts_at, f"fresh{number}", client_email=f"fresh{number}@example.com"))
    assert f"would make {len(scene.cycle())} contacts" in said


@pytest.mark.parametrize(
    ("key", "refusal"),
    [
        ("", "missing: set AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET"),
        ("too short", "shorter than 16 characters"),
        ("another secret for tests", "not the key that the ledger's addresses were hashed with"),
    ],
)
def test_a_rehearsal_without_the_right_key_is_refused(
    scene: Scene, ledger: TestDatabase, booking: TestDatabase, key: str, refusal: str
) -> None:
    scene.at(WEDNESDAY_2PM).cycle()
    environment = {**ledger.airflow_connections(), "AIRFLOW_CONN_BOOKING_DB": booking.uri()}
    with pytest.raises(RemindersError, match=refusal):
        run(["rehearse"], {**environment, "AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET": key}, scene.now)
