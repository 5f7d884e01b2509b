"""Which hold the decision table names, and whom it stops, clause by clause."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.rows import NOW, Rows
from tests.integration.scene import HOUR
from tests.integration.test_clauses_disposition import CALL, EMAIL, JUDGE, TEXT, Act, hold, judged, other, the


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("all", ""), ("channel", "sms"), ("account", "clinic"), ("book", "clinic"), ("book", "*"),
        ("cycle", "2026-02-11 14:00Z"), ("cycle", "2026-02-11T15:00+01:00"), ("group", "clinic 2 older"),
    ],
)  # fmt: skip
def test_the_hold_that_stops_it(rows: Rows, scope: str, value: str) -> None:
    number = rows.hold(scope, value)
    reminder = the(hold_id=number) if scope == "group" else TEXT
    assert judged(rows, reminder, TEXT) == ("on_hold", None, number)


def test_a_cycle_that_is_held_twice_in_two_ways_of_writing_is_judged_once(rows: Rows) -> None:
    first = rows.hold("cycle", "2026-02-11 14:00Z")
    rows.hold("cycle", "2026-02-11T15:00+01:00")
    assert judged(rows, TEXT, TEXT) == ("on_hold", None, first)


def test_it_stays_with_the_hold_that_it_has_until_that_is_released(rows: Rows) -> None:
    everything, channel = rows.hold("all"), rows.hold("channel", "sms")
    noted = rows.reminder(hold_id=channel)
    rows.staged()
    assert rows.ask(JUDGE, now=NOW, ids=[noted]) == [("on_hold", None, channel)]
    rows.owner.execute(
        "UPDATE reminders.hold SET released_at = now(), released_by = 'Ana' WHERE hold_id = %s", [channel]
    )
    assert rows.ask(JUDGE, now=NOW, ids=[noted]) == [("on_hold", None, everything)]


@pytest.mark.parametrize("released_at", [None, NOW])
def test_a_hold_that_is_no_group_s_stops_only_what_it_is_on(rows: Rows, released_at: Any) -> None:
    """Turned down to email, it still has the hold of the text that it was."""
    texts = rows.hold("channel", "sms", released_at=released_at)
    assert judged(rows, EMAIL | the(hold_id=texts), TEXT)[0] == "ready"


def test_a_group_that_was_released_goes(rows: Rows) -> None:
    group = rows.hold("group", "clinic 2 older", released_at=NOW)
    assert judged(rows, the(hold_id=group), TEXT)[0] == "ready"


@pytest.mark.parametrize(
    "below",
    [
        other(step=1, channel="email"),
        other(step=1, channel="email", state="delivered", sent_at=NOW - HOUR),
    ],
)
def test_what_waits_for_a_rung_stays_in_its_group(rows: Rows, below: Act) -> None:
    group = rows.hold("group", "clinic 2 older")
    assert judged(rows, the(hold_id=group), TEXT, below) == ("on_hold", None, group)


def test_a_call_without_proof_is_not_kept_by_its_group(rows: Rows) -> None:
    """Nothing below it can give proof any more: released, it could never go."""
    group = rows.hold("group", "clinic 3 older", step=3)
    missed = other(step=1, channel="email", state="expired")
    assert judged(rows, CALL | the(hold_id=group), TEXT, missed)[0] == "missed_by_us"


def test_a_hold_does_not_hurry_what_waits_for_a_rung(rows: Rows) -> None:
    assert judged(rows, TEXT, TEXT, hold("all"), other(step=1, channel="email"))[0] == "wait_for_lower_rung"


def test_only_what_is_asked_for_and_can_still_go_is_judged(rows: Rows) -> None:
    asked = rows.reminder()
    rows.reminder(appointment_id="not asked for")
    going = [
        rows.reminder(appointment_id=state, state=state)
        for state in ("sending", "in_doubt", "accepted", "delivered", "unknown", "expired", "cancelled")
    ]
    held = rows.reminder(appointment_id="held", state="held")
    found = rows.ask(
        "SELECT reminder_id FROM reminders.disposition(%(now)s, %(ids)s)", now=NOW, ids=[asked, held, *going]
    )
    assert sorted(found) == [(asked,), (held,)]
