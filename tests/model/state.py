"""What there is to know at one moment: the ledger, and what no restore takes back. All of it is immutable.

Time is counted in ticks. A lease, a claim and the lag of the provider's list last one each, doubt two: the protocol
needs the order of these ends, not their length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")

LEASE = CLAIM_LASTS = LIST_LAG = 1
# When doubt is over the list has settled, and a call has ended.
DOUBT_LASTS = STATUS_LASTS = LEASE + LIST_LAG
# By then a worker of before the restore is past its deadline, and the list shows what it did.
RECOVERY_WAITS = LEASE + LIST_LAG

OPEN = ("sending", "in_doubt", "accepted")
ENDED = ("delivered", "undelivered", "failed", "unknown", "cancelled", "expired")


class Attempt(NamedTuple):
    """`reference` is a UUID: a ledger that was restored gives none again; 0 for what recovery has found."""

    reference: int
    reminder: int
    state: str
    intended_at: int
    provider_id: int = 0


class Claim(NamedTuple):
    number: int = 0
    until: int = 0


class Ledger(NamedTuple):
    """What a restore takes back.

    `reminders` has the state of each; one that is pending while a hold is in force is what the ledger calls held.
    `batches` has the claim of each. `identity` stands for system identifier, timeline and database, `reserved` for the
    attempt numbers that cycles have reserved. `hold` is '', 'operator', 'forgotten' (preflight's) or 'recovered' (that
    one, once recovery is complete); `forgot_at` is when preflight placed it.
    """

    reminders: tuple[str, ...]
    attempts: tuple[Attempt, ...] = ()
    batches: tuple[Claim, ...] = ()
    identity: int = 0
    reserved: int = 0
    hold: str = ""
    forgot_at: int = -1


class Contact(NamedTuple):
    """What the provider has taken on, whatever we heard of it; its id is its place in the provider's book, from 1.

    `state` is 'queued' (a text) or 'ringing' (a call), then 'over' or 'cancelled'. `is_late`: time passed between the
    worker's last check and its socket, where nothing of ours can notice.
    """

    reference: int
    reminder: int
    made_at: int
    state: str
    is_late: bool


class Worker(NamedTuple):
    """One run of a dispatch task; one that takes no step while time passes is one that was stopped.

    `at` goes from 'gone' to 'claimed', 'intended', 'cleared' (by the last check) and 'answered', and for the batch's
    next reminder, its `turn`, to 'claimed' again. `acted_at` is when it intended, then when it was cleared, and
    `was_held` whether a hold was in force then. `session` is the identity of the ledger that it is connected to.
    """

    at: str = "gone"
    session: int = 0
    batch: int = 0
    claim: Claim = Claim()
    turn: int = 0
    reference: int = 0
    acted_at: int = 0
    was_held: bool = False
    answer: str = ""
    provider_id: int = 0


class Mark(NamedTuple):
    """What is kept of the ledger outside its database."""

    identity: int = 0
    reserved: int = 0


class Left(NamedTuple):
    """How often each of these may still happen."""

    cycles: int
    workers: int
    crashes: int = 0
    oddities: int = 0
    holds: int = 0
    cancels: int = 0
    restores: int = 0


class World(NamedTuple):
    """`planner` is how far a cycle is, and the mark it will raise; `dump` what a restore will bring back.

    `references` counts those given; `planned` is, where there is a restore, what the latest cycle with a plan reserved.
    """

    now: int
    ledger: Ledger
    provider: tuple[Contact, ...]
    workers: tuple[Worker, ...]
    left: Left
    mark: Mark = Mark()
    planner: tuple[str, Mark] = ("", Mark())
    planned: int = 0
    references: int = 0
    dump: Ledger | None = None
    restored_at: int = -1


@dataclass(frozen=True)
class Scenario:
    """Who is to be reminded, and the bounds of what may happen.

    `reminders` has the key and the address of each; two of one key are an appointment that was imported twice. A
    contact that is not `is_followed` stays as it was made. `restore` is 'failover' (the latest transactions are lost,
    and the identity is another) or 'dump' (put back into the database, under running workers).

    What nothing of ours enforces: `session_ends` with a failover (no pooler keeps it for a worker); `dump_is_old`, as
    it was written before the latest cycle that planned anything, and its claims are over; and `residue_is_short`: a
    worker that a restore finds between its last check and its socket goes on within a lease, or never.
    """

    name: str
    left: Left
    reminders: tuple[tuple[str, str], ...] = (("A", "line 1"),)
    channel: str = "text"
    expires_at: int = 2
    is_followed: bool = True
    restore: str = ""
    session_ends: bool = True
    dump_is_old: bool = True
    residue_is_short: bool = True


def replaced(row: tuple[T, ...], place: int, value: T) -> tuple[T, ...]:
    """The row with another value in one place."""
    return (*row[:place], value, *row[place + 1 :])


def among(workers: Iterable[Worker]) -> tuple[Worker, ...]:
    """Workers are alike: which of them is which means nothing."""
    return tuple(sorted(workers))
