"""Send one batch: a small group's intents committed, its provider calls made, their outcomes recorded, the next group.

A group is never larger than its channel may send in the next second, so that a stop stops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from reminders.cycle.reconcile import closing
from reminders.cycle.stops import PAUSED, HoldWatch, PauseWatch, Stops
from reminders.errors import (
    AddressRefused,
    Doubtful,
    Misconfigured,
    NeverContacted,
    OptedOut,
    SendError,
)
from reminders.failpoints import reached
from reminders.model import Acceptance, AccountId, AppointmentId, AttemptId, Channel, Contact, Visit
from reminders.store.ledger import Ledger
from reminders.store.session import Row
from reminders.wording import Overrides

log = logging.getLogger(__name__)

Send = Callable[[Contact, datetime, Callable[[], None]], Acceptance]
NO_GROUP_IN_THE_LAST = timedelta(seconds=40)
LEASE = timedelta(seconds=60)
MOST_AT_ONCE = 64
THREADS_ARE_SEEN_TO_EVERY = 0.1
# No rung of the ladder: the email that takes a cancelled appointment out of the client's calendar.
CANCELLATION_STEP = 0


@dataclass(frozen=True)
class Clock:
    """The edge's clocks: `now()` for the ledger (aware), `monotonic()` and `sleep(seconds)` for deadlines and rates."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


def own_wordings(rows: Iterable[Row]) -> dict[AccountId, Overrides]:
    """The rows of `read_wordings` as the overrides of each account that has any."""
    found: dict[AccountId, dict[str, dict[str, dict[str, str]]]] = {}
    for row in rows:
        lines = found.setdefault(AccountId(row["account_id"]), {}).setdefault(row["language"], {})
        lines.setdefault(row["channel"], {})[row["line"]] = row["words"]
    return dict(found)


def contacts(rows: Iterable[Row]) -> list[Contact]:
    """The rows of `read_contacts`, sorted by attempt, as one `Contact` for each attempt."""
    found = []
    for attempt_id, members in groupby(rows, key=lambda row: row["attempt_id"]):
        visits = list(members)
        first = visits[0]
        found.append(
            Contact(
                attempt_id=AttemptId(attempt_id),
                reference=str(first["reference"]),
                channel=Channel(first["channel"]),
                address=first["address"],
                account_id=AccountId(first["account_id"]),
                account_name=first["account_name"],
                account_phone=first["account_phone"],
                account_email=first["account_email"],
                locale=first["locale"],
                expires_at=min(row["expires_at"] for row in visits),
                is_cancellation=first["step"] == CANCELLATION_STEP,
                logical_dates=frozenset(row["logical_date"] for row in visits),
                visits=tuple(
                    Visit(
                        AppointmentId(row["appointment_id"]),
                        row["client_name"],
                        row["slot_at"],
                        row["ends_at"],
                        row["zone"],
                        row["location"],
                        row["sequence"],
                    )
                    for row in visits
                ),
            )
        )
    return found


def outcome(attempt_id: int, result: Acceptance | BaseException, now: datetime) -> Row:
    """What the ledger records for one provider call: the leaf of the exception tree decides."""
    row = closing(attempt_id, "in_doubt", None)
    match result:
        case Acceptance():
            row.update(
                outcome="delivered" if result.is_delivered else "accepted",
                reason="relay_accepted" if result.is_delivered else None,
                provider_id=result.provider_id,
                provider_status=result.provider_status,
            )
        case NeverContacted():
            row.update(outcome="not_contacted", not_before_at=now + timedelta(seconds=result.retry_after))
        case OptedOut():
            row.update(outcome="failed", reason="opted_out")
        case AddressRefused():
            row.update(outcome="failed")
        case Misconfigured():
            row.update(outcome="misconfigured")
    if isinstance(result, SendError):
        row.update(reason=row["reason"] or result.reason, code=result.code)
    return row


@dataclass(frozen=True)
class Deadline:
    """The last moment to begin a contact: by the monotonic clock, and by the wall clock, as a suspended machine's
    monotonic clock stands still."""

    monotonic: float
    at: datetime

    def is_past(self, clock: Clock) -> bool:
        """Whether either clock is past it."""
        return clock.monotonic() > self.monotonic or clock.now() > self.at


def send_group(group: Sequence[Contact], send: Send, stops: Stops, clock: Clock, deadline: Deadline) -> list[Row]:
    """Make the group's provider calls at the same time and return their outcomes; nothing here raises."""

    def attempt(contact: Contact) -> Row:
        def last_check() -> None:
            stops.check(contact)
            # Last, as the checks before it take time too: a process that was stopped goes on here.
            if deadline.is_past(clock) or clock.now() >= contact.expires_at:
                raise NeverContacted("deadline_passed", retry_after=0)
            reached("send", "before")

        try:
            result: Acceptance | BaseException = send(contact, clock.now(), last_check)
            reached("send", "answered")
        except SendError as error:
            result = error
        except Exception as error:
            # An error that nobody foresaw says nothing about what the provider did.
            result = Doubtful(type(error).__name__)
        return outcome(contact.attempt_id, result, clock.now())

    if len(group) == 1:
        return [attempt(group[0])]
    with ThreadPoolExecutor(max_workers=min(len(group), MOST_AT_ONCE)) as pool:
        attempts = [pool.submit(attempt, contact) for contact in group]
        while wait(attempts, THREADS_ARE_SEEN_TO_EVERY).not_done:
            stops.pause.answer_waiting()
        return [made.result() for made in attempts]


def dispatch(
    ledger: Ledger,
    watch: HoldWatch,
    batch_id: int,
    senders: Mapping[Channel, Send],
    rates: Mapping[Channel, float],
    clock: Clock,
    time_limit: timedelta,
    is_paused: Callable[[], bool],
) -> dict[str, int]:
    """Send the batch within `time_limit` at its share of the channel's rate (contacts a second).

    `is_paused` says whether the DAG is paused, and is asked in the caller's thread only; what it raises counts as yes.
    Returns how many contacts ended in which outcome; those for which there is no time left, or that a pause stops,
    wait for the next cycle. Raises `ClaimLost` before it contacts anybody whom another run of the task has to.
    """
    batch = ledger.claim(batch_id, time_limit)
    channel = Channel(batch["channel"])
    rate = max(rates[channel] / batch["share"], 0.01)
    size = max(1, int(rate))
    stops = Stops(watch, PauseWatch(is_paused, clock.monotonic, clock.now))
    started = clock.monotonic()
    last_group_at = started + (time_limit - NO_GROUP_IN_THE_LAST).total_seconds()
    counts: dict[str, int] = {}
    stopped_by_pause = 0
    waiting = batch["contact_ids"]
    for first in range(0, len(waiting), size):
        group_started = clock.monotonic()
        is_stopped = stops.pause.stops()
        if is_stopped or group_started > last_group_at:
            counts["left_for_next_cycle"] = left = len(waiting) - first
            stopped_by_pause += left if is_stopped else 0
            break
        now = clock.now()
        rows = ledger.intend(waiting[first : first + size], batch["claim"], now, now + LEASE)
        group = contacts(rows)
        if not group:
            continue
        deadline = Deadline(group_started + LEASE.total_seconds() / 2, now + LEASE / 2)
        outcomes = send_group(group, senders[channel], stops, clock, deadline)
        ledger.record(outcomes, clock.now())
        for row in outcomes:
            counts[row["outcome"]] = counts.get(row["outcome"], 0) + 1
            stopped_by_pause += row["reason"] == PAUSED
        clock.sleep(max(0.0, group_started + len(group) / rate - clock.monotonic()))
    if stopped_by_pause:
        log.warning("paused: %d contacts left for the next cycle", stopped_by_pause)
    return counts
