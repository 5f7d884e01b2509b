"""The decision table, clause by clause: what it takes for each verdict, and what falls just short of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rows import ELSEWHERE, HERE, MAILBOX, MONDAY, NOW, TODAY, VISIT, Rows
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)
JUDGE = "SELECT verdict, not_before_at, hold_id FROM reminders.disposition(%(now)s, %(ids)s)"

Act = Callable[[Rows], Any]
Changes = dict[str, Any]


def judged(rows: Rows, reminder: Changes, staged: Changes | None, *acts: Act) -> tuple[Any, ...]:
    """(verdict, not before, hold) of a text that was due four hours ago, with these changes, after these acts."""
    for act in acts:
        act(rows)
    number = rows.reminder(**reminder)
    if staged is not None:
        rows.staged(**staged)
    [answer] = rows.ask(JUDGE, now=NOW, ids=[number])
    return answer


def the(**columns: Any) -> Changes:
    return columns


TEXT: Changes = {}
EMAIL = the(step=1, channel="email", address_hash=MAILBOX, has_lower_rung=False, expires_at=VISIT - HOUR)
CALL = the(step=3, channel="call", expires_at=VISIT - HOUR)
FIRST_CALL = the(step=3, channel="call", expires_at=VISIT - HOUR, has_lower_rung=False)
NOTICE = the(step=0, channel="email", address_hash=MAILBOX, has_lower_rung=False)
EXPIRED = the(due_at=NOW - 6 * HOUR, expires_at=NOW)


def put(table: str, **columns: Any) -> Act:
    return lambda rows: rows.put(table, **columns)


def policy(account: str, **columns: Any) -> Act:
    return lambda rows: rows.put("account_policy", account_id=account, **columns)


def hold(scope: str, value: str = "", **columns: Any) -> Act:
    return lambda rows: rows.hold(scope, value, **columns)


def other(**columns: Any) -> Act:
    """Another reminder: of the same slot, unless it says otherwise."""
    return lambda rows: rows.reminder(**columns)


def guard(**columns: Any) -> Act:
    return lambda rows: rows.guard(**columns)


def gap(ago: timedelta, address: bytes = HERE) -> Act:
    return put("address_gap", address_hash=address, last_contact_at=NOW - ago, min_gap=HOUR)


def cap(period: str, starts_on: Any, count: int, most: int, address: bytes = HERE) -> Act:
    return put("address_cap", address_hash=address, period=period, starts_on=starts_on, contact_count=count, cap=most)


def ceiling(account: str, channel: str = "sms", day: Any = TODAY, count: int = 10) -> Act:
    return put("daily_ceiling", account_id=account, channel=channel, day=day, contact_count=count, ceiling=10)


def silence(channel: str = "*", reason: str = "opted_out", address: bytes = HERE) -> Act:
    return put("suppression", address_hash=address, channel=channel, reason=reason)


def calling(**columns: Any) -> Act:
    return lambda rows: rows.attempt(**(the(channel="call") | columns))


def unreachable_ladder(*channels: str) -> Act:
    def act(rows: Rows) -> None:
        for step, channel in enumerate(channels, start=1):
            rows.put(
                "cadence_step", account_id="clinic", step=step, channel=channel, lead=timedelta(hours=30 - step),
                useful_until=HOUR, wait=timedelta(0),
            )  # fmt: skip

    return act


NO_MAILBOX = other(step=1, channel="email", state="suppressed", reason="no_address", address_hash=None)
MAILED = other(step=1, channel="email", state="delivered", sent_at=NOW - 9 * HOUR)

# The verdict, what the reminder is, what the book says (None: nothing), and what else there is.
CASES: list[tuple[str, Changes, Changes | None, tuple[Act, ...]]] = [
    ("ready", TEXT, TEXT, ()),
    ("ready", EMAIL, TEXT, ()),
    ("ready", FIRST_CALL, TEXT, ()),
    # Ceilings of the day, of the account and of all
    ("wait_for_ceiling", TEXT, TEXT, (ceiling("clinic"),)),
    ("wait_for_ceiling", TEXT, TEXT, (ceiling("*"),)),
    ("ready", TEXT, TEXT, (ceiling("vet"),)),
    ("ready", TEXT, TEXT, (ceiling("clinic", "email"),)),
    ("ready", TEXT, TEXT, (ceiling("clinic", day=TODAY - DAY),)),
    ("ready", TEXT, TEXT, (ceiling("clinic", count=9),)),
    # The gap of an address
    ("wait_for_gap", TEXT, TEXT, (gap(HOUR),)),
    ("ready", TEXT, TEXT, (gap(HOUR, ELSEWHERE),)),
    ("ready", TEXT, TEXT, (gap(3 * HOUR),)),
    ("wait_for_gap", EMAIL, TEXT, (gap(10 * MINUTE, MAILBOX),)),
    ("ready", EMAIL, TEXT, (gap(HOUR, MAILBOX),)),
    ("ready", TEXT, TEXT, (gap(HOUR), policy("clinic", phone_gap=30 * MINUTE))),
    ("wait_for_gap", TEXT, TEXT, (gap(HOUR), policy("vet", phone_gap=30 * MINUTE))),
    # Its caps of the day and of the week: the lower one of what is kept and what the account asks for
    ("wait_for_day", TEXT, TEXT, (cap("day", TODAY, 1, 5),)),
    ("wait_for_day", TEXT, TEXT, (cap("day", TODAY, 1, 1), policy("clinic", phone_daily_cap=5))),
    ("ready", TEXT, TEXT, (cap("day", TODAY, 1, 5), policy("clinic", phone_daily_cap=5))),
    ("ready", TEXT, TEXT, (cap("day", TODAY, 0, 5),)),
    ("ready", TEXT, TEXT, (cap("day", TODAY, 1, 1, ELSEWHERE),)),
    ("ready", TEXT, TEXT, (cap("day", TODAY - DAY, 1, 1),)),
    ("ready", TEXT, TEXT, (cap("week", TODAY, 1, 1),)),
    ("ready", EMAIL, TEXT, (cap("day", TODAY, 1, 5, MAILBOX),)),
    ("wait_for_day", EMAIL, TEXT, (cap("day", TODAY, 3, 5, MAILBOX),)),
    ("wait_for_week", TEXT, TEXT, (cap("week", MONDAY, 3, 9),)),
    ("wait_for_week", TEXT, TEXT, (cap("week", MONDAY, 2, 2),)),
    ("ready", TEXT, TEXT, (cap("week", MONDAY, 2, 9),)),
    ("ready", TEXT, TEXT, (cap("week", MONDAY, 3, 9, ELSEWHERE),)),
    ("ready", TEXT, TEXT, (cap("week", MONDAY - 7 * DAY, 3, 9),)),
    ("ready", TEXT, TEXT, (cap("day", MONDAY, 3, 9),)),
    ("ready", EMAIL, TEXT, (cap("week", MONDAY, 3, 20, MAILBOX),)),
    ("wait_for_week", EMAIL, TEXT, (cap("week", MONDAY, 10, 20, MAILBOX),)),
    # Silence, and addresses that cannot be used
    ("opted_out", TEXT, TEXT, (silence(),)),
    ("opted_out", TEXT, TEXT, (silence("sms"),)),
    ("ready", TEXT, TEXT, (silence("email"),)),
    ("ready", TEXT, TEXT, (silence(address=ELSEWHERE),)),
    ("bad_address", TEXT, TEXT, (silence(reason="bad_address"),)),
    ("bad_address", TEXT, TEXT, (silence("sms", "bad_address"),)),
    ("ready", TEXT, TEXT, (silence("email", "bad_address"),)),
    ("ready", TEXT, TEXT, (silence(reason="bad_address", address=ELSEWHERE),)),
    ("no_address", TEXT, the(phone_problem="no_address"), ()),
    ("ready", TEXT, the(email_problem="no_address"), ()),
    ("no_address", EMAIL, the(email_problem="no_address"), ()),
    ("ready", EMAIL, the(phone_problem="no_address"), ()),
    ("number_type_not_permitted", TEXT, the(phone_type="premium_rate"), ()),
    ("number_type_not_permitted", TEXT, the(phone_type="shared_cost"), ()),
    ("ready", EMAIL, the(phone_type="premium_rate"), ()),
    ("country_not_permitted", TEXT, the(phone_country="KP"), ()),
    ("ready", EMAIL, the(phone_country="KP"), ()),
    # The book: of this cycle, account and appointment
    ("wait_for_book", TEXT, None, ()),
    ("wait_for_book", TEXT, the(logical_date=NOW - 5 * MINUTE), ()),
    ("wait_for_book", TEXT, the(account_id="vet"), ()),
    ("wait_for_book", TEXT, the(appointment_id="another"), ()),
    ("wait_for_book", TEXT, the(read_at=NOW - 11 * MINUTE), ()),
    ("ready", TEXT, the(read_at=NOW - 10 * MINUTE), ()),
    ("cancelled_in_book", TEXT, the(status="cancelled"), ()),
    ("moved", TEXT, the(slot_at=VISIT + HOUR), ()),
    ("confirmed", TEXT, the(status="confirmed"), ()),
    ("visit_over", TEXT, the(status="completed"), ()),
    ("visit_over", TEXT, the(status="no_show"), ()),
    ("wait_for_status", TEXT, the(status="tentative"), ()),
    ("unknown_time_zone", TEXT, the(has_zone_problem=True), ()),
    ("reinstated", NOTICE, TEXT, (policy("clinic", has_cancellation_notice=True),)),
    ("notice_not_wanted", NOTICE, the(status="cancelled"), ()),
    ("ready", NOTICE, the(status="cancelled"), (policy("clinic", has_cancellation_notice=True),)),
    # Time
    ("started", the(slot_at=NOW, due_at=NOW - 6 * HOUR, expires_at=NOW - HOUR), TEXT, ()),
    ("too_late", EXPIRED, TEXT, ()),
    ("wait_until_due", the(due_at=NOW + MINUTE), TEXT, ()),
    ("ready", the(due_at=NOW), TEXT, ()),
    ("wait_for_hours", TEXT, the(zone="Asia/Tokyo"), ()),
    ("wait_for_hours", TEXT, the(zone="America/Los_Angeles"), ()),
    ("ready", EMAIL, the(zone="Asia/Tokyo"), ()),
    ("ready", TEXT, the(account_zone="Asia/Tokyo"), ()),
    ("wait_for_office", FIRST_CALL, the(account_zone="Asia/Tokyo"), ()),
    ("wait_until_not_before", the(not_before_at=NOW + HOUR, deferred_for="wait_until_not_before"), TEXT, ()),
    ("ready", the(not_before_at=NOW + HOUR, deferred_for="wait_for_gap"), TEXT, ()),
    ("ready", the(not_before_at=NOW, deferred_for="wait_until_not_before"), TEXT, ()),
    # Expired, it says what it had waited for last; and not before
    *(
        (verdict, EXPIRED | the(deferred_for=waited), TEXT, ())
        for waited, verdict in {
            "wait_for_day": "daily_cap", "wait_for_week": "weekly_cap", "wait_for_ceiling": "daily_ceiling",
            "wait_for_office": "office_closed", "wait_for_status": "unknown_status", "wait_for_gap": "too_late",
            "refused_by_guard": "refused_by_guard", "wait_for_pace": "pace",
        }.items()
    ),
    *(
        ("ready", the(deferred_for=waited), TEXT, ())
        for waited in (
            "wait_for_day", "wait_for_week", "wait_for_ceiling", "wait_for_office", "wait_for_status",
            "refused_by_guard", "wait_for_pace",
        )
    ),
    ("held_too_long", EXPIRED | the(state="held"), TEXT, ()),
    ("held_too_long", EXPIRED, TEXT, (hold("all"),)),
    ("ready", the(state="held"), TEXT, ()),
    # What the address was told already
    ("slot_already_contacted", TEXT, TEXT, (guard(),)),
    ("slot_already_contacted", EXPIRED, TEXT, (guard(),)),
    ("ready", TEXT, TEXT, (guard(account_id="vet"),)),
    ("ready", TEXT, TEXT, (guard(address_hash=ELSEWHERE),)),
    ("ready", TEXT, TEXT, (guard(slot_at=VISIT + DAY),)),
    ("ready", TEXT, TEXT, (guard(step=1),)),
    ("ready", TEXT, TEXT, (guard(is_uncontacted=True),)),
    # A slot that was moved away and back again
    ("moved_back", TEXT, TEXT, (other(slot_at=VISIT + DAY, step=1, state="delivered"),)),
    ("ready", TEXT, TEXT, (other(slot_at=VISIT + DAY, step=1, state="delivered", account_id="vet"),)),
    ("ready", TEXT, TEXT, (other(slot_at=VISIT + DAY, step=1, state="delivered", appointment_id="another"),)),
    ("ready", the(created_at=NOW - HOUR), TEXT, (MAILED,)),
    ("ready", TEXT, TEXT, (other(slot_at=VISIT + DAY, step=1, state="expired"),)),
    ("ready", the(created_at=NOW - HOUR), TEXT, (other(slot_at=VISIT + DAY, step=1, state="delivered"),)),
    *(
        ("ready", the(created_at=NOW - HOUR), TEXT, (
            other(slot_at=VISIT + DAY, step=1, state="delivered"),
            other(step=5, channel="email", state="expired", address_hash=ELSEWHERE, **of),
        ))
        for of in (the(account_id="vet"), the(appointment_id="another"), the(slot_at=VISIT + 2 * DAY))
    ),
    # What a person has decided of the slot's step
    ("dropped", TEXT, TEXT, (other(appointment_id="another", state="cancelled", reason="dropped"),)),
    ("ready", TEXT, TEXT, (other(appointment_id="another", state="cancelled", reason="moved"),)),
    *(
        ("ready", TEXT, TEXT, (other(**(the(appointment_id="another", state="cancelled", reason="dropped") | of)),))
        for of in (
            the(account_id="vet"), the(slot_at=VISIT + DAY), the(step=9, channel="email"),
            the(address_hash=ELSEWHERE),
        )
    ),
    ("dropped", TEXT, TEXT, (
        other(appointment_id="another", channel="email", address_hash=MAILBOX, turned_down_from="sms"),
    )),
    ("ready", TEXT, TEXT, (
        other(appointment_id="another", channel="email", address_hash=MAILBOX, turned_down_from="call"),
    )),
    ("ready", TEXT, TEXT, (
        other(appointment_id="another", channel="email", address_hash=ELSEWHERE, turned_down_from="sms"),
    )),
    ("ready", TEXT, TEXT, (other(appointment_id="another", channel="email", address_hash=MAILBOX),)),
    ("ready", TEXT, TEXT, (
        other(appointment_id="another", channel="email", address_hash=HERE, turned_down_from="sms"),
    )),
    # The rungs below
    *(
        ("wait_for_lower_rung", TEXT, TEXT, (other(step=1, channel="email", state=state),))
        for state in ("pending", "held", "sending", "in_doubt", "accepted")
    ),
    ("ready", TEXT, TEXT, (other(step=3, channel="call"),)),
    ("ready", TEXT, TEXT, (other(step=0, channel="email"),)),
    *(
        ("ready", TEXT, TEXT, (other(**(the(step=1, channel="email") | of)),))
        for of in (the(account_id="vet"), the(appointment_id="another"), the(slot_at=VISIT + DAY))
    ),
    ("wait_for_answer", TEXT, TEXT, (other(step=1, channel="email", state="delivered", sent_at=NOW - HOUR),)),
    ("wait_for_answer", TEXT, TEXT, (other(step=1, channel="email", state="unknown", sent_at=NOW - HOUR),)),
    ("wait_for_answer", TEXT, TEXT, (
        other(step=1, channel="email", state="delivered", sent_at=NOW - 5 * HOUR, delivered_at=NOW - HOUR),
    )),
    ("ready", TEXT, TEXT, (other(step=1, channel="email", state="failed", sent_at=NOW - HOUR),)),
    ("ready", TEXT, TEXT, (MAILED,)),
    # A call needs proof from below
    ("ready", CALL, TEXT, (MAILED,)),
    ("no_lower_proof", CALL, TEXT, ()),
    ("no_lower_proof", CALL, TEXT, (NO_MAILBOX,)),
    ("ready", CALL, TEXT, (NO_MAILBOX, unreachable_ladder("email", "email", "call"))),
    ("ready", TEXT, TEXT, (NO_MAILBOX,)),
    ("missed_by_us", CALL, TEXT, (other(step=1, channel="email", state="expired"),)),
    ("missed_by_us", CALL, TEXT, (
        other(step=1, channel="email", state="expired"), unreachable_ladder("email", "email", "call"),
    )),
    ("ready", TEXT, TEXT, (other(step=1, channel="email", state="expired"),)),
    # One call at a time
    ("wait_for_line", FIRST_CALL, TEXT, (calling(),)),
    ("ready", FIRST_CALL, TEXT, (calling(address_hash=ELSEWHERE),)),
    ("ready", FIRST_CALL, TEXT, (calling(channel="sms"),)),
    ("ready", FIRST_CALL, TEXT, (calling(state="delivered"),)),
    ("ready", TEXT, TEXT, (calling(),)),
    # Holds
    ("ready", TEXT, TEXT, (hold("channel", "email"),)),
    ("ready", TEXT, TEXT, (hold("account", "vet"),)),
    ("ready", TEXT, TEXT, (hold("book", "vet"),)),
    ("ready", TEXT, TEXT, (hold("cycle", f"{NOW - 5 * MINUTE}"),)),
    ("ready", TEXT, TEXT, (hold("all", released_at=NOW),)),
    # Of a group whose value reads like another scope's
    ("ready", TEXT, TEXT, (hold("group", "sms"), hold("group", "clinic"), hold("group", "*"), hold("group", f"{NOW}"))),
    ("ready", TEXT, TEXT, (hold("account", "sms"), hold("book", "sms"), hold("account", "*"))),
    ("on_hold", the(hold_id=999), TEXT, ()),
    # What the book says is heeded under a hold, but not what a book that is not believed says
    ("cancelled_in_book", TEXT, the(status="cancelled"), (hold("all"),)),
    ("on_hold", TEXT, the(status="cancelled"), (hold("book", "clinic"),)),
    ("on_hold", TEXT, the(status="cancelled"), (hold("book", "*"),)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "reminder", "staged", "acts"), CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)]
)
def test_the_verdict(
    rows: Rows, verdict: str, reminder: Changes, staged: Changes | None, acts: tuple[Act, ...]
) -> None:
    assert judged(rows, reminder, staged, *acts)[0] == verdict


@pytest.mark.parametrize(
    ("at", "reminder", "staged", "acts"),
    [
        (None, TEXT, TEXT, ()),
        (NOW + MINUTE, the(due_at=NOW + MINUTE), TEXT, ()),
        (NOW + 3 * HOUR, TEXT, TEXT, (other(step=1, channel="email", state="delivered", sent_at=NOW - HOUR),)),
        (NOW + HOUR, the(not_before_at=NOW + HOUR, deferred_for="wait_until_not_before"), TEXT, ()),
        # 23:00 in Tokyo: tomorrow at nine there; 6:00 in Los Angeles: today at nine there
        (NOW + 10 * HOUR, TEXT, the(zone="Asia/Tokyo"), ()),
        (NOW + 3 * HOUR, TEXT, the(zone="America/Los_Angeles"), ()),
        (NOW + 10 * HOUR, FIRST_CALL, the(account_zone="Asia/Tokyo"), ()),
        (NOW + 10 * HOUR, TEXT, TEXT, (cap("day", TODAY, 1, 1),)),
        (NOW + 10 * HOUR, TEXT, TEXT, (ceiling("clinic"),)),
        (NOW + 10 * HOUR + 4 * DAY, TEXT, TEXT, (cap("week", MONDAY, 3, 3),)),
        (NOW + HOUR, TEXT, TEXT, (gap(HOUR),)),
    ],
)  # fmt: skip
def test_until_when_it_is_put_off(
    rows: Rows, at: Any, reminder: Changes, staged: Changes, acts: tuple[Act, ...]
) -> None:
    assert judged(rows, reminder, staged, *acts)[1] == at
