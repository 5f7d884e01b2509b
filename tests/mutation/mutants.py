"""What a mutant is, and its name: what it is a mutant of, and the clause that it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

LEFT_OUT, ADDED, REPLACED = "left out", "added", "replaced"
VERBS = {LEFT_OUT: "without ", ADDED: "with ", REPLACED: ""}
LONGEST_CLAUSE, HEAD, TAIL = 110, 75, 30
DIGITS = 12


@dataclass(frozen=True)
class Mutant:
    """`of` is the object that is changed, `clause` what is left out, or added, or replaced by what.

    `text()` changes a migrated ledger; or, where `of` is a statement, it stands for that; or, where it is Python, it
    says which of the functions written beside the original is called, or what a constant is.
    """

    of: str
    clause: str
    text: Callable[[], str]
    change: str = LEFT_OUT
    number: int = 1

    @property
    def kind(self) -> str:
        """constraint, function, statement, python ..."""
        return self.of.partition(" ")[0]

    @property
    def name(self) -> str:
        """Of two alike in an object the second has a number."""
        clause = self.clause
        if len(clause) > LONGEST_CLAUSE:
            clause = f"{clause[:HEAD]} ... {clause[-TAIL:]}"
        number = f" #{self.number}" if self.number > 1 else ""
        return f"{self.of}: {VERBS[self.change]}{clause}{number}"

    @cached_property
    def digest(self) -> str:
        """Another one when what is changed is defined anew. Of Python the name tells: it has what replaces what."""
        text = self.name if self.kind == "python" else self.text()
        return sha256(text.encode()).hexdigest()[:DIGITS]


def numbered(mutants: Iterable[Mutant]) -> Iterator[Mutant]:
    """The mutants, each with a name of its own."""
    seen: Counter[str] = Counter()
    for mutant in mutants:
        seen[mutant.name] += 1
        yield replace(mutant, number=seen[mutant.name])
