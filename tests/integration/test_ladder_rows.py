"""The ladder's rule, row by row: how the rung below ended, and when the rung above reached the client, if ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from reminders.cycle.reconcile import close_dead, closing
from reminders.errors import AddressRefused, Doubtful, Misconfigured, NeverContacted, OptedOut
from reminders.model import Acceptance, Channel, Contact
from tests.integration.scene import HOUR, MINUTE, Booked, Scene

HALF_AN_HOUR = 30 * MINUTE
WEDNESDAY_9AM = datetime(2026, 2, 11, 9, 0, tzinfo=UTC)
(
    WEDNESDAY_10AM, WEDNESDAY_11AM, WEDNESDAY_NOON, WEDNESDAY_1PM, WEDNESDAY_2PM,
    WEDNESDAY_3PM, WEDNESDAY_4PM, WEDNESDAY_5PM, WEDNESDAY_6PM, WEDNESDAY_7PM,
) = (WEDNESDAY_9AM + hours * HOUR for hours in range(1, 11))  # fmt: skip
WEDNESDAY_1230PM, WEDNESDAY_330PM = WEDNESDAY_NOON + HALF_AN_HOUR, WEDNESDAY_3PM + HALF_AN_HOUR
THURSDAY_10AM, THURSDAY_1PM, THURSDAY_6PM = (at + 24 * HOUR for at in (WEDNESDAY_10AM, WEDNESDAY_1PM, WEDNESDAY_6PM))

# For a visit at 18:00: the lower rung from 10:00 to 16:00, the upper from 13:00 to 17:00, three hours for an answer.
LADDER = """
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, %s, '8 hours', '2 hours', '0'), ('clinic', 2, %s, '5 hours', '1 hour', '3 hours')
"""
# The same ladder, over an email from 9:00 until 16:00.
THREE_STEPS = """
DELETE FROM reminders.cadence_step WHERE account_id = 'clinic';
INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait)
VALUES ('clinic', 1, 'email', '9 hours', '2 hours', '0'), ('clinic', 2, 'sms', '8 hours', '2 hours', '0'),
       ('clinic', 3, 'call', '5 hours', '1 hour', '2 hours')
"""
# Neither gap nor caps come between.
WIDE = """
INSERT INTO reminders.account_policy (account_id, phone_gap, phone_daily_cap, phone_weekly_cap, email_gap)
VALUES ('clinic', '1 minute', 9, 9, '1 minute')
"""
HOLD = """
INSERT INTO reminders.hold (scope, scope_value, placed_by, why, review_at) VALUES ('channel', %s, 'op', 'x', now())
"""
RELEASE = "UPDATE reminders.hold SET released_at = now(), released_by = 'op' WHERE released_at IS NULL"
DROP = """
UPDATE reminders.reminder SET state = 'cancelled', reason = 'dropped', ended_at = now(), deferred_for = NULL
WHERE step = 1 AND state = 'held'
"""

Event = Callable[["Day"], None]
Reached = list[tuple[datetime, str]]


@dataclass
class Day:
    """A Wednesday of cycles at every half hour, to the end of Thursday if wanted, with what happens before some."""

    scene: Scene
    lower: Channel
    is_down: bool = False

    def live(self, events: Mapping[datetime, Event], last: datetime = WEDNESDAY_6PM) -> Reached:
        """What reached the client, and in the cycle of which moment."""
        found: Reached = []
        now = WEDNESDAY_9AM
        while now <= last:
            self.scene.at(now)
            events.get(now, lambda _day: None)(self)
            self.scene.look_up_in_vain()
            close_dead(self.scene.ledger, now)
            if not self.is_down:
                found += [(now, contact.channel.value) for contact in self.scene.cycle()]
            now += HALF_AN_HOUR
        return found

    def answers(self, answer: Callable[[Contact], Acceptance]) -> None:
        """Let the lower rung's contacts have this answer; whatever else is sent is delivered."""

        def either(contact: Contact) -> Acceptance:
            if contact.channel is self.lower:
                return answer(contact)
            self.scene.reached.append(contact)
            return Acceptance(f"provider-{contact.attempt_id}", "sent", is_delivered=True)

        self.scene.answer = either

    def operator(self, statement: str, *values: Any) -> None:
        with self.scene.owner.transaction():
            self.scene.owner.execute("SET LOCAL ROLE reminders_operator")
            self.scene.owner.execute(statement, values)


def accepted(day: Day) -> None:
    """The provider takes it, it arrives, and no final status is told yet."""

    def answer(contact: Contact) -> Acceptance:
        day.scene.reached.append(contact)
        return Acceptance(f"provider-{contact.attempt_id}", "queued")

    day.answers(answer)


def doubtful(day: Day) -> None:
    """It arrives, and the provider's answer is lost."""

    def answer(contact: Contact) -> Acceptance:
        day.scene.reached.append(contact)
        raise Doubtful("timeout")

    day.answers(answer)


def refused(error: Exception) -> Event:
    """It never leaves the provider."""

    def answer(_contact: Contact) -> Acceptance:
        raise error

    return lambda day: day.answers(answer)


def reported(outcome: str, reason: str) -> Event:
    """The provider's final word on the lower rung, as the poll records it."""

    def report(day: Day) -> None:
        [attempt] = day.scene.ledger.attempts("attempts_to_poll", most=10, now=day.scene.now)
        # What is sent after it has another story.
        day.scene.answer = None
        assert day.scene.ledger.record([closing(attempt["attempt_id"], outcome, reason)], day.scene.now) == 1

    return report


def held(day: Day) -> None:
    day.operator(HOLD, day.lower.value)


def released(day: Day) -> None:
    day.operator(RELEASE)


def put_right(day: Day) -> None:
    """The cause of a refusal is gone, and a person has released the hold."""
    day.scene.answer = None
    day.operator(RELEASE)


def dropped(day: Day) -> None:
    day.operator(DROP)
    day.operator(RELEASE)


def down(day: Day) -> None:
    day.is_down = True


def up(day: Day) -> None:
    day.is_down = False


def in_the_book(**changes: Any) -> Event:
    """The book changes the appointment, whose slot is then at `starts_at` if that is among the changes."""

    def change(day: Day) -> None:
        day.scene.changed(**changes)

    return change


def gone(day: Day) -> None:
    day.scene.book.clear()


def a_second_person(day: Day) -> None:
    """Somebody of the same household is booked for the same time."""
    day.scene.booked(Booked(WEDNESDAY_6PM, "appointment-2", client_name="Ben Sample"))


def practice(scene: Scene, lower: str, upper: str, **client: Any) -> Day:
    scene.owner.execute(LADDER, (lower, upper))
    scene.owner.execute(WIDE)
    scene.booked(Booked(WEDNESDAY_6PM, **client))
    return Day(scene, Channel(lower))


def ends(scene: Scene) -> list[tuple[str, str | None]]:
    """How the rungs of Wednesday's slot ended, the lowest first: the state, and its reason or what it waits for."""
    return scene.owner.execute(
        "SELECT state, coalesce(reason, deferred_for) FROM reminders.reminder"
        " WHERE slot_at = %s AND appointment_id = 'appointment-1' ORDER BY step",
        (WEDNESDAY_6PM,),
    ).fetchall()


EMAIL, TEXT, CALL = "email", "sms", "call"
DELIVERED = ("delivered", "relay_accepted")
MISSED_BY_US = ("expired", "missed_by_us")
AT_10_THEN_AT_1 = [(WEDNESDAY_10AM, TEXT), (WEDNESDAY_1PM, CALL)]

# The text's story -> what reached the client, how the text ended, how the call did.
CALL_OVER_TEXT: dict[str, tuple[dict[datetime, Event], Reached, tuple[str, str | None], tuple[str, str]]] = {
    # Delivered: after the wait, if unanswered.
    "delivered": ({}, AT_10_THEN_AT_1, DELIVERED, DELIVERED),
    "delivered at 12:30": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("delivered", "delivered")},
        [(WEDNESDAY_10AM, TEXT), (WEDNESDAY_330PM, CALL)],
        ("delivered", "delivered"), DELIVERED,
    ),
    # Unknown: as delivered, but counted from the intent, though the doubt about the second lasts until 14:30.
    "unknown": ({WEDNESDAY_10AM: doubtful}, AT_10_THEN_AT_1, ("unknown", "no_proof"), DELIVERED),
    "unknown of 12:00": (
        {WEDNESDAY_9AM: held, WEDNESDAY_11AM: doubtful, WEDNESDAY_NOON: released},
        [(WEDNESDAY_NOON, TEXT), (WEDNESDAY_3PM, CALL)], ("unknown", "no_proof"), DELIVERED,
    ),
    # Failed or undelivered for the address's own sake: at the call's own time, without the wait.
    "refused": ({WEDNESDAY_9AM: refused(AddressRefused("bad_address", "21211"))},
        [(WEDNESDAY_1PM, CALL)], ("failed", "bad_address"), DELIVERED),
    "undelivered at 12:30": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("undelivered", "unreachable")},
        AT_10_THEN_AT_1, ("undelivered", "unreachable"), DELIVERED,
    ),
    "undelivered half an hour after it was sent": (
        {
            WEDNESDAY_9AM: held, WEDNESDAY_11AM: accepted, WEDNESDAY_NOON: released,
            WEDNESDAY_1230PM: reported("undelivered", "unreachable"),
        },
        [(WEDNESDAY_NOON, TEXT), (WEDNESDAY_1PM, CALL)], ("undelivered", "unreachable"), DELIVERED,
    ),
    # Opted out: no rung to that address, whatever the channel.
    "opted out": ({WEDNESDAY_9AM: refused(OptedOut("opted_out", "21610"))},
        [], ("failed", "opted_out"), ("suppressed", "opted_out")),
    "opted out at 12:30": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("undelivered", "opted_out")},
        [(WEDNESDAY_10AM, TEXT)], ("undelivered", "opted_out"), ("suppressed", "opted_out"),
    ),
    # Open: wait.
    "open": ({WEDNESDAY_10AM: accepted}, [(WEDNESDAY_10AM, TEXT)], ("accepted", None), ("expired", "too_late")),
    "open until 15:00": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_3PM: reported("undelivered", "unreachable")},
        [(WEDNESDAY_10AM, TEXT), (WEDNESDAY_3PM, CALL)], ("undelivered", "unreachable"), DELIVERED,
    ),
    # Missed by us, or refused for our sake: a call never goes without proof from a lower rung.
    "expired": ({WEDNESDAY_9AM: down, WEDNESDAY_4PM: up}, [], ("expired", "too_late"), MISSED_BY_US),
    "held": ({WEDNESDAY_9AM: held}, [], ("expired", "held_too_long"), MISSED_BY_US),
    "dropped": ({WEDNESDAY_9AM: held, WEDNESDAY_11AM: dropped}, [], ("cancelled", "dropped"), MISSED_BY_US),
    "never taken": ({WEDNESDAY_9AM: refused(NeverContacted("rate_limited", "429"))},
        [], ("expired", "too_late"), MISSED_BY_US),
    "misconfigured": ({WEDNESDAY_9AM: refused(Misconfigured("misconfigured", "20003"))},
        [], ("expired", "held_too_long"), MISSED_BY_US),
    "found misconfigured at 12:30": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("undelivered", "misconfigured")},
        [(WEDNESDAY_10AM, TEXT)], ("undelivered", "misconfigured"), MISSED_BY_US,
    ),
    "too late at the provider": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("undelivered", "too_late")},
        [(WEDNESDAY_10AM, TEXT)], ("undelivered", "too_late"), MISSED_BY_US,
    ),
    "refused, and nobody can tell why": ({WEDNESDAY_9AM: refused(AddressRefused("refused_unexplained", "21612"))},
        [], ("failed", "refused_unexplained"), MISSED_BY_US),
    "cancelled at the provider": (
        {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("cancelled", "cancelled_at_provider")},
        [(WEDNESDAY_10AM, TEXT)], ("cancelled", "cancelled_at_provider"), MISSED_BY_US,
    ),
    # What a person has put right in time goes on from there.
    "held until 11:00": ({WEDNESDAY_9AM: held, WEDNESDAY_11AM: released},
        [(WEDNESDAY_11AM, TEXT), (WEDNESDAY_2PM, CALL)], DELIVERED, DELIVERED),
    "misconfigured until 13:00": (
        {WEDNESDAY_9AM: refused(Misconfigured("misconfigured", "20003")), WEDNESDAY_1PM: put_right},
        [(WEDNESDAY_1PM, TEXT), (WEDNESDAY_4PM, CALL)], DELIVERED, DELIVERED,
    ),
}  # fmt: skip

# The email's story -> what reached the client, and how the email ended: the text goes at its own time, or when the
# email can no longer.
TEXT_OVER_EMAIL: dict[str, tuple[dict[datetime, Event], Reached, tuple[str, str]]] = {
    "delivered": ({}, [(WEDNESDAY_10AM, EMAIL), (WEDNESDAY_1PM, TEXT)], DELIVERED),
    "delivered at 12:00": ({WEDNESDAY_9AM: down, WEDNESDAY_NOON: up},
        [(WEDNESDAY_NOON, EMAIL), (WEDNESDAY_3PM, TEXT)], DELIVERED),
    "unknown": ({WEDNESDAY_10AM: doubtful},
        [(WEDNESDAY_10AM, EMAIL), (WEDNESDAY_1PM, TEXT)], ("unknown", "no_proof")),
    "refused": ({WEDNESDAY_9AM: refused(AddressRefused("mailbox_unknown", "550"))},
        [(WEDNESDAY_1PM, TEXT)], ("failed", "mailbox_unknown")),
    "no address": ({WEDNESDAY_9AM: in_the_book(client_email=None)},
        [(WEDNESDAY_1PM, TEXT)], ("suppressed", "no_address")),
    "bad address": ({WEDNESDAY_9AM: in_the_book(client_email="nobody")},
        [(WEDNESDAY_1PM, TEXT)], ("suppressed", "bad_address")),
    "opted out of emails": ({WEDNESDAY_9AM: refused(OptedOut("opted_out"))},
        [(WEDNESDAY_1PM, TEXT)], ("failed", "opted_out")),
    "dropped": ({WEDNESDAY_9AM: held, WEDNESDAY_11AM: dropped}, [(WEDNESDAY_1PM, TEXT)], ("cancelled", "dropped")),
    "expired": ({WEDNESDAY_9AM: down, WEDNESDAY_4PM: up}, [(WEDNESDAY_4PM, TEXT)], ("expired", "too_late")),
    "held": ({WEDNESDAY_9AM: held}, [(WEDNESDAY_4PM, TEXT)], ("expired", "held_too_long")),
    "misconfigured": ({WEDNESDAY_9AM: refused(Misconfigured("login_refused", "535"))},
        [(WEDNESDAY_4PM, TEXT)], ("expired", "held_too_long")),
}  # fmt: skip

# A call with emails only below it.
CALL_OVER_EMAIL: dict[str, tuple[dict[datetime, Event], Reached, tuple[str, str]]] = {
    "delivered": ({}, [(WEDNESDAY_10AM, EMAIL), (WEDNESDAY_1PM, CALL)], DELIVERED),
    "no address": ({WEDNESDAY_9AM: in_the_book(client_email=None)}, [(WEDNESDAY_1PM, CALL)], DELIVERED),
    "refused": ({WEDNESDAY_9AM: refused(AddressRefused("mailbox_unknown", "550"))}, [(WEDNESDAY_1PM, CALL)], DELIVERED),
    "expired": ({WEDNESDAY_9AM: down, WEDNESDAY_4PM: up}, [], MISSED_BY_US),
    "held": ({WEDNESDAY_9AM: held}, [], MISSED_BY_US),
    "dropped": ({WEDNESDAY_9AM: held, WEDNESDAY_11AM: dropped}, [], MISSED_BY_US),
    "misconfigured": ({WEDNESDAY_9AM: refused(Misconfigured("login_refused", "535"))}, [], MISSED_BY_US),
}

# The book's story after a text that is delivered at 12:30, so that its call would go at 15:30.
WAITING: dict[datetime, Event] = {WEDNESDAY_10AM: accepted, WEDNESDAY_1230PM: reported("delivered", "delivered")}
ONLY_THE_TEXT, TEXT_AND_CALL_NEXT_DAY = [(WEDNESDAY_10AM, TEXT)], [(THURSDAY_10AM, TEXT), (THURSDAY_1PM, CALL)]
BOOK: dict[str, tuple[dict[datetime, Event], Reached, tuple[str, str]]] = {
    "confirmed": (WAITING | {WEDNESDAY_2PM: in_the_book(status="confirmed")},
        ONLY_THE_TEXT, ("superseded", "confirmed")),
    "cancelled": (WAITING | {WEDNESDAY_2PM: in_the_book(status="cancelled")},
        ONLY_THE_TEXT, ("cancelled", "cancelled_in_book")),
    "gone": (WAITING | {WEDNESDAY_2PM: gone}, ONLY_THE_TEXT, ("cancelled", "not_in_book")),
    "moved": (WAITING | {WEDNESDAY_2PM: in_the_book(starts_at=THURSDAY_6PM)},
        ONLY_THE_TEXT + TEXT_AND_CALL_NEXT_DAY, ("superseded", "moved")),
    # A move voids the answer, which was for the slot.
    "confirmed, then moved": (
        WAITING | {
            WEDNESDAY_2PM: in_the_book(status="confirmed"),
            WEDNESDAY_3PM: in_the_book(status="booked", starts_at=THURSDAY_6PM),
        },
        ONLY_THE_TEXT + TEXT_AND_CALL_NEXT_DAY, ("superseded", "confirmed"),
    ),
    # A slot moved back after a contact has named another time stays silent; before, it does not.
    "moved back after a text about 19:00": (
        {WEDNESDAY_11AM: in_the_book(starts_at=WEDNESDAY_7PM), WEDNESDAY_NOON: in_the_book(starts_at=WEDNESDAY_6PM)},
        [*ONLY_THE_TEXT, (WEDNESDAY_11AM, TEXT)], ("superseded", "moved_back"),
    ),
    "moved back before a text about Thursday": (
        {WEDNESDAY_11AM: in_the_book(starts_at=THURSDAY_6PM), WEDNESDAY_NOON: in_the_book(starts_at=WEDNESDAY_6PM)},
        AT_10_THEN_AT_1, DELIVERED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", CALL_OVER_TEXT)
def test_a_call_after_a_text(scene: Scene, story: str) -> None:
    events, reached, text, call = CALL_OVER_TEXT[story]
    assert practice(scene, TEXT, CALL).live(events) == reached
    assert ends(scene) == [text, call]


@pytest.mark.parametrize("story", TEXT_OVER_EMAIL)
def test_a_text_after_an_email(scene: Scene, story: str) -> None:
    events, reached, email = TEXT_OVER_EMAIL[story]
    assert practice(scene, EMAIL, TEXT).live(events) == reached
    assert ends(scene) == [email, DELIVERED]


@pytest.mark.parametrize("story", CALL_OVER_EMAIL)
def test_a_call_after_an_email(scene: Scene, story: str) -> None:
    events, reached, call = CALL_OVER_EMAIL[story]
    assert practice(scene, EMAIL, CALL).live(events) == reached
    assert ends(scene)[1] == call


@pytest.mark.parametrize("story", BOOK)
def test_what_the_book_says_after_a_text(scene: Scene, story: str) -> None:
    events, reached, call = BOOK[story]
    assert practice(scene, TEXT, CALL).live(events, last=THURSDAY_6PM) == reached
    assert ends(scene) == [("delivered", ends(scene)[0][1]), call]


def test_a_call_may_rest_on_any_lower_rung_and_not_only_the_one_below(scene: Scene) -> None:
    day = practice(scene, TEXT, CALL)
    with scene.owner.transaction():
        scene.owner.execute(THREE_STEPS)
    assert day.live({WEDNESDAY_9AM: held}) == [(WEDNESDAY_9AM, EMAIL), (WEDNESDAY_4PM, CALL)]


def test_a_ladder_that_begins_with_a_call_has_chosen_to_need_no_proof(scene: Scene) -> None:
    day = practice(scene, TEXT, CALL)
    scene.owner.execute("DELETE FROM reminders.cadence_step WHERE account_id = 'clinic' AND step = 1")
    assert day.live({}) == [(WEDNESDAY_1PM, CALL)]


def test_without_a_number_neither_text_nor_call(scene: Scene) -> None:
    assert practice(scene, TEXT, CALL, client_phone=None).live({}) == []
    assert ends(scene) == [("suppressed", "no_address"), ("suppressed", "no_address")]


def test_a_second_person_at_the_number_gets_no_text_of_their_own_and_a_part_of_the_call(scene: Scene) -> None:
    assert practice(scene, TEXT, CALL).live({WEDNESDAY_11AM: a_second_person}) == AT_10_THEN_AT_1
    assert scene.states()["appointment-2", 1] == ("superseded", "slot_already_contacted")
    assert [visit.client_name for visit in scene.reached[1].visits] == ["Ada Sample", "Ben Sample"]
