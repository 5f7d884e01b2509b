"""Refuse to send when the guards are not in the database, or when the database has forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from reminders.errors import PreflightError
from reminders.store.ledger import Ledger

RESERVED_FOR_A_CYCLE = 100_000
IDENTITY = ("system_identifier", "timeline", "database_oid")
# The intent refuses a worker whose clock is further from the ledger's (`reminders.fence_attempts`).
CLOCKS_APART = timedelta(minutes=2)
# A person's word, in the place of the mark, that the ledger is to be taken as it is.
ACCEPT = "accept"
WAY_OUT = f"compare the ledger with the provider's list, then set the Variable reminders_mark to {ACCEPT} to go on"

Mark = Mapping[str, Any]


def preflight(
    ledger: Ledger, kept: str | None, keep_mark: Callable[[str], None], secret_fingerprint: str, now: datetime
) -> None:
    """Raise `PreflightError` unless sending is safe; then raise the mark outside the database by `keep_mark`.

    `kept` is what the last cycle kept outside the ledger: None at the first use of a ledger that was never used, or
    `ACCEPT`. The ledger reserves attempt numbers before the mark is raised, so that a crash between the two leaves the
    ledger ahead, which is harmless.
    """
    missing = ledger.missing_guards()
    if missing:
        raise PreflightError(
            f"guards are missing from the ledger or switched off: {', '.join(missing)}; put them back as "
            "include/sql/migrations defines them"
        )
    excessive = ledger.excessive_rights()
    if excessive:
        raise PreflightError(
            f"the running system may do too much: {'; '.join(excessive)}; take that right back, or give ledger_db the "
            "login that `python -m reminders.store.migrate --logins` makes"
        )
    changed = ledger.changed_guards()
    if changed:
        raise PreflightError(
            f"the ledger is not as the migrations left it: {', '.join(changed)}; undo the change, or, where it is "
            "meant, run `python -m reminders.store.migrate --record`"
        )
    identity = ledger.identity()
    check_clocks(now, identity["clock"])
    check_secret(identity["secret_fingerprint"], secret_fingerprint)
    if kept != ACCEPT:
        check_memory(identity, read_mark(kept))
    reserved_to = ledger.reserve_attempts(RESERVED_FOR_A_CYCLE, secret_fingerprint)
    keep_mark(json.dumps({**{name: identity[name] for name in IDENTITY}, "reserved_to": reserved_to}))


def check_secret(known: str | None, fingerprint: str) -> None:
    """Raise `PreflightError` when the key in use is not the one that the ledger's addresses were hashed with."""
    if known not in (None, fingerprint):
        raise PreflightError(
            "the Variable reminders_address_secret is not the key that the ledger's addresses were hashed with: "
            "put the old key back, or everybody could be contacted again"
        )


def check_clocks(now: datetime, clock: datetime) -> None:
    """Raise `PreflightError` when this machine's clock and the ledger's are too far apart to tell what is late."""
    if abs(now - clock) > CLOCKS_APART:
        minutes, side = round(abs(now - clock) / timedelta(minutes=1)), "ahead of" if now > clock else "behind"
        raise PreflightError(
            f"this machine's clock is {minutes} minutes {side} the ledger's: set both by the same time service"
        )


def read_mark(kept: str | None) -> Mark | None:
    """The mark that an earlier cycle kept; None when there is none. Raises `PreflightError` for anything else."""
    if kept is None:
        return None
    try:
        mark = json.loads(kept)
        return {**{name: mark[name] for name in IDENTITY}, "reserved_to": int(mark["reserved_to"])}
    except (ValueError, TypeError, KeyError) as error:
        raise PreflightError(f"the Variable reminders_mark is not a ledger's mark: {WAY_OUT}") from error


def check_memory(identity: Mark, mark: Mark | None) -> None:
    """Raise `PreflightError` when the ledger is another one, or knows of fewer attempts, than the mark says.

    A ledger that was used before, without a mark, is refused too: nothing shows that it has not forgotten.
    """
    if mark is None:
        if identity["reserved_to"] > 0:
            raise PreflightError(
                "the ledger was used before, but the Variable reminders_mark, which shows that it has forgotten "
                f"nothing, is missing: {WAY_OUT}"
            )
        return
    changed = [name for name in IDENTITY if identity[name] != mark[name]]
    if changed:
        raise PreflightError(f"the ledger is not the one of the last cycle ({', '.join(changed)} changed): {WAY_OUT}")
    if identity["reserved_to"] < mark["reserved_to"]:
        raise PreflightError(
            f"the ledger has forgotten: it knows attempts up to {identity['reserved_to']}, the mark says "
            f"{mark['reserved_to']}; {WAY_OUT}"
        )
