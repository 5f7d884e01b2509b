"""What happens in a drill beside the cycles: what an operator does, and how people and the provider behave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from unittest.mock import patch

from reminders.cycle.dispatch import Send
from reminders.cycle.preflight import ACCEPT
from reminders.model import Acceptance, Channel, Contact
from tests.drill.book import HOUR
from tests.drill.ringonce import Ringonce, Worker
from tests.simulator import network

LONG_CALL = 4 * HOUR
# Longer than three cycles.
SLOW_TEXT = timedelta(minutes=18)
# Of three tasks in a row the last run still finds the book fresh.
AGAIN_AFTER = timedelta(minutes=3)
# Fewer than hold the channel as failing.
DOUBTS = 5
# After so many contacts of the storm an operator stops the channel, in the middle of a batch.
STOPPED_AFTER = {Channel.SMS: 20, Channel.CALL: 9}
PUT_OFF = """
UPDATE reminders.reminder r SET deferred_for = 'wait_until_not_before', not_before_at = %(until)s
FROM (SELECT max(m.reminder_id) AS reminder_id
      FROM reminders.contact_member m JOIN reminders.contact c USING (contact_id)
      WHERE c.batch_id = %(batch_id)s GROUP BY c.contact_id HAVING count(*) > 1) last_member
WHERE r.reminder_id = last_member.reminder_id AND r.state = 'pending'"""


def nothing(_system: Ringonce) -> None:
    """Nothing happens."""


def accept_the_ledger(system: Ringonce) -> None:
    """Of two runs that are the first of all, one's preflight takes the other's use of the ledger for a loss."""
    system.until_the_end.enter_context(patch.object(system, "_mark", ACCEPT))


def hold(system: Ringonce, channel: Channel) -> None:
    system.operator.place("channel", channel.value, "operator", "a drill", HOUR)


def hold_email_and_texts(system: Ringonce) -> None:
    """An operator stops two channels, and nobody releases them."""
    for channel in (Channel.EMAIL, Channel.SMS):
        hold(system, channel)


def hold_in_the_storm(system: Ringonce) -> None:
    """An operator stops the texts while the storm's go out, and later the calls."""
    for channel, most in STOPPED_AFTER.items():
        system.senders[channel] = holding(system, channel, most)


def holding(system: Ringonce, channel: Channel, most: int) -> Send:
    """The channel's sender; the hold is placed as soon as it has sent `most` contacts."""
    send, sent = system.senders[channel], count(1)

    def send_and_hold(contact: Contact, now: datetime, last_check: Callable[[], None]) -> Acceptance:
        accepted = send(contact, now, last_check)
        if next(sent) == most:
            hold(system, channel)
        return accepted

    return send_and_hold


def release_everything(system: Ringonce) -> None:
    """An operator lets go all that is held, at once."""
    system.operator.release([held["hold_id"] for held in system.operator.in_force()], "operator")


def deliver_slowly(system: Ringonce) -> None:
    """Texts reach their phones at once, and the provider says so only later."""
    system.until_the_end.enter_context(patch.object(network, "_TEXT_DELIVERED", SLOW_TEXT.total_seconds()))


def talk_for_hours(system: Ringonce) -> None:
    """Whoever is called stays on the line."""
    system.until_the_end.enter_context(patch.object(network, "_CALL_ENDED", LONG_CALL.total_seconds()))


def answer_with_the_first_id(system: Ringonce) -> None:
    """A cache before the provider answers every text with the first one's id, and only the first goes."""
    send, first = system.senders[Channel.SMS], []

    def cached(contact: Contact, now: datetime, last_check: Callable[[], None]) -> Acceptance:
        if not first:
            first.append(send(contact, now, last_check))
        return first[0]

    system.senders[Channel.SMS] = cached


def answer_with_a_500(system: Ringonce) -> None:
    """The first texts go out, and the provider's answer is no answer."""
    system.network.fault("sms", "accept_then_500", count=DOUBTS)


def run_tasks_again(system: Ringonce) -> None:
    """Airflow runs each dispatch task once more, minutes later; in between a second visit of a contact that was
    put off becomes ready, which the contact may not name any more."""
    dispatch = system.dispatch

    def dispatch_twice(batch_id: int, worker: Worker) -> None:
        system.owner.execute(PUT_OFF, {"batch_id": batch_id, "until": system.clock.now + timedelta(minutes=2)})
        dispatch(batch_id, worker)
        system.clock.sleep(AGAIN_AFTER.total_seconds())
        dispatch(batch_id, worker)

    system.until_the_end.enter_context(patch.object(system, "dispatch", dispatch_twice))
