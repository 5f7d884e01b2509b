"""Refuse to send when the guards are not in the database; hold everything when the database has forgotten."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from reminders.errors import PreflightError
from reminders.failpoints import reached
from reminders.store.ledger import Ledger

RESERVED_FOR_A_CYCLE = 100_000
MOST_NUMBERS = 2**62
IDENTITY = ("system_identifier", "timeline", "database_oid")
# The intent refuses a worker whose clock is further from the ledger's (`reminders.fence_attempts`).
CLOCKS_APART = timedelta(minutes=2)
# A person's word, in the place of the mark, that the ledger is to be taken as it is.
ACCEPT = "accept"

log = logging.getLogger(__name__)

Mark = Mapping[str, Any]


def preflight(
    ledger: Ledger, kept: str | None, keep_mark: Callable[[str], None], secret_fingerprint: str, now: datetime
) -> None:
    """Raise `PreflightError` unless the guards stand; then raise the mark outside the database by `keep_mark`.

    `kept` is what the last cycle kept outside the ledger: None at the first use of a ledger that was never used, or
    `ACCEPT`. When the ledger has forgotten since, everything is held, and the cycle goes on: what is missing is taken
    from the provider's list before a person can release the hold. The ledger reserves attempt numbers before the mark
    is raised, so that a crash between the two leaves the ledger ahead, which is harmless.
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
    if kept == ACCEPT:
        # Its place is taken before it is believed: where it stays there, every later loss would be accepted too.
        keep_mark(as_mark(identity, identity["reserved_to"]))
    elif lost := what_is_lost(identity, kept):
        # The mark is raised after this only: a crash in between finds the same loss again.
        ledger.begin_recovery(lost, reserved_before(kept))
        log.error("%s: everything is held until the provider's list has been read and a person has released it", lost)
    reserved_to = ledger.reserve_attempts(RESERVED_FOR_A_CYCLE, secret_fingerprint, identity["identity"])
    reached("keep_mark", "before")
    keep_mark(as_mark(identity, reserved_to))
    reached("keep_mark", "answered")


def kept_surely(
    name: str, keep_mark: Callable[[str], None], read_kept: Callable[[], str | None]
) -> Callable[[str], None]:
    """`keep_mark`, which then raises `PreflightError` when `read_kept` does not have what was kept.

    The next cycle would compare the ledger with another mark, and not see that it has forgotten. `name` is that of
    the Variable.
    """

    def keep(mark: str) -> None:
        keep_mark(mark)
        if read_kept() != mark:
            raise PreflightError(
                f"the mark was kept in the Variable {name}, and something else is read there: take "
                f"AIRFLOW_VAR_{name.upper()} out of Airflow's environment, or {name} out of its secrets backend; both "
                "come before what Airflow keeps itself"
            )

    return keep


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


def as_mark(identity: Mark, reserved_to: int) -> str:
    """What is kept outside the ledger: which database it is, and up to which number its attempts may go."""
    return json.dumps({**{name: identity[name] for name in IDENTITY}, "reserved_to": reserved_to})


def read_mark(kept: str) -> Mark | None:
    """The mark that an earlier cycle kept; None for what is none."""
    try:
        mark = json.loads(kept)
        read = {**{name: mark[name] for name in IDENTITY}, "reserved_to": int(mark["reserved_to"])}
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    # Beyond these are numbers that the ledger cannot take.
    return read if 0 <= read["reserved_to"] < MOST_NUMBERS else None


def reserved_before(kept: str | None) -> int:
    """The highest attempt number that may have been used, by the mark; 0 when nothing says so."""
    mark = read_mark(kept) if kept is not None else None
    return mark["reserved_to"] if mark else 0


def what_is_lost(identity: Mark, kept: str | None) -> str | None:
    """Why the ledger may have forgotten: it is another one, or knows of fewer attempts, than the mark says.

    So may a ledger that was used before, without a mark that can be read: nothing shows that it has not. A restore is
    noticed by the ledger's own record too, should the mark have been restored with it. None when it remembers.
    """
    if kept is None:
        return None if identity["reserved_to"] == 0 else "the ledger was used before, and the mark outside it is gone"
    mark = read_mark(kept)
    if mark is None:
        return "the mark outside the ledger, the Variable reminders_mark, cannot be read"
    changed = [name for name in IDENTITY if identity[name] != mark[name]]
    if changed:
        return f"the ledger is not the one of the last cycle ({', '.join(changed)} changed)"
    if identity["reserved_to"] < mark["reserved_to"]:
        return (
            f"the ledger has forgotten: it knows attempts up to {identity['reserved_to']}, the mark says "
            f"{mark['reserved_to']}"
        )
    return None if identity["is_as_checked"] else "the ledger was restored since the last cycle, with the mark"
