"""Every mutant that no test notices is listed with the reason why that is right, and is there still."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.databases import TestDatabase
from tests.mutation.constants import constant_mutants
from tests.mutation.definitions import definition_mutants
from tests.mutation.mutants import LONGEST_CLAUSE, Mutant, numbered
from tests.mutation.named import statement_mutants
from tests.mutation.places import MODULES, PLUGINS, SIGN, module_path
from tests.mutation.results import KINDS, LIVING, survivors
from tests.runs import RUNS

TARGETS = ("sql", "python")
COUNTED = {target: RUNS / f"mutants-{target}.json" for target in TARGETS}
pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in COUNTED.values()), reason="the mutants have not been run to the end"
)

LISTED = survivors()
SHORTEST_REASON = 20


def test_each_survivor_is_listed_once_with_its_kind_and_a_reason() -> None:
    twice = [name for name, times in Counter(each["mutant"] for each in LISTED).items() if times > 1]
    assert twice == []
    odd = [
        each["mutant"]
        for each in LISTED
        if set(each) != {"mutant", "kind", "reason"}
        or each["kind"] not in KINDS
        or len(each["reason"]) < SHORTEST_REASON
    ]
    assert odd == []


def test_what_is_listed_of_the_ledger_and_its_statements_can_still_be_left_out(ledger: TestDatabase) -> None:
    known = {mutant.name for mutant in (*definition_mutants(ledger.connect()), *statement_mutants())}
    assert [name for name in listed("sql") if name not in known] == []


def test_what_is_listed_of_the_python_still_stands_there() -> None:
    constants = [Mutant(of, clause, str) for of, clause, _ in constant_mutants()]
    known = {mutant.name for mutant in numbered(constants)}
    assert [name for name in listed("python") if name not in known and not stands(name)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_last_run_left_as_many_as_are_listed(target: str) -> None:
    counts: dict[str, int] = json.loads(COUNTED[target].read_text(encoding="utf-8"))["counts"]
    assert counts[LIVING] == len(listed(target))


def listed(target: str) -> list[str]:
    """The names of one target's survivors."""
    return [each["mutant"] for each in LISTED if each["mutant"].startswith("python ") == (target == "python")]


def stands(name: str) -> bool:
    """Whether what a mutant of Python replaces is in its module."""
    of, _, clause = name.partition(": ")
    module = max((known for known in MODULES if of.startswith(f"python {known}.")), key=len)
    text = " ".join(line.strip() for line in (PLUGINS / module_path(module)).read_text(encoding="utf-8").splitlines())
    return clause.partition(SIGN)[0].partition(" ... ")[0][: LONGEST_CLAUSE // 2] in text
