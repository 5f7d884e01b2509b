"""The ladder, row by row: who is contacted, and what the ledger says of those who are not."""

from __future__ import annotations

import pytest

from reminders.cycle.reconcile import closing
from reminders.errors import AddressRefused, Doubtful, Misconfigured, NeverContacted
from reminders.model import Acceptance
from tests.integration.scene import HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, channels


def test_each_step_goes_once_and_in_order(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 72 * HOUR
    scene.booked(Booked(visit))
    went = []
    for before in (72, 71, 48, 24, 23, 12, 4, 3.5, 1):
        scene.at(visit - before * HOUR)
        went.append((before, channels(scene.cycle())))
    assert went == [
        (72, ["email"]), (71, []), (48, []), (24, ["sms"]), (23, []), (12, []), (4, ["call"]), (3.5, []), (1, []),
    ]  # fmt: skip


def test_the_same_date_run_again_contacts_nobody(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    assert channels(scene.cycle()) == ["email"]
    assert scene.cycle() == []


def test_a_backfill_fills_the_ledger_and_sends_nothing(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    assert scene.cycle(WEDNESDAY_2PM - 10 * MINUTE, kind="backfill") == []
    assert scene.states() == {("appointment-1", 1): ("pending", None)}
    assert channels(scene.cycle()) == ["email"], "what is still useful goes with the next scheduled cycle"


def test_orphans_of_a_cycle_that_died_are_adopted(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    scene.prepare()
    assert channels(scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()) == ["email"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("cancelled", ("cancelled", "cancelled_in_book")),
        ("confirmed", ("superseded", "confirmed")),
    ],
)
def test_the_book_ends_what_is_pending(scene: Scene, status: str, state: tuple[str, str]) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    scene.prepare()
    scene.changed(status=status).at(WEDNESDAY_2PM + 5 * MINUTE)
    assert scene.cycle() == []
    assert scene.states() == {("appointment-1", 1): state}


def test_an_appointment_gone_from_the_book_is_cancelled(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    scene.prepare()
    scene.book.clear()
    assert scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle() == []
    assert scene.states() == {("appointment-1", 1): ("cancelled", "not_in_book")}


def test_a_move_supersedes_and_the_new_slot_is_reminded(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    scene.prepare()
    scene.changed(starts_at=WEDNESDAY_2PM + 50 * HOUR).at(WEDNESDAY_2PM + 5 * MINUTE)
    [contact] = scene.cycle()
    assert contact.visits[0].starts_at == WEDNESDAY_2PM + 50 * HOUR


def test_a_slot_moved_back_after_another_time_was_named_stays_silent(scene: Scene) -> None:
    first, second = WEDNESDAY_2PM + 48 * HOUR, WEDNESDAY_2PM + 50 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(first))
    assert channels(scene.cycle()) == ["email"]
    scene.changed(starts_at=second).at(WEDNESDAY_2PM + HOUR)
    assert channels(scene.cycle()) == ["email"]
    scene.changed(starts_at=first).at(first - 24 * HOUR)
    assert scene.cycle() == []
    assert scene.states()["appointment-1", 2] == ("superseded", "moved_back")


def test_the_same_appointment_under_another_id_contacts_nobody(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 48 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit))
    assert channels(scene.cycle()) == ["email"]
    scene.book.clear()
    scene.booked(Booked(visit, appointment_id="imported-again")).at(WEDNESDAY_2PM + HOUR)
    assert scene.cycle() == []
    assert scene.states()["imported-again", 1] == ("superseded", "slot_already_contacted")


def test_under_another_id_the_ladder_goes_on_from_what_reached_the_client(scene: Scene) -> None:
    """The text went under the old id; the call asks for its proof, and for the wait after it, under the new one."""
    visit = WEDNESDAY_2PM + 29 * HOUR
    scene.owner.execute("UPDATE reminders.cadence_step SET lead = '8 hours', wait = '16 hours' WHERE step = 3")
    scene.booked(Booked(visit, client_email=None))
    assert channels(scene.at(visit - 23.5 * HOUR).cycle()) == ["sms"]
    scene.book.clear()
    scene.booked(Booked(visit, appointment_id="imported-again", client_email=None))
    assert scene.at(visit - 8 * HOUR).cycle() == []
    assert scene.states()["imported-again", 2] == ("superseded", "slot_already_contacted")
    assert scene.states()["imported-again", 3] == ("pending", "wait_for_answer")
    assert channels(scene.at(visit - 7.5 * HOUR).cycle()) == ["call"]


def test_under_another_id_no_call_before_the_text_has_an_end(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 5 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, client_email=None))
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.cycle()
    scene.book.clear()
    scene.booked(Booked(visit, appointment_id="imported-again", client_email=None))
    assert scene.at(visit - 2 * HOUR).cycle() == []
    assert scene.states()["imported-again", 3] == ("pending", "wait_for_lower_rung")


def test_one_contact_names_a_whole_family(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 48 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, "a", client_name="Ada"), Booked(visit, "b", client_name="Ben"))
    [contact] = scene.cycle()
    assert [v.client_name for v in contact.visits] == ["Ada", "Ben"]


def test_another_account_at_the_same_address_waits_and_is_never_bundled(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 48 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, "a"), Booked(visit + HOUR, "b", account_id="vet"))
    [contact] = scene.cycle()
    assert contact.account_id == "clinic"
    scene.at(WEDNESDAY_2PM + HOUR)
    [contact] = scene.cycle()
    assert contact.account_id == "vet"


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"client_email": None}, ("suppressed", "no_address")),
        ({"client_email": "not an address"}, ("suppressed", "bad_address")),
        ({"client_zone": "Mars/Base", "account_zone": None}, ("suppressed", "unknown_time_zone")),
        ({"status": "wondering"}, ("pending", "wait_for_status")),
        ({"status": "completed"}, ("superseded", "visit_over")),
        ({"status": "no_show"}, ("superseded", "visit_over")),
        ({"client_name": None, "client_locale": "xx"}, ("delivered", "relay_accepted")),
        ({"client_name": "x{0}\n<b>" * 2000}, ("delivered", "relay_accepted")),
    ],
)
def test_bad_rows_end_in_a_clear_state(scene: Scene, row: dict[str, str | None], state: tuple[str, str]) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR, **row))  # type: ignore[arg-type]
    scene.cycle()
    assert scene.states()["appointment-1", 1] == state


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("12", "bad_address"),
        ("+8613800138000", "country_not_permitted"),
        ("+449098790000", "number_type_not_permitted"),
    ],
)
def test_numbers_that_may_not_be_dialled(scene: Scene, number: str, reason: str) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 20 * HOUR, client_phone=number))
    assert scene.cycle() == []
    assert scene.states()["appointment-1", 2] == ("suppressed", reason)


def test_without_an_email_address_the_ladder_goes_on(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 23 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, client_email=None))
    assert channels(scene.cycle()) == ["sms"]


def test_lateness_never_calls(scene: Scene) -> None:
    """Everything below the call was missed by us: the call expires on the office's list."""
    visit = WEDNESDAY_2PM + 3 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit))
    scene.owner.execute("UPDATE reminders.cadence_step SET useful_until = '6 hours' WHERE step = 2")
    assert scene.cycle() == []
    assert scene.states()["appointment-1", 3] == ("expired", "missed_by_us")


def test_an_appointment_in_the_past_is_not_contacted(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + MINUTE))
    scene.prepare()
    scene.at(WEDNESDAY_2PM + 5 * MINUTE)
    assert scene.cycle() == []
    assert {state for state, _ in scene.states().values()} == {"expired"}


@pytest.mark.parametrize(
    ("error", "state", "reaches_next_cycle"),
    [
        (NeverContacted("connection_refused", retry_after=0), ("pending", "wait_until_not_before"), 1),
        (AddressRefused("mailbox_unknown", "550"), ("failed", "mailbox_unknown"), 0),
        (Misconfigured("login_refused", "535"), ("held", "on_hold"), 0),
        (Doubtful("timeout"), ("in_doubt", None), 0),
        (ValueError("nobody foresaw this"), ("in_doubt", None), 0),
    ],
)
def test_each_failure_is_a_decision(
    scene: Scene, error: Exception, state: tuple[str, str | None], reaches_next_cycle: int
) -> None:
    def fail(_: object) -> Acceptance:
        raise error

    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    scene.answer = fail
    scene.cycle()
    assert scene.states()["appointment-1", 1] == state
    scene.answer = None
    assert len(scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()) == reaches_next_cycle


def test_a_hold_stops_the_next_contact(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 48 * HOUR))
    batches = scene.prepare()
    scene.hold()
    scene.send(batches)
    assert scene.reached == []
    assert scene.states()["appointment-1", 1] == ("held", "on_hold")
    scene.release()
    assert channels(scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()) == ["email"]


def test_texts_wait_for_morning_in_the_clients_zone(scene: Scene) -> None:
    """At 14:00 UTC it is 23:00 in Tokyo, and at 00:00 UTC it is 9:00."""
    visit = WEDNESDAY_2PM + 23 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, client_zone="Asia/Tokyo", client_phone="+819012345678"))
    assert "sms" not in channels(scene.cycle())
    assert "sms" in channels(scene.at(WEDNESDAY_2PM + 10 * HOUR).cycle())


def test_the_daily_cap_expires_the_later_rung(scene: Scene) -> None:
    visit = WEDNESDAY_2PM + 5 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit))
    assert channels(scene.cycle()) == ["sms"]
    assert scene.at(visit - 2 * HOUR).cycle() == []
    scene.at(visit - HOUR).cycle()
    assert scene.states()["appointment-1", 3] == ("expired", "daily_cap")


def test_a_book_that_lost_a_fifth_cancels_nothing_and_holds(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM)
    for number in range(20):
        scene.booked(Booked(WEDNESDAY_2PM + 48 * HOUR + number * MINUTE, f"appointment-{number}",
                            client_email=f"c{number}@example.com"))  # fmt: skip
    scene.prepare()
    for number in range(8):
        del scene.book[f"appointment-{number}"]
    assert scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle() == []
    assert {state for state, _ in scene.states().values()} == {"held"}


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("unreachable_number", ("delivered", "relay_accepted")),
        ("misconfigured", ("expired", "missed_by_us")),
        ("too_late", ("expired", "missed_by_us")),
    ],
)
def test_only_a_failure_for_the_addresss_own_sake_is_proof(scene: Scene, reason: str, state: tuple[str, str]) -> None:
    """The text comes back undelivered; the call of the next day asks why."""
    scene.owner.execute("UPDATE reminders.cadence_step SET wait = '0', lead = '20 hours' WHERE step = 3")
    visit = WEDNESDAY_2PM + 21 * HOUR
    scene.at(WEDNESDAY_2PM).booked(Booked(visit, client_email=None))
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.cycle()
    undelivered(scene, reason)
    scene.answer = None
    scene.owner.execute("UPDATE reminders.hold SET released_at = now(), released_by = 'op' WHERE released_at IS NULL")
    scene.at(visit - 1.5 * HOUR).cycle()
    assert scene.states()["appointment-1", 3] == state


def undelivered(scene: Scene, reason: str) -> None:
    [attempt] = scene.ledger.attempts("attempts_to_poll", most=10, now=scene.now)
    assert scene.ledger.record([closing(attempt["attempt_id"], "undelivered", reason)], scene.now) == 1


def test_an_undelivered_text_for_our_configuration_holds_the_channel(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 21 * HOUR, client_email=None))
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.cycle()
    undelivered(scene, "misconfigured")
    assert [(hold["scope"], hold["scope_value"]) for hold in scene.ledger.holds()] == [("channel", "sms")]


def test_an_opt_out_reported_late_silences_the_address_everywhere(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 21 * HOUR, client_email=None))
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.cycle()
    undelivered(scene, "opted_out")
    scene.answer = None
    scene.booked(Booked(WEDNESDAY_2PM + 44 * HOUR, "at-the-vet", account_id="vet", client_email=None))
    assert scene.at(WEDNESDAY_2PM + 23 * HOUR).cycle() == []
    assert scene.states()["at-the-vet", 2] == ("suppressed", "opted_out")
