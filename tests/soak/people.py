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
    past_stops: list[Stop] = field(default_factory=list)
    turns_down: bool = True

    def placed(self, hold_id: int, scope: str, value: str) -> None:
        self.stops[hold_id] = Stop(scope, value, self.season.now)

    def lets_go(self, hold_id: int) -> None:
        """She releases a hold that she placed, unless the ledger has forgotten it."""
        if hold_id in self.stops:
            self.season.deployment.operator.release([hold_id], NAME)
            self._is_over(hold_id)

    def _is_over(self, hold_id: int) -> None:
        stop = self.stops.pop(hold_id)
        self.past_stops.append(Stop(stop.scope, stop.value, stop.placed_at, self.season.now))

    def starts_over(self) -> None:
        """The ledger has forgotten her holds, or has old ones again, and what she turned down: she decides anew."""
        for hold_id in list(self.stops):
            self._is_over(hold_id)
        self.looks_at.clear()
        self.turns_down = False

    def look(self) -> None:
        """Decide on each hold in force whose time has come."""
        now = self.season.now
        for hold in self.season.deployment.operator.in_force():
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

    def _decide(self, hold: dict[str, Any]) -> None:
        hold_id, scope = hold["hold_id"], hold["scope"]
        if scope == "book" and self.season.book.slip is not None:
            # The feed is still wrong.
            return self._will_look(hold_id, HOUR)
        choices = dict(DECISIONS) if scope == "group" else {"release": 1}
        if not self.turns_down:
            # An email that she asked for before the restore could go a second time: there is no list of emails.
            choices.pop("turn_down", None)
        (decision,) = self.random.choices(list(choices), list(choices.values()))
        self.season.note(f"{NAME} decides on hold {hold_id} ({scope} {hold['scope_value']}): {decision}")
        self.season.decided[decision] += 1
        if decision == "leave":
            self.looks_at[hold_id] = datetime.max.replace(tzinfo=hold["placed_at"].tzinfo)
            return None
        try:
            getattr(self.season.deployment.operator, decision)([hold_id], NAME)
        except HoldError as error:
            self.season.note(f"refused: {error}")
            return self._will_look(hold_id, HOUR / 2)
        self.season.want(self.season.now + MINUTE)
        return None
