"""How much a cycle can send: the channels' rates, the batches that share them, and the time that a batch has."""

from __future__ import annotations

from datetime import timedelta

DISPATCH_TIME_LIMIT = timedelta(minutes=4)
# Contacts a second on each channel. Twilio makes one call a second for an account, unless more was agreed.
RATES = {"email": 20.0, "sms": 10.0, "call": 1.0}
BATCHES = {"email": 3, "sms": 2, "call": 1}
# What is left of the time limit is for intents, outcomes and a provider that answers slowly.
SHARE_FOR_SENDING = 0.8


def most_contacts() -> dict[str, int]:
    """How many contacts of each channel a cycle plans: what its rate lets go within the time limit."""
    seconds = DISPATCH_TIME_LIMIT.total_seconds() * SHARE_FOR_SENDING
    return {channel: int(rate * seconds) for channel, rate in RATES.items()}
