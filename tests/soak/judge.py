"""The judge of a season: the network's own log against the book. The ledger is asked only for the reasons of
what was not sent, for what it calls delivered, and for what it doubts though the provider was never asked.

What a process did that stood still between its last check and its request is late by as long as it stood: nothing can
look in between. Nothing else is excused.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from reminders.model import Channel, Office, Rung, Window
from tests.clock import is_permitted
from tests.drill.book import HOUR
from tests.drill.figures import BOOK_IS_FRESH_FOR
from tests.soak.book import MINUTE, Key, Version, Visit
from tests.soak.network import Asked

if TYPE_CHECKING:
    from tests.soak.people import Stop
    from tests.soak.season import Season

NAME = re.compile(r"Z[a-z]{6}(?![a-z])")
CANCELLED = re.compile(r"cancelled|cancelad", re.IGNORECASE)
# From the intent, which looks at everything, to the request: half a lease (60 seconds) at the most.
TO_THE_SOCKET = timedelta(seconds=30)
# A hold is read again when it is a second old; a request that is already on its way is not called back.
STOPS_WITHIN = timedelta(seconds=1)
PHONE_GAP, EMAIL_GAP = 2 * HOUR, 15 * MINUTE
PHONE_CAPS, EMAIL_CAPS = {"day": 1, "week": 3}, {"day": 3, "week": 10}
# What a call may rest on: a contact that was made, or may have been, or an address that was refused for its own sake.
PROOF = {"accepted", "doubtful", "550", "21211", "21614", "30005", "30006"}


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken at `at`, of whom (names, numbers and mailboxes, for the trace)."""

    promise: str
    at: datetime
    what: str
    whom: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """One contact as it arrived, and what it named: an appointment with the slot that it had."""

    at: datetime
    channel: Channel
    to: str
    delay: timedelta
    is_notice: bool
    visits: tuple[tuple[Visit, datetime], ...]
    names: tuple[str, ...]
    ended_at: datetime | None

    def __str__(self) -> str:
        return f"{self.channel} to {self.to} about {', '.join(self.names)} at {self.at:%d %H:%M:%S}"


class Judge:
    """Reads a season that is over."""

    def __init__(self, season: Season) -> None:
        self.season = season
        network = season.deployment.network
        ended = {sid: call.ended_at for sid, call in network.phones.calls.items()}
        heard = [
            self._heard(event, network.delays.get(event.sid, 0.0), ended.get(event.sid))
            for event in sorted(network.journal.events, key=lambda event: event.at)
        ]
        # What names nobody can be judged by nothing else.
        self.unnamed = [each for each in heard if not each.visits]
        self.heard = [each for each in heard if each.visits]
        self.asked = [(asked, tuple(NAME.findall(asked.body))) for asked in network.asked]
        self.calls_at_once = 0
        self._asked_by_address: dict[str, list[tuple[Asked, tuple[str, ...]]]] = defaultdict(list)
        for asked, names in self.asked:
            self._asked_by_address[asked.to].append((asked, names))
        self._cycles: dict[tuple[str, datetime, str], set[datetime]] = defaultdict(set)
        for row in season.reminders:
            self._cycles[row["account_id"], row["slot_at"], row["channel"]].add(row["logical_date"])
        self._doubted_until = {
            (row["account_id"], row["appointment_id"], row["slot_at"]): row["ended_at"]
            for row in season.reminders
            if row["channel"] != Channel.CALL and row["reason"] == "no_proof"
        }

    def _heard(self, event: Any, delay: float, ended_at: datetime | None) -> Heard:
        names = tuple(dict.fromkeys(NAME.findall(event.body)))
        return Heard(
            datetime.fromisoformat(event.at),
            Channel(event.channel),
            event.to,
            timedelta(seconds=delay),
            bool(CANCELLED.search(event.body)),
            tuple(self.season.book.named[name] for name in names),
            names,
            ended_at,
        )

    def violations(self) -> list[Violation]:
        """Every promise that was broken, in the order of time."""
        checks: tuple[Callable[[], Iterable[Violation]], ...] = (
            self.nameless, self.duplicates, self.at_once, self.too_close, self.too_many, self.untimely, self.unwanted,
            self.to_the_silent, self.unproven_calls, self.hurried, self.held, self.lost, self.falsely_delivered,
            self.unsound,
        )  # fmt: skip
        return sorted((found for check in checks for found in check()), key=lambda found: found.at)

    def nameless(self) -> Iterator[Violation]:
        """A contact that names nobody cannot be judged."""
        for heard in self.unnamed:
            yield violation("nameless", heard, "names nobody")

    def duplicates(self) -> Iterator[Violation]:
        """P1: for an account, address, slot and channel one contact, whatever the appointment's id."""
        seen: dict[tuple[Any, ...], Heard] = {}
        for heard in self.heard:
            for account_id, slot_at in {(visit.account.account_id, slot_at) for visit, slot_at in heard.visits}:
                key = account_id, heard.to, slot_at, heard.channel, heard.is_notice
                if key in seen:
                    yield violation("duplicate", heard, f"after {seen[key]}")
                seen.setdefault(key, heard)

    def at_once(self) -> Iterator[Violation]:
        """P2: never two calls on one line."""
        for line in self._by_address(lambda heard: heard.channel is Channel.CALL).values():
            under_way: list[datetime] = []
            for heard in line:
                under_way = [ends_at for ends_at in under_way if ends_at > heard.at]
                under_way.append(heard.ended_at or datetime.max.replace(tzinfo=heard.at.tzinfo))
                self.calls_at_once = max(self.calls_at_once, len(under_way))
                if len(under_way) > 1:
                    yield violation("two calls at once", heard, f"{len(under_way)} on the line")

    def too_close(self) -> Iterator[Violation]:
        """P2: the gap of an address, across all accounts."""
        for by_mail, gap in ((True, EMAIL_GAP), (False, PHONE_GAP)):
            for contacts in self._by_address(lambda heard, by_mail=by_mail: is_email(heard) is by_mail).values():
                for before, heard in pairwise(contacts):
                    if heard.at - before.at + before.delay + TO_THE_SOCKET < gap:
                        yield violation("too close", heard, f"{heard.at - before.at} after {before}")

    def too_many(self) -> Iterator[Violation]:
        """P2: the caps of an address in a day and in a week from Monday, across all accounts."""
        for by_mail, caps in ((True, EMAIL_CAPS), (False, PHONE_CAPS)):
            for contacts in self._by_address(lambda heard, by_mail=by_mail: is_email(heard) is by_mail).values():
                counted: Counter[tuple[str, Any]] = Counter()
                for heard in contacts:
                    local = self._local(heard)
                    for period in (("day", local.date()), ("week", local.isocalendar()[:2])):
                        counted[period] += 1
                        if counted[period] > caps[period[0]]:
                            yield violation("too many", heard, f"{counted[period]} in a {period[0]}")

    def untimely(self) -> Iterator[Violation]:
        """P3: not before it is due, not after it is of use or the appointment has begun, not in quiet hours."""
        for heard in self.heard:
            # A second person of a contact who has left it since is not in its words.
            until = heard.at - heard.delay - TO_THE_SOCKET
            for visit, slot_at in heard.visits:
                zone, account = visit.zone_of(slot_at), visit.account
                if until >= slot_at:
                    yield violation("after the start", heard, f"slot at {slot_at:%d %H:%M}")
                if not heard.is_notice and not any(
                    window.due_at <= heard.at and until < window.expires_at
                    for _, window in self._windows(visit, slot_at, heard.channel)
                ):
                    yield violation("at the wrong time", heard, f"for the slot at {slot_at:%d %H:%M}")
                if is_email(heard):
                    continue
                office = Office(account.office, account.zone) if heard.channel is Channel.CALL else None
                if not (
                    is_permitted(heard.at, account.hours, zone, office)
                    or (is_permitted(until, account.hours, zone, office))
                ):
                    yield violation("in quiet hours", heard, f"{heard.at.astimezone(ZoneInfo(zone)):%H:%M} in {zone}")

    def _windows(self, visit: Visit, slot_at: datetime, channel: Channel) -> Iterator[tuple[Rung, Window]]:
        """The rungs of the slot that go by the channel, or that a person may have turned down to it."""
        for version in visit.versions:
            if version.slot_at == slot_at:
                for rung, window in visit.rungs(version):
                    if channel in (rung.channel, Channel.EMAIL):
                        yield rung, window

    def unwanted(self) -> Iterator[Violation]:
        """P3: nothing after a cancellation, a confirmation, a move or a new address that the book has had for longer
        than it may be read ahead."""
        for heard in self.heard:
            since = heard.at - heard.delay - TO_THE_SOCKET - BOOK_IS_FRESH_FOR
            for (visit, slot_at), name in zip(heard.visits, heard.names, strict=True):
                shown = [
                    version
                    for version, until in visit.spans()
                    if version.from_at <= heard.at and until > since and version.ids and version.slot_at == slot_at
                ]
                statuses = {"cancelled"} if heard.is_notice else {"booked"}
                if not any(version.status in statuses and heard.to in addresses(version) for version in shown):
                    states = [version.status for version in shown] or ["not there"]
                    yield violation("unwanted", heard, f"{name} is {'/'.join(states)} in the book")

    def to_the_silent(self) -> Iterator[Violation]:
        """P3: nothing to a number that has opted out, once the ledger knows."""
        for heard in self.heard:
            known_at = self.season.deployment.opted_out_at.get(heard.to)
            if known_at is not None and heard.at - heard.delay > known_at:
                yield violation("to the silent", heard, f"opted out, known at {known_at:%d %H:%M:%S}")

    def unproven_calls(self) -> Iterator[Violation]:
        """P3: a call rests on a lower rung of the slot that was made, or may have been, or whose address is no good."""
        for heard in self.heard:
            if heard.channel is not Channel.CALL:
                continue
            for visit, slot_at in heard.visits:
                rungs = {rung.channel for rung in visit.account.ladder}
                if rungs != {Channel.CALL} and not self._has_proof(visit, slot_at, heard):
                    yield violation("a call without proof", heard, f"for the slot at {slot_at:%d %H:%M}")

    def _has_proof(self, visit: Visit, slot_at: datetime, call: Heard) -> bool:
        """By what the provider was asked. A process that died before it asked leaves doubt, and doubt is proof too."""
        ids = {each for version in visit.versions for each in version.ids}
        ends = (self._doubted_until.get((visit.account.account_id, each, slot_at)) for each in ids)
        if any(ended_at and ended_at <= call.at for ended_at in ends):
            return True
        theirs = {address for version in visit.versions for address in addresses(version)}
        for asked, names in self._asked_of(theirs):
            if asked.channel == Channel.CALL or asked.at >= call.at or asked.answer not in PROOF:
                continue
            named = [self.season.book.named[name] for name in names]
            # A relay that refuses a mailbox has not seen what it was about.
            if not named or any(other.account is visit.account and slot == slot_at for other, slot in named):
                return True
        return False

    def _asked_of(self, addresses: set[str]) -> Iterator[tuple[Asked, tuple[str, ...]]]:
        for address in addresses:
            yield from self._asked_by_address.get(address, ())

    def hurried(self) -> Iterator[Violation]:
        """The client has time to answer a rung before the next one goes: also by our lateness it is never shorter."""
        last: dict[tuple[Visit, datetime], list[Heard]] = defaultdict(list)
        for heard in self.heard:
            for visit, slot_at in heard.visits:
                waits = [r.wait for r in visit.account.ladder if r.channel is heard.channel]
                before = [b for b in last[visit, slot_at] if b.channel is not heard.channel]
                if waits and not is_email(heard) and before:
                    since = heard.at - before[-1].at + before[-1].delay + TO_THE_SOCKET
                    if since < max(waits):
                        yield violation("hurried", heard, f"{since} after {before[-1]}")
                last[visit, slot_at].append(heard)

    def held(self) -> Iterator[Violation]:
        """P5: nothing of what a person has stopped, from a second after it until she releases it."""
        person = self.season.person
        for stop in (*person.past_stops, *person.stops.values()):
            until = stop.released_at or datetime.max.replace(tzinfo=stop.placed_at.tzinfo)
            for heard in self.heard:
                if not stop.placed_at + STOPS_WITHIN < heard.at - heard.delay < until:
                    continue
                if self._is_stopped(stop, heard):
                    yield violation("on hold", heard, f"{stop.scope} {stop.value} since {stop.placed_at:%d %H:%M:%S}")

    def _is_stopped(self, stop: Stop, heard: Heard) -> bool:
        """Whether the contact was about what the hold stops: for a cycle, about what only that one has brought."""
        about = [(visit.account.account_id, slot_at) for visit, slot_at in heard.visits]
        match stop.scope:
            case "channel":
                return stop.value == heard.channel
            case "account":
                return stop.value in {account_id for account_id, _ in about}
            case "cycle":
                stopped = {datetime.fromisoformat(stop.value)}
                return any(self._cycles[*each, heard.channel.value] == stopped for each in about)
            case _:
                return True

    def lost(self) -> Iterator[Violation]:
        """P4: what a cycle has read as due is in the ledger, and has ended with a reason, once the season is over."""
        if self.season.until is not None:
            return
        states = {
            (row["account_id"], row["appointment_id"], row["slot_at"], row["step"]): row
            for row in self.season.reminders
        }
        for row in self.season.reminders:
            if row["ended_at"] is None or not row["reason"]:
                what = f"{row['appointment_id']} step {row['step']} is {row['state']} for ever"
                yield Violation("lost", row["due_at"], what, (row["appointment_id"],))
        for key, version, due_at in self._due():
            if key not in states:
                what = f"{key[1]} step {key[3]} of {key[2]:%d %H:%M} was due at {due_at:%d %H:%M}: no row"
                yield Violation("lost", due_at, what, (version.name, *addresses(version)))

    def _due(self) -> Iterator[tuple[Key, Version, datetime]]:
        """Everything that the first reading after it came due showed as due."""
        readings = sorted((r for r in self.season.deployment.merged), key=lambda reading: reading.read_at)
        times = [reading.read_at for reading in readings]
        for visit in self.season.book.visits:
            for version, until in visit.spans():
                if version.status in ("cancelled", "confirmed"):
                    continue
                for rung, window in visit.rungs(version):
                    first = bisect_left(times, max(version.from_at, window.due_at))
                    reading = next((r for r in readings[first:] if r.date >= window.due_at and r.is_true), None)
                    if reading is None or reading.read_at >= until or version.slot_at < reading.from_at:
                        continue
                    for name in version.ids:
                        key = visit.account.account_id, name, version.slot_at, rung.step
                        yield key, version, window.due_at

    def falsely_delivered(self) -> Iterator[Violation]:
        """What the ledger calls delivered has arrived."""
        arrived = {
            (visit.account.account_id, heard.channel.value, slot_at)
            for heard in self.heard
            for visit, slot_at in heard.visits
        }
        for row in self.season.reminders:
            if row["state"] == "delivered" and (row["account_id"], row["channel"], row["slot_at"]) not in arrived:
                what = f"{row['appointment_id']} step {row['step']} is delivered, says the ledger; nobody heard"
                yield Violation("falsely delivered", row["sent_at"], what, (row["appointment_id"],))

    def unsound(self) -> Iterator[Violation]:
        """Cycles fail, hold and recover for the faults alone."""
        season = self.season
        for history in season.slow:
            yield Violation("slow recovery", history.over_at, f"{history}: {'; '.join(history.wrong)}", ())
        for breach, cases in season.deployment.failures.items():
            yield Violation("broken invariant", season.book.ends_at, f"{breach}, {cases} times", ())
        for breach, cases in season.deployment.breaches.items():
            yield Violation("audit", season.book.ends_at, f"{breach}, {cases} times", ())
        for failed in season.deployment.failed:
            if not any(
                history.struck_at <= failed.at <= (history.over_at or failed.at) + MINUTE
                for history in season.histories
            ):
                yield Violation("unexpected failure", failed.at, failed.what, ())
        for hold in season.holds:
            placed_at: datetime = hold["placed_at"]
            # The cycle that places a hold has not ended before it.
            before = [good.date for good in season.deployment.good if good.ended_at < placed_at]
            if hold["why"].startswith("no good cycle since") and before and placed_at - max(before) < HOUR - MINUTE:
                yield Violation("held without a gap", placed_at, f"{hold['scope_value']}: {hold['why']}", ())

    def _by_address(self, chosen: Callable[[Heard], bool]) -> dict[str, list[Heard]]:
        found: dict[str, list[Heard]] = defaultdict(list)
        for heard in self.heard:
            if chosen(heard):
                found[heard.to].append(heard)
        return found

    def _local(self, heard: Heard) -> datetime:
        visit, slot_at = heard.visits[0]
        return (heard.at - heard.delay).astimezone(ZoneInfo(visit.zone_of(slot_at)))


def violation(promise: str, heard: Heard, what: str) -> Violation:
    return Violation(promise, heard.at, f"{heard}: {what}", (*heard.names, heard.to))


def is_email(heard: Heard) -> bool:
    return heard.channel is Channel.EMAIL


def addresses(version: Version) -> tuple[str, ...]:
    return tuple(filter(None, (version.person.email, version.person.phone)))
