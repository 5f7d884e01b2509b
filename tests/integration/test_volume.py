"""An abnormal volume is not sent: more overdue, contacts or repetition than usual is held, with the figures."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.integration.scene import EMAIL_IS_DUE, HOUR, MINUTE, WEDNESDAY_2PM, Booked, Scene, clients

DAY = timedelta(days=1)
OVERDUE = EMAIL_IS_DUE - 2 * HOUR
FRESH = EMAIL_IS_DUE - 5 * MINUTE


def usual(scene: Scene, contacts: int, account: str = "clinic", channel: str = "email", **other: int) -> None:
    """Four weeks in which the account, and all, had so many contacts in this hour of the week."""
    figures = {"contacts": contacts, "overdue": 0, "repeated": 0, **other}
    for name in (account, "*"):
        scene.owner.execute(
            "INSERT INTO reminders.volume (account_id, channel, hour_at, contacts, overdue, repeated)"
            " SELECT %(account)s, %(channel)s,"
            " date_trunc('hour', %(now)s::timestamptz, 'UTC') - week * interval '168 hours',"
            " %(contacts)s, %(overdue)s, %(repeated)s FROM generate_series(1, 4) week ON CONFLICT DO NOTHING",
            {"account": name, "channel": channel, "now": scene.now, **figures},
        )
    scene.owner.execute(
        "INSERT INTO reminders.account_seen VALUES (%s, %s) ON CONFLICT (account_id) DO UPDATE"
        " SET first_seen_at = EXCLUDED.first_seen_at",
        (account, scene.now - timedelta(days=29)),
    )


# More overdue than usual


@pytest.mark.parametrize(
    ("late", "usually", "is_held"), [(20, 0, False), (21, 0, True), (30, 10, False), (31, 10, True)]
)
def test_more_overdue_than_three_times_the_usual_is_held(scene: Scene, late: int, usually: int, is_held: bool) -> None:
    """As when cycles plan and a dispatch that fails sends nothing."""
    usual(scene.at(WEDNESDAY_2PM), 100, overdue=usually)
    scene.at(WEDNESDAY_2PM - HOUR).booked(*clients(late, OVERDUE, "late")).prepare()
    scene.at(WEDNESDAY_2PM).cycle()
    assert len(scene.reached) == (0 if is_held else late)
    if is_held:
        ((group, why),) = scene.holds()
        assert group == "clinic 1 to 6 hours"
        assert why.startswith(f"{late} overdue, usual {usually}; by email")


# Volume


@pytest.mark.parametrize(
    ("planned", "usually", "is_held"), [(20, 0, False), (21, 0, True), (24, 8, False), (25, 8, True)]
)
def test_more_contacts_than_three_times_the_usual_are_held(
    scene: Scene, planned: int, usually: int, is_held: bool
) -> None:
    scene.at(WEDNESDAY_2PM).booked(*clients(planned, FRESH))
    usual(scene, usually)
    scene.cycle()
    assert len(scene.reached) == (0 if is_held else planned)
    if is_held:
        assert scene.holds() == [("clinic 1 fresh", f"{planned} to contact by email this hour, usual {usually}")]


def test_the_volume_of_an_hour_is_judged_and_not_only_that_of_a_cycle(scene: Scene) -> None:
    """Fifteen every five minutes where four are usual: the second cycle is one too many."""
    scene.at(WEDNESDAY_2PM)
    usual(scene, 4)
    for wave in range(4):
        scene.at(WEDNESDAY_2PM + 5 * wave * MINUTE)
        scene.booked(*clients(15, FRESH + 5 * wave * MINUTE, f"wave{wave}-")).cycle()
    assert len(scene.reached) == 15


def test_with_little_history_usual_is_what_the_book_implies(scene: Scene) -> None:
    """Forty appointments of one hour in the book are forty contacts: nothing is held."""
    scene.at(WEDNESDAY_2PM).booked(*clients(40, FRESH)).cycle()
    assert len(scene.reached) == 40


def test_contacts_that_the_book_does_not_explain_are_held(scene: Scene) -> None:
    """A release that numbers steps anew makes every old reminder a new one: the book has no such rungs due."""
    scene.at(WEDNESDAY_2PM).booked(*clients(25, EMAIL_IS_DUE + DAY, "ahead")).prepare()
    scene.owner.execute(
        "INSERT INTO reminders.reminder (account_id, appointment_id, slot_at, step, channel, logical_date, adopted_by,"
        " due_at, expires_at, address_hash, address_masked) SELECT account_id, appointment_id, slot_at, 9, 'email',"
        " logical_date, logical_date, %s, slot_at - interval '1 hour', email_hash, email_masked"
        " FROM reminders.staged_appointment",
        (WEDNESDAY_2PM,),
    )
    scene.cycle()
    assert not scene.reached
    assert scene.holds() == [("clinic 9 fresh", "25 to contact by email this hour, usual 0")]


def test_one_accounts_flood_does_not_hold_anothers_reminders(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM).booked(*clients(30, FRESH), Booked(FRESH, "calm", "vet", client_email="calm@example.com"))
    usual(scene, 5)
    scene.cycle()
    assert scene.addresses() == ["calm@example.com"]


def test_many_small_floods_are_one_flood(scene: Scene) -> None:
    """Ten accounts with six contacts each where six in all are usual: no account stands out, together they do."""
    scene.at(WEDNESDAY_2PM)
    for name in (f"account-{i}" for i in range(10)):
        scene.booked(*clients(6, FRESH, name, account_id=name))
        usual(scene, 0, account=name)
    scene.cycle()
    assert not scene.reached
    assert {why for _, why in scene.holds()} == {"60 to contact by email this hour, usual 0"}


# Repetition


def test_people_who_were_texted_yesterday_are_not_texted_again_in_a_mass(scene: Scene) -> None:
    """The same people for another slot each day, and the book has only one appointment ahead for each of them."""

    def book(starts_at: datetime, name: str) -> None:
        scene.booked(
            *[Booked(starts_at, f"{name}-{i}", client_email=None, client_phone=f"+4420794600{i:02}") for i in range(25)]
        )

    book(WEDNESDAY_2PM + 5 * MINUTE, "wednesday")
    scene.at(WEDNESDAY_2PM - DAY + 18 * MINUTE).cycle()
    assert len(scene.reached) == 25
    scene.at(WEDNESDAY_2PM + 6 * MINUTE).cycle()
    book(WEDNESDAY_2PM + DAY + 10 * MINUTE, "thursday")
    scene.at(WEDNESDAY_2PM + 10 * MINUTE).cycle()
    assert len(scene.reached) == 25
    assert scene.holds() == [
        ("clinic 2 fresh", "25 of 25 to contact by sms were so contacted in the last day, usual 0"),
    ]


def test_clients_who_come_every_day_are_contacted_every_day(scene: Scene) -> None:
    scene.at(WEDNESDAY_2PM - 20 * HOUR)
    for day in range(2):
        scene.booked(
            *[
                Booked(FRESH - 20 * HOUR + 20 * day * HOUR, f"day{day}-{i}", client_email=f"daily{i}@example.com")
                for i in range(25)
            ]
        )
    scene.cycle()
    scene.at(WEDNESDAY_2PM).cycle()
    assert len(scene.reached) == 50
