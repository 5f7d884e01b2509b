"""When a channel holds itself, clause by clause: on which news, by which outcomes, since when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from tests.integration.rows import NOW, Rows
from tests.integration.scene import HOUR, MINUTE

BEGUN, ENDED = NOW - 10 * MINUTE, NOW - 5 * MINUTE
FAILED = {"state": "undelivered", "reason": "unreachable"}
WENT = {"state": "delivered", "reason": "read"}
HELD = "SELECT scope_value FROM reminders.hold WHERE released_at IS NULL AND placed_by = 'failing_channel' ORDER BY 1"
NEWS = """
UPDATE reminders.attempt a SET state = n.state, reason = n.reason, ended_at = %(now)s
FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(reasons)s::text[]) AS n (attempt_id, state, reason)
WHERE a.attempt_id = n.attempt_id
"""

Act = Callable[[Rows], Any]
contacts = count(1)


def attempted(rows: Rows, **columns: Any) -> int:
    """An attempt of a contact of its own."""
    return rows.attempt(contact_id=next(contacts), **columns)


@pytest.fixture(autouse=True)
def only_this_guard(rows: Rows) -> None:
    rows.owner.execute("ALTER TABLE reminders.attempt ENABLE ALWAYS TRIGGER held_when_failing")


def came(times: int, columns: dict[str, Any] = FAILED, **changed: Any) -> Act:
    """So many outcomes of texts, five minutes ago, of what was begun ten minutes ago."""
    at = {"intended_at": BEGUN, "ended_at": ENDED, "status_since_at": ENDED}
    return lambda rows: [attempted(rows, **(at | columns | changed)) for _ in range(times)]


def released(scope: str = "channel", value: str = "sms", at: Any = NOW - 7 * MINUTE) -> Act:
    return lambda rows: rows.hold(scope, value, placed_at=NOW - HOUR, released_at=at)


def held(rows: Rows, *news: tuple[str, dict[str, Any]]) -> list[str]:
    """The channels that are held when this is heard of as many attempts at once: (channel, outcome) of each."""
    ids = [attempted(rows, channel=channel, state="accepted", intended_at=NOW - MINUTE) for channel, _ in news]
    outcomes = [outcome for _, outcome in news]
    rows.owner.execute(NEWS, {
        "now": NOW, "ids": ids, "states": [each["state"] for each in outcomes],
        "reasons": [each["reason"] for each in outcomes],
    })  # fmt: skip
    return [channel for (channel,) in rows.ask(HELD)]


@pytest.mark.parametrize(
    ("is_held", "acts"),
    [
        (True, (came(9),)),
        (False, (came(8),)),
        # Over a fifth of the last fifty
        (True, (came(9), came(39, WENT))),
        (False, (came(9), came(40, WENT))),
        (True, (came(10), came(60, WENT, ended_at=ENDED - MINUTE))),
        (False, (came(9, ended_at=ENDED - MINUTE), came(49, WENT))),
        # Of one time, the last begun are the last
        (False, (came(9), came(49, WENT))),
        (True, (came(49, WENT), came(10))),
        # Another channel's failures are another's
        (False, (came(9, channel="email"),)),
        # Since a person's last release of this channel; what was begun before it says nothing
        (False, (released(at=NOW - 2 * MINUTE), came(9))),
        (False, (released(), came(9))),
        (True, (released(at=NOW - 11 * MINUTE), came(9))),
        (True, (released(value="email"), came(9))),
        (True, (released("account", "sms"), came(9))),
        (True, (released(at=NOW + MINUTE), came(9))),
        (False, (released(at=NOW - 11 * MINUTE), released(), came(9))),
    ],
)  # fmt: skip
def test_when_a_text_that_failed_holds_the_channel(rows: Rows, is_held: bool, acts: tuple[Act, ...]) -> None:
    for act in acts:
        act(rows)
    assert held(rows, ("sms", FAILED)) == (["sms"] if is_held else [])


def test_a_channel_that_a_person_has_stopped_takes_the_news_without_a_second_hold(rows: Rows) -> None:
    number = rows.hold("channel", "sms")
    came(9)(rows)
    assert held(rows, ("sms", FAILED)) == []
    assert rows.ask("SELECT hold_id FROM reminders.hold") == [(number,)]


def test_only_a_failure_that_is_news_holds_its_channel(rows: Rows) -> None:
    came(12)(rows)
    assert held(rows, ("sms", WENT)) == []
    assert held(rows, ("sms", WENT), ("email", FAILED)) == []
    came(9, channel="email")(rows)
    assert held(rows, ("sms", WENT), ("email", FAILED)) == ["email"]


def test_doubt_that_ends_without_proof_is_no_news(rows: Rows) -> None:
    came(12)(rows)
    doubt = attempted(rows, state="in_doubt", intended_at=BEGUN)
    rows.owner.execute(NEWS, {"now": NOW, "ids": [doubt], "states": ["unknown"], "reasons": ["no_proof"]})
    assert rows.ask(HELD) == []


def test_the_hold_says_what_was_counted_and_is_looked_at_within_an_hour(rows: Rows) -> None:
    came(9)(rows)
    came(3, {"state": "unknown", "reason": "no_proof"})(rows)
    came(5, WENT)(rows)
    held(rows, ("sms", FAILED))
    assert rows.ask("SELECT scope, why, review_at - placed_at FROM reminders.hold") == [
        ("channel", "13 of the last 18 outcomes failed: 10 undelivered, 3 unknown", timedelta(hours=1))
    ]
