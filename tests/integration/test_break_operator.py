"""What the operator's command tells and does in the cases that are easily forgotten: each test shows one."""

from __future__ import annotations

from contextlib import suppress

import pytest

from reminders.cycle.reconcile import close_dead, closing
from reminders.errors import Doubtful, HoldError, Misconfigured
from tests.databases import TestDatabase
from tests.integration.conftest import Operate
from tests.integration.scene import EMAIL_IS_DUE, HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels, clients, raising
from tests.integration.test_operate import appointment

DAY = 24 * HOUR
OVERDUE = EMAIL_IS_DUE - 2 * HOUR
FRESH = EMAIL_IS_DUE - 5 * MINUTE


def phone(number: int) -> str:
    return f"+4420794600{number:02}"


def test_a_turn_down_before_the_first_cycle_after_a_crash_loses_nobody(scene: Scene, operate: Operate) -> None:
    """The stage is unlogged: a server that crashed has none, and every text is dropped as if it had no email."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 22 * HOUR)).cycle()
    scene.has_gap = False
    scene.owner.execute("TRUNCATE reminders.staged_appointment, reminders.staged_rung")
    with suppress(HoldError):
        operate("turn-down", scene.hold_in_force(), "--by", "Ana")
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert scene.states()["appointment-1", 2][0] in ("delivered", "held")


def test_two_children_at_one_slot_are_both_named_in_the_email_that_their_texts_become(
    scene: Scene, operate: Operate
) -> None:
    scene.has_gap = True
    visit = WEDNESDAY_2PM + 22 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, "ada"), Booked(visit, "ben", client_name="Ben Sample")).cycle()
    scene.has_gap = False
    operate("turn-down", scene.hold_in_force(), "--by", "Ana")
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert [len(contact.visits) for contact in scene.reached] == [2]


def test_the_log_tells_of_what_joins_a_group_too(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE)).prepare()
    caplog.clear()
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).booked(*clients(30, OVERDUE, "later")).prepare()
    assert scene.states()["later-29", 1] == ("held", "on_hold")
    assert [record for record in caplog.records if "held for a person" in record.message]


def test_neither_log_nor_rehearsal_tells_why_a_person_has_held_a_group(
    scene: Scene, operate: Operate, booking: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Placed by hand, with a name in it; what the gate stops then joins it."""
    scene.at(WEDNESDAY_2PM).booked(Booked(OVERDUE, "late"))
    appointment(booking, "late", OVERDUE)
    scene.owner.execute(
        "INSERT INTO reminders.hold (scope, scope_value, account_id, step, age, placed_by, why, review_at)"
        " VALUES ('group', 'clinic 1 to 6 hours', 'clinic', 1, 'to 6 hours', 'Ana', 'Mrs Canary complained', now())"
    )
    scene.has_gap = True
    scene.prepare()
    assert scene.states()["late", 1] == ("held", "on_hold")
    assert "no good cycle" in caplog.text
    assert "Canary" not in caplog.text + operate("rehearse")


@pytest.mark.parametrize("action", ["drop", "turn-down"])
def test_what_a_person_decided_holds_for_the_slot_whatever_the_appointments_id_is(
    scene: Scene, operate: Operate, action: str
) -> None:
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 22 * HOUR)).cycle()
    scene.has_gap = False
    operate(action, scene.hold_in_force(), "--by", "Ana")
    scene.at(scene.now + 5 * MINUTE).cycle()
    went = [] if action == "drop" else ["email"]
    assert channels(scene.reached) == went
    del scene.book["appointment-1"]
    scene.booked(Booked(WEDNESDAY_2PM + 22 * HOUR, "imported-again"))
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert channels(scene.reached) == went


@pytest.fixture
def held_twice(scene: Scene, operate: Operate) -> Scene:
    """Of twenty late emails eleven have gone after a release; then somebody stops everything, and a cycle runs."""
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM).booked(*clients(20, OVERDUE)).cycle()
    scene.has_gap = False
    operate("release", scene.hold_in_force(), "--by", "Ana")
    for _ in range(2):
        scene.at(scene.now + 5 * MINUTE).cycle()
    assert len(scene.reached) == 11
    operate("hold", "all", "--why", "the wording is wrong", "--by", "Ana")
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert len(scene.reached) == 11
    return scene


def test_the_release_of_a_second_hold_says_what_goes_out(held_twice: Scene, operate: Operate) -> None:
    said = operate("release", held_twice.hold_in_force(), "--by", "Ana")
    assert "9 reminders go out" in said


def test_a_second_release_has_a_canary_of_its_own(held_twice: Scene) -> None:
    held_twice.release()
    assert len(held_twice.at(held_twice.now + 5 * MINUTE).cycle()) == 5


def test_groups_that_are_released_one_after_the_other_share_a_canary(scene: Scene) -> None:
    """As after a night, when every account has groups and the command takes one account at a time."""
    scene.has_gap = True
    names = [f"account-{number}" for number in range(8)]
    for name in names:
        scene.booked(*clients(10, OVERDUE, name, account_id=name))
    scene.at(WEDNESDAY_2PM).cycle()
    scene.has_gap = False
    for number, name in enumerate(names):
        scene.owner.execute(
            "UPDATE reminders.hold SET released_at = %s, released_by = 'Ana' WHERE account_id = %s",
            (scene.now + number * MINUTE / 6, name),
        )
    assert len(scene.at(scene.now + 5 * MINUTE).cycle()) == 5


def test_what_our_configuration_refused_goes_after_a_canary_too(scene: Scene) -> None:
    scene.answer = raising(Misconfigured("misconfigured", "20003"))
    scene.at(WEDNESDAY_2PM).booked(*clients(12, FRESH)).cycle()
    scene.answer = None
    scene.at(scene.now + 5 * MINUTE).cycle()
    scene.release()
    assert len(scene.at(scene.now + 5 * MINUTE).cycle()) == 5


def test_the_release_of_a_refused_channel_says_what_goes_out(scene: Scene, operate: Operate) -> None:
    scene.answer = raising(Misconfigured("misconfigured", "20003"))
    scene.at(WEDNESDAY_2PM).booked(Booked(FRESH)).cycle()
    scene.answer = None
    scene.at(scene.now + 5 * MINUTE).cycle()
    said = operate("release", scene.hold_in_force(), "--by", "Ana")
    assert len(scene.at(scene.now + 5 * MINUTE).cycle()) == 1
    assert "1 reminder goes out" in said


def test_a_dropped_group_goes_nowhere_also_when_a_late_report_made_its_text_wait(
    scene: Scene, operate: Operate
) -> None:
    scene.answer = raising(Doubtful("timeout"))
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 30 * HOUR, booked_before=30 * HOUR)).cycle()
    scene.ledger.close(scene.now, True, scene.now)
    scene.at(WEDNESDAY_2PM + 3 * HOUR)
    close_dead(scene.ledger, scene.now)
    scene.answer = None
    scene.has_gap = True
    scene.at(WEDNESDAY_2PM + 21 * HOUR).cycle()
    scene.has_gap = False
    assert scene.states()["appointment-1", 2] == ("held", "on_hold")
    scene.ledger.record([closing(scene.last_attempt(), "delivered", "delivered")], scene.now)
    scene.at(scene.now + 5 * MINUTE).cycle()
    operate("drop", scene.hold_in_force(), "--by", "Ana")
    scene.at(scene.now + 4 * HOUR).cycle()
    assert not scene.reached


def test_a_persons_hold_does_not_hide_that_the_book_changed_too_much(scene: Scene, operate: Operate) -> None:
    """The account is on hold when its book loses everything: released, it tells everybody that they are cancelled."""
    scene.owner.execute("UPDATE reminders.account_policy SET has_cancellation_notice = true")
    scene.at(WEDNESDAY_2PM).booked(*clients(6, FRESH), *clients(30, FRESH + DAY, "vet", account_id="vet")).cycle()
    assert len(scene.reached) == 6
    scene.at(scene.now + HOUR)
    operate("hold", "account", "clinic", "--why", "they asked for it", "--by", "Ana")
    for number in range(6):
        scene.changed(f"fresh-{number}", status="cancelled")
    for _ in range(2):
        scene.at(scene.now + 5 * MINUTE).cycle()
    operate("release", scene.hold_in_force("account clinic"), "--by", "Ana")
    scene.at(scene.now + 5 * MINUTE).cycle()
    assert len(scene.reached) == 6


@pytest.mark.parametrize(("why", "who", "wrong"), [("", "Ana", "--why"), ("a look", " ", "--by")])
def test_a_hold_without_a_reason_or_a_name_says_what_is_missing(
    operate: Operate, why: str, who: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        operate("hold", "all", "--why", why, "--by", who)
    assert f"argument {wrong}: say it in words" in capsys.readouterr().err


def test_nobody_releases_nothing(scene: Scene, operate: Operate) -> None:
    scene.at(WEDNESDAY_2PM)
    operate("hold", "all", "--why", "a look", "--by", "Ana")
    with pytest.raises((HoldError, SystemExit)):
        operate("release", scene.hold_in_force(), "--by", "")


@pytest.mark.parametrize("moment", ["now", "today", "tomorrow", "infinity"])
def test_a_hold_on_a_cycle_that_moves_with_the_clock_is_refused(scene: Scene, operate: Operate, moment: str) -> None:
    """It says that it stops the cycle until a person releases it, and stops nothing."""
    scene.at(WEDNESDAY_2PM)
    with pytest.raises(HoldError):
        operate("hold", "cycle", moment, "--why", "a look", "--by", "Ana")


def test_a_rehearsal_heeds_the_days_ceiling(scene: Scene, operate: Operate, booking: TestDatabase) -> None:
    scene.owner.execute("UPDATE reminders.account_policy SET email_ceiling = 3")
    scene.at(WEDNESDAY_2PM)
    for number in range(8):
        appointment(booking, f"fresh{number}", FRESH + number * MINUTE / 2)
    said = operate("rehearse")
    for number in range(8):
        scene.booked(Booked(FRESH + number * MINUTE / 2, f"fresh{number}", client_email=f"fresh{number}@example.com"))
    assert f"would make {len(scene.cycle())} contacts" in said
