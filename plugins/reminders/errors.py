"""The exception tree. Each leaf of `SendError` is a different decision about the attempt:

    RemindersError
    ├── ConfigurationError      a connection, a key or a setting is missing or wrong; the message says which, no secret
    ├── PreflightError          guards, rights, the clock or the key are wrong: nothing is sent
    ├── SchemaError             the ledger's schema is older, newer or half-applied
    ├── BookError               the booking database does not answer or does not have the agreed columns
    ├── ClaimLost               another run of the task works on the batch now: this one contacts nobody any more
    ├── HoldError               a hold cannot be placed or released as asked; the message says what stands
    └── SendError               what became of one provider call
        ├── NeverContacted      proof that nobody was contacted: the attempt is given back and may be tried again
        ├── Refused             a definite no
        │   ├── AddressRefused      about the address: the reminder has failed for the address's own sake
        │   └── OptedOut            the person asked for silence: the address is suppressed on every channel
        ├── Misconfigured       a definite no that is about us: the channel is held, the reminder is held
        └── Doubtful            it may have happened: never tried again, resolved by proof only

Messages carry codes and ids only, never a name, a number or an address, so that they can be logged as they are.
"""

from __future__ import annotations


class RemindersError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(RemindersError):
    """A connection, key or setting is missing or wrong; the message names it and the way out, never its secret."""


class PreflightError(RemindersError):
    """Sending is refused: a guard is missing from the ledger, or rights, the clock or the key are wrong."""


class SchemaError(RemindersError):
    """The ledger's schema does not match this release; the message says which way and what to run."""


class BookError(RemindersError):
    """The booking database cannot be read; the message names the connection and the object, never a password."""


class ClaimLost(RemindersError):
    """The batch is another task's now, or the time of the claim is over: nobody may be contacted under it."""


class HoldError(RemindersError):
    """A hold cannot be placed, released, dropped or turned down as asked: nothing was changed."""


class SendError(RemindersError):
    """What became of one provider call. `code` is the provider's, or a short word of ours; `reason` is the ledger's."""

    def __init__(self, reason: str, code: str = "") -> None:
        self.reason = reason
        self.code = code
        super().__init__(f"{reason} ({code})" if code else reason)


class NeverContacted(SendError):
    """Proof that no contact was made: no connection, or HTTP 429. `retry_after` seconds is the provider's wish."""

    def __init__(self, reason: str, code: str = "", retry_after: float = 60.0) -> None:
        super().__init__(reason, code)
        self.retry_after = retry_after


class Refused(SendError):
    """A definite no about this address; nobody was contacted."""


class AddressRefused(Refused):
    """The address cannot receive this channel; where nobody can tell, the reason is `refused_unexplained`: no proof."""


class OptedOut(Refused):
    """The person behind the address has asked for silence."""


class Misconfigured(SendError):
    """A definite no about our own configuration; it says nothing about the client."""


class Doubtful(SendError):
    """The provider may have acted: timeout, reset, 5xx or an unreadable answer. Never tried again."""
