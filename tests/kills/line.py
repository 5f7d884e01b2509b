"""A practice on a real ledger whose mails, texts and calls go to the simulated network over links that can be cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import httpx

from local.sample_book import fictional_numbers
from reminders.channels.mail import Mailer
from reminders.channels.telephony import Twilio
from reminders.model import Acceptance, Channel, Contact
from tests.deliveries import reconcile_deliveries
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene
from tests.kills.judge import REMINDERS, Entry, Owed, reached, violations
from tests.kills.proxy import Cut, End, Link, Proxy
from tests.simulator.client import Simulator

SENDER = "+15005550006"
# Numbers that nobody can have, each of 13 characters (Ofcom, "Numbers for drama use").
NUMBERS = ("+442079460", *(f"+44{area}4960" for area in (113, 114, 116, 117, 118, 121, 131, 141, 151, 161)))
# As many as one account may have in a day, whatever the channel.
OF_ONE_ACCOUNT = 400
# Short for a silence that somebody waits out at every byte; long for a machine that is busy where none is ordered.
SILENT_FOR, PATIENCE = 1.0, 15.0
# A visit of which the channel's rung is due from WEDNESDAY_2PM on, for two hours at least.
VISITS = {Channel.EMAIL: 71 * HOUR, Channel.SMS: 23 * HOUR, Channel.CALL: 3.9 * HOUR}
CALLS_ONLY = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES (%s, 1, 'call', '4 hours', '10 minutes', '0')
"""
WIDE = "UPDATE reminders.account_policy SET call_pace = 10000"
ATTEMPTS = "SELECT address, state FROM reminders.attempt"


class Impatient(httpx.BaseTransport):
    """The network, waiting `seconds` for an answer."""

    def __init__(self, seconds: float) -> None:
        self._network = httpx.HTTPTransport(verify=False, trust_env=False)
        self._seconds = seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["timeout"] = {**request.extensions["timeout"], "read": self._seconds}
        return self._network.handle_request(request)

    def close(self) -> None:
        self._network.close()


@dataclass(kw_only=True)
class Line(Scene):
    """A scene whose contacts go over real sockets. `cuts` are those that wait for an address's next contact."""

    network: Simulator
    proxy: Proxy
    cuts: dict[str, Cut] = field(default_factory=dict)
    due: list[Owed] = field(default_factory=list)
    numbers: Iterator[str] = field(default_factory=lambda: fictional_numbers(NUMBERS, Random(1)))
    # The length of the last exchange by direction, and the links that had a cut.
    passed: Mapping[str, int] = field(default_factory=dict)
    tried: list[tuple[Cut, Link]] = field(default_factory=list)

    def widened(self) -> Line:
        """The gate and the pace out of the way: here hundreds of clients of a few accounts are due at once."""
        self.with_a_wide_gate()
        self.owner.execute(WIDE)
        return self

    def client(self, channel: Channel) -> str:
        """Book one more client whose reminder by this channel is due; returns the address."""
        number = len(self.due)
        account = f"{channel}-{number // OF_ONE_ACCOUNT:02d}"
        if channel is Channel.CALL and number % OF_ONE_ACCOUNT == 0:
            self.owner.execute(CALLS_ONLY, (account,))
        # All of one length, so that an exchange is as long as any other.
        address = f"client{number:05d}@example.com" if channel is Channel.EMAIL else next(self.numbers)
        self.booked(
            Booked(
                WEDNESDAY_2PM + VISITS[channel],
                f"appointment-{number}",
                account,
                client_email=address if channel is Channel.EMAIL else None,
                client_phone=None if channel is Channel.EMAIL else address,
            )
        )
        self.due.append(Owed(f"appointment-{number}", channel.value, address))
        return address

    def later(self, by: timedelta) -> Line:
        self.at(self.now + by)
        return self

    def _deliver(self, contact: Contact, now: datetime, last_check: Callable[[], None]) -> Acceptance:
        cut = self.cuts.pop(contact.address, None)
        patience = SILENT_FOR if cut is not None and cut.end is End.SILENCE else PATIENCE
        target = self.network.smtp_port if contact.channel is Channel.EMAIL else self.network.http_port
        with self.proxy.link(target, cut) as link:
            self.passed = link.passed
            if cut is not None:
                self.tried.append((cut, link))
            return self.sender(contact.channel, link.port, patience)(contact, now, last_check)

    def happened(self) -> set[Cut]:
        """The cuts that have happened. After the contacts: a sender may have the last byte before its cut is noted."""
        return {cut for cut, link in self.tried if link.is_cut}

    def sender(self, channel: Channel, port: int, patience: float) -> Callable[..., Acceptance]:
        """The product's own, for a provider at this port."""
        if channel is Channel.EMAIL:
            return Mailer("127.0.0.1", port, None, None, "r@example.com", False, False, patience, patience).send
        twilio = self.twilio(port, patience)
        return twilio.text if channel is Channel.SMS else twilio.call

    def twilio(self, port: int, patience: float = PATIENCE) -> Twilio:
        return Twilio(
            self.network.account_sid,
            self.network.auth_token,
            f"http://127.0.0.1:{port}",
            SENDER,
            SENDER,
            transport=Impatient(patience),
        )

    def trusted(self, channel: Channel) -> Line:
        """A person has just released the channel, so that doubts of what was begun by now do not hold it."""
        self.hold("channel", channel.value)
        self.release()
        return self

    def reconcile(self) -> None:
        """A run of reconcile_deliveries."""
        reconcile_deliveries(self.ledger, self.twilio(self.network.http_port), SECRET, lambda: self.now)

    def recovered(self, channel: Channel) -> None:
        """Two cycles, the time in which the provider's list settles, and two hours in which no other proof comes."""
        for _ in range(2):
            self.later(5 * MINUTE).trusted(channel).reconcile()
            self.cycle()
        self.later(10 * MINUTE).reconcile()
        self.later(2 * HOUR).reconcile()

    def outcomes(self) -> Counter[tuple[str, int]]:
        """(what the ledger says of an attempt, how often its address was reached by now) -> how many attempts."""
        found = reached(self.network.log())
        by_address = {address: times for (_, address), times in found.items()}
        return Counter(
            (state, by_address.get(address, 0)) for address, state in self.owner.execute(ATTEMPTS).fetchall()
        )

    def violations(self) -> list[str]:
        """What the judge has to say about everybody who was due."""
        entries = [Entry(*row) for row in self.owner.execute(REMINDERS).fetchall()]
        summary = self.network.summary()
        return violations(self.due, entries, reached(self.network.log()), summary["max_simultaneous_calls"])
