"""What a person is shown, releases, drops and turns down, clause by clause; and what a rehearsal tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, TODAY, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)

Columns = dict[str, Any]


USELESS: Columns = {"due_at": NOW - DAY, "expires_at": NOW}
# Beside a text that the hold stops: what it does not stop, or what is of no use any more.
NOT_HELD: list[Columns] = [
    {"state": "pending"}, {"state": "cancelled"}, {"hold_id": 999}, {"hold_id": None}, USELESS,
]  # fmt: skip


def held(rows: Rows, **changed: Any) -> tuple[int, int]:
    """(hold, reminder): a text that a hold stops."""
    hold = rows.hold("channel", "sms")
    return hold, rows.reminder(**({"state": "held", "hold_id": hold} | changed))


@pytest.mark.parametrize("changed", [{}, *NOT_HELD])
def test_a_hold_is_shown_with_what_it_holds(rows: Rows, changed: Columns) -> None:
    hold, _ = held(rows, **changed)
    [found] = rows.run("holds_in_force", now=NOW)
    expected = (1, VISIT - 2 * HOUR) if not changed else (0, None)
    assert (found["hold_id"], found["reminders"], found["first_expires_at"]) == (hold, *expected)


def test_holds_are_shown_while_they_are_in_force_the_longest_first(rows: Rows) -> None:
    later = rows.hold("all", placed_at=NOW)
    first = rows.hold("channel", "sms", placed_at=NOW - HOUR)
    rows.hold("channel", "call", released_at=NOW)
    assert [found["hold_id"] for found in rows.run("holds_in_force", now=NOW)] == [first, later]


def test_each_hold_is_shown_with_its_own(rows: Rows) -> None:
    held(rows)
    other = rows.hold("all")
    shown = {found["hold_id"]: found["reminders"] for found in rows.run("holds_in_force", now=NOW)}
    assert shown[other] == 0


def test_only_the_named_holds_are_locked_and_released(rows: Rows) -> None:
    one, other = rows.hold("all"), rows.hold("channel", "sms")
    assert [found["hold_id"] for found in rows.run("lock_holds", hold_ids=[one])] == [one]
    rows.run("release_holds", hold_ids=[one], now=NOW, who="Ana")
    assert rows.ask("SELECT hold_id, released_at, released_by FROM reminders.hold ORDER BY 1") == [
        (one, NOW, "Ana"), (other, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("changed", [{}, *NOT_HELD])
def test_what_is_released_is_counted(rows: Rows, changed: Columns) -> None:
    hold, _ = held(rows, **changed)
    assert rows.run("count_held", hold_ids=[hold], now=NOW) == [{"reminders": int(not changed)}]


@pytest.mark.parametrize("changed", [{}, *NOT_HELD])
def test_what_is_dropped(rows: Rows, changed: Columns) -> None:
    hold, reminder = held(rows, **changed)
    dropped = rows.run("drop_held", hold_ids=[hold], now=NOW)
    assert dropped == ([] if changed else [{"reminder_id": reminder}])
    if not changed:
        assert rows.ask("SELECT state, reason, ended_at, deferred_for FROM reminders.reminder") == [
            ("cancelled", "dropped", NOW, None),
        ]  # fmt: skip


STANDS = """
SELECT channel, turned_down_from, address_hash, address_masked, state, reason, ended_at FROM reminders.reminder
WHERE reminder_id = %(id)s
"""
MASKED: Columns = {"email_masked": "a***"}
TURNED = ("email", "sms", MAILBOX, "a***", "pending", None, None)
DROPPED = ("sms", None, HERE, None, "cancelled", "dropped", NOW)


def turned_down(rows: Rows, hold: int) -> tuple[int, int, int]:
    [found] = rows.run("turn_down_held", hold_ids=[hold], now=NOW)
    return found["turned_down"], found["dropped"], found["unread"]


@pytest.mark.parametrize("changed", NOT_HELD)
def test_what_is_not_held_is_not_turned_down(rows: Rows, changed: Columns) -> None:
    hold, _ = held(rows, **changed)
    rows.staged(**MASKED)
    assert turned_down(rows, hold) == (0, 0, 0)


@pytest.mark.parametrize(
    ("staged", "counts", "stands"),
    [
        (MASKED, (1, 0, 0), TURNED),
        (MASKED | {"email_hash": None}, (0, 1, 0), DROPPED),
        (MASKED | {"email_problem": "bad_address"}, (0, 1, 0), DROPPED),
        (None, (0, 1, 1), DROPPED),
        (MASKED | {"logical_date": NOW - MINUTE}, (0, 1, 1), DROPPED),
        (MASKED | {"account_id": "vet"}, (0, 1, 1), DROPPED),
        (MASKED | {"appointment_id": "another"}, (0, 1, 1), DROPPED),
    ],
)
def test_a_text_becomes_an_email_where_the_book_has_an_address(
    rows: Rows, staged: Columns | None, counts: tuple[int, int, int], stands: tuple[Any, ...]
) -> None:
    hold, reminder = held(rows)
    if staged is not None:
        rows.staged(**staged)
    assert (turned_down(rows, hold), rows.ask(STANDS, id=reminder)) == (counts, [stands])


MAIL: Columns = {"step": 1, "channel": "email", "address_hash": ELSEWHERE}


@pytest.mark.parametrize(
    ("email", "is_dropped"),
    [
        ({"state": "delivered"}, True), ({}, True), ({"state": "accepted"}, True), ({"state": "held"}, True),
        ({"state": "expired"}, False), ({"state": "failed"}, False), ({"state": "unknown"}, False),
        ({"channel": "call", "state": "delivered"}, False), ({"account_id": "vet"}, False),
        ({"appointment_id": "another"}, False), ({"slot_at": VISIT + DAY}, False),
    ],
)  # fmt: skip
def test_one_email_about_a_slot_is_enough(rows: Rows, email: Columns, is_dropped: bool) -> None:
    hold, reminder = held(rows)
    rows.staged(**MASKED)
    rows.reminder(**(MAIL | email))
    turned_down(rows, hold)
    assert rows.ask(STANDS, id=reminder) == [DROPPED if is_dropped else TURNED]


@pytest.mark.parametrize(
    ("guard", "is_dropped"),
    [
        ({}, True), ({"step": 1}, True), ({"account_id": "vet"}, False), ({"address_hash": HERE}, False),
        ({"slot_at": VISIT + DAY}, False), ({"is_uncontacted": True}, False),
    ],
)  # fmt: skip
def test_also_one_under_another_appointment_s_id(rows: Rows, guard: Columns, is_dropped: bool) -> None:
    hold, reminder = held(rows)
    rows.staged(**MASKED)
    rows.guard(**({"address_hash": MAILBOX} | guard))
    turned_down(rows, hold)
    assert rows.ask(STANDS, id=reminder) == [DROPPED if is_dropped else TURNED]


def test_of_a_slot_s_text_and_call_one_becomes_an_email(rows: Rows) -> None:
    hold, text = held(rows)
    call = rows.reminder(step=3, channel="call", state="held", hold_id=hold)
    rows.staged(**MASKED)
    assert turned_down(rows, hold) == (1, 1, 0)
    assert [rows.ask(STANDS, id=number)[0][4] for number in (text, call)] == ["pending", "cancelled"]


@pytest.mark.parametrize("other", [{"account_id": "vet"}, {"appointment_id": "another"}, {"slot_at": VISIT + DAY}])
def test_of_two_slots_each_has_its_email(rows: Rows, other: Columns) -> None:
    hold, _ = held(rows)
    rows.reminder(**({"step": 3, "channel": "call", "state": "held", "hold_id": hold} | other))
    rows.staged(**MASKED)
    if "slot_at" not in other:
        rows.staged(**(MASKED | other))
    assert turned_down(rows, hold) == (2, 0, 0)


def test_an_email_that_is_held_goes_as_it_is(rows: Rows) -> None:
    hold, email = held(rows, **MAIL | {"deferred_for": "on_hold"})
    assert turned_down(rows, hold) == (1, 0, 0)
    assert rows.ask(STANDS, id=email) == [("email", None, ELSEWHERE, None, "pending", None, None)]


def test_what_was_turned_down_before_stays_so(rows: Rows) -> None:
    hold, email = held(rows, **MAIL | {"turned_down_from": "call"})
    turned_down(rows, hold)
    assert rows.ask("SELECT turned_down_from FROM reminders.reminder WHERE reminder_id = %(id)s", id=email) == [
        ("call",),
    ]  # fmt: skip


def test_an_email_s_address_is_the_book_s(rows: Rows) -> None:
    hold, email = held(rows, **MAIL)
    rows.staged(**MASKED)
    turned_down(rows, hold)
    assert rows.ask(STANDS, id=email)[0][2:4] == (MAILBOX, "a***")


@pytest.mark.parametrize(
    ("hold", "is_found"),
    [
        ({}, True), ({"scope": "account"}, False), ({"value": "call"}, False), ({"released_at": NOW}, False),
    ],
)  # fmt: skip
def test_the_hold_of_a_scope(rows: Rows, hold: Columns, is_found: bool) -> None:
    rows.hold(**({"scope": "channel", "value": "sms"} | hold))
    assert bool(rows.run("hold_of_scope", scope="channel", scope_value="sms")) == is_found


def test_an_account_that_was_seen(rows: Rows) -> None:
    rows.put("account_seen", account_id="clinic", first_seen_at=NOW)
    assert rows.run("account_seen", account_id="clinic") == [{"account_id": "clinic"}]
    assert rows.run("account_seen", account_id="vet") == []


def batch(rows: Rows, number: int, *contacts: Columns, **changed: Any) -> None:
    rows.put(
        "batch",
        **({"batch_id": number, "logical_date": NOW, "channel": "sms", "share": 1, "planned_at": NOW} | changed),
    )
    for contact in contacts:
        columns = {"account_id": "clinic", "channel": "sms", "address_hash": HERE, "zone": "UTC", "place": 1}
        rows.put("contact", **({"batch_id": number} | columns | contact))


THREE: tuple[Columns, ...] = ({}, {"address_hash": ELSEWHERE}, {"channel": "call"}, {"account_id": "vet"})


@pytest.mark.parametrize("changed", [{}, {"logical_date": NOW - DAY}, {"planned_at": NOW - MINUTE}])
def test_a_rehearsal_counts_what_it_has_planned(rows: Rows, changed: Columns) -> None:
    batch(rows, 5, *THREE, **changed)
    rows.put("contact", batch_id=9, account_id="zoo", channel="sms", address_hash=HERE, zone="UTC", place=1)
    values: Columns = {"logical_date": NOW, "now": NOW}
    contacts = sorted(tuple(row.values()) for row in rows.run("rehearsed_contacts", **values))
    people = rows.run("rehearsed_people", **values)
    if changed:
        assert (contacts, people) == ([], [{"people": 0}])
    else:
        assert contacts == [("clinic", "call", 1, 1), ("clinic", "sms", 2, 2), ("vet", "sms", 1, 1)]
        assert people == [{"people": 2}]


@pytest.mark.parametrize(("channel", "ceiling"), [("email", 11), ("sms", 12), ("call", 13)])
@pytest.mark.parametrize(
    ("day", "allowed"),
    [
        ({}, None), ({"account_id": "clinic"}, 3), ({"account_id": "vet"}, None),
        ({"account_id": "clinic", "day": TODAY - DAY}, None), ({"account_id": "clinic", "channel": "fax"}, None),
    ],
)  # fmt: skip
def test_a_rehearsal_tells_what_the_ceilings_leave(
    rows: Rows, channel: str, ceiling: int, day: Columns, allowed: int | None
) -> None:
    rows.put("account_policy", account_id="clinic", email_ceiling=11, sms_ceiling=12, call_ceiling=13)
    batch(rows, 5, {"channel": channel})
    if day:
        rows.put("daily_ceiling", **({"channel": channel, "day": TODAY, "contact_count": 2, "ceiling": 5} | day))
    found = rows.run("rehearsed_ceilings", logical_date=NOW, now=NOW)
    assert found == [{"account_id": "clinic", "channel": channel, "allowed": allowed or ceiling}]


@pytest.mark.parametrize("changed", [{"logical_date": NOW - DAY}, {"planned_at": NOW - MINUTE}])
def test_of_another_plan_it_tells_no_ceilings(rows: Rows, changed: Columns) -> None:
    batch(rows, 5, {}, **changed)
    assert rows.run("rehearsed_ceilings", logical_date=NOW, now=NOW) == []


WAITS: Columns = {"deferred_for": "wait_for_gap"}


@pytest.mark.parametrize(
    ("reminder", "told"),
    [
        (WAITS, "the address was contacted a short while ago"),
        (WAITS | {"state": "held"}, "the address was contacted a short while ago"),
        ({"deferred_for": "a new word"}, "a new word"),
        ({}, None), (WAITS | {"state": "expired", "deferred_for": None}, None),
    ],
)  # fmt: skip
def test_a_rehearsal_tells_what_it_withholds_and_why(rows: Rows, reminder: Columns, told: str | None) -> None:
    rows.reminder(**reminder)
    assert [row["why"] for row in rows.run("rehearsed_withheld")] == ([told] if told else [])


@pytest.mark.parametrize(
    ("state", "hold", "told"),
    [
        ("held", {"scope": "group", "value": "x", "placed_by": "triage"}, "a look"),
        ("held", {"scope": "group", "value": "x"}, "stopped by the hold on group x"),
        (
            "held",
            {"scope": "account", "value": "clinic", "placed_by": "triage"},
            "stopped by the hold on account clinic",
        ),
        ("held", {"scope": "all"}, "stopped by the hold on all"),
        ("pending", {"scope": "all"}, "a hold is in force"),
    ],
)
def test_of_a_person_s_hold_it_tells_what_it_stops_and_not_why(
    rows: Rows, state: str, hold: Columns, told: str
) -> None:
    number = rows.hold(**hold)
    rows.hold("channel", "call")
    rows.reminder(state=state, deferred_for="on_hold", hold_id=number)
    [found] = rows.run("rehearsed_withheld")
    assert (found["hold_id"], found["why"]) == (number if state == "held" else None, told)
