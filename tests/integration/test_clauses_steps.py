"""Which ladders are refused, clause by clause: those that cannot be climbed, and those that renumber what is ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.integration.rows import NOW, Rows
from tests.integration.scene import HOUR

Act = Callable[[Rows], Any]
AHEAD = NOW + HOUR


@pytest.fixture(autouse=True)
def only_this_guard(rows: Rows) -> None:
    rows.owner.execute("ALTER TABLE reminders.cadence_step ENABLE ALWAYS TRIGGER ladder_can_be_climbed")


def step(number: int, channel: str, lead: int, wait: int = 0, account: str = "clinic") -> Act:
    """A step of an account's ladder; lead and wait in hours."""
    return lambda rows: rows.put(
        "cadence_step", account_id=account, step=number, channel=channel, lead=lead * HOUR, useful_until=HOUR / 2,
        wait=wait * HOUR,
    )  # fmt: skip


def ahead(**changed: Any) -> Act:
    """A second step, by text, of an appointment that is still to come."""
    return lambda rows: rows.reminder(**({"slot_at": AHEAD, "expires_at": AHEAD} | changed))


def refused(rows: Rows, *acts: Act) -> str | None:
    """What the ledger says against the ladder that is there when all is written; None when it takes it."""
    try:
        with rows.owner.transaction():
            for act in acts:
                act(rows)
            rows.owner.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.errors.CheckViolation as error:
        assert error.diag.constraint_name == "ladder_can_be_climbed"
        return str(error.diag.message_primary)
    return None


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        (None, (step(1, "email", 72), step(2, "sms", 24))),
        ("give it a lead below", (step(1, "email", 72), step(2, "sms", 72))),
        ("give it a lead below", (step(1, "email", 72), step(2, "sms", 73))),
        ("for an answer are over", (step(1, "email", 72), step(2, "sms", 24, wait=49))),
        (None, (step(1, "email", 72), step(2, "sms", 24, wait=48))),
        # The one below is the next one that there is
        (None, (step(1, "email", 72), step(5, "sms", 24), step(3, "call", 48))),
        ("step 5 is due no later than step 3", (step(1, "email", 72), step(3, "call", 24), step(5, "sms", 48))),
        # Another account's steps are another's
        (None, (step(1, "email", 20), step(1, "email", 72, account="vet"), step(2, "sms", 24, account="vet"))),
    ],
)
def test_each_step_comes_after_the_one_below_and_its_answer(
    rows: Rows, said: str | None, steps: tuple[Act, ...]
) -> None:
    found = refused(rows, *steps)
    assert found is None if said is None else said in (found or "")


MAKES_IT_A_CALL = (step(1, "email", 72), step(2, "call", 24))


@pytest.mark.parametrize(
    ("is_refused", "acts"),
    [
        (True, (ahead(), *MAKES_IT_A_CALL)),
        (False, (ahead(step=1, channel="email"), *MAKES_IT_A_CALL)),
        (False, (ahead(channel="call"), *MAKES_IT_A_CALL)),
        (False, (ahead(slot_at=NOW, expires_at=NOW), *MAKES_IT_A_CALL)),
        (False, (ahead(account_id="vet"), *MAKES_IT_A_CALL)),
        # What a person turned down to email is still of its step's channel
        (True, (ahead(channel="email", turned_down_from="sms"), *MAKES_IT_A_CALL)),
        (False, (ahead(channel="email", turned_down_from="call"), *MAKES_IT_A_CALL)),
        (False, (ahead(channel="email", turned_down_from="sms"), step(1, "email", 72), step(2, "sms", 24))),
    ],
)
def test_an_accounts_own_ladder_renumbers_nothing_that_is_ahead(
    rows: Rows, is_refused: bool, acts: tuple[Act, ...]
) -> None:
    assert bool(refused(rows, *acts)) == is_refused


@pytest.mark.parametrize("acts", [(ahead(),), (ahead(channel="email", turned_down_from="sms"),)])
def test_the_refusal_says_what_the_step_was_by_its_ladder(rows: Rows, acts: tuple[Act, ...]) -> None:
    assert "step 2 is sms for appointments still ahead, and would be call" in (
        refused(rows, *acts, *MAKES_IT_A_CALL) or ""
    )


@pytest.mark.parametrize(
    ("is_refused", "acts"),
    [
        (True, (ahead(),)),
        # Who has a ladder of its own does not go by that of all
        (False, (step(2, "sms", 24), ahead())),
        (True, (step(2, "sms", 24), ahead(account_id="vet"))),
    ],
)
def test_the_ladder_of_all_renumbers_nothing_of_those_who_go_by_it(
    rows: Rows, is_refused: bool, acts: tuple[Act, ...]
) -> None:
    def turn_into_calls(_: Rows) -> None:
        rows.owner.execute("UPDATE reminders.cadence_step SET channel = 'call' WHERE account_id = '*' AND step = 2")

    assert bool(refused(rows, *acts, turn_into_calls)) == is_refused


@pytest.mark.parametrize(("account", "is_refused"), [("*", True), ("clinic", False)])
def test_only_the_ladder_of_all_must_have_a_step(rows: Rows, account: str, is_refused: bool) -> None:
    step(1, "email", 72)(rows)

    def remove(_: Rows) -> None:
        rows.owner.execute("DELETE FROM reminders.cadence_step WHERE account_id = %s", [account])

    found = refused(rows, remove)
    assert (found is not None and "need at least one step" in found) == is_refused


def test_without_a_ladder_of_all_an_account_may_still_write_its_own(rows: Rows) -> None:
    rows.owner.execute("ALTER TABLE reminders.cadence_step DISABLE TRIGGER ladder_can_be_climbed")
    rows.owner.execute("DELETE FROM reminders.cadence_step WHERE account_id = '*'")
    rows.owner.execute("ALTER TABLE reminders.cadence_step ENABLE ALWAYS TRIGGER ladder_can_be_climbed")
    assert refused(rows, step(1, "email", 72)) is None
