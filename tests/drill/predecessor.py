"""The predecessor, as the story tells it: two cron jobs every five minutes, and a queue between them.

The filler asks of each reminder that is due: have we contacted this client about this appointment? When the answer is
no it queues a contact. The drainer sends all that is queued, and only then notes who was contacted. A contact that
finds itself late chooses the telephone, because nobody may read an email or a text in time. Nothing else is checked.
On a day when both jobs run it contacts each client once for each step, at the hours that its ladder names.

It is modelled in memory, and hands its contacts to the simulated phone network directly: tens of thousands of requests
over loopback would take minutes and show nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from reminders.model import Channel
from tests.drill.book import ACCOUNTS, Book, Booking, Due, rungs
from tests.simulator.__main__ import DEFAULT_ACCOUNT_SID, DEFAULT_AUTH_TOKEN
from tests.simulator.journal import Event
from tests.simulator.network import CallOrder, Customer, TextOrder
from tests.simulator.server import PhoneSimulator

LATE_AFTER = timedelta(minutes=30)
# What the provider dials for a house grows with it. This decides how many of one line's queued calls ring there at
# once: here the drill's default book comes to the 50 of the story.
CALLS_A_SECOND_FOR_A_CLIENT = 0.32
SENDER = "+15005550006"


class Predecessor:
    """The two jobs, with an empty queue, started at `now`. `is_drainer_broken`: a deploy has broken the second job."""

    def __init__(self, book: Book, now: datetime) -> None:
        self.network = PhoneSimulator(Customer(DEFAULT_ACCOUNT_SID, DEFAULT_AUTH_TOKEN), speed=0, start=now)
        self.is_drainer_broken = False
        self.ladders = [(booking, rungs(booking)) for booking in book.bookings]
        self.seconds_a_call = 1 / (CALLS_A_SECOND_FOR_A_CLIENT * len(book.bookings))
        self.queue: list[Due] = []
        self.contacted: set[tuple[str, int]] = set()

    def tick(self, now: datetime, tell: Callable[[int, int], None] = lambda _done, _of: None) -> None:
        """Both jobs at `now`, the drainer first; `tell` hears how far it is."""
        self._wait((now - self.network.clock.now()).total_seconds())
        if not self.is_drainer_broken:
            self.drain(tell)
        self.fill()

    def fill(self) -> None:
        """Queue, for each client who has not answered, the first step that is due and was not sent yet."""
        now = self.network.clock.now()
        for booking, ladder in self.ladders:
            if now < ladder[0].due_at or now >= booking.slot_at or booking.status(now) != "booked":
                continue
            for rung in ladder:
                if rung.due_at <= now < rung.expires_at and (booking.client_id, rung.step) not in self.contacted:
                    self.queue.append(rung)
                    break

    def drain(self, tell: Callable[[int, int], None]) -> None:
        """Send all that is queued."""
        waiting, self.queue = self.queue, []
        for place, queued in enumerate(waiting):
            late_by = self.network.clock.now() - queued.due_at
            self._send(queued.booking, Channel.CALL if late_by > LATE_AFTER else queued.channel)
            self.contacted.add((queued.booking.client_id, queued.step))
            if place % 1000 == 0:
                tell(place, len(waiting))

    def events(self) -> list[dict[str, Any]]:
        """The network's log, as `Simulator.log` gives it."""
        return [event.as_json() for event in self.network.journal.events]

    def calls(self) -> list[dict[str, Any]]:
        """The network's calls, as `Simulator.calls` gives them."""
        return [call.as_history() for call in self.network.network.calls.values()]

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.network.agenda.advance(seconds)
        self.network.agenda.settle()

    def _send(self, booking: Booking, channel: Channel) -> None:
        words = (
            f"{ACCOUNTS[booking.account_id]}: {booking.first_name}, your appointment is on "
            f"{booking.slot_at:%A %d %B at %H:%M}."
        )
        if channel is Channel.CALL:
            twiml = f"<Response><Say>{words}</Say></Response>"
            self.network.network.accept_call(CallOrder(booking.phone, SENDER, twiml=twiml))
            self._wait(self.seconds_a_call)
        elif channel is Channel.SMS:
            self.network.network.accept_text(TextOrder(booking.phone, SENDER, "", words))
            self._wait(0)
        else:
            at = self.network.clock.now().isoformat()
            event = Event(at, "email", booking.email, "reminders@example.com", words, f"EM{len(self.contacted)}", "")
            self.network.journal.record(event)
