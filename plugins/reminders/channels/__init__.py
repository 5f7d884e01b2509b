"""The ways out: email over SMTP, texts and calls over Twilio. Transports are passed in: a fake is a function."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from reminders.errors import NeverContacted, SendError
from reminders.model import AccountId, Contact
from reminders.wording import Overrides

LastCheck = Callable[[], None]
Rendered = TypeVar("Rendered")
WordingOf = Callable[[AccountId], Overrides | None]


def house_wording(_account_id: AccountId) -> Overrides | None:
    """No wording of an account's own."""
    return None


def refuse_if_too_late(contact: Contact, now: datetime) -> None:
    """Raise `NeverContacted` when the contact has stopped being useful: triage will expire it."""
    if now >= contact.expires_at:
        raise NeverContacted("too_late", retry_after=0)


def rendered(render: Callable[[], Rendered]) -> Rendered:
    """What `render` makes; its failure as `NeverContacted`, which names the type of the error only."""
    try:
        return render()
    except SendError:
        raise
    except Exception as error:
        failure = NeverContacted("not_rendered", type(error).__name__, retry_after=900)
    raise failure
