"""A channel that fails is held by the ledger: a fault of ours or of the provider's is not tried on everybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from reminders.channels.telephony import Twilio, final_status
from reminders.cycle.reconcile import close_dead, closing, poll
from reminders.errors import AddressRefused, Doubtful, Misconfigured, NeverContacted, OptedOut
from reminders.model import Acceptance, Channel, Contact
from reminders.store.ledger import Ledger
from tests.databases import TestDatabase
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels, raising

HOLDS = "SELECT scope, scope_value, placed_by, why FROM reminders.hold WHERE released_at IS NULL"
VISITS = WEDNESDAY_2PM + 22 * HOUR


def clients(count: int, first: int = 0) -> list[Booked]:
    return [
        Booked(VISITS + n * MINUTE, f"appointment-{n}", client_email=None, client_phone=f"+4420794600{n:02d}")
        for n in range(first, first + count)
    ]


def attempt_ids(scene: Scene) -> list[int]:
    return [row[0] for row in scene.owner.execute("SELECT attempt_id FROM reminders.attempt ORDER BY 1").fetchall()]


def send(scene: Scene, count: int, answer: Callable[[Contact], Acceptance], first: int = 0) -> list[int]:
    """Text `count` further clients and get this answer for each; the numbers of their attempts."""
    before = set(attempt_ids(scene))
    scene.booked(*clients(count, first)).answer = answer
    scene.cycle()
    return [attempt_id for attempt_id in attempt_ids(scene) if attempt_id not in before]


def accepted(contact: Contact) -> Acceptance:
    return Acceptance(f"SM{contact.attempt_id}", "queued")


def came(scene: Scene, ids: Sequence[int], outcome: str, reason: str | None) -> None:
    """News of accepted attempts, one after the other."""
    for attempt_id in ids:
        scene.ledger.record([closing(attempt_id, outcome, reason)], scene.now)


def held_by(scene: Scene) -> list[str]:
    return [row[2] for row in scene.owner.execute(HOLDS).fetchall()]


@pytest.fixture(autouse=True)
def wide_gate(scene: Scene) -> None:
    """A whole practice's texts come due at once here, and it is the channel that stops them."""
    scene.with_a_wide_gate()


@pytest.fixture
def open_shop(scene: Scene) -> Scene:
    return scene.at(WEDNESDAY_2PM)


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (raising(AddressRefused("refused_unexplained", "21612")), ["failing_channel"]),
        (raising(AddressRefused("bad_address", "21211")), []),
        (raising(OptedOut("opted_out", "21610")), []),
        (raising(Doubtful("timeout")), ["failing_channel"]),
        (raising(RuntimeError("nobody foresaw")), ["failing_channel"]),
        (raising(NeverContacted("rate_limited", "429")), []),
        (raising(NeverContacted("not_connected")), []),
        (raising(NeverContacted("paused", retry_after=0)), []),
        (raising(Misconfigured("misconfigured", "20003")), ["dispatch"]),
        (accepted, []),
        (lambda contact: Acceptance(f"SM{contact.attempt_id}", "read", is_delivered=True), []),
    ],
    ids=["unexplained", "bad address", "opted out", "timeout", "unforeseen", "too many", "no connection", "paused",
         "misconfigured", "accepted", "delivered"],
)  # fmt: skip
def test_what_counts_as_failing_when_it_is_sent(open_shop: Scene, answer: Any, held: list[str]) -> None:
    send(open_shop, 12, answer)
    assert held_by(open_shop) == held


@pytest.mark.parametrize(
    ("outcome", "reason", "held"),
    [
        ("undelivered", "unreachable", ["failing_channel"]),
        ("undelivered", "refused_unexplained", ["failing_channel"]),
        ("undelivered", "call_failed", ["failing_channel"]),
        ("undelivered", "too_late", ["failing_channel"]),
        ("undelivered", "misconfigured", ["dispatch"]),
        ("undelivered", "bad_address", []),
        ("undelivered", "opted_out", []),
        ("undelivered", "busy", []),
        ("undelivered", "no_answer", []),
        ("cancelled", "cancelled_at_provider", []),
        ("unknown", "no_final_status", ["failing_channel"]),
        ("delivered", "read", []),
    ],
)
def test_what_counts_as_failing_when_it_comes_later(
    open_shop: Scene, outcome: str, reason: str, held: list[str]
) -> None:
    came(open_shop, send(open_shop, 12, accepted), outcome, reason)
    assert held_by(open_shop) == held


@pytest.mark.parametrize(
    ("news", "is_held"),
    [
        ([(0, 9)], False),
        ([(0, 10)], True),
        ([(39, 10)], True),
        ([(40, 10)], False),
        ([(40, 11)], True),
        ([(60, 10)], False),
        ([(0, 9), (41, 2)], False),
        ([(0, 9), (36, 2)], True),
    ],
)
def test_over_a_fifth_and_at_least_ten_of_the_last_fifty(
    open_shop: Scene, news: list[tuple[int, int]], is_held: bool
) -> None:
    """`news` is how many were delivered, and how many then failed, in turn."""
    ids = send(open_shop, 72, accepted)
    for good, bad in news:
        for count, outcome, reason in ((good, "delivered", "read"), (bad, "undelivered", "unreachable")):
            open_shop.at(open_shop.now + MINUTE / 60)
            came(open_shop, ids[:count], outcome, reason)
            ids = ids[count:]
    assert (held_by(open_shop) == ["failing_channel"]) is is_held


def test_what_was_given_back_says_nothing_of_the_channel(open_shop: Scene) -> None:
    """Or a night of rate limits would cover what fails among them."""
    send(open_shop, 45, raising(NeverContacted("rate_limited", "429", retry_after=7200)))
    send(open_shop.at(WEDNESDAY_2PM + MINUTE), 10, raising(Doubtful("timeout")), first=50)
    assert held_by(open_shop) == ["failing_channel"]


def test_of_outcomes_that_became_known_at_one_time_the_last_begun_are_the_last(open_shop: Scene) -> None:
    """As a poll's answers do."""
    ids = send(open_shop, 90, accepted)
    came(open_shop, ids[:80], "delivered", "read")
    came(open_shop, ids[80:], "undelivered", "unreachable")
    assert held_by(open_shop) == []
    came(open_shop, send(open_shop, 1, accepted, first=90), "undelivered", "unreachable")
    assert held_by(open_shop) == ["failing_channel"]


def test_the_hold_says_what_was_counted_and_names_nobody(open_shop: Scene) -> None:
    came(open_shop, send(open_shop, 15, accepted)[:5], "delivered", "read")
    send(open_shop.at(open_shop.now + MINUTE), 4, raising(Doubtful("timeout")), first=20)
    send(open_shop.at(open_shop.now + MINUTE), 6, raising(AddressRefused("refused_unexplained")), first=30)
    [hold] = open_shop.owner.execute(HOLDS).fetchall()
    why = "10 of the last 15 outcomes failed: 6 failed, 4 in_doubt"
    assert hold == ("channel", "sms", "failing_channel", why)
    assert open_shop.owner.execute("SELECT review_at - placed_at FROM reminders.hold").fetchone() == (HOUR,)


def test_another_channel_goes_on(open_shop: Scene) -> None:
    send(open_shop, 12, raising(Doubtful("timeout")))
    open_shop.answer = None
    open_shop.booked(Booked(WEDNESDAY_2PM + 48 * HOUR, "by-mail")).at(WEDNESDAY_2PM + 5 * MINUTE)
    assert channels(open_shop.cycle()) == ["email"]


def test_a_release_starts_afresh(open_shop: Scene) -> None:
    """What was begun before it and comes to be known after it does not count, nor does doubt that ends."""
    send(open_shop, 12, raising(Doubtful("timeout")))
    open_shop.at(WEDNESDAY_2PM + 10 * MINUTE).release()
    late = send(open_shop, 12, accepted, first=20)
    open_shop.at(WEDNESDAY_2PM + 11 * MINUTE).release()
    open_shop.hold("channel", "sms")
    open_shop.at(WEDNESDAY_2PM + 12 * MINUTE).release()
    came(open_shop.at(WEDNESDAY_2PM + 13 * MINUTE), late, "undelivered", "unreachable")
    close_dead(open_shop.ledger, WEDNESDAY_2PM + 121 * MINUTE)
    assert held_by(open_shop) == []
    send(open_shop.at(WEDNESDAY_2PM + 125 * MINUTE), 9, raising(Doubtful("timeout")), first=40)
    assert held_by(open_shop) == []
    send(open_shop.at(WEDNESDAY_2PM + 130 * MINUTE), 1, raising(Doubtful("timeout")), first=60)
    assert held_by(open_shop) == ["failing_channel"]


def test_a_release_dated_ahead_is_no_fresh_start_for_ever(open_shop: Scene) -> None:
    send(open_shop, 12, raising(Doubtful("timeout")))
    open_shop.owner.execute("UPDATE reminders.hold SET released_at = '2099-01-01Z', released_by = 'a person'")
    send(open_shop.at(WEDNESDAY_2PM + 5 * MINUTE), 1, raising(Doubtful("timeout")), first=20)
    assert held_by(open_shop) == ["failing_channel"]


def test_doubt_that_ends_without_proof_does_not_count_a_second_time(open_shop: Scene) -> None:
    send(open_shop, 6, raising(Doubtful("timeout")))
    ids = send(open_shop.at(WEDNESDAY_2PM + MINUTE), 60, accepted, first=20)
    came(open_shop.at(WEDNESDAY_2PM + 2 * MINUTE), ids[:44], "delivered", "read")
    close_dead(open_shop.ledger, open_shop.at(WEDNESDAY_2PM + 121 * MINUTE).now)
    came(open_shop.at(WEDNESDAY_2PM + 122 * MINUTE), ids[44:50], "undelivered", "unreachable")
    assert held_by(open_shop) == []


def test_two_batches_that_fail_at_once_hold_once(open_shop: Scene, ledger: TestDatabase) -> None:
    ids = send(open_shop, 60, accepted)
    workers = [Ledger(ledger.connect("reminders_app")) for _ in range(2)]

    def fails(worker: Ledger, mine: list[int]) -> int:
        return worker.record([closing(attempt_id, "undelivered", "unreachable") for attempt_id in mine], open_shop.now)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, 60, 20):
            parts = ids[start : start + 10], ids[start + 10 : start + 20]
            assert list(pool.map(fails, workers, parts, timeout=60)) == [10, 10]
    assert held_by(open_shop) == ["failing_channel"]


# The token was rotated, or something else of ours broke: how many clients are tried, and does anybody's phone ring?


def provider(http_status: int, code: int) -> Twilio:
    def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(http_status, json={"code": code, "message": "no", "status": http_status})

    return Twilio("AC1", "old-token", from_sms="+15005550006", transport=httpx.MockTransport(refuse))


def until_the_visits(scene: Scene, text: Callable[[Contact], Acceptance], rate: float) -> int:
    """Cycles from when the texts of 30 clients are due until their visits and those of 30 more, due three hours later.

    Texts go through `text`, and the reports on them say `undelivered`, without a code. Returns how many were tried.
    """

    def answer(contact: Contact) -> Acceptance:
        if contact.channel is Channel.SMS:
            return text(contact)
        scene.reached.append(contact)
        return Acceptance(f"CA{contact.attempt_id}", "completed", is_delivered=True)

    later = [replace(row, starts_at=row.starts_at + 5 * HOUR) for row in clients(30, first=30)]
    scene.booked(*clients(30), *later).answer = answer
    for hours in (0, 0.1, 1, 3, 3.1, 5, 19.5, 20.5, 23.5, 25):
        scene.at(WEDNESDAY_2PM + hours * HOUR)
        scene.send(scene.prepare(), rate, scene.flowing())
        poll(scene.ledger, lambda _channel, _provider_id: ("undelivered", ""), final_status, scene.now)
        scene.look_up_in_vain()
        close_dead(scene.ledger, scene.now)
    return len(attempt_ids(scene))


@pytest.mark.parametrize("in_a_group", [1, 5])
@pytest.mark.parametrize(
    ("refusal", "most", "placed_by"),
    [
        (provider(401, 20099), 1, "dispatch"),
        (provider(403, 70051), 1, "dispatch"),
        (provider(400, 21612), 10, "failing_channel"),
    ],
    ids=["unlisted 401", "unlisted 403", "unexplained"],
)
def test_a_rotated_token_is_tried_on_few_and_rings_nobody(
    scene: Scene, refusal: Twilio, most: int, placed_by: str, in_a_group: int
) -> None:
    def text(contact: Contact) -> Acceptance:
        return refusal.text(contact, scene.now, lambda: None)

    tried = until_the_visits(scene, text, 2.0 * in_a_group)
    assert most <= tried < most + in_a_group
    assert held_by(scene) == [placed_by]
    assert scene.reached == [], "no text arrived, and no phone rang because of it"


def test_texts_that_are_taken_and_not_delivered_stop_with_the_first_reports_and_ring_nobody(scene: Scene) -> None:
    assert until_the_visits(scene, accepted, 60.0) == 30, "those of the first cycle, of which nothing was known yet"
    assert held_by(scene) == ["failing_channel"]
    assert scene.reached == []


def test_a_provider_that_breaks_is_tried_on_few_and_only_they_who_may_have_been_reached_are_called(
    scene: Scene,
) -> None:
    """Doubt counts as a contact, for the ladder too: the hold keeps it to the ten."""

    def text(contact: Contact) -> Acceptance:
        return provider(500, 20500).text(contact, scene.now, lambda: None)

    assert until_the_visits(scene, text, 2.0) == 10 + len(scene.reached)
    assert held_by(scene) == ["failing_channel"]
    assert channels(scene.reached) == ["call"] * 10


def test_numbers_that_are_bad_are_the_clients_own_and_are_called(scene: Scene) -> None:
    """What a refusal proves when it is about the number, or the tests above could not fail."""

    def text(contact: Contact) -> Acceptance:
        return provider(400, 21211).text(contact, scene.now, lambda: None)

    until_the_visits(scene, text, 60.0)
    assert held_by(scene) == []
    assert set(channels(scene.reached)) == {"call"}
