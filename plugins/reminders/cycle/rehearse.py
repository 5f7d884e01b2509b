"""Say what would go out if sending resumed now. The whole cycle up to its plan runs, and is rolled back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tabulate import tabulate

from reminders.addresses import secret_fingerprint
from reminders.capacity import BATCHES, most_contacts
from reminders.cycle.extract import extract
from reminders.cycle.preflight import check_clocks, check_secret
from reminders.store.ledger import Ledger
from reminders.store.session import Row

CEILING = "the account's ceiling of the day is spent then"


@dataclass(frozen=True)
class Withheld:
    """So many reminders stay back, and why; `hold_id` is the hold that stops them, if one does."""

    reminders: int
    why: str
    hold_id: int | None


@dataclass(frozen=True)
class Line:
    """One account's channel: the contacts of the next cycle, to how many addresses, what is usual in this hour of the
    week (None: nothing is known yet), and what stays back."""

    account_id: str
    channel: str
    contacts: int = 0
    people: int = 0
    usual: int | None = None
    withheld: tuple[Withheld, ...] = field(default=())


@dataclass(frozen=True)
class Rehearsal:
    """What the next cycle would send: `people` is the number of addresses over all lines."""

    lines: tuple[Line, ...]
    people: int

    @property
    def contacts(self) -> int:
        return sum(line.contacts for line in self.lines)

    @property
    def withheld(self) -> int:
        """Reminders that stay back."""
        return sum(part.reminders for line in self.lines for part in line.withheld)

    def __str__(self) -> str:
        """The table, for a terminal or a task's log: account ids and figures, nobody's name or address."""
        rows = []
        for line in self.lines:
            usual = "" if line.usual is None else line.usual
            first = [line.account_id, line.channel, line.contacts, line.people, usual]
            reasons = [
                [part.reminders, part.why + (f" (hold {part.hold_id})" if part.hold_id else "")]
                for part in line.withheld
            ] or [["", ""]]
            rows += [[*first, *reasons[0]], *([""] * 5 + more for more in reasons[1:])]
        names = ["account", "channel", "contacts", "people", "usual this hour", "withheld", "why"]
        table = tabulate(rows, headers=names, tablefmt="simple", disable_numparse=True)
        total = (
            f"The next cycle would make {self.contacts} contacts to {self.people} people, and hold back "
            f"{self.withheld} reminders. Nothing was sent or changed."
        )
        return f"{table}\n\n{total}" if rows else total


def rehearse(ledger: Ledger, read: Any, now: datetime, secret: bytes) -> Rehearsal:
    """Rehearse the cycle of `now`: `read` and `secret` as `extract` takes them. Cycles wait meanwhile.

    Raises `PreflightError` when the ledger's addresses were hashed with another secret: nobody would be recognised; or
    when `now` is not the ledger's time: what is late would be told wrongly.
    """
    identity = ledger.identity()
    check_secret(identity["secret_fingerprint"], secret_fingerprint(secret))
    check_clocks(now, identity["clock"])
    with ledger.rolled_back():
        extract(ledger, read, now, now, secret)
        ledger.merge(now, "manual", False, now)
        ledger.triage(now, "manual", now)
        ledger.plan(now, now, most_contacts(), BATCHES)
        rehearsed = ledger.rehearsed(now, now)
    found = tuple(lines(rehearsed))
    return Rehearsal(found, min(rehearsed["rehearsed_people"][0]["people"], sum(line.contacts for line in found)))


def lines(rehearsed: dict[str, list[Row]]) -> list[Line]:
    """The rows of the statements rehearsed_* as one line for each account and channel, in their order."""
    allowed = {(row["account_id"], row["channel"]): row["allowed"] for row in rehearsed["rehearsed_ceilings"]}
    planned = {(row["account_id"], row["channel"]): row for row in rehearsed["rehearsed_contacts"]}
    usual = {(row["account_id"], row["channel"]): row["usual_contacts"] for row in rehearsed["rehearsed_usual"]}
    withheld: dict[tuple[str, str], list[Withheld]] = defaultdict(list)
    for row in sorted(rehearsed["rehearsed_withheld"], key=lambda row: (-row["reminders"], row["why"])):
        withheld[row["account_id"], row["channel"]].append(Withheld(row["reminders"], row["why"], row["hold_id"]))
    found = []
    for account_id, channel in sorted({*planned, *withheld}):
        row = planned.get((account_id, channel), {"contacts": 0, "people": 0})
        known = usual.get((account_id, channel))
        going = min(row["contacts"], allowed.get((account_id, channel), row["contacts"]))
        if going < row["contacts"]:
            withheld[account_id, channel].append(Withheld(row["contacts"] - going, CEILING, None))
        found.append(
            Line(
                account_id,
                channel,
                going,
                min(going, row["people"]),
                None if known is None else round(known),
                tuple(withheld[account_id, channel]),
            )
        )
    return found
