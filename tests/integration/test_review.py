"""A hold is looked at again in time, and released by a person only."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reminders.cycle.close import close
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene

ROOT = Path(__file__).parents[2]
WHY = "Mrs Canary of +442079460018 complained"


def place(scene: Scene, scope: str, value: str, review_at: datetime) -> int:
    row = scene.owner.execute(
        "INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at)"
        " VALUES (%s, %s, 'an operator', %s, %s) RETURNING hold_id",
        (scope, value, WHY, review_at),
    ).fetchone()
    return int(row[0])


def closed(scene: Scene) -> dict[str, Any]:
    scene.cycle()
    return close(scene.ledger, scene.now, True, scene.now)


def test_a_cycle_reminds_of_the_holds_whose_review_is_due(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.at(WEDNESDAY_2PM)
    account = place(scene, "account", "clinic", WEDNESDAY_2PM - 90 * MINUTE)
    texts = place(scene, "channel", "sms", WEDNESDAY_2PM)
    place(scene, "channel", "call", WEDNESDAY_2PM + MINUTE)
    everything = place(scene, "all", "", WEDNESDAY_2PM - 26 * HOUR)
    result = closed(scene)
    assert result["holds_to_review"] == 3
    assert caplog.messages == [
        f"holds to review: {everything} (all) overdue by 1 day, 2:00:00, {account} (account clinic) overdue by 1:30:00,"
        f" {texts} (channel sms) overdue by 0:00:00"
    ]
    assert json.loads(json.dumps(result)) == result, "it passes through XCom"


def test_without_one_nothing_is_said(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.at(WEDNESDAY_2PM)
    place(scene, "all", "", WEDNESDAY_2PM + HOUR)
    released = place(scene, "channel", "sms", WEDNESDAY_2PM - HOUR)
    scene.owner.execute(
        "UPDATE reminders.hold SET released_at = now(), released_by = 'op' WHERE hold_id = %s", [released]
    )
    assert closed(scene)["holds_to_review"] == 0
    assert caplog.messages == []


def test_many_are_counted_and_the_longest_overdue_are_named(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.at(WEDNESDAY_2PM)
    for number in range(25):
        place(scene, "account", f"account-{number}", WEDNESDAY_2PM - number * MINUTE)
    assert closed(scene)["holds_to_review"] == 25
    [line] = caplog.messages
    assert line.endswith("(account account-5) overdue by 0:05:00, and 5 more") and "account-24" in line


def test_a_hold_that_nobody_looks_at_stands_and_its_reminders_expire(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 20 * HOUR))
    place(scene, "all", "", WEDNESDAY_2PM)
    for hours in (0, 1, 6, 19, 24, 24 * 30):
        assert closed(scene.at(WEDNESDAY_2PM + hours * HOUR))["holds_to_review"] == 1
    assert scene.reached == []
    assert {state for state, _ in scene.states().values()} == {"expired"}


def test_only_the_operator_s_role_can_release(scene: Scene) -> None:
    """By the catalogue, for every role that is not the ledger's owner; nobody can insert a hold that is released."""
    can = scene.owner.execute(
        "SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolname LIKE 'reminders%' AND rolname <> 'reminders_owner'"
        " AND (has_column_privilege(oid, 'reminders.hold', 'released_at', 'UPDATE')"
        "   OR has_column_privilege(oid, 'reminders.hold', 'released_by', 'UPDATE'))"
    ).fetchall()
    # The login of a person inherits nothing: it acts as the role.
    assert can == [("reminders_operator",)]
    place(scene, "all", "", WEDNESDAY_2PM)
    release = "UPDATE reminders.hold SET released_at = now(), released_by = 'me'"
    for role in ("planner", "dispatcher", "webhook", "analyst", "operator"):
        released = "refused"
        try:
            with scene.owner.transaction(force_rollback=True):
                scene.owner.execute(f"SET LOCAL ROLE reminders_{role}")
                scene.owner.execute(release)
                released = "released"
        except psycopg.errors.InsufficientPrivilege:
            pass
        assert (role, released) == (role, "released" if role == "operator" else "refused")


def test_no_code_releases(scene: Scene) -> None:
    """Neither a function of the ledger, which may act as its owner, nor a statement or a line but the operator's."""
    released = re.compile(
        r"UPDATE\s+(reminders\.)?hold\b|released_at\s*=|ON CONFLICT[^;]*released_at\s+IS NULL DO UPDATE", re.I
    )
    functions = scene.owner.execute(
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'reminders'::regnamespace"
    ).fetchall()
    files = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("include/sql/*.sql")]
    assert len(functions) > 20 and len(files) > 20
    assert [name for name, source in functions if released.search(source)] == []
    assert [path.name for path in files if released.search(path.read_text())] == ["7_operate.sql"]
