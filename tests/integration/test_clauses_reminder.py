"""What the triggers ask of a change to a reminder, a hold or the mark, clause by clause; and what triage writes."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.integration.rows import NOW, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

Columns = dict[str, Any]


def refusal(rows: Rows, statement: str, role: str | None = None, **values: Any) -> str | None:
    """The guard that refuses the statement; None: it is accepted, and stays."""
    try:
        with rows.owner.transaction():
            rows.owner.execute("SET LOCAL session_replication_role = origin")
            if role:
                rows.owner.execute(f"SET LOCAL ROLE {role}".encode())
            rows.owner.execute(statement.encode(), values)
    except psycopg.errors.IntegrityError as error:
        return error.diag.constraint_name
    finally:
        rows.owner.execute("RESET ROLE")
    return None


REOPEN = "UPDATE reminders.reminder SET state = 'pending', ended_at = NULL, reason = NULL"


@pytest.mark.parametrize("state", ["cancelled", "superseded"])
@pytest.mark.parametrize(
    ("reason", "is_accepted"),
    [
        ("not_in_book", True), ("moved", True), ("cancelled_in_book", True), ("confirmed", True),
        ("dropped", False), ("reinstated", False), ("slot_already_contacted", False),
    ],
)  # fmt: skip
def test_only_what_a_slip_of_the_book_ended_is_open_again(
    rows: Rows, state: str, reason: str, is_accepted: bool
) -> None:
    rows.reminder(state=state, reason=reason)
    assert refusal(rows, REOPEN, "reminders_planner") == (None if is_accepted else "transition_allowed")


def test_after_a_contact_nothing_is_open_again(rows: Rows) -> None:
    rows.reminder(state="cancelled", reason="moved", contact_id=1)
    assert refusal(rows, REOPEN, "reminders_planner") == "transition_allowed"


def test_what_ended_moves_on_to_another_end_after_a_contact(rows: Rows) -> None:
    rows.reminder(state="unknown")
    change = "UPDATE reminders.reminder SET state = 'undelivered', reason = 'busy'"
    assert refusal(rows, change, "reminders_dispatcher") is None


def test_a_superuser_repairs_along_the_lines_of_the_table_and_along_no_other(rows: Rows) -> None:
    rows.reminder(state="in_doubt")
    assert refusal(rows, "UPDATE reminders.reminder SET state = 'accepted'") is None
    assert refusal(rows, "UPDATE reminders.reminder SET state = 'held'") == "transition_allowed"


@pytest.mark.parametrize(
    ("role", "refused_by"),
    [(None, None), ("reminders_owner", None), ("reminders_planner", "transition_allowed")],
)
def test_only_the_owner_begins_a_reminder_in_another_state(rows: Rows, role: str | None, refused_by: Any) -> None:
    rows.owner.execute("GRANT INSERT (state) ON reminders.reminder TO reminders_planner")
    insert = (
        "INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, state, logical_date,"
        " adopted_by, due_at, expires_at) VALUES ('clinic', 'new', %(slot)s, 1, 'email', 'held', now(), now(),"
        " %(now)s, %(slot)s)"
    )
    assert refusal(rows, insert, role, now=NOW, slot=VISIT) == refused_by


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("address_hash", "'\\x09'"), ("address_masked", "'x'"),
        ("due_at", "due_at - interval '1 hour'"), ("expires_at", "expires_at - interval '1 hour'"),
        ("adopted_by", "adopted_by + interval '1 hour'"), ("channel", "'email'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("state", "refused_by"), [("pending", None), ("held", None), ("delivered", "never_rewritten")])
def test_what_was_sent_says_what_was(rows: Rows, state: str, refused_by: str | None, column: str, value: str) -> None:
    rows.reminder(state=state)
    rows.owner.execute("ALTER TABLE reminders.reminder DISABLE TRIGGER never_louder")
    assert refusal(rows, f"UPDATE reminders.reminder SET {column} = {value}") == refused_by


def test_what_goes_back_to_pending_may_be_corrected_at_once(rows: Rows) -> None:
    rows.reminder(state="sending")
    change = (
        "UPDATE reminders.reminder SET state = 'pending', contact_id = NULL, sent_at = NULL, address_hash = '\\x09',"
        " adopted_by = adopted_by + interval '5 minutes'"
    )
    assert refusal(rows, change) is None


def test_what_has_ended_still_notes_what_is_no_rewriting(rows: Rows) -> None:
    rows.reminder(state="delivered")
    assert refusal(rows, "UPDATE reminders.reminder SET attempt_count = attempt_count + 1") is None


@pytest.mark.parametrize(
    ("state", "change", "refused_by"),
    [
        ("held", "channel = 'email', turned_down_from = 'sms'", None),
        ("held", "channel = 'email', turned_down_from = 'call'", "never_louder"),
        ("held", "channel = 'email'", "never_louder"),
        ("held", "channel = 'call', turned_down_from = 'sms'", "never_louder"),
        ("pending", "channel = 'email', turned_down_from = 'sms'", "never_louder"),
        ("pending", "wait = '1 hour'", None),
    ],
)
def test_a_person_turns_down_only_what_is_held_and_only_to_email(
    rows: Rows, state: str, change: str, refused_by: str | None
) -> None:
    rows.reminder(state=state)
    assert refusal(rows, f"UPDATE reminders.reminder SET {change}") == refused_by


def hold_is(rows: Rows, old: int | None, new: int | None) -> str | None:
    rows.reminder(hold_id=old)
    return refusal(rows, "UPDATE reminders.reminder SET hold_id = %(new)s", new=new)


def test_a_reminder_changes_its_hold_only_when_that_is_released(rows: Rows) -> None:
    one, other = rows.hold("channel", "sms"), rows.hold("all")
    assert hold_is(rows, one, other) == "hold_is_kept"
    rows.hold("account", "vet", released_at=NOW)
    assert refusal(rows, "UPDATE reminders.reminder SET hold_id = %(new)s", new=other) == "hold_is_kept"
    rows.owner.execute("UPDATE reminders.hold SET released_at = %s, released_by = 'Ana' WHERE hold_id = %s", [NOW, one])
    assert refusal(rows, "UPDATE reminders.reminder SET hold_id = %(new)s", new=other) is None


@pytest.mark.parametrize(
    ("released_at", "refused_by"),
    [
        (None, None), (NOW, None), (NOW - MINUTE, None), (NOW + MINUTE, None),
        (NOW - 3 * MINUTE, "hold_is_kept"), (NOW + 3 * MINUTE, "hold_is_kept"),
    ],
)  # fmt: skip
def test_a_reminder_is_given_a_hold_that_is_in_force_or_was_a_moment_ago(
    rows: Rows, released_at: Any, refused_by: str | None
) -> None:
    assert hold_is(rows, None, rows.hold("all", released_at=released_at)) == refused_by


def test_a_hold_that_is_not_there_is_none(rows: Rows) -> None:
    number = rows.hold("all")
    assert hold_is(rows, None, number + 1) == "hold_is_kept"


def noted(rows: Rows, state: str = "sending", to: str = "held", **changed: Any) -> Any:
    """The hold that a reminder has after it was given back."""
    rows.reminder(state=state, **changed)
    change = f"UPDATE reminders.reminder SET state = '{to}', contact_id = NULL, sent_at = NULL"
    assert refusal(rows, change) is None
    [(hold_id,)] = rows.ask("SELECT hold_id FROM reminders.reminder")
    return hold_id


@pytest.mark.parametrize(("scope", "value"), [("all", ""), ("channel", "sms"), ("account", "clinic")])
def test_what_our_configuration_stopped_has_the_hold_that_stops_it(rows: Rows, scope: str, value: str) -> None:
    number = rows.hold(scope, value)
    rows.hold("book", "*")
    assert noted(rows) == number


def test_of_several_it_has_the_first(rows: Rows) -> None:
    first = rows.hold("channel", "sms")
    rows.hold("account", "clinic")
    assert noted(rows) == first


@pytest.mark.parametrize(
    ("scope", "value"),
    [("channel", "call"), ("account", "vet"), ("group", "sms"), ("group", "clinic"), ("account", "sms"), ("book", "*")],
)
def test_it_has_no_hold_that_does_not_stop_it(rows: Rows, scope: str, value: str) -> None:
    rows.hold(scope, value)
    assert noted(rows) is None


def test_what_is_given_back_for_another_reason_is_not_counted_as_held(rows: Rows) -> None:
    rows.hold("all")
    assert noted(rows, to="pending") is None


def test_what_a_person_had_released_keeps_that_hold_for_the_record(rows: Rows) -> None:
    released = rows.hold("channel", "sms", released_at=NOW - HOUR)
    rows.hold("all")
    assert noted(rows, hold_id=released) == released


@pytest.mark.parametrize(
    ("change", "refused_by"),
    [
        ("reserved_to = reserved_to - 1", "mark_moves_up"),
        ("reserved_to = reserved_to + 1", None),
        ("reserved_to = reserved_to", None),
        ("secret_fingerprint = 'another'", "mark_moves_up"),
        ("secret_fingerprint = NULL", "mark_moves_up"),
        ("secret_fingerprint = secret_fingerprint", None),
    ],
)
def test_the_mark_only_rises_and_the_key_stays(rows: Rows, change: str, refused_by: str | None) -> None:
    rows.owner.execute("UPDATE reminders.ledger_mark SET reserved_to = 5, secret_fingerprint = 'the key'")
    assert refusal(rows, f"UPDATE reminders.ledger_mark SET {change}", "reminders_planner") == refused_by


def test_the_first_key_is_taken(rows: Rows) -> None:
    change = "UPDATE reminders.ledger_mark SET secret_fingerprint = 'the key'"
    assert refusal(rows, change, "reminders_planner") is None


@pytest.mark.parametrize("closed_at", ["NULL", "now()"])
def test_a_date_that_runs_again_is_judged_again(rows: Rows, closed_at: str) -> None:
    rows.put(
        "cycle", logical_date=NOW, run_kind="scheduled", has_own_date=True, started_at=NOW, judged_at=NOW,
        closed_at=NOW, is_good=True,
    )  # fmt: skip
    assert refusal(rows, f"UPDATE reminders.cycle SET closed_at = {closed_at}") is None
    judged = (None, False) if closed_at == "NULL" else (NOW, True)
    assert rows.ask("SELECT judged_at, is_good FROM reminders.cycle") == [judged]


SETTLE = "SELECT disposition, is_changed FROM reminders.settle(%(now)s, %(ids)s)"
KEPT = ("state", "reason", "ended_at", "deferred_for", "not_before_at", "hold_id")


def settled(rows: Rows, staged: Columns | None = None, **changed: Any) -> tuple[tuple[Any, ...], Columns]:
    """(disposition, whether it was written), and how the reminder stands then."""
    number = rows.reminder(**changed)
    rows.staged(**(staged or {}))
    [answer] = rows.ask(SETTLE, now=NOW, ids=[number])
    with rows.owner.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute("SELECT * FROM reminders.reminder WHERE reminder_id = %s", [number]).fetchone()
    assert found is not None
    return answer, {name: found[name] for name in KEPT if found[name] is not None}


TOKYO: Columns = {"zone": "Asia/Tokyo"}
MORNING = NOW + 10 * HOUR
WAITING: Columns = {"deferred_for": "wait_for_hours", "not_before_at": MORNING}


@pytest.mark.parametrize(
    ("reminder", "staged", "answer", "stands"),
    [
        # Ready: nothing is noted, and what it waited for no longer stands; but its pace stays
        ({}, {}, ("ready", False), {"state": "pending"}),
        ({"state": "held"}, {}, ("ready", True), {"state": "pending"}),
        ({"deferred_for": "wait_for_hours"}, {}, ("ready", True), {"state": "pending"}),
        ({"deferred_for": "wait_for_pace"}, {}, ("ready", False), {
            "state": "pending", "deferred_for": "wait_for_pace",
        }),
        ({"deferred_for": "wait_for_hours", "not_before_at": NOW}, {}, ("ready", True), {
            "state": "pending", "not_before_at": NOW,
        }),
        # Deferred: for what, and until when
        ({}, TOKYO, ("deferred", True), {"state": "pending"} | WAITING),
        (WAITING, TOKYO, ("deferred", False), {"state": "pending"} | WAITING),
        (WAITING | {"deferred_for": "wait_for_gap"}, TOKYO, ("deferred", True), {"state": "pending"} | WAITING),
        (WAITING | {"not_before_at": NOW}, TOKYO, ("deferred", True), {"state": "pending"} | WAITING),
        (WAITING | {"state": "held"}, TOKYO, ("deferred", True), {"state": "pending"} | WAITING),
        ({"deferred_for": "wait_for_book", "not_before_at": NOW}, {"read_at": NOW - HOUR}, ("deferred", False), {
            "state": "pending", "deferred_for": "wait_for_book", "not_before_at": NOW,
        }),
        # Ended: why, and when
        ({"deferred_for": "wait_for_gap"}, {"status": "confirmed"}, ("superseded", True), {
            "state": "superseded", "reason": "confirmed", "ended_at": NOW,
        }),
        ({"state": "held"}, {"status": "cancelled"}, ("cancelled", True), {
            "state": "cancelled", "reason": "cancelled_in_book", "ended_at": NOW,
        }),
    ],
)  # fmt: skip
def test_what_triage_writes(
    rows: Rows, reminder: Columns, staged: Columns, answer: tuple[str, bool], stands: Columns
) -> None:
    assert settled(rows, staged, **reminder) == (answer, stands)


def test_what_is_held_has_the_hold_and_is_written_once(rows: Rows) -> None:
    hold = rows.hold("all")
    stands = {"state": "held", "deferred_for": "on_hold", "hold_id": hold}
    assert settled(rows) == (("held", True), stands)
    ids = [number for (number,) in rows.ask("SELECT reminder_id FROM reminders.reminder")]
    assert rows.ask(SETTLE, now=NOW, ids=ids) == [("held", False)]


@pytest.mark.parametrize("before", ["none", "released", "pending"])
def test_what_is_held_under_another_hold_is_written_again(rows: Rows, before: str) -> None:
    released = rows.hold("channel", "sms", released_at=NOW - HOUR)
    hold = rows.hold("all")
    changed: Columns = {
        "none": {"state": "held", "hold_id": None},
        "released": {"state": "held", "hold_id": released},
        "pending": {"state": "pending", "hold_id": hold},
    }[before]
    (answer, stands) = settled(rows, deferred_for="on_hold", **changed)
    assert (answer, stands["state"], stands["hold_id"]) == (("held", True), "held", hold)


def test_a_reminder_keeps_the_hold_that_a_person_released(rows: Rows) -> None:
    released = rows.hold("channel", "sms", released_at=NOW - HOUR)
    _, stands = settled(rows, TOKYO, hold_id=released)
    assert stands["hold_id"] == released


def test_only_what_is_asked_for_is_written(rows: Rows) -> None:
    rows.reminder(appointment_id="another", deferred_for="wait_for_gap")
    rows.staged(appointment_id="another")
    settled(rows, TOKYO)
    assert rows.ask("SELECT deferred_for FROM reminders.reminder ORDER BY 1") == [
        ("wait_for_gap",), ("wait_for_hours",),
    ]  # fmt: skip
