"""What a guard consists of, layer by layer, and how each is taken away from a deployment that is running.

A layer that is taken away stands for a deploy that recorded its change: the definitions are recorded anew and the
release's own list of guards is shortened, so that preflight agrees. `unrecorded` leaves preflight its word.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Barrier, BrokenBarrierError
from unittest.mock import patch

from reminders.cycle import dispatch
from reminders.cycle.dispatch import Row
from reminders.cycle.stops import HoldWatch
from reminders.model import Acceptance, Contact
from reminders.store import ledger, session
from reminders.store.migrate import record_definitions
from tests.drill.ringonce import Act, Ringonce

DEFINITION = """
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'reminders'::regnamespace AND proname = %s"""
# Seconds; a cycle that failed before its MERGE does not come.
MEETING_TAKES = 1.0
LISTS = ("CONSTRAINTS", "UNIQUE_INDEXES", "TRIGGERS")


@dataclass(frozen=True)
class Fragment:
    """A part of a function's or statement's text, found `times` times, and what stands in its place."""

    old: str
    new: str
    times: int = 1

    def cut(self, text: str, where: str) -> str:
        """AssertionError when the text has changed, so that nothing silently stops being taken away."""
        assert text.count(self.old) == self.times, (
            f"{where} has {text.count(self.old)} times, not {self.times}: {self.old}"
        )
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Layer:
    """`name` as the table prints it; `remove` takes it away. `listed` is its name in the release's lists, if it has
    one (reminders.store.guards)."""

    name: str
    remove: Act
    listed: str = ""


def constraint(table: str, name: str) -> Layer:
    return Layer(
        f"constraint {name}", lambda system: drop(system, name, f"ALTER TABLE {table} DROP CONSTRAINT {name}"), name
    )


def index(name: str) -> Layer:
    return Layer(f"index {name}", lambda system: drop(system, name, f"DROP INDEX reminders.{name}"), name)


def trigger(table: str, name: str) -> Layer:
    listed, command = f"{table}.{name}", f"DROP TRIGGER {name} ON reminders.{table}"
    return Layer(f"trigger {name}", lambda system: drop(system, listed, command), listed)


def function(name: str, called: str, *fragments: Fragment) -> Layer:
    """`fragments` of the function `called`."""
    return Layer(name, lambda system: rewrite(system, called, fragments))


def statement(name: str, called: str, *fragments: Fragment) -> Layer:
    """`fragments` of the statement `called`; none: the whole of it does nothing."""
    return Layer(name, lambda system: restate(system, called, fragments))


def code(name: str, owner: object, attribute: str, new: Callable[..., object]) -> Layer:
    return Layer(name, lambda system: replace_code(system, owner, attribute, new))


def drop(system: Ringonce, name: str, command: str) -> None:
    """Drop one guard, and strike its name from the release's lists; AssertionError when no list has it."""
    system.owner.execute(command)
    named = 0
    for each in LISTS:
        names = getattr(ledger, each)
        named += name in names
        kept = tuple(guard for guard in names if guard != name)
        system.until_the_end.enter_context(patch.object(ledger, each, kept))
    assert named == 1, f"the release lists {name} {named} times"


def rewrite(system: Ringonce, called: str, fragments: tuple[Fragment, ...]) -> None:
    found = system.owner.execute(DEFINITION, (called,)).fetchall()
    assert len(found) == 1, f"{len(found)} functions are called {called}"
    text = found[0][0]
    for fragment in fragments:
        text = fragment.cut(text, called)
    # Without parameters its percent signs are its own.
    system.owner.execute(text)


def restate(system: Ringonce, called: str, fragments: tuple[Fragment, ...]) -> None:
    before = ledger.statement
    text = before(called)
    for fragment in fragments:
        text = fragment.cut(text, called)
    changed = text if fragments else "SELECT WHERE false"

    def restated(name: str) -> str:
        return changed if name == called else before(name)

    in_place_of_statement(system, restated)


def in_place_of_statement(system: Ringonce, found: Callable[[str], str]) -> None:
    """Wherever the store looks up a statement by its name."""
    for module in (ledger, session):
        system.until_the_end.enter_context(patch.object(module, "statement", found))


def replace_code(system: Ringonce, owner: object, attribute: str, new: Callable[..., object]) -> None:
    system.until_the_end.enter_context(patch.object(owner, attribute, new))


def unlock(system: Ringonce) -> None:
    """Cycles no longer take turns, and their MERGEs begin at the same time: else one is mostly over before the other
    begins, and the drill would show by chance only what the lock is for."""
    before = ledger.statement
    turn = Barrier(len(system.workers))

    def unlocked(name: str) -> str:
        if name == "merge_ledger":
            with suppress(BrokenBarrierError):
                turn.wait(MEETING_TAKES)
            if turn.broken:
                turn.reset()
        return "SELECT" if name == "lock_cycles" else before(name)

    in_place_of_statement(system, unlocked)


def without(layers: tuple[Layer, ...]) -> Act:
    """Take the layers away, and record that it was meant."""

    def sabotage(system: Ringonce) -> None:
        unrecorded(layers)(system)
        record_definitions(system.owner)

    return sabotage


def unrecorded(layers: tuple[Layer, ...]) -> Act:
    """Take the layers away and leave preflight the lists and the record of the migrations."""

    def sabotage(system: Ringonce) -> None:
        for layer in layers:
            layer.remove(system)

    return sabotage


def never_over(rows: object, contacts: Callable[..., list[Contact]] = dispatch.contacts) -> list[Contact]:
    """The contacts of `rows`, as if they were of use for a month."""
    return [replace(contact, expires_at=contact.expires_at + timedelta(days=30)) for contact in contacts(rows)]


def proof_of_nothing(
    attempt_id: int, result: Acceptance | BaseException, now: datetime, outcome: Callable[..., Row] = dispatch.outcome
) -> Row:
    """The outcome, with every error taken for proof that nobody was contacted."""
    row = outcome(attempt_id, result, now)
    return {**row, "outcome": "not_contacted", "not_before_at": now} if row["outcome"] == "in_doubt" else row


def verdict(name: str, *fragments: Fragment) -> Layer:
    return function(f"verdict {name}", "disposition", *fragments)


def fence(name: str, *fragments: Fragment) -> Layer:
    return function(f"fence {name}", "fence_attempts", *fragments)


LAST_CHECK = code("last check of the time before the socket", dispatch, "contacts", never_over)
SOCKET = code("hold watch before each socket", HoldWatch, "stops", lambda _watch, _contact: False)

TOLD_APART = code("the doubtful told apart from what was never sent", dispatch, "outcome", proof_of_nothing)
IN_DOUBT = function(
    "record_outcomes keeps the doubtful out of the queue",
    "record_outcomes",
    Fragment(
        "SET state = CASE WHEN a.state <> 'not_contacted'",
        "SET state = CASE WHEN a.state = 'in_doubt' THEN 'pending' WHEN a.state <> 'not_contacted'",
    ),
)
REMINDER_ONCE = constraint("reminders.reminder", "reminder_once")
LOCK = Layer("advisory lock lock_cycles", lambda system: unlock(system))
CONTACTED = verdict("slot_already_contacted", Fragment("AND g.step = f.step AND NOT g.is_uncontacted)", "AND false)"))
CONTACTED_ONCE = index("contacted_once")
SKIPPING = function(
    "intend's ON CONFLICT on contacted_once",
    "intend",
    Fragment("ON CONFLICT (account_id, address_hash, slot_at, step) WHERE NOT is_uncontacted DO NOTHING", ""),
)

STARTED = verdict("started", Fragment("WHEN f.slot_at <= p_now", "WHEN false"))
TOO_LATE = verdict(
    "too_late and started",
    Fragment("WHEN f.expires_at <= p_now", "WHEN false", 9),
    Fragment("WHEN f.slot_at <= p_now", "WHEN false"),
)
PLAN_TIME = statement("plan's clause expires_at > now", "plan_contacts", Fragment(" AND r.expires_at > %(now)s", ""))
NOT_TOO_LATE = fence("not_too_late", Fragment("(r.slot_at <= a.intended_at OR r.expires_at <= a.intended_at)", "false"))

HOURS = verdict("wait_for_hours", Fragment("(f.local_time < f.opens OR f.local_time >= f.closes)", "false"))
NOT_QUIET = fence(
    "not_in_quiet_hours",
    Fragment("(a.intended_at AT TIME ZONE a.zone)::time >= p.opens", "true"),
    Fragment("(a.intended_at AT TIME ZONE a.zone)::time < p.closes", "true"),
)

PROOF = verdict(
    "missed_by_us and no_lower_proof",
    Fragment("AND NOT reminders.has_proof(f.account_id, f.appointment_id, f.slot_at, f.step)", "AND false"),
    Fragment(
        "AND NOT reminders.lower_rungs_unreachable(f.account_id, f.appointment_id, f.slot_at, f.step)", "AND false"
    ),
)
CALL_HAS_PROOF = fence(
    "call_has_proof",
    Fragment("AND NOT reminders.has_proof(r.account_id, r.appointment_id, r.slot_at, r.step)", "AND false"),
)

ON_HOLD = verdict("on_hold", Fragment("WHEN f.stopping_hold_id IS NOT NULL THEN 'on_hold'", ""))
NO_HOLD = fence(
    "no_hold_in_force",
    Fragment(
        "WHEN EXISTS (SELECT FROM reminders.active_hold", "WHEN false AND EXISTS (SELECT FROM reminders.active_hold"
    ),
)

JUDGED = function("the gate's judgement (reminders.judge)", "judge", Fragment("WHERE w.why IS NOT NULL", "WHERE false"))
ASKED = statement("triage's call of the gate", "judge")
WAS_JUDGED = function(
    "fence cycle_was_judged",
    "fence_gate",
    Fragment("WHERE c.judged_at IS NULL\n       OR", "WHERE"),
    Fragment("CASE WHEN c.judged_at IS NULL THEN 'cycle_was_judged' ELSE 'no_hold_in_force' END", "'no_hold_in_force'"),
)

GOOD_IS_JUDGED = constraint("reminders.cycle", "good_cycle_was_judged")

CALL_PACE = statement(
    "plan's call_pace",
    "plan_contacts",
    Fragment("p.place_of_channel <= policy.call_pace - coalesce(recent.calls, 0)", "true"),
)
RELEASED_PACE = statement(
    "plan's pace of a released backlog",
    "plan_contacts",
    Fragment("p.place_of_backlog <= policy.call_pace - coalesce(recent.of_backlog, 0)", "true"),
)
CANARY = statement(
    "plan's canary",
    "plan_contacts",
    Fragment("q.place_of_canary <= q.canary - coalesce(q.canaries_in_flight, 0)", "true"),
)
DAY_AND_WEEK = verdict(
    "wait_for_day and _week",
    Fragment("WHEN f.day_count >= f.day_cap", "WHEN false"),
    Fragment("WHEN f.week_count >= f.week_cap", "WHEN false"),
)
CAP_KEPT = constraint("reminders.address_cap", "address_cap_kept")
WAIT_FOR_GAP = verdict("wait_for_gap", Fragment("WHEN f.last_contact_at + f.min_gap > p_now", "WHEN false"))
GAP_KEPT = constraint("reminders.address_gap", "address_gap_kept")
COUNTED = trigger("attempt", "limits_counted")
WAIT_FOR_CEILING = verdict("wait_for_ceiling", Fragment("WHEN f.has_spent_ceiling", "WHEN false"))
CHOSEN = function(
    "intend's clause contact_count <= ceiling",
    "intend",
    Fragment(
        "WHERE own.contact_count + c.of_account <= own.ceiling AND in_all.contact_count + c.of_all <= in_all.ceiling",
        "",
    ),
)
CEILING_KEPT = constraint("reminders.daily_ceiling", "daily_ceiling_kept")
WAIT_FOR_LINE = verdict(
    "wait_for_line",
    Fragment("WHERE a.address_hash = f.address_hash AND a.channel = 'call' AND a.ended_at IS NULL)", "WHERE false)"),
)
ONE_OPEN_CALL = index("one_open_call")
MADE_ONCE = index("contact_made_once")
NOT_MADE = function(
    "intend's clause that a contact made is not made again",
    "intend",
    Fragment("WHERE made.contact_id = c.contact_id AND made.state <> 'not_contacted')", "WHERE false)"),
)
ID_ONCE = index("provider_id_once")
