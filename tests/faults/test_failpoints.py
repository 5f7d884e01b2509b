"""Every point of input and output x crash, error, pause past the lease x channel, and the way back to normal."""

from __future__ import annotations

import pytest

from reminders.failpoints import POINTS
from reminders.model import Channel
from tests.databases import TestDatabase
from tests.faults.histories import (
    CANCELLING,
    MOST_CYCLES,
    History,
    PointFault,
    Practice,
    audited,
    dropped,
    histories_of,
    lost,
    opened,
    ordinary,
    phone,
    refused,
    stopped,
    turned_down,
)
from tests.kills.judge import Entry, Owed, reached, violations

EFFECTS = ("crash", "error", "pause")
# Points that an ordinary day does not come to.
ELSEWHERE: dict[str, History] = {
    "note_refusal": refused,
    "begin_recovery": lost,
    "note_found": lost,
    "hold_everything": audited,
    "place_hold": stopped,
    "release": stopped,
    "drop": dropped,
    "turn_down": turned_down,
}
# Of emails the provider has no status, no list by number and nothing to cancel.
NOT_FOR_EMAIL = {"status", "cancel", "note_status", "note_looked_up", "hold_everything"}
# A text that is not scheduled is never cancelled, so that the asking has no answer.
NOT_FOR_SMS = {"cancel.answered"}
LISTED_FOR_EMAIL = {"list"}


def history_of(point: str, channel: Channel) -> History | None:
    """The history in which a practice of this channel comes to the point; None when none of its can."""
    work = point.partition(".")[0]
    if channel is Channel.EMAIL and work in NOT_FOR_EMAIL:
        return None
    if channel is Channel.SMS and point in NOT_FOR_SMS:
        return None
    if channel is Channel.EMAIL and work in LISTED_FOR_EMAIL:
        return lost
    return ELSEWHERE.get(work, ordinary)


CASES = [
    (point, effect, channel)
    for point in POINTS
    for channel in Channel
    for effect in EFFECTS
    if history_of(point, channel) is not None
]
# Between what the ledger and what the provider knows: these run in `make test` too.
ALWAYS = {"intend.committed", "send.before", "send.answered", "record.before_commit", "record.committed"}


def judge(practice: Practice) -> None:
    """The network's log beside the ledger: nobody twice, no two calls at once, each state what the log says, nothing
    left open, and at most the one contact that the fault was about not made."""
    entries = [
        Entry(*row)
        for row in practice.scene.owner.execute("SELECT appointment_id, channel, state, reason FROM reminders.reminder")
    ]
    states = {entry.appointment_id: entry for entry in entries}
    # A call that is cancelled at the provider may have rung before.
    due = [owed(practice, name) for name in practice.scene.book.keys() - {CANCELLING}]
    network = practice.phones.network
    found = reached(network.log())
    assert violations(due, entries, found, network.summary()["max_simultaneous_calls"]) == []
    [(still_open,)] = practice.scene.owner.execute(
        "SELECT count(*) FROM reminders.reminder WHERE ended_at IS NULL"
    ).fetchall()
    assert still_open == 0, states
    silent = [states[each.appointment_id] for each in due if not found[each.place]]
    silent = [entry for entry in silent if entry.reason != "dropped"]
    assert len(silent) <= 1, silent
    assert {entry.state for entry in silent} <= {"unknown", "superseded"}, silent


def owed(practice: Practice, name: str) -> Owed:
    channel = Channel.EMAIL if name in practice.turned_down else practice.channel
    return Owed(name, channel, f"{name}@example.com" if channel is Channel.EMAIL else phone(name))


@pytest.mark.parametrize(
    ("point", "effect", "channel"),
    [
        pytest.param(*case, id="-".join(case), marks=pytest.mark.always if case[0] in ALWAYS else pytest.mark.chaos)
        for case in CASES
    ],
)
def test_a_fault_at_a_point(ledger: TestDatabase, point: str, effect: str, channel: Channel) -> None:
    history = history_of(point, channel)
    assert history is not None
    with opened(ledger, channel, PointFault(point, effect)) as practice:
        history(practice)
        assert practice.fault.reached, "the history does not come to the point"
        practice.to_the_end()
        assert practice.cycles_to_normal is not None and practice.cycles_to_normal <= MOST_CYCLES, practice.failed
        judge(practice)


@pytest.mark.parametrize(
    ("history", "channel"),
    [
        pytest.param(history, channel, id=f"{history.__name__}-{channel}")
        for channel in Channel
        for history in histories_of(channel)
    ],
)
def test_the_histories_are_sound_without_a_fault(ledger: TestDatabase, history: History, channel: Channel) -> None:
    with opened(ledger, channel, PointFault("none", "crash")) as practice:
        history(practice)
        practice.to_the_end()
        # A cycle that was not judged is not closed as a good one.
        assert practice.failed == (["close_cycle: CheckViolation"] if history is refused else [])
        judge(practice)
