"""Which tests are tried on a mutant, the likeliest to notice it first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tests.mutation.about import files_about
from tests.mutation.learning import Learned
from tests.mutation.mutants import Mutant

# What no test reaches but through what names it.
USED_BY_NAME = frozenset({"function", "view", "statement", "python"})
CHEAP = 0.15
NAME = re.compile(r"\w+")


class Selection:
    """`users` says by whom each thing is used, itself included: a test that uses one of them may notice its mutants."""

    def __init__(self, learned: Mapping[str, Learned], users: Mapping[str, set[str]]) -> None:
        self.learned = learned
        self.users = users
        self.kills: dict[str, int] = defaultdict(int)
        self.kills_of: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def killed(self, mutant: Mutant, by: str) -> None:
        """What has noticed one mutant may notice the next."""
        self.kills[by] += 1
        self.kills_of[mutant.of][by] += 1

    def tests(self, mutant: Mutant, most_seconds: float) -> list[str]:
        """In the order in which they should run; at least one, and as many as take no more than `most_seconds`."""
        chosen, seconds = [], 0.0
        for test in self._in_order(mutant):
            seconds += self.learned[test].seconds
            if chosen and seconds > most_seconds:
                seconds -= self.learned[test].seconds
                continue
            chosen.append(test)
        return _together(chosen, self.learned)

    def _in_order(self, mutant: Mutant) -> list[str]:
        """Those that name it (or its table), that noticed its other mutants, that are about it, that use it."""
        users = self.users[mutant.of]
        names = NAME.findall(mutant.of.removeprefix(f"{mutant.kind} "))
        uses = {test for test, learned in self.learned.items() if not users.isdisjoint(learned.uses)}
        # A table's guard may be noticed by tests that only write to the table.
        related = uses if mutant.kind in USED_BY_NAME else self.learned
        places = self._places(related)
        kills, about = self.kills_of[mutant.of], files_about(mutant.of)

        def rank(test: str) -> tuple[int, int, bool, bool, bool, int, int]:
            file = test.partition("::")[0]
            is_about = file in about
            order = about.index(file) if is_about else 0
            named = sum(name in test for name in names) if is_about else 0
            is_cheap = is_about and self.learned[test].seconds < CHEAP
            return -named, -kills[test], test not in uses, not is_about, not is_cheap, places[test], order

        return sorted(related, key=rank)

    def _places(self, tests: Iterable[str]) -> dict[str, int]:
        """In which turn each test comes in its file: first one case of each test, then another."""
        cases: dict[str, int] = defaultdict(int)
        turns: dict[str, int] = {}
        for test in sorted(tests, key=self._worth):
            function = test.partition("[")[0]
            turns[test] = cases[function]
            cases[function] += 1
        seen: dict[str, int] = defaultdict(int)
        places: dict[str, int] = {}
        for test in sorted(turns, key=lambda test: turns[test]):
            file = test.partition("::")[0]
            places[test] = seen[file]
            seen[file] += 1
        return places

    def _worth(self, test: str) -> tuple[float, float]:
        seconds = max(self.learned[test].seconds, 0.05)
        return -self.kills[test] / seconds, seconds


def _together(tests: list[str], learned: Mapping[str, Learned]) -> list[str]:
    """Those that cost next to nothing share what their file has made: the file's others follow its first."""
    firsts: dict[str, int] = {}
    places = []
    for place, test in enumerate(tests):
        is_cheap = learned[test].seconds < CHEAP
        places.append(firsts.setdefault(test.partition("::")[0], place) if is_cheap else place)
    return [tests[place] for place in sorted(range(len(tests)), key=lambda place: places[place])]


def users_in(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Of definitions in SQL, by "function x", "view y", "table z" ...: each with all that name it, at any remove."""
    words = {of: set(NAME.findall(text)) for of, text in texts.items()}
    users = {of: {of} for of in texts}
    for of, found in users.items():
        waiting = [of]
        while waiting:
            name = waiting.pop().partition(" ")[2]
            new = [user for user, names in words.items() if name in names and user not in found]
            found.update(new)
            waiting += new
    return users
