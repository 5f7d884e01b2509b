"""The stops that a batch heeds while it runs: the holds of the ledger, and a pause of its DAG."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reminders.errors import NeverContacted
from reminders.model import Contact
from reminders.store.session import Row

log = logging.getLogger(__name__)

HOLDS_ARE_FRESH_FOR = 1.0
# An old answer takes three of the five seconds in which a pause stops everything; two are for the way to the phone.
PAUSE_IS_ASKED_AFTER = 1.0
ANSWER_COUNTS_FOR = 3.0
PAUSED = "paused"

Moment = tuple[float, datetime]


@dataclass(frozen=True)
class Ages:
    """How old what was read is, by two clocks: while a machine is suspended `monotonic` stands still, and `now`, which
    the machine's time service sets, may be put back."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]

    def moment(self) -> Moment:
        return self.monotonic(), self.now()

    def since(self, moment: Moment | None) -> float:
        """Seconds since then, by whichever clock says more; None is never."""
        if moment is None:
            return float("inf")
        monotonic, at = moment
        return max(self.monotonic() - monotonic, (self.now() - at).total_seconds())


class HoldWatch:
    """The holds in force, at most a second old, for the last check before each socket. Safe to use from threads.

    `read` returns the rows of `read_holds`; what it raises, `stops` raises.
    """

    def __init__(
        self, read: Callable[[], Sequence[Row]], monotonic: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._read = read
        self._ages = Ages(monotonic, now)
        self._lock = threading.Lock()
        self._holds: frozenset[tuple[str, Any]] = frozenset()
        self._read_at: Moment | None = None

    def stops(self, contact: Contact) -> bool:
        with self._lock:
            if self._ages.since(self._read_at) > HOLDS_ARE_FRESH_FOR:
                asked_at = self._ages.moment()
                # A cycle is named in many ways, with any zone's offset: what counts is the time.
                read = self._read()
                self._holds = frozenset((row["scope"], row["logical_date"] or row["scope_value"]) for row in read)
                self._read_at = asked_at
            holds = self._holds
        of_contact = {("all", ""), ("channel", contact.channel.value), ("account", contact.account_id)}
        of_book = {("book", "*"), ("book", contact.account_id)}
        of_cycles = {("cycle", date) for date in contact.logical_dates}
        return not holds.isdisjoint(of_contact | of_book | of_cycles)


class PauseWatch:
    """Whether the DAG is paused, by an answer at most `ANSWER_COUNTS_FOR` seconds old; without one it counts as paused.

    `is_paused` is asked by the thread that made the watch and by no other: Airflow answers a task over one socket, and
    `dag.test()` over a queue that threads would mix up. In the other threads `stops` takes the last answer; when that
    is old it waits, but never for long, until the first thread has come by with `answer_waiting`.
    """

    def __init__(
        self, is_paused: Callable[[], bool], monotonic: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._is_paused = is_paused
        self._ages = Ages(monotonic, now)
        self._asker = threading.get_ident()
        self._answered = threading.Condition()
        self._is_awaited = False
        self._stops = True
        self._asked_at: Moment | None = None

    def stops(self) -> bool:
        """Whether nobody may be contacted now. Safe to use from threads; raises nothing."""
        if threading.get_ident() == self._asker:
            self._ask_when_old()
        with self._answered:
            if self._age() > PAUSE_IS_ASKED_AFTER and threading.get_ident() != self._asker:
                self._is_awaited = True
                self._answered.wait_for(lambda: self._age() <= PAUSE_IS_ASKED_AFTER, ANSWER_COUNTS_FOR)
            return self._stops or self._age() > ANSWER_COUNTS_FOR

    def answer_waiting(self) -> None:
        """Ask for the threads that wait for an answer, if any do. For the thread that made the watch."""
        if self._is_awaited:
            self._ask_when_old()

    def _age(self) -> float:
        return self._ages.since(self._asked_at)

    def _ask_when_old(self) -> None:
        if self._age() <= PAUSE_IS_ASKED_AFTER:
            return
        # Not under the lock: an answer may be long in coming, and the threads give up waiting before that.
        asked_at = self._ages.moment()
        try:
            stops = self._is_paused() is not False
        except Exception as error:
            log.warning("whether the DAG is paused cannot be read (%s): it counts as paused", type(error).__name__)
            stops = True
        with self._answered:
            self._stops, self._asked_at, self._is_awaited = stops, asked_at, False
            self._answered.notify_all()


@dataclass(frozen=True)
class Stops:
    """All that may stop a contact at its last check."""

    holds: HoldWatch
    pause: PauseWatch

    def check(self, contact: Contact) -> None:
        """Raise `NeverContacted` when the contact is stopped, or when nobody can tell. Safe to use from threads."""
        if self.pause.stops():
            raise NeverContacted(PAUSED, retry_after=0)
        try:
            is_held = self.holds.stops(contact)
        except Exception as error:
            raise NeverContacted("holds_unreadable", type(error).__name__) from error
        if is_held:
            raise NeverContacted("on_hold", retry_after=0)
