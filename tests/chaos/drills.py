"""The drills: days of storm.py, the settings they need, and what happens. Each is clean while every guard is there.

The product's own settings hold wherever they can. A setting is changed for one of three reasons: cycles are rarer than
in production, a limit is out of reach of seventy clients, or another guard would stop first what the drill must reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from psycopg.rows import dict_row

from tests.chaos import acts, strain
from tests.chaos.storm import BUSY_BOOK, PACE, STORM, ImportedAgain, Outage, Release, Rounds
from tests.databases import TestDatabase
from tests.drill.book import Book
from tests.drill.night import Schedule, run_ringonce
from tests.drill.ringonce import Act, Ringonce

REMINDERS = "SELECT account_id, appointment_id, slot_at, step, channel, state FROM reminders.reminder"
TRIES = "SELECT contact_id FROM reminders.attempt WHERE state <> 'not_contacted'"
CHANNEL_HOLDS = "SELECT scope_value AS channel, placed_at FROM reminders.hold WHERE scope = 'channel'"
# The product's own, without a policy: contacts of a released backlog until it is trusted, texts and calls to a number
# in a day, emails of an account in a day.
CANARY, BY_PHONE_A_DAY, EMAILS_A_DAY = 5, 1, 5000
FEW_EMAILS = 20
ROUNDS = Rounds()

# Cycles run hours apart, which is no gap here.
FEW_CYCLES = ("UPDATE reminders.gate_bound SET longest_gap = '1 day'",)
# What has waited for hours goes, as if a person had let it, so that the guards behind the gate are reached.
OPEN_GATE = (*FEW_CYCLES, "UPDATE reminders.gate_bound SET least_of_account = 1000, least_in_all = 10000")
MANY_A_DAY = ("UPDATE reminders.account_policy SET phone_daily_cap = 10, phone_weekly_cap = 50",)
SHORT_GAP = ("UPDATE reminders.account_policy SET phone_gap = '1 minute', email_gap = '1 minute'",)
LOW_CEILING = (f"UPDATE reminders.account_policy SET email_ceiling = {FEW_EMAILS}",)


@dataclass
class Outcome:
    """What came of a drill: the figures of `strain.LABELS`, and the runs that failed, by what went wrong."""

    figures: dict[str, int]
    failures: dict[str, int]


@dataclass(frozen=True)
class Drill:
    """`worst` is what each figure may come to; a figure that is not named may be 0. `least` is what a figure must come
    to, or the drill would reach nothing that a guard is for. `begins` is what happens at the start, before any guard is
    removed; `operator` is what a person does in the morning."""

    name: str
    schedule: Schedule = ROUNDS
    book: Book = BUSY_BOOK
    settings: tuple[str, ...] = FEW_CYCLES
    begins: Act = acts.nothing
    operator: Act | None = None
    planners: int = 1
    worst: Mapping[str, int] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)

    def most(self, figure: str) -> int:
        usual = {
            "most_calls_at_once": 1,
            "calls_in_five_minutes": PACE,
            "by_phone_in_a_day": BY_PHONE_A_DAY,
            "emails_in_a_day": EMAILS_A_DAY,
            # The family's third text waits a day for the cap of its line.
            "backlog_unasked": 1,
            "before_hold": 1000,
            "sent_after": 1000,
        }
        return {**usual, **self.worst}.get(figure, 0)

    def bad(self, found: Mapping[str, int]) -> dict[str, int]:
        """Those of the figures that are worse than they may be."""
        return {figure: value for figure, value in found.items() if value > self.most(figure)}

    def missed(self, found: Mapping[str, int]) -> dict[str, int]:
        """Those of the figures that are less than they must be."""
        return {figure: found[figure] for figure, least in self.least.items() if found[figure] < least}

    def run(self, database: TestDatabase, sabotage: Act = acts.nothing) -> Outcome:
        """One run on the empty ledger in `database`, without what `sabotage` takes away."""
        with database.connect() as owner:
            for setting in self.settings:
                owner.execute(setting)
        read: dict[str, list[dict[str, Any]]] = {}

        def start(system: Ringonce) -> None:
            system.until_the_end.callback(lambda: read.update(last_rows(system)))
            self.begins(system)
            sabotage(system)

        run = run_ringonce(
            database,
            self.book,
            self.schedule,
            sabotage=start,
            operator=self.operator or acts.nothing,
            planners=self.planners,
        )
        figures = {**run.night, **self._figures(run.heard, read), "failed_runs": sum(run.failures.values())}
        return Outcome({name: figures[name] for name in strain.LABELS}, run.failures)

    def _figures(self, heard: pd.DataFrame, read: Mapping[str, list[dict[str, Any]]]) -> dict[str, int]:
        released = strain.released(heard, self.book, self.schedule.morning_at if self.operator else None)
        return {
            **strain.strain(heard, self.book),
            **strain.around_holds(heard, read[CHANNEL_HOLDS]),
            "sent_after": int(heard["contact_id"].nunique()),
            "released_in_five_minutes": strain.most_of(released, "account_id", "5min"),
            "before_canary": strain.before_canary(released, CANARY, acts.SLOW_TEXT),
            "falsely_delivered": strain.falsely_delivered(heard, self.book, read[REMINDERS]),
            "rows_twice": strain.twice(read[REMINDERS], "account_id", "appointment_id", "slot_at", "step"),
            "contacts_twice": strain.twice(read[TRIES], "contact_id"),
        }


def last_rows(system: Ringonce) -> dict[str, list[dict[str, Any]]]:
    """What the ledger says at the end, by query."""
    with system.owner.cursor(row_factory=dict_row) as cursor:
        return {query: cursor.execute(query).fetchall() for query in (REMINDERS, TRIES, CHANNEL_HOLDS)}


BUSY = Drill("busy", least={"calls_in_five_minutes": PACE})
# What is late the gate would hold before it comes to the expiry.
UNGATED = Drill("busy, and the gate is open", settings=OPEN_GATE)
CEILING = Drill(
    "few emails a day",
    settings=(*OPEN_GATE, *LOW_CEILING),
    worst={"emails_in_a_day": FEW_EMAILS, "backlog_unasked": 1000},
    least={"emails_in_a_day": FEW_EMAILS},
)
GENEROUS = Drill("many a day", settings=(*FEW_CYCLES, *MANY_A_DAY), worst={"by_phone_in_a_day": 10})
LONG_CALLS = Drill(
    "long calls",
    settings=(*FEW_CYCLES, *MANY_A_DAY, *SHORT_GAP),
    begins=acts.talk_for_hours,
    worst={"by_phone_in_a_day": 10, "too_close": 1000},
    least={"most_calls_at_once": 1},
)
HELD = Drill("two channels held", begins=acts.hold_email_and_texts)
STOPPED = Drill(
    "stopped in the storm",
    begins=acts.hold_in_the_storm,
    least={"before_hold": sum(acts.STOPPED_AFTER.values())},
)
NIGHT_OUTAGE = Drill(
    "outage until ten at night", schedule=Outage(), settings=OPEN_GATE, worst={"backlog_unasked": 1000}
)
BACKLOG = Drill("outage, and nobody releases", schedule=Outage(), settings=())
RELEASED = Drill(
    "all released in the morning",
    schedule=Release(),
    settings=(),
    begins=acts.deliver_slowly,
    operator=acts.release_everything,
    worst={"backlog_unasked": 1000, "released_in_five_minutes": PACE},
    least={"released_in_five_minutes": PACE, "backlog_unasked": STORM},
)
AGAIN = Drill("imported again", book=ImportedAgain(BUSY_BOOK.bookings, BUSY_BOOK.offices), settings=OPEN_GATE)
TWO_PLANNERS = Drill("two planners", begins=acts.accept_the_ledger, planners=2)
SAME_ID = Drill("one id for all texts", begins=acts.answer_with_the_first_id)
DOUBT = Drill(
    "texts answered by a 500",
    settings=(*FEW_CYCLES, *MANY_A_DAY, *SHORT_GAP),
    begins=acts.answer_with_a_500,
    worst={"by_phone_in_a_day": 10, "too_close": 1000},
)
RUN_AGAIN = Drill(
    "tasks run again",
    settings=(*FEW_CYCLES, *MANY_A_DAY, *SHORT_GAP),
    begins=acts.run_tasks_again,
    worst={"by_phone_in_a_day": 10, "too_close": 1000},
)
DRILLS = (
    BUSY,
    UNGATED,
    CEILING,
    GENEROUS,
    LONG_CALLS,
    HELD,
    STOPPED,
    NIGHT_OUTAGE,
    BACKLOG,
    RELEASED,
    AGAIN,
    TWO_PLANNERS,
    SAME_ID,
    DOUBT,
    RUN_AGAIN,
)
