"""How what is ready becomes contacts, and what a channel is told of them, clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, NOW, VISIT, Rows
from tests.integration.scene import MINUTE

DAY = timedelta(days=1)
PLANNED = "SELECT account_id, channel, address_hash, place FROM reminders.contact WHERE batch_id > 900 ORDER BY 2, 4"

Columns = dict[str, Any]
Act = Callable[[Rows], Any]


@pytest.fixture(autouse=True)
def batches_of_now(rows: Rows) -> None:
    """What a test plans has numbers of its own."""
    rows.owner.execute("ALTER TABLE reminders.batch ALTER batch_id RESTART WITH 1000")


def ready(number: int = 0, staged: Columns | None = None, **changed: Any) -> Act:
    """A text that is ready, to an address of its own, in the order of its number."""

    def act(rows: Rows) -> int:
        slot = VISIT + number * MINUTE
        columns = {"appointment_id": f"visit {number}", "slot_at": slot, "address_hash": bytes([50 + number])} | changed
        book = {name: columns[name] for name in ("appointment_id", "slot_at", "account_id") if name in columns}
        rows.staged(**(book | {"ends_at": columns["slot_at"]} | (staged or {})))
        return rows.reminder(**columns)

    return act


def planned(rows: Rows, *acts: Act, most: int = 100, batches: int = 2) -> list[tuple[Any, ...]]:
    """(account, channel, address, place) of each contact, by channel."""
    for act in acts:
        act(rows)
    rows.run(
        "plan_contacts", logical_date=NOW, now=NOW, channels=["email", "sms", "call"], most=[most] * 3,
        batches=[batches] * 3,
    )  # fmt: skip
    return rows.ask(PLANNED)


def places(contacts: list[tuple[Any, ...]]) -> list[int]:
    """The numbers of the texts that are planned, in their order."""
    return [contact[2][0] - 50 for contact in contacts]


def states(rows: Rows) -> list[Any]:
    return [state for (state,) in rows.ask("SELECT deferred_for FROM reminders.reminder ORDER BY reminder_id")]


@pytest.mark.parametrize(
    ("count", "reminder", "staged"),
    [
        (1, {}, {}), (1, {"deferred_for": "wait_for_pace"}, {}),
        (0, {"deferred_for": "wait_for_gap"}, {}), (0, {"state": "held"}, {}), (0, {"state": "expired"}, {}),
        (0, {"adopted_by": NOW - MINUTE}, {"logical_date": NOW - MINUTE}),
        (0, {"expires_at": NOW, "due_at": NOW - DAY}, {}),
        (0, {}, {"logical_date": NOW - MINUTE}), (0, {}, {"account_id": "vet"}), (0, {}, {"appointment_id": "another"}),
    ],
)  # fmt: skip
def test_what_is_planned(rows: Rows, count: int, reminder: Columns, staged: Columns) -> None:
    assert len(planned(rows, ready(staged=staged, **reminder))) == count


def test_the_nearest_goes_first(rows: Rows) -> None:
    assert places(planned(rows, ready(2), ready(0), ready(1))) == [0, 1, 2]


def test_one_contact_for_an_address_of_an_account_and_a_channel(rows: Rows) -> None:
    acts = (
        ready(0, address_hash=HERE), ready(1, address_hash=HERE),
        ready(2, address_hash=MAILBOX, channel="email", step=1),
        ready(3, address_hash=MAILBOX, channel="email", step=0),
    )  # fmt: skip
    assert planned(rows, *acts) == [("clinic", "email", MAILBOX, 1), ("clinic", "sms", HERE, 1)]
    members = "SELECT c.channel, count(*) FROM reminders.contact_member JOIN reminders.contact c USING (contact_id)"
    assert rows.ask(f"{members} GROUP BY 1 ORDER BY 1") == [("email", 1), ("sms", 2)]


def test_a_contact_has_its_own_members(rows: Rows) -> None:
    acts = (
        ready(0, address_hash=HERE), ready(1, address_hash=ELSEWHERE), ready(2, address_hash=b"\x09", account_id="vet"),
        ready(3, address_hash=b"\x08", channel="call", step=3),
    )  # fmt: skip
    planned(rows, *acts)
    assert rows.ask(
        "SELECT count(*), bool_and((c.account_id, c.channel, c.address_hash) ="
        " (r.account_id, r.channel, r.address_hash))"
        " FROM reminders.contact_member JOIN reminders.contact c USING (contact_id)"
        " JOIN reminders.reminder r USING (reminder_id)"
    ) == [(4, True)]


def test_of_two_accounts_the_nearer_one_has_the_address(rows: Rows) -> None:
    acts = (ready(1, address_hash=HERE), ready(0, address_hash=HERE, account_id="vet"))
    assert planned(rows, *acts) == [("vet", "sms", HERE, 1)]
    assert states(rows) == ["wait_for_pace", None]


def test_what_is_left_waits_for_its_pace_and_nothing_else_does(rows: Rows) -> None:
    acts = (
        ready(0), ready(1), ready(2, deferred_for="wait_for_gap"), ready(3, state="held"),
        ready(4, deferred_for="wait_for_pace"),
    )  # fmt: skip
    assert places(planned(rows, *acts, most=1)) == [0]
    assert states(rows) == [None, "wait_for_pace", "wait_for_gap", None, "wait_for_pace"]


def test_a_channel_takes_so_many_and_spreads_them_over_its_batches(rows: Rows) -> None:
    acts = tuple(ready(number) for number in range(5))
    assert places(planned(rows, *acts, most=3, batches=2)) == [0, 1, 2]
    assert rows.ask(
        "SELECT channel, share, logical_date, planned_at, array_agg(place ORDER BY place) FROM reminders.batch"
        " JOIN reminders.contact USING (batch_id, channel) GROUP BY batch_id ORDER BY batch_id"
    ) == [("sms", 2, NOW, NOW, [1, 3]), ("sms", 2, NOW, NOW, [2])]


def test_each_channel_has_its_own_batches_and_places(rows: Rows) -> None:
    acts = (ready(0), ready(1, channel="call", step=3), ready(2, channel="email", step=1))
    assert [(contact[1], contact[3]) for contact in planned(rows, *acts)] == [("call", 1), ("email", 1), ("sms", 1)]
    assert rows.ask("SELECT channel, share FROM reminders.batch ORDER BY 1") == [("call", 1), ("email", 1), ("sms", 1)]


def calls(count: int, first: int = 0, **changed: Any) -> Act:
    def act(rows: Rows) -> None:
        for number in range(first, first + count):
            ready(number, **({"channel": "call", "step": 3} | changed))(rows)

    return act


def just_planned(count: int, ago: timedelta = MINUTE, **changed: Any) -> Act:
    """Contacts of a cycle before."""

    def act(rows: Rows) -> None:
        columns: Columns = {"account_id": "clinic", "channel": "call", "released_at": None} | changed
        batch = rows.put("batch", batch_id=5, logical_date=NOW, channel="call", share=1, planned_at=NOW - ago)
        for number in range(count):
            rows.put("contact", batch_id=batch, address_hash=bytes([200 + number]), zone="UTC", place=1, **columns)

    return act


@pytest.mark.parametrize(
    ("count", "acts"),
    [
        (6, (calls(7),)),
        (2, (calls(7), lambda rows: rows.put("account_policy", account_id="clinic", call_pace=2))),
        (6, (calls(7), lambda rows: rows.put("account_policy", account_id="vet", call_pace=2))),
        (7, (calls(5), calls(2, 5, account_id="vet"))),
        (2, (calls(7), just_planned(4))),
        (6, (calls(7), just_planned(4, ago=4 * MINUTE))),
        (6, (calls(7), just_planned(4, account_id="vet"))),
        (6, (calls(7), just_planned(4, channel="sms"))),
        (7, (calls(7, channel="sms", step=2), just_planned(4))),
    ],
)
def test_an_account_calls_at_its_pace(rows: Rows, count: int, acts: tuple[Act, ...]) -> None:
    assert len(planned(rows, *acts)) == count


RELEASED = NOW - 30 * MINUTE


def released(count: int, first: int = 0, at: Any = RELEASED, **changed: Any) -> Act:
    """Texts of a backlog that a person has released."""

    def act(rows: Rows) -> None:
        hold = rows.hold("group", f"clinic {first} {at}", released_at=at)
        for number in range(first, first + count):
            ready(number, hold_id=hold, **changed)(rows)

    return act


def tried(count: int, state: str, at: Any = RELEASED, contact_released_at: Any = RELEASED, **changed: Any) -> Act:
    """Released contacts that were made since then."""

    def act(rows: Rows) -> None:
        for number in range(count):
            contact = rows.put(
                "contact", contact_id=3000 + number + 100 * (state == "delivered"), batch_id=5, account_id="vet",
                channel="sms", address_hash=bytes([100 + number]), zone="UTC", place=1, released_at=contact_released_at,
            )  # fmt: skip
            rows.attempt(**({"contact_id": contact, "intended_at": at, "state": state} | changed))

    return act


def pace(rows: Rows) -> None:
    rows.put("account_policy", account_id="clinic", call_pace=20)


def canary_of_two(rows: Rows) -> None:
    rows.owner.execute("UPDATE reminders.gate_bound SET canary = 2")


SMALL = (pace, canary_of_two)


@pytest.mark.parametrize(
    ("count", "acts"),
    [
        # Until so many are delivered, no more than the canary are under way
        (2, (*SMALL, released(5))),
        (1, (*SMALL, released(5), tried(1, "sending"))),
        (0, (*SMALL, released(5), tried(2, "sending"))),
        (2, (*SMALL, released(5), tried(1, "delivered"))),
        (5, (*SMALL, released(5), tried(2, "delivered"))),
        (2, (*SMALL, released(5), tried(2, "failed"))),
        # Those of this release, of the channel, and of a backlog
        (2, (*SMALL, released(5), tried(2, "delivered", at=RELEASED - MINUTE))),
        (2, (*SMALL, released(5), tried(2, "delivered", contact_released_at=None))),
        (2, (*SMALL, released(5), tried(2, "delivered", channel="email"))),
        (2, (*SMALL, released(5), tried(2, "sending", at=RELEASED - MINUTE))),
        # What is fresh goes
        (5, (*SMALL, lambda rows: [ready(number)(rows) for number in range(5)])),
        # Two releases that are not proven share the canary; each is proven by itself
        (2, (*SMALL, released(3), released(3, 5, at=RELEASED + MINUTE))),
        (5, (*SMALL, released(3), released(3, 5, at=RELEASED + MINUTE), tried(2, "delivered"))),
        # Each channel has its own
        (4, (*SMALL, released(3), released(3, 5, channel="email", step=1))),
        # At the account's pace
        (3, (canary_of_two, released(5), tried(2, "delivered"),
             lambda rows: rows.put("account_policy", account_id="clinic", call_pace=3))),
        (2, (canary_of_two, released(5), tried(2, "delivered"), just_planned(1, released_at=NOW, channel="sms"),
             lambda rows: rows.put("account_policy", account_id="clinic", call_pace=3))),
        (3, (canary_of_two, released(5), tried(2, "delivered"), just_planned(1, channel="sms"),
             lambda rows: rows.put("account_policy", account_id="clinic", call_pace=3))),
        (8, (canary_of_two, released(5), tried(2, "delivered"), lambda rows: [ready(n)(rows) for n in range(10, 15)],
             lambda rows: rows.put("account_policy", account_id="clinic", call_pace=3))),
    ],
)  # fmt: skip
def test_a_released_backlog_goes_after_its_canary(rows: Rows, count: int, acts: tuple[Act, ...]) -> None:
    found = planned(rows, *acts)
    assert len([contact for contact in found if contact[0] == "clinic"]) == count


def test_a_contact_says_that_it_is_of_a_backlog(rows: Rows) -> None:
    planned(rows, *SMALL, released(1), ready(1))
    at = "SELECT released_at FROM reminders.contact WHERE batch_id > 900 ORDER BY address_hash"
    assert rows.ask(at) == [(RELEASED,), (None,)]


def test_a_released_reminder_goes_along_with_a_fresh_one(rows: Rows) -> None:
    planned(rows, *SMALL, released(1, address_hash=HERE), ready(1, address_hash=HERE))
    assert rows.ask("SELECT released_at FROM reminders.contact WHERE batch_id > 900") == [(None,)]
    assert rows.ask("SELECT count(*) FROM reminders.contact_member") == [(2,)]


def test_of_two_releases_of_an_address_the_later_one_counts(rows: Rows) -> None:
    later = RELEASED + MINUTE
    planned(rows, *SMALL, released(1, address_hash=HERE), released(1, 1, at=later, address_hash=HERE))
    assert rows.ask("SELECT released_at FROM reminders.contact WHERE batch_id > 900") == [(later,)]


def test_another_account_s_backlog_keeps_no_fresh_reminder_of_the_address_back(rows: Rows) -> None:
    found = planned(rows, *SMALL, released(1, address_hash=HERE), ready(1, address_hash=HERE, account_id="vet"))
    assert found == [("vet", "sms", HERE, 1)]


def test_what_was_held_and_not_released_is_fresh_when_it_is_ready(rows: Rows) -> None:
    hold = rows.hold("channel", "email")
    planned(rows, *SMALL, ready(0, hold_id=hold))
    assert rows.ask("SELECT released_at FROM reminders.contact WHERE batch_id > 900") == [(None,)]
