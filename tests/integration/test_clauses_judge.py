"""What the gate holds, clause by clause: whose reminders, for which reason, under which hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.integration.rows import NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

WEEK, DAY = timedelta(days=7), timedelta(days=1)
JUDGE = "SELECT named, reminders FROM reminders.judge(%(date)s, %(now)s)"
FIND = "SELECT * FROM reminders.find_abnormal(%(date)s, %(now)s, %(gap)s)"
OLD = {"due_at": NOW - 2 * HOUR}
FRESH = {"due_at": NOW - MINUTE}

Act = Callable[[Rows], Any]


@pytest.fixture(autouse=True)
def practice(rows: Rows) -> None:
    """Accounts that are known for a week, and a good cycle five minutes ago."""
    rows.owner.execute("UPDATE reminders.gate_bound SET least_of_account = 2, least_in_all = 5")
    for account in ("clinic", "vet", "spa"):
        rows.put("account_seen", account_id=account, first_seen_at=NOW - WEEK)
    cycle(NOW - 5 * MINUTE, is_good=True)(rows)
    cycle(NOW, judged_at=None)(rows)


def cycle(at: Any, **columns: Any) -> Act:
    kept = {"run_kind": "scheduled", "has_own_date": True, "started_at": at, "judged_at": at}
    return lambda rows: rows.put("cycle", **({"logical_date": at} | kept | columns))


def due(count: int = 1, account: str = "clinic", **changed: Any) -> Act:
    """So many texts to as many people."""

    def act(rows: Rows) -> None:
        for number in range(count):
            columns = {"account_id": account, "step": 2} | FRESH | changed
            name = f"{account} {columns['step']} {columns['due_at']} {number}"
            rows.reminder(**({"appointment_id": name, "address_hash": name.encode()} | columns))

    return act


def told(count: int, account: str = "clinic") -> Act:
    """As many of those had a text yesterday evening."""

    def act(rows: Rows) -> None:
        addresses = rows.ask(
            "SELECT address_hash FROM reminders.reminder WHERE account_id = %(account)s LIMIT %(count)s",
            account=account, count=count,
        )  # fmt: skip
        for (address,) in addresses:
            contact = rows.put(
                "contact", batch_id=1, account_id=account, channel="sms", address_hash=address, zone="UTC", place=1
            )
            rows.guard(contact_id=contact, account_id=account, address_hash=address, step=1)
            rows.attempt(
                contact_id=contact, account_id=account, address_hash=address, state="delivered",
                intended_at=NOW - 20 * HOUR,
            )  # fmt: skip

    return act


def used_to(account: str = "clinic", **figures: int) -> Act:
    """An account that is known for two weeks, and what it had in this hour of both."""

    def act(rows: Rows) -> None:
        rows.owner.execute("UPDATE reminders.account_seen SET first_seen_at = %s", [NOW - 2 * WEEK])
        for week in (1, 2):
            hour = {"account_id": account, "channel": "sms", "hour_at": NOW - week * WEEK}
            rows.put("volume", **(hour | {"contacts": 0, "overdue": 0, "repeated": 0} | figures))

    return act


def implied(count: int, account: str = "clinic") -> Act:
    """So many are due in these hours by the book."""

    def act(rows: Rows) -> None:
        for number in range(count):
            rows.put(
                "staged_rung", logical_date=NOW, account_id=account, appointment_id=f"visit {number}", slot_at=VISIT,
                step=2, channel="sms", due_at=NOW, expires_at=VISIT, wait=timedelta(0), has_lower_rung=False,
            )  # fmt: skip

    return act


def no_gap(rows: Rows) -> None:
    """Nothing: there was a good cycle."""


def gap(rows: Rows) -> None:
    """The last good cycle was two hours ago."""
    rows.owner.execute("UPDATE reminders.cycle SET logical_date = logical_date - interval '2 hours' WHERE is_good")


def unseen(rows: Rows) -> None:
    rows.owner.execute("DELETE FROM reminders.account_seen WHERE account_id = 'clinic'")


def held(rows: Rows, *acts: Act) -> dict[str, int]:
    """How many reminders each group took in."""
    for act in acts:
        act(rows)
    return {str(named): int(count) for named, count in rows.ask(JUDGE, date=NOW, now=NOW)}


@pytest.mark.parametrize(
    ("expected", "acts"),
    [
        # After a gap: what is past, in groups by account, step and age
        ({}, (no_gap, due(**OLD))),
        ({"clinic 2 to 6 hours": 1}, (gap, due(**OLD))),
        ({}, (gap, due(**FRESH))),
        ({"clinic 2 to 6 hours": 2, "clinic 2 to 1 day": 1, "clinic 3 to 6 hours": 1, "vet 2 to 6 hours": 1}, (
            gap, due(2, **OLD), due(due_at=NOW - 7 * HOUR), due(step=3, **OLD), due(account="vet", **OLD),
        )),
        # Whatever waits, and nothing that cannot go in this cycle
        ({"clinic 2 to 6 hours": 1}, (gap, due(deferred_for="wait_for_gap", **OLD))),
        ({}, (gap, due(state="held", **OLD))),
        ({}, (gap, due(state="expired", **OLD))),
        ({}, (gap, due(adopted_by=NOW - HOUR, **OLD))),
        # A new account's past
        ({"clinic 2 to 6 hours": 1}, (unseen, due(**OLD), due(account="vet", **OLD))),
        ({}, (unseen, due(**FRESH))),
        # ... stops nobody else, nor does what is past after it count as about to go
        ({"clinic 2 to 6 hours": 2}, (
            unseen, due(2, **OLD), due(2, "vet", **OLD), due(2, "spa", **OLD),
        )),
        ({"clinic 2 to 6 hours": 2}, (gap, due(2, **OLD), due(1))),
        # More overdue than usual, of one account and in all
        ({}, (due(2, **OLD),)),
        ({"clinic 2 to 6 hours": 3}, (due(3, **OLD),)),
        ({}, (due(3, created_at=NOW - MINUTE, **OLD), implied(3))),
        ({}, (due(3, not_before_at=NOW - MINUTE, **OLD), implied(3))),
        *(({"clinic 2 to 6 hours": 3}, (due(3, **OLD), due(1, due_at=NOW - 7 * HOUR, **later), implied(3)))
          for later in ({"created_at": NOW - MINUTE}, {"not_before_at": NOW - MINUTE})),
        ({}, (due(5, **OLD), implied(9), used_to(contacts=9, overdue=2))),
        ({"clinic 2 to 6 hours": 7}, (due(7, **OLD), implied(9), used_to(contacts=9, overdue=2))),
        ({}, (due(2, **OLD), due(3, step=3, deferred_for="wait_for_lower_rung", **OLD))),
        *(({"clinic 2 to 6 hours": 3}, (due(3, **OLD), due(1, deferred_for=waited, due_at=NOW - 7 * HOUR)))
          for waited in ("wait_for_lower_rung", "wait_for_answer")),
        ({"clinic 2 to 6 hours": 3, "clinic 2 to 1 day": 1}, (
            due(3, **OLD), due(1, deferred_for="wait_for_gap", due_at=NOW - 7 * HOUR),
        )),
        ({"clinic 2 to 6 hours": 2, "vet 2 to 6 hours": 2, "spa 2 to 6 hours": 2}, (
            due(2, "clinic", **OLD), due(2, "vet", **OLD), due(2, "spa", **OLD),
        )),
        ({"clinic 2 to 6 hours": 2, "vet 2 to 6 hours": 2, "spa 2 to 6 hours": 2}, (
            due(2, "clinic", **OLD), due(2, "vet", **OLD), due(2, "spa", **OLD), implied(9),
        )),
        ({}, (due(2, "clinic", **OLD), due(2, "vet", **OLD), due(1, "spa", **OLD))),
        # More contacts than usual, of one account and in all; what waits for more than pace stays
        ({}, (due(2),)),
        ({"clinic 2 fresh": 3}, (due(3),)),
        ({}, (due(3), implied(1))),
        ({"clinic 2 fresh": 4}, (due(4), implied(1))),
        ({"clinic 2 fresh": 3}, (due(3), due(1, step=3, deferred_for="wait_for_gap"))),
        ({"clinic 2 fresh": 3, "clinic 3 fresh": 1}, (due(3), due(1, step=3, deferred_for="wait_for_pace"))),
        ({"clinic 2 fresh": 2, "vet 2 fresh": 2, "spa 2 fresh": 2}, (due(2), due(2, "vet"), due(2, "spa"))),
        ({}, (due(2), due(2, "vet"), due(1, "spa"))),
        # One that is stopped by itself stops no other
        ({"clinic 2 fresh": 3}, (due(3), due(2, "vet"))),
        ({"clinic 2 to 6 hours": 3}, (due(3, **OLD), due(2, "vet", **OLD))),
        ({"clinic 2 fresh": 4}, (due(4), due(2, "vet"))),
        ({"clinic 2 to 6 hours": 4}, (due(4, **OLD), due(2, "vet", **OLD))),
        # What is held as a backlog is not about to go
        ({"clinic 2 to 6 hours": 3}, (gap, due(3, **OLD), due(2))),
        ({"clinic 2 to 6 hours": 3}, (due(3, **OLD), due(2))),
        # Another channel's flood is another's
        ({"clinic 2 fresh": 3}, (due(3), due(1, step=3, channel="call"))),
        ({"clinic 2 fresh": 2, "vet 2 fresh": 2, "spa 2 fresh": 2}, (
            due(2), due(2, "vet"), due(2, "spa"), due(1, step=3, channel="call"),
        )),
        ({}, (due(2), due(1, "vet"), due(1, step=3, channel="call"))),
        # More who were so contacted in the last day than usual, of one account and in all
        ({}, (due(2), told(2), implied(9))),
        ({"clinic 2 fresh": 3}, (due(3), told(3), implied(9))),
        ({"clinic 2 fresh": 2, "vet 2 fresh": 2, "spa 2 fresh": 2}, (
            *(act for account in ("clinic", "vet", "spa") for act in (due(2, account), told(2, account))), implied(9),
        )),
        ({"clinic 2 fresh": 4}, (due(4), told(4), due(2, "vet"), told(2, "vet"), implied(9))),
    ],
)  # fmt: skip
def test_what_is_held(rows: Rows, expected: dict[str, int], acts: tuple[Act, ...]) -> None:
    assert held(rows, *acts) == expected


@pytest.mark.parametrize("state", ["sending", "in_doubt", "accepted"])
def test_of_what_has_gone_no_group_is_made(rows: Rows, state: str) -> None:
    assert held(rows, gap, due(state=state, **OLD)) == {}
    assert rows.ask("SELECT * FROM reminders.hold") == []


def test_what_is_held_has_its_groups_hold_and_says_so(rows: Rows) -> None:
    held(rows, gap, due(**OLD), due(step=3, **FRESH))
    assert rows.ask("SELECT step, state, deferred_for, hold_id IS NULL FROM reminders.reminder ORDER BY step") == [
        (2, "held", "on_hold", False), (3, "pending", None, True),
    ]  # fmt: skip
    [(scope, value, account, step, age, who)] = rows.ask(
        "SELECT scope, scope_value, account_id, step, age, placed_by FROM reminders.hold"
    )
    assert (scope, value, account, step, age, who) == (
        "group", "clinic 2 to 6 hours", "clinic", 2, "to 6 hours", "triage",
    )  # fmt: skip


def test_a_group_that_is_held_already_takes_in_more(rows: Rows) -> None:
    number = rows.hold("group", "clinic 2 to 6 hours", age="to 6 hours")
    assert held(rows, gap, due(**OLD)) == {"clinic 2 to 6 hours": 1}
    assert rows.ask("SELECT hold_id FROM reminders.reminder") == [(number,)]


@pytest.mark.parametrize(
    "hold",
    [
        {"account_id": "vet"}, {"step": 3}, {"age": "older"}, {"released_at": NOW - HOUR},
    ],
)  # fmt: skip
def test_a_group_is_not_another(rows: Rows, hold: dict[str, Any]) -> None:
    number = rows.hold("group", "another", **({"age": "to 6 hours"} | hold))
    held(rows, gap, due(**OLD))
    assert rows.ask("SELECT count(*), max(hold_id) = %(hold)s FROM reminders.reminder", hold=number) == [(1, False)]


def test_a_group_that_was_released_before_takes_in_nothing(rows: Rows) -> None:
    """Whichever way it is found, before or after the one that is in force."""
    released = {"age": "to 6 hours", "released_at": NOW - HOUR}
    rows.hold("group", "clinic 2 to 6 hours", **released)
    number = rows.hold("group", "clinic 2 to 6 hours", age="to 6 hours")
    rows.hold("group", "clinic 2 to 6 hours", **released)
    held(rows, gap, due(**OLD))
    assert rows.ask("SELECT hold_id FROM reminders.reminder") == [(number,)]


@pytest.mark.parametrize(
    ("released_at", "acts", "is_held"),
    [
        (NOW - 65 * MINUTE, (gap,), True),
        # Released when the gap was one, or without a gap: a person knew of it
        (NOW - 64 * MINUTE, (gap,), False),
        (NOW - HOUR, (no_gap, due(3, step=3, **OLD)), False),
        (None, (gap,), False),
    ],
)
def test_what_a_person_released_before_the_gap_is_held_again(
    rows: Rows, released_at: Any, acts: tuple[Act, ...], is_held: bool
) -> None:
    rows.hold("group", "clinic 2 to 1 day", released_at=NOW - DAY)
    number = rows.hold("group", "clinic 2 older", released_at=released_at)
    found = held(rows, *acts, due(hold_id=number, **OLD))
    assert ("clinic 2 to 6 hours" in found) == is_held


MISSED = {"step": 1, "channel": "email", "state": "expired", "reason": "held_too_long"}


@pytest.mark.parametrize(
    ("below", "scope", "is_held"),
    [
        ({}, "group", True),
        ({}, "channel", False),
        ({"reason": "too_late"}, "group", False),
        ({"account_id": "vet"}, "group", False),
        ({"appointment_id": "another"}, "group", False),
        ({"slot_at": VISIT + HOUR}, "group", False),
        ({"step": 3, "channel": "call"}, "group", False),
        ({"hold_id": None}, "group", False),
    ],
)
def test_what_is_above_a_step_that_nobody_released_is_held_too(
    rows: Rows, below: dict[str, Any], scope: str, is_held: bool
) -> None:
    """Else it would go as a call, hours late, for want of a person."""
    number = rows.hold(scope, "email" if scope == "channel" else "clinic 1 older")
    rows.reminder(**(MISSED | {"hold_id": number} | below))
    assert bool(held(rows, due(appointment_id="visit", **OLD))) == is_held
    if is_held:
        assert rows.ask("SELECT why FROM reminders.hold WHERE step = 2 AND placed_by = 'triage'") == [
            ("a step before it was held by the gate, and nobody released it",)
        ]


def test_a_notice_that_was_held_too_long_holds_no_step_above_it(rows: Rows) -> None:
    """It is no step of the ladder: the first one has none before it."""
    number = rows.hold("group", "clinic 0 older", step=0)
    rows.reminder(**(MISSED | {"step": 0, "hold_id": number}))
    assert held(rows, due(appointment_id="visit", step=1, channel="email", **OLD)) == {}


def test_the_cycle_was_judged_and_no_other(rows: Rows) -> None:
    cycle(NOW - 10 * MINUTE, judged_at=None)(rows)
    held(rows)
    assert rows.ask("SELECT logical_date FROM reminders.cycle WHERE judged_at = %(now)s", now=NOW) == [(NOW,)]


@pytest.mark.parametrize("apart", [-6 * MINUTE, 6 * MINUTE])
def test_the_gate_judges_by_the_time_that_it_is(rows: Rows, apart: timedelta) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused, rows.owner.transaction():
        rows.ask(JUDGE, date=NOW, now=NOW + apart)
    assert refused.value.diag.constraint_name == "clock_is_right"


def test_the_volume_of_the_hour_is_kept_the_most_of_its_cycles(rows: Rows) -> None:
    keys = "SELECT account_id, channel, hour_at, contacts, overdue, repeated FROM reminders.volume ORDER BY account_id"
    held(rows, due(2, **OLD), due(1, "vet"))
    assert rows.ask(keys) == [
        ("*", "sms", NOW, 3, 2, 0), ("clinic", "sms", NOW, 2, 2, 0), ("vet", "sms", NOW, 1, 0, 0),
    ]  # fmt: skip
    rows.owner.execute("UPDATE reminders.volume SET contacts = contacts + 5, overdue = 0, repeated = 9")
    held(rows)
    assert rows.ask(keys) == [
        ("*", "sms", NOW, 8, 2, 9), ("clinic", "sms", NOW, 7, 2, 9), ("vet", "sms", NOW, 6, 0, 9),
    ]  # fmt: skip


@pytest.mark.parametrize("figure", ["contacts", "overdue", "repeated"])
@pytest.mark.parametrize(("before", "kept"), [(0, 2), (9, 9)])
def test_each_figure_of_the_hour_is_the_most_of_its_cycles(rows: Rows, figure: str, before: int, kept: int) -> None:
    hour = {"contacts": 0, "overdue": 0, "repeated": 0, figure: before}
    rows.put("volume", account_id="clinic", channel="sms", hour_at=NOW, **hour)
    held(rows, due(2, **OLD), told(2), implied(9))
    [(found,)] = rows.ask(f"SELECT {figure} FROM reminders.volume WHERE account_id = 'clinic'")
    assert found == kept


def test_an_hour_in_which_nothing_was_to_do_leaves_no_row(rows: Rows) -> None:
    held(rows, implied(3))
    assert rows.ask("SELECT * FROM reminders.volume") == []


def test_overdue_alone_leaves_a_row(rows: Rows) -> None:
    flow = due(1, deferred_for=None, **OLD)
    held(rows, flow)
    assert rows.ask("SELECT DISTINCT contacts, overdue FROM reminders.volume") == [(1, 1)]


def test_the_accounts_of_the_cycle_are_known_from_now_on(rows: Rows) -> None:
    rows.owner.execute("DELETE FROM reminders.account_seen")
    rows.put("account_seen", account_id="clinic", first_seen_at=NOW - WEEK)
    held(rows, due(), due(1, "vet"), due(1, "spa", adopted_by=NOW - HOUR), due(1, "zoo", state="expired"))
    assert rows.ask("SELECT account_id, first_seen_at FROM reminders.account_seen ORDER BY 1") == [
        ("clinic", NOW - WEEK), ("vet", NOW),
    ]  # fmt: skip


def why(rows: Rows, account: str, gap: str | None = None) -> tuple[Any, ...]:
    """(past, overdue, volume) of an account's texts: why a person must see them."""
    found = {row[0]: row[2:5] for row in rows.ask(FIND, date=NOW, now=NOW, gap=gap)}
    return found[account]


def test_the_reasons_name_the_figures(rows: Rows) -> None:
    for act in (due(3, **OLD), due(2, step=3)):
        act(rows)
    assert why(rows, "clinic") == (None, "3 overdue, usual 0; by sms 5 to contact this hour, usual 0", None)
    assert why(rows, "clinic", "a gap") == (
        "a gap; by sms 3 overdue, 5 to contact this hour, usual 0",
        "3 overdue, usual 0; by sms 5 to contact this hour, usual 0",
        None,
    )
    assert why(rows, "*") == (None, None, None)


@pytest.mark.parametrize("usual", [1, 2])
@pytest.mark.parametrize("of", ["*", "clinic"])
@pytest.mark.parametrize("figure", ["overdue", "contacts", "repeated"])
def test_in_all_usual_is_the_more_of_what_all_had_and_of_the_accounts_together(
    rows: Rows, figure: str, of: str, usual: int
) -> None:
    """Six are more than the five that always pass, and no more than three times two."""
    for account in ("clinic", "vet", "spa"):
        due(2, account, **(OLD if figure == "overdue" else FRESH))(rows)
        if figure == "repeated":
            told(2, account)(rows)
    for act in (implied(9), used_to(of, **({"contacts": 9} | {figure: usual}))):
        act(rows)
    found = why(rows, "*")
    assert (found[1 if figure == "overdue" else 2] is None) == (usual == 2)
