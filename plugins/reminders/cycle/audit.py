"""Yesterday's ledger against the provider's own list, both ways, and every promise as a question to the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reminders.cycle.doubts import BEFORE_INTENT, LONGEST_FIT, ListOf, fits, matches, missing_of, proof
from reminders.cycle.reconcile import Final, Status
from reminders.cycle.recovery import read_lists
from reminders.errors import SendError
from reminders.failpoints import reached
from reminders.model import Channel, Listed
from reminders.store.audit import AuditedLedger
from reminders.store.evidence import Evidence
from reminders.store.ledger import Ledger
from reminders.store.session import Row

log = logging.getLogger(__name__)

DAY = timedelta(days=1)
NO_SUCH_RESOURCE = "20404"  # Twilio's error dictionary
MOST_FETCHED = 1_000
DENIED = "contacts that the provider does not know"
FOREIGN = "contacts that the ledger does not know"
GUARDS = "guards are not as the migrations left them"


@dataclass(frozen=True)
class Provider:
    """What the audit asks the provider: its list, the status of one contact, and what a status means."""

    list_of: ListOf
    status_of: Status
    final: Final


def audit(ledger: Ledger, provider: Provider, now: datetime) -> dict[str, object]:
    """Hold the ledger against the provider's list, for yesterday (UTC), and ask for every promise since then.

    A breach holds everything; contacts that only the provider knows begin a recovery. Doubt that the list resolves is
    recorded. Raises a leaf of `SendError` when the list cannot be read whole.

    Returns how many contacts are `in_both`, how many doubts were `proved`, how much was `unreadable`, as the provider
    did not answer, and by name the `breaches`: promises broken, and contacts that one side has and the other has not.
    """
    until_at = now.replace(hour=0, minute=0, second=0, microsecond=0)
    from_at = until_at - DAY
    audited, evidence = AuditedLedger(ledger.connection), Evidence(ledger.connection)
    broken = {**audited.broken_promises(from_at, now), GUARDS: len(ledger.missing_guards() + ledger.changed_guards())}
    in_ledger = audited.attempts_of_day(from_at, until_at)
    listed = [each for each in read_lists(provider.list_of, from_at - BEFORE_INTENT) if each.created_at < until_at]
    only_ledger, only_provider, in_both = sides(in_ledger, listed)
    denied, unreadable = unknown_to_provider(only_ledger, provider.status_of)
    proved, foreign = resolved(ledger, evidence, only_provider, provider.final, now)
    found = {**broken, DENIED: denied, FOREIGN: len(foreign)}
    breaches = {breach: cases for breach, cases in found.items() if cases}
    if foreign:
        # First: it stops everything too, and dying after it leaves a hold that nobody can release before the recovery.
        since = min(each.created_at for each in foreign)
        evidence.begin_recovery(f"{FOREIGN}: {len(foreign)}", "audit_ledger", since)
    if breaches:
        why = "; ".join(f"{breach}: {cases}" for breach, cases in sorted(breaches.items()))
        audited.hold_everything(from_at, f"the audit of {from_at:%Y-%m-%d} found {why}", now)
        log.error("the audit of %s holds everything: %s", f"{from_at:%Y-%m-%d}", why)
    return {"in_both": in_both, "proved": proved, "unreadable": unreadable, "breaches": breaches}


def resolved(
    ledger: Ledger, evidence: Evidence, listed: Sequence[Listed], final: Final, now: datetime
) -> tuple[int, list[Listed]]:
    """Record as proved the doubts that the list resolves: how many, and those of the list that the ledger lacks."""
    missing = missing_of(evidence, listed)
    if not missing:
        return 0, []
    doubts = evidence.doubtful(min(each.created_at for each in missing) - LONGEST_FIT)
    found = matches(doubts, missing)
    # One at a time: of two proofs with one id the second is doubt still.
    for attempt_id, each in found.items():
        ledger.record([proof(attempt_id, each, final)], now)
    proved = {each.provider_id for each in found.values()}
    return len(proved), unexplained([each for each in missing if each.provider_id not in proved], doubts)


def unexplained(listed: Sequence[Listed], doubts: Sequence[Row]) -> list[Listed]:
    """Those that are no doubt's: each doubt explains one contact that fits it, and of several nobody knows which."""
    left = sorted(doubts, key=lambda doubt: doubt["deadline_at"])
    foreign = []
    for each in sorted(listed, key=lambda each: each.created_at):
        doubt = next((doubt for doubt in left if fits(doubt, each)), None)
        if doubt is None:
            foreign.append(each)
        else:
            left.remove(doubt)
    return foreign


def sides(in_ledger: Sequence[Row], listed: Sequence[Listed]) -> tuple[list[Row], list[Listed], int]:
    """The attempts that only the ledger has, the contacts that only the list has, and how many are in both."""
    import pandas as pd

    ours = pd.DataFrame(
        [(row["channel"], row["provider_id"], place) for place, row in enumerate(in_ledger)],
        columns=["channel", "provider_id", "in_ledger"],
    )
    theirs = pd.DataFrame(
        [(each.channel.value, each.provider_id, place) for place, each in enumerate(listed)],
        columns=["channel", "provider_id", "in_list"],
    )
    joined = ours.merge(theirs, how="outer", on=["channel", "provider_id"], indicator=True)
    only_ledger = joined.loc[joined["_merge"] == "left_only", "in_ledger"]
    only_list = joined.loc[joined["_merge"] == "right_only", "in_list"]
    return (
        [in_ledger[int(place)] for place in only_ledger],
        [listed[int(place)] for place in only_list],
        int((joined["_merge"] == "both").sum()),
    )


def unknown_to_provider(attempts: Sequence[Row], status_of: Callable[[Channel, str], object]) -> tuple[int, int]:
    """Of attempts that the list lacks, how many the provider denies when asked by id, and how many it cannot say of."""
    denied = 0
    unreadable = max(0, len(attempts) - MOST_FETCHED)
    for attempt in attempts[:MOST_FETCHED]:
        try:
            reached("status", "before")
            status_of(Channel(attempt["channel"]), attempt["provider_id"])
            reached("status", "answered")
        except SendError as error:
            denied += error.code == NO_SUCH_RESOURCE
            unreadable += error.code != NO_SUCH_RESOURCE
    return denied, unreadable
