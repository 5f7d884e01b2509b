"""What the gate measures and what it takes for abnormal, clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

HALF_PAST = NOW + 30 * MINUTE
WEEK = timedelta(days=7)
DAY = timedelta(days=1)

Act = Callable[[Rows], Any]


@pytest.mark.parametrize(
    ("contacts", "usual", "implied", "repeated", "usual_repeated", "said"),
    [
        (30, 10, 100, 0, 0, None),
        (31, 10, 100, 0, 0, "usual 10"),
        (20, 1, 100, 0, 0, None),
        (21, 1, 100, 0, 0, "usual 1"),
        (30, 100, 10, 0, 0, None),
        (31, 100, 10, 0, 0, "the book implies 10"),
        (20, 100, 1, 0, 0, None),
        (21, 100, 1, 0, 0, "the book implies 1"),
        (50, 100, 100, 30, 10, None),
        (50, 100, 100, 31, 10, "in the last day, usual 10"),
        (62, 100, 100, 31, 10, None),
        (30, 100, 100, 20, 1, None),
        (30, 100, 100, 21, 1, "in the last day, usual 1"),
    ],
)
def test_what_is_abnormal(
    rows: Rows, contacts: int, usual: int, implied: int, repeated: int, usual_repeated: int, said: str | None
) -> None:
    [(why,)] = rows.ask(
        "SELECT reminders.abnormal('sms', %(c)s, %(u)s, %(i)s, %(r)s, %(ur)s, 3, 20)",
        c=contacts, u=usual, i=implied, r=repeated, ur=usual_repeated,
    )  # fmt: skip
    assert why is None if said is None else why.endswith(said)


@pytest.mark.parametrize(
    ("overdue", "age"),
    [
        (14 * MINUTE, "fresh"), (15 * MINUTE, "to 1 hour"), (59 * MINUTE, "to 1 hour"), (HOUR, "to 6 hours"),
        (5.9 * HOUR, "to 6 hours"), (6 * HOUR, "to 1 day"), (23 * HOUR, "to 1 day"), (24 * HOUR, "older"),
    ],
)  # fmt: skip
def test_how_overdue_a_group_is_called(rows: Rows, overdue: timedelta, age: str) -> None:
    assert rows.ask("SELECT reminders.age_of(%(by)s, '15 minutes')", by=overdue) == [(age,)]


def cycle(at: Any, **columns: Any) -> Act:
    kept = {"run_kind": "scheduled", "has_own_date": True, "started_at": at, "judged_at": at, "is_good": True}
    return lambda rows: rows.put("cycle", **({"logical_date": at} | kept | columns))


@pytest.mark.parametrize(
    ("last_good_at", "acts"),
    [
        (None, ()),
        (NOW - 30 * MINUTE, (cycle(NOW - 30 * MINUTE),)),
        (NOW, (cycle(NOW),)),
        (NOW - 5 * MINUTE, (cycle(NOW - 30 * MINUTE), cycle(NOW - 5 * MINUTE))),
        (None, (cycle(NOW - 30 * MINUTE, is_good=False),)),
        (None, (cycle(NOW - 30 * MINUTE, run_kind="backfill"),)),
        (None, (cycle(NOW + MINUTE),)),
        # It ran again when a later one had what waits
        (None, (cycle(NOW - 30 * MINUTE, judged_at=NOW - MINUTE), cycle(NOW - 5 * MINUTE, is_good=False))),
        (NOW - 30 * MINUTE, (cycle(NOW - 30 * MINUTE), cycle(NOW - 5 * MINUTE, is_good=False))),
        (NOW - 30 * MINUTE, (
            cycle(NOW - 30 * MINUTE, judged_at=NOW - MINUTE), cycle(NOW - 5 * MINUTE, run_kind="backfill"),
        )),
        (NOW - 30 * MINUTE, (
            cycle(NOW - 30 * MINUTE, judged_at=NOW - MINUTE), cycle(NOW - 40 * MINUTE, is_good=False),
        )),
    ],
)  # fmt: skip
def test_which_cycle_was_the_last_good_one(rows: Rows, last_good_at: Any, acts: tuple[Act, ...]) -> None:
    for act in acts:
        act(rows)
    [(found, why)] = rows.ask("SELECT * FROM reminders.gap_before(%(now)s)", now=NOW)
    assert (found, why) == (last_good_at, None if last_good_at else "no good cycle before this one")


@pytest.mark.parametrize("ago", [60, 61])
def test_a_gap_is_told_by_the_time_of_the_last_good_cycle(rows: Rows, ago: int) -> None:
    cycle(NOW - ago * MINUTE)(rows)
    [(_, why)] = rows.ask("SELECT * FROM reminders.gap_before(%(now)s)", now=NOW)
    assert why == (None if ago == 60 else "no good cycle since 2026-02-11 12:59 UTC")


MEASURE = "SELECT * FROM reminders.measure_volume(%(date)s, %(now)s)"
NOTHING = {
    "is_new": True, "contacts": 0, "past_contacts": 0, "overdue_contacts": 0, "usual_contacts": 0,
    "implied_contacts": 0, "past": 0, "overdue": 0, "usual_overdue": 0, "repeated": 0, "usual_repeated": 0,
}  # fmt: skip
# Due half an hour before half past two, and known since yesterday: past and overdue.
ONE = {"contacts": 1, "past_contacts": 1, "overdue_contacts": 1, "past": 1, "overdue": 1}
FRESH = {"due_at": HALF_PAST - 10 * MINUTE}


def measured(rows: Rows) -> dict[tuple[str, str], dict[str, Any]]:
    """By account and channel, what is not 0; and whether the account is new, where it is not."""
    with rows.owner.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(MEASURE, {"date": NOW, "now": HALF_PAST}).fetchall()
    return {
        (row.pop("account_id"), row.pop("channel")): {name: int(n) for name, n in row.items() if n != NOTHING[name]}
        for row in found
    }


def due(**changed: Any) -> Act:
    return lambda rows: rows.reminder(**({"due_at": NOW} | changed))


def went(released_at: Any = None, **changed: Any) -> Act:
    """An attempt of a contact, a quarter past two."""

    def act(rows: Rows) -> None:
        columns = {"contact_id": 5, "intended_at": NOW + 15 * MINUTE, "state": "delivered"} | changed
        rows.put(
            "contact", contact_id=columns["contact_id"], batch_id=1, account_id="clinic", channel="sms",
            address_hash=HERE, zone="UTC", place=1, released_at=released_at,
        )  # fmt: skip
        rows.attempt(**columns)

    return act


def contacted(guard: dict[str, Any] | None = None, **attempt: Any) -> Act:
    """The address had a text yesterday evening."""

    def act(rows: Rows) -> None:
        rows.guard(**({"contact_id": 5, "step": 1} | (guard or {})))
        went(**({"intended_at": NOW - 20 * HOUR} | attempt))(rows)

    return act


def flood(reminder: dict[str, Any] | None = None, **changed: Any) -> Act:
    """A fresh text that is held since a quarter past two."""

    def act(rows: Rows) -> None:
        number = rows.hold(
            "group", "clinic 2 fresh", **({"age": "fresh", "placed_at": NOW + 15 * MINUTE} | changed)
        )  # fmt: skip
        rows.reminder(**({"state": "held", "hold_id": number} | FRESH | (reminder or {})))

    return act


def rung(**changed: Any) -> Act:
    columns = {
        "logical_date": NOW, "account_id": "clinic", "appointment_id": "visit", "slot_at": VISIT, "step": 2,
        "channel": "sms", "due_at": NOW, "expires_at": VISIT, "wait": timedelta(0), "has_lower_rung": False,
    }  # fmt: skip
    return lambda rows: rows.put("staged_rung", **(columns | changed))


def staged(*slots: Any, **changed: Any) -> Act:
    def act(rows: Rows) -> None:
        for number, slot in enumerate(slots):
            rows.staged(**({"appointment_id": f"visit {number}", "slot_at": slot, "ends_at": slot} | changed))

    return act


@pytest.mark.parametrize(
    ("expected", "acts"),
    [
        # What would go now: one contact for an address, whatever waits for pace only
        (ONE, (due(),)),
        (ONE | {"past": 2, "overdue": 2}, (due(), due(appointment_id="another"))),
        (ONE | {"overdue": 0}, (due(deferred_for="wait_for_pace"),)),
        ({"past": 1}, (due(deferred_for="wait_for_gap"),)),
        (None, (due(state="held"),)),
        (None, (due(state="expired"),)),
        (None, (due(adopted_by=NOW - 5 * MINUTE),)),
        (None, (due(hold_id=1),)),
        # Past is what was due a while ago; overdue is what could have gone since
        ({"contacts": 1}, (due(**FRESH),)),
        ({"contacts": 1, "past_contacts": 1, "past": 1}, (due(created_at=HALF_PAST - MINUTE),)),
        ({"contacts": 1, "past_contacts": 1, "past": 1}, (due(not_before_at=HALF_PAST - MINUTE),)),
        ({"contacts": 1, "past": 1, "overdue": 1}, (due(), due(appointment_id="another", **FRESH))),
        # The book's own, late: what this cycle created and was due four hours to a day ago
        (ONE | {"usual_contacts": 1, "implied_contacts": 1}, (due(due_at=HALF_PAST - 5 * HOUR),)),
        (ONE, (due(due_at=HALF_PAST - 3 * HOUR),)),
        (ONE, (due(due_at=HALF_PAST - 25 * HOUR, created_at=HALF_PAST - 30 * HOUR),)),
        (ONE, (due(due_at=HALF_PAST - 5 * HOUR, logical_date=NOW - HOUR),)),
        # What the book says is due in four hours
        ({"usual_contacts": 1, "implied_contacts": 1}, (rung(),)),
        (None, (rung(logical_date=NOW - 5 * MINUTE),)),
        (None, (rung(due_at=HALF_PAST - 4 * HOUR),)),
        # What went in this hour, but for what a person had released
        ({"contacts": 1}, (went(),)),
        ({"contacts": 1}, (went(intended_at=NOW), )),
        (None, (went(intended_at=NOW - MINUTE),)),
        (None, (went(intended_at=HALF_PAST + MINUTE),)),
        (None, (went(state="not_contacted"),)),
        (None, (went(released_at=NOW),)),
        # This hour's flood, which is held
        ({"contacts": 1}, (flood(),)),
        (None, (flood(age="to 1 hour"),)),
        (None, (flood(released_at=NOW + 20 * MINUTE),)),
        (None, (flood(placed_at=NOW - MINUTE),)),
        (None, (flood({"state": "pending", "adopted_by": NOW - HOUR}),)),
        (None, (flood({"state": "expired"}),)),
        # Who was so contacted in the last day
        (ONE | {"repeated": 1}, (due(), contacted())),
        (ONE, (due(), contacted({"account_id": "vet"}))),
        (ONE, (due(), contacted({"address_hash": ELSEWHERE}))),
        (ONE, (due(), contacted({"contact_id": 6}))),
        (ONE, (due(), contacted(channel="call"))),
        (ONE, (due(), contacted(intended_at=NOW - 24 * HOUR))),
        (ONE, (due(), contacted(state="not_contacted"))),
        # ... and has several visits ahead, so that the book itself implies it
        (ONE | {"repeated": 1, "usual_repeated": 1}, (due(), contacted(), staged(VISIT, VISIT + DAY))),
        (ONE | {"repeated": 1}, (due(), contacted(), staged(VISIT))),
        (ONE | {"repeated": 1}, (due(), contacted(), staged(VISIT, VISIT))),
        (ONE | {"repeated": 1}, (due(), contacted(), staged(VISIT, VISIT + DAY, logical_date=NOW - HOUR))),
        (ONE | {"repeated": 1}, (due(), contacted(), staged(VISIT, VISIT + DAY, account_id="vet"))),
        (ONE | {"repeated": 1}, (due(), contacted(), staged(VISIT, VISIT + DAY, phone_hash=ELSEWHERE))),
        (ONE, (due(), staged(VISIT, VISIT + DAY))),
    ],
)  # fmt: skip
def test_what_a_cycle_is_about_to_do(rows: Rows, expected: dict[str, int] | None, acts: tuple[Act, ...]) -> None:
    """Of the one account, and so in all."""
    for act in acts:
        act(rows)
    found = measured(rows)
    if expected is None:
        assert found == {}
    else:
        shown = {name: number for name, number in expected.items() if number}
        assert found == {("clinic", "sms"): shown, ("*", "sms"): shown}


def test_what_the_book_says_of_one_account_or_address_explains_nothing_of_another(rows: Rows) -> None:
    """Each of the three was contacted yesterday; only the clinic's second client has several visits ahead."""
    for number, (account, address) in enumerate((("clinic", HERE), ("clinic", ELSEWHERE), ("vet", ELSEWHERE))):
        contact = number + 5
        due(account_id=account, appointment_id=str(number), address_hash=address)(rows)
        rows.guard(contact_id=contact, account_id=account, address_hash=address, step=1)
        went(contact_id=contact, account_id=account, address_hash=address, intended_at=NOW - 20 * HOUR)(rows)
    staged(VISIT, VISIT + DAY, phone_hash=ELSEWHERE)(rows)
    found = measured(rows)
    repeated = {account: (each["repeated"], each.get("usual_repeated", 0)) for (account, _), each in found.items()}
    assert repeated == {"clinic": (2, 1), "vet": (1, 0), "*": (3, 1)}


def test_each_account_and_each_channel_is_measured_by_itself_and_all_accounts_together(rows: Rows) -> None:
    for act in (
        due(), due(account_id="vet", address_hash=ELSEWHERE), due(step=1, channel="email", address_hash=MAILBOX),
        due(step=9, address_hash=ELSEWHERE),
    ):  # fmt: skip
        act(rows)
    counted = {which: found["contacts"] for which, found in measured(rows).items()}
    assert counted == {
        ("clinic", "sms"): 2, ("vet", "sms"): 1, ("clinic", "email"): 1, ("*", "sms"): 3, ("*", "email"): 1,
    }  # fmt: skip


def seen(weeks: float, account: str = "clinic") -> Act:
    return lambda rows: rows.put("account_seen", account_id=account, first_seen_at=HALF_PAST - weeks * WEEK)


def volume(weeks_ago: int, contacts: int, hours: int = 0, **changed: Any) -> Act:
    columns = {"account_id": "clinic", "channel": "sms", "overdue": contacts + 1, "repeated": contacts + 2} | changed
    hour = NOW - weeks_ago * WEEK + hours * HOUR
    return lambda rows: rows.put("volume", **({"hour_at": hour, "contacts": contacts} | columns))


@pytest.mark.parametrize(
    ("usual", "acts"),
    [
        # With less than two weeks of history, what the book implies: here nothing
        ((0, 0, 0), (seen(1.9), volume(1, 5))),
        ((0, 0, 0), (seen(1.9), seen(2, "vet"), volume(1, 5), volume(2, 5))),
        # Of two weeks the lesser, of three the one in the middle
        ((5, 6, 7), (seen(2), volume(1, 5), volume(2, 9))),
        ((0, 0, 0), (seen(2), volume(1, 5))),
        ((7, 8, 9), (seen(3), volume(1, 5), volume(2, 9), volume(3, 7))),
        # Of eight weeks at most
        ((1, 2, 3), (seen(20), *(volume(week, 1 if week < 9 else 9) for week in range(1, 18)))),
        # The same hour or its neighbours, the most of them
        ((5, 6, 7), (seen(2), volume(1, 5, 1), volume(2, 5, -1))),
        ((9, 10, 11), (seen(2), volume(1, 9), volume(1, 5, 1), volume(2, 9), volume(2, 5, -1))),
        ((0, 0, 0), (seen(2), volume(1, 5, 2), volume(2, 5, 2))),
        ((0, 0, 0), (seen(2), volume(1, 5, -2), volume(2, 5, -2))),
        ((0, 0, 0), (seen(2), volume(1, 5, account_id="vet"), volume(2, 5, account_id="vet"))),
        ((0, 0, 0), (seen(2), volume(1, 5, channel="call"), volume(2, 5, channel="call"))),
    ],
)  # fmt: skip
def test_what_is_usual(rows: Rows, usual: tuple[int, int, int], acts: tuple[Act, ...]) -> None:
    for act in (due(**FRESH), *acts):
        act(rows)
    assert usually(rows, "clinic") == usual


def test_all_accounts_together_have_the_history_of_the_one_known_longest(rows: Rows) -> None:
    for act in (due(**FRESH), seen(1), seen(2, "vet"), volume(1, 5, account_id="*"), volume(2, 5, account_id="*")):
        act(rows)
    assert (usually(rows, "clinic"), usually(rows, "*")) == ((0, 0, 0), (5, 6, 7))


def usually(rows: Rows, account: str) -> tuple[int, ...]:
    found = measured(rows)[account, "sms"]
    return tuple(found.get(f"usual_{what}", 0) for what in ("contacts", "overdue", "repeated"))


@pytest.mark.parametrize(("first_seen", "is_new"), [((), True), (("vet",), True), (("clinic",), False)])
def test_an_account_is_new_until_it_was_seen(rows: Rows, first_seen: tuple[str, ...], is_new: bool) -> None:
    for act in (due(**FRESH), *(seen(1, account) for account in first_seen)):
        act(rows)
    assert measured(rows)["clinic", "sms"].get("is_new", 1) == is_new
