"""The person who looks after the deployment: she sees what is held, in her hours and after a while, and decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from reminders.errors import HoldError
from tests.drill.book import HOUR
from tests.soak.book import MINUTE

if TYPE_CHECKING:
    from tests.soak.season import Season

NAME = "Ana"
COMES, GOES = 8, 19
# What she does with a group of overdue reminders, and how often.
DECISIONS = {"release": 76, "drop": 10, "turn_down": 9, "leave": 5}


@dataclass(frozen=True, slots=True)
class Stop:
    """A hold of her own, from when it was placed until she released it."""

    scope: str
    value: str
    placed_at: datetime
    released_at: datetime | None = None


@dataclass
class Person:
    season: Season
    random: Random
    looks_at: dict[int, datetime] = field(default_factory=dict)
    stops: dict[int, Stop] = field(default_factory=dict)

    def placed(self, hold_id: int, scope: str, value: str) -> None:
        self.stops[hold_id] = Stop(scope, value, self.season.now)

    def lets_go(self, hold_id: int) -> None:
        """She releases a hold that she placed."""
        self.season.deployment.operator.release([hold_id], NAME, self.season.now)
        stop = self.stops[hold_id]
        self.stops[hold_id] = Stop(stop.scope, stop.value, stop.placed_at, self.season.now)

    def look(self) -> None:
        """Decide on each hold in force whose time has come."""
        now = self.season.now
        for hold in self.season.deployment.operator.in_force(now):
            if hold["hold_id"] in self.stops:
                continue
            if hold["hold_id"] not in self.looks_at:
                self._will_look(hold["hold_id"], MINUTE * self.random.choice((15, 30, 60, 120)))
            elif self.looks_at[hold["hold_id"]] <= now:
                self._decide(hold)

    def _will_look(self, hold_id: int, after: timedelta) -> None:
        at = self.season.now + after
        local = at.astimezone(ZoneInfo(self.season.zone))
        if not COMES <= local.hour < GOES:
            # The next morning, by her clock.
            day = local if local.hour < COMES else local + timedelta(days=1)
            at = day.replace(hour=COMES, minute=30).astimezone(at.tzinfo)
        self.looks_at[hold_id] = at
        self.season.want(at)

    def _decide(self, hold: dict[str, Any]) -> None:
        hold_id, scope = hold["hold_id"], hold["scope"]
        if scope == "book" and self.season.book.slip is not None:
            # The feed is still wrong.
            return self._will_look(hold_id, HOUR)
        choices = DECISIONS if scope == "group" else {"release": 1}
        (decision,) = self.random.choices(list(choices), list(choices.values()))
        self.season.note(f"{NAME} decides on hold {hold_id} ({scope} {hold['scope_value']}): {decision}")
        self.season.decided[decision] += 1
        if decision == "leave":
            self.looks_at[hold_id] = datetime.max.replace(tzinfo=hold["placed_at"].tzinfo)
            return None
        try:
            getattr(self.season.deployment.operator, decision)([hold_id], NAME, self.season.now)
        except HoldError as error:
            self.season.note(f"refused: {error}")
            return self._will_look(hold_id, HOUR / 2)
        self.season.want(self.season.now + MINUTE)
        return None
