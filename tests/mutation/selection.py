"""Which tests are tried on a mutant, the likeliest to notice it first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tests.mutation.learning import Learned
from tests.mutation.mutants import Mutant

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
        for test in sorted(self._related(mutant.of), key=lambda test: self._rank(mutant.of, test)):
            seconds += self.learned[test].seconds
            if chosen and seconds > most_seconds:
                seconds -= self.learned[test].seconds
                continue
            chosen.append(test)
        return _together(chosen, self.learned)

    def _related(self, of: str) -> Iterable[str]:
        """Those that use the function, statement or view, or what uses that; for a table's guards, all."""
        if of not in self.users:
            return self.learned
        users = self.users[of]
        return [test for test, learned in self.learned.items() if not users.isdisjoint(learned.uses)]

    def _rank(self, of: str, test: str) -> tuple[bool, float, float]:
        name = NAME.findall(of)[-1]
        seconds = max(self.learned[test].seconds, 0.05)
        return name not in test, -(20 * self.kills_of[of][test] + self.kills[test]) / seconds, seconds


def _together(tests: list[str], learned: Mapping[str, Learned]) -> list[str]:
    """Those that cost next to nothing share what their file has made: the file's others follow its first."""
    firsts: dict[str, int] = {}
    places = []
    for place, test in enumerate(tests):
        is_cheap = learned[test].seconds < CHEAP
        places.append(firsts.setdefault(test.partition("::")[0], place) if is_cheap else place)
    return [tests[place] for place in sorted(range(len(tests)), key=lambda place: places[place])]


def users_in(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Of definitions in SQL, by "function x", "statement y", "view z": each with all that name it, at any remove."""
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
