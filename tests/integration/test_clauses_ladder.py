"""What a rung below amounts to, clause by clause: proof for a call, nobody to be reached, or neither."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, NOW, VISIT, Rows
from tests.integration.scene import HOUR

STATES = (
    "pending", "held", "sending", "in_doubt", "accepted", "delivered", "undelivered", "failed", "unknown", "expired",
    "superseded", "cancelled", "suppressed",
)  # fmt: skip
HAS_PROOF = "SELECT reminders.has_proof('clinic', 'visit', %(slot)s, %(step)s::smallint)"
UNREACHABLE = "SELECT reminders.lower_rungs_unreachable('clinic', 'visit', %(slot)s, %(step)s::smallint)"
STANDS = "SELECT state, reason, sent_at, delivered_at FROM reminders.rung_end WHERE appointment_id = 'visit'"


def is_so(rows: Rows, question: str, step: int = 3) -> bool:
    [(answer,)] = rows.ask(question, slot=VISIT, step=step)
    return bool(answer)


@pytest.mark.parametrize("state", STATES)
def test_which_ends_of_a_lower_rung_are_proof(rows: Rows, state: str) -> None:
    rows.reminder(state=state)
    assert is_so(rows, HAS_PROOF) == (state in ("delivered", "unknown", "failed", "undelivered"))


@pytest.mark.parametrize("state", ["failed", "undelivered"])
@pytest.mark.parametrize(
    ("reason", "is_proof"),
    [
        ("bad_address", True), ("busy", True),
        ("misconfigured", False), ("too_late", False), ("refused_unexplained", False),
    ],
)  # fmt: skip
def test_a_refusal_is_proof_only_when_it_is_about_the_address(
    rows: Rows, state: str, reason: str, is_proof: bool
) -> None:
    rows.reminder(state=state, reason=reason)
    assert is_so(rows, HAS_PROOF) == is_proof


def test_what_a_restore_forgot_is_no_proof(rows: Rows) -> None:
    rows.reminder(state="unknown", reason="forgotten")
    assert not is_so(rows, HAS_PROOF)


@pytest.mark.parametrize(
    "of", [{"account_id": "vet"}, {"appointment_id": "another"}, {"slot_at": VISIT + HOUR}, {"step": 3}, {"step": 0}]
)
def test_what_became_of_another_rung_is_no_proof(rows: Rows, of: dict[str, Any]) -> None:
    rows.reminder(**({"state": "delivered", "channel": "email"} | of))
    assert not is_so(rows, HAS_PROOF)


def ladder(rows: Rows, account: str, *channels: str) -> None:
    for step, channel in enumerate(channels, start=1):
        rows.put(
            "cadence_step", account_id=account, step=step, channel=channel, lead=timedelta(hours=40 - step),
            useful_until=HOUR, wait=timedelta(0),
        )  # fmt: skip


def no_mailbox(rows: Rows, reason: str = "no_address", **changed: Any) -> None:
    rows.reminder(
        **({"step": 1, "channel": "email", "state": "suppressed", "reason": reason, "address_hash": None} | changed)
    )


@pytest.mark.parametrize(
    ("reason", "is_out_of_reach"),
    [
        ("no_address", True), ("bad_address", True), ("country_not_permitted", True),
        ("number_type_not_permitted", True), ("opted_out", False), ("unknown_time_zone", False),
    ],
)  # fmt: skip
def test_whom_no_email_can_reach_is_called_first(rows: Rows, reason: str, is_out_of_reach: bool) -> None:
    ladder(rows, "clinic", "email", "call")
    no_mailbox(rows, reason)
    assert is_so(rows, UNREACHABLE, step=2) == is_out_of_reach


def test_an_email_that_ended_in_another_way_was_in_reach(rows: Rows) -> None:
    ladder(rows, "clinic", "email", "call")
    no_mailbox(rows, state="expired")
    assert not is_so(rows, UNREACHABLE, step=2)


def test_without_any_rung_below_nobody_knows(rows: Rows) -> None:
    ladder(rows, "clinic", "email", "call")
    assert not is_so(rows, UNREACHABLE, step=2)


def test_where_the_ladder_has_a_text_it_does_not_begin_with_the_call(rows: Rows) -> None:
    ladder(rows, "clinic", "email", "sms", "call")
    no_mailbox(rows)
    assert not is_so(rows, UNREACHABLE, step=3)
    # The text comes after the call that is asked about.
    assert is_so(rows, UNREACHABLE, step=2)


def test_a_text_that_could_not_go_is_no_email(rows: Rows) -> None:
    ladder(rows, "clinic", "email", "call")
    no_mailbox(rows, channel="sms")
    assert not is_so(rows, UNREACHABLE, step=2)


def test_an_account_without_a_ladder_has_that_of_all_and_no_other_s(rows: Rows) -> None:
    no_mailbox(rows)
    assert not is_so(rows, UNREACHABLE, step=3)
    rows.owner.execute("DELETE FROM reminders.cadence_step WHERE channel = 'sms'")
    assert is_so(rows, UNREACHABLE, step=3)
    ladder(rows, "vet", "sms", "call")
    assert is_so(rows, UNREACHABLE, step=3)


def test_an_account_with_a_ladder_has_not_that_of_all(rows: Rows) -> None:
    ladder(rows, "clinic", "email", "email", "call")
    no_mailbox(rows)
    assert is_so(rows, UNREACHABLE, step=3)


@pytest.mark.parametrize(
    "of", [{"account_id": "vet"}, {"appointment_id": "another"}, {"slot_at": VISIT + HOUR}, {"step": 2}]
)
def test_what_became_of_another_s_email_says_nothing(rows: Rows, of: dict[str, Any]) -> None:
    """Neither alone, nor beside the appointment's own."""
    ladder(rows, "clinic", "email", "call")
    no_mailbox(rows, **of)
    assert not is_so(rows, UNREACHABLE, step=2)
    rows.owner.execute("UPDATE reminders.reminder SET state = 'expired', reason = 'too_late'")
    if of != {"step": 2}:
        no_mailbox(rows)
        assert is_so(rows, UNREACHABLE, step=2)


COVERED = {"state": "superseded", "reason": "slot_already_contacted"}
COVERING = {
    "appointment_id": "imported again", "contact_id": 7, "state": "delivered", "sent_at": NOW - 3 * HOUR,
    "delivered_at": NOW - 2 * HOUR, "reason": "read",
}  # fmt: skip


def test_a_rung_stands_as_it_ended(rows: Rows) -> None:
    rows.reminder(state="undelivered", reason="busy", sent_at=NOW - 5 * HOUR)
    assert rows.ask(STANDS) == [("undelivered", "busy", NOW - 5 * HOUR, None)]
    rows.owner.execute("DELETE FROM reminders.reminder")
    rows.reminder(state="delivered", reason="read", sent_at=NOW - 5 * HOUR, delivered_at=NOW - 4 * HOUR)
    assert rows.ask(STANDS) == [("delivered", "read", NOW - 5 * HOUR, NOW - 4 * HOUR)]


def test_a_rung_whose_address_was_contacted_by_another_stands_as_that_contact_does(rows: Rows) -> None:
    rows.reminder(**COVERED)
    rows.reminder(**COVERING)
    rows.guard(contact_id=7)
    assert rows.ask(STANDS) == [("delivered", "read", NOW - 3 * HOUR, NOW - 2 * HOUR)]


@pytest.mark.parametrize(
    ("covered", "covering", "guard"),
    [
        ({"reason": "moved"}, {}, {}),
        ({}, {}, {"is_uncontacted": True}),
        ({}, {}, {"account_id": "vet"}),
        ({}, {}, {"address_hash": ELSEWHERE}),
        ({}, {}, {"slot_at": VISIT + HOUR}),
        ({}, {}, {"step": 1}),
        ({}, {"contact_id": 8}, {}),
        ({}, {"slot_at": VISIT + HOUR}, {}),
        ({}, {"step": 1}, {}),
        # Both about another slot, or another step
        ({}, {"slot_at": VISIT + HOUR}, {"slot_at": VISIT + HOUR}),
        ({}, {"step": 1}, {"step": 1}),
    ],
)  # fmt: skip
def test_a_contact_about_something_else_covers_no_rung(
    rows: Rows, covered: dict[str, Any], covering: dict[str, Any], guard: dict[str, Any]
) -> None:
    rows.reminder(**(COVERED | covered))
    rows.reminder(**(COVERING | covering))
    rows.guard(**({"contact_id": 7} | guard))
    [(state, reason, _, _)] = rows.ask(STANDS)
    assert (state, reason) == ("superseded", (COVERED | covered)["reason"])


def test_one_rung_is_one_rung_however_many_the_contact_covered(rows: Rows) -> None:
    rows.reminder(**COVERED)
    rows.guard(contact_id=7)
    for name in ("imported again", "and again"):
        rows.reminder(**(COVERING | {"appointment_id": name, "address_hash": HERE}))
    assert len(rows.ask(STANDS)) == 1


def test_the_notice_of_a_cancellation_is_no_rung(rows: Rows) -> None:
    rows.reminder(step=0, channel="email")
    assert rows.ask(STANDS) == []
