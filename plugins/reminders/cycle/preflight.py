"""Refuse to send when the guards are not in the database, or when the database has forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reminders.errors import PreflightError
from reminders.store.ledger import Ledger

RESERVED_FOR_A_CYCLE = 100_000
IDENTITY = ("system_identifier", "timeline", "database_oid")

Mark = Mapping[str, Any]


def preflight(
    ledger: Ledger, mark: Mark | None, keep_mark: Callable[[dict[str, Any]], None], secret_fingerprint: str
) -> None:
    """Raise `PreflightError` unless sending is safe; then raise the mark outside the database by `keep_mark`.

    `mark` is what the last cycle kept outside the ledger (None at the first use). The ledger reserves attempt numbers
    before the mark is raised, so that a crash between the two leaves the ledger ahead, which is harmless.
    """
    missing = ledger.missing_guards()
    if missing:
        raise PreflightError(f"guards are missing from the ledger: {', '.join(missing)}; run the migrations")
    identity = ledger.identity()
    known = identity["secret_fingerprint"]
    if known is not None and known != secret_fingerprint:
        raise PreflightError(
            "the Variable reminders_address_secret is not the key that the ledger's addresses were hashed with: "
            "put the old key back, or everybody could be contacted again"
        )
    if mark is not None:
        check_memory(identity, mark)
    reserved_to = ledger.reserve_attempts(RESERVED_FOR_A_CYCLE, secret_fingerprint)
    keep_mark({**{name: identity[name] for name in IDENTITY}, "reserved_to": reserved_to})


def check_memory(identity: Mark, mark: Mark) -> None:
    """Raise `PreflightError` when the ledger is another one, or knows of fewer attempts, than the mark says."""
    changed = [name for name in IDENTITY if identity[name] != mark.get(name)]
    if changed:
        raise PreflightError(
            f"the ledger is not the one of the last cycle ({', '.join(changed)} changed): compare it with the "
            "provider's list, then delete the Variable reminders_mark to go on"
        )
    if identity["reserved_to"] < mark["reserved_to"]:
        raise PreflightError(
            f"the ledger has forgotten: it knows attempts up to {identity['reserved_to']}, the mark says "
            f"{mark['reserved_to']}; compare it with the provider's list, then delete the Variable "
            "reminders_mark to go on"
        )
