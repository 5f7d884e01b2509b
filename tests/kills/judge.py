"""The judge holds the phone network's own log against the book and the ledger. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# For a reminder of each state, how often its address may have been reached by then.
ONCE, NEVER, EITHER = frozenset({1}), frozenset({0}), frozenset({0, 1})
REACHED_BY_STATE: Mapping[str, frozenset[int]] = {
    "accepted": ONCE,
    "delivered": ONCE,
    # On a person's list: nobody knows, and nobody tries again.
    "in_doubt": EITHER,
    "unknown": EITHER,
    # Ended, with a reason.
    **dict.fromkeys(("undelivered", "failed", "expired", "superseded", "cancelled", "suppressed"), NEVER),
}
REMINDERS = "SELECT appointment_id, channel, state, reason, deferred_for FROM reminders.reminder"
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Owed:
    """What the book owes a client: its appointment, its channel and the address that is to be reached by it."""

    appointment_id: str
    channel: str
    address: str

    @property
    def place(self) -> Place:
        return self.channel, self.address


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of a reminder. `waits_for` is why it has not gone yet."""

    appointment_id: str
    channel: str
    state: str
    reason: str | None = None
    waits_for: str | None = None


def reached(log: Iterable[Mapping[str, Any]]) -> Counter[Place]:
    """(channel, address) -> how often the network's log says that it was reached."""
    return Counter((event["channel"], event["to"]) for event in log)


def violations(due: Iterable[Owed], entries: Iterable[Entry], found: Counter[Place], calls_at_once: int) -> list[str]:
    """Whatever breaks a promise: somebody reached twice, two calls at once on a line, a reminder lost or misjudged.

    `found` is what was `reached`, `calls_at_once` the most that rang on one line. A reminder may be open only when it
    is accepted or in doubt: whatever waited had its cycles before this is asked.
    """
    told = [
        f"{channel} {address} was reached {times} times" for (channel, address), times in found.items() if times > 1
    ]
    if calls_at_once > 1:
        told.append(f"{calls_at_once} calls rang on one line at once")
    by_reminder = {(entry.appointment_id, entry.channel): entry for entry in entries}
    for each in due:
        entry = by_reminder.get((each.appointment_id, each.channel))
        if entry is None:
            told.append(f"{each} is not in the ledger")
        elif found[each.place] not in REACHED_BY_STATE.get(entry.state, frozenset()):
            told.append(f"{each} was reached {found[each.place]} times, and the ledger says {entry}")
        elif found[each.place] == 0 and entry.reason is None and entry.state != "in_doubt":
            told.append(f"{each} was not reached, without a reason: {entry}")
    return told
