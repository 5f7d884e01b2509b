"""The scene's texts and calls on the simulated network, by the real channel: its log is what tests judge by.

Emails go no further than the scene, which keeps them in `reached`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reminders.channels.telephony import Twilio
from reminders.channels.twilio_codes import final_status
from reminders.cycle.audit import Provider, audit
from reminders.model import Acceptance, Channel, Contact
from tests.deliveries import reconcile_deliveries
from tests.integration.scene import SECRET, Scene
from tests.simulator.client import Simulator

SENDER = "+15005550006"


def placed(scene: Scene) -> Iterator[Phones]:
    """The network from the scene's present time on, while a test lasts."""
    with Simulator.start(speed=0, start=scene.now) as network:
        yield Phones(scene, network)


@dataclass
class Phones:
    """`at` sets the scene's clocks and the network's; `reconcile` is a run of reconcile_deliveries."""

    scene: Scene
    network: Simulator

    def __post_init__(self) -> None:
        self.twilio = Twilio(
            self.network.account_sid,
            self.network.auth_token,
            self.network.base_url,
            from_sms=SENDER,
            from_call=SENDER,
        )
        self.on(self.scene)

    def on(self, scene: Scene) -> None:
        """Another scene's contacts go to the same phones: the same practice on another ledger."""
        self.scene = scene
        scene.answer = self.send

    def send(self, contact: Contact) -> Acceptance:
        if contact.channel is Channel.EMAIL:
            self.scene.reached.append(contact)
            return Acceptance(f"provider-{contact.attempt_id}", "sent", is_delivered=True)
        send = self.twilio.text if contact.channel is Channel.SMS else self.twilio.call
        return send(contact, self.scene.now, lambda: None)

    def at(self, now: datetime) -> Scene:
        if now > self.scene.now:
            self.network.advance((now - self.scene.now).total_seconds())
        return self.scene.at(now)

    def reconcile(self) -> dict[str, int]:
        """One run of reconcile_deliveries; returns all its counts."""
        return reconcile_deliveries(self.scene.ledger, self.twilio, SECRET, lambda: self.scene.now)

    def audit(self) -> dict[str, Any]:
        """The night's audit; returns what it finds."""
        provider = Provider(self.twilio.listed, self.twilio.status, final_status)
        return audit(self.scene.ledger, provider, self.scene.now)

    def heard(self) -> list[tuple[str, str]]:
        """(channel, number) of all that reached a phone, in order."""
        return [(event["channel"], event["to"]) for event in self.network.log()]

    def attempts(self) -> list[tuple[Any, ...]]:
        """(state, reason, whether the provider's id is known) of every attempt in the ledger."""
        found: list[tuple[Any, ...]] = self.scene.owner.execute(
            "SELECT state, reason, provider_id IS NOT NULL FROM reminders.attempt ORDER BY attempt_id"
        ).fetchall()
        return found
