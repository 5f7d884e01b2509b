"""The work of the command: find the mutants, learn which tests may notice them, try those, and report."""

from __future__ import annotations

import json
import os
import re
from argparse import Namespace
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from reminders.store.statements import load_statements, sql_folder
from tests.mutation.constants import constant_mutants
from tests.mutation.definitions import FUNCTIONS, VIEWS, definition_mutants
from tests.mutation.learning import Learned
from tests.mutation.mutants import REPLACED, Mutant, numbered
from tests.mutation.named import statement_mutants
from tests.mutation.places import HERE
from tests.mutation.python import write_mutants
from tests.mutation.results import KEPT, WORK, Results, survivors, totals
from tests.mutation.selection import Selection, users_in
from tests.mutation.trials import LEDGER, Trials
from tests.mutation.verdicts import Verdict
from tests.runs import record

# Where a test may notice a mutant.
TESTS = {
    "sql": ("tests/integration",),
    "python": (
        *(f"tests/unit/test_{name}.py" for name in ("mail", "model", "policy", "policy_office", "stops", "telephony")),
        *(f"tests/integration/test_{name}.py" for name in ("failing_channel", "overlap", "pace", "preflight")),
        *(f"tests/integration/test_{name}.py" for name in ("break_edges", "break_lost", "reconcile", "stops")),
    ),
}
RUNS = {
    "sql": "each clause of the SQL left out, each line of the state machine changed (`tests/mutation`)",
    "python": "each line and constant of the Python that decides changed (`tests/mutation`)",
}
# A trial may take so many times what its tests took by themselves, on a machine that others use too.
PATIENCE, AT_LEAST_SECONDS = 4, 45
WORD = re.compile(r"\w+")
NOT_JUDGED = Verdict("")

Users = dict[str, set[str]]


def work(chosen: Namespace, folder: Path) -> int:
    """0 when every mutant is judged and each survivor is explained, else 1. `folder` is there for this run only."""
    results = Results(WORK / f"{chosen.target}.jsonl", KEPT / f"{chosen.target}.jsonl")
    if chosen.again:
        results.forget([*results.found])
    trials = Trials(folder, chosen.workers)
    try:
        mutants, users = _sql(trials) if chosen.target == "sql" else _python()
        if chosen.list:
            print("\n".join(mutant.name for mutant in mutants))
            return 0
        results.forget_changed(mutants)
        if wanted := _wanted(mutants, chosen, results):
            learned = _learn(trials, chosen.target)
            _note_names(learned, users)
            selection = Selection(learned, users)
            for mutant in mutants:
                if by := results.found.get(mutant.name, NOT_JUDGED).by:
                    selection.killed(mutant, by)
            _try(trials, wanted, selection, chosen.seconds, results)
            _run_alone(trials, learned, results)
            _keep(learned, chosen.target)
    finally:
        trials.close()
    return _report(chosen.target, mutants, results)


def _sql(trials: Trials) -> tuple[list[Mutant], Users]:
    """Every mutant of the ledger and the statements, and what uses what."""
    with trials.server.database(LEDGER) as database:
        owner = database.connect()
        mutants = [*definition_mutants(owner), *statement_mutants()]
        texts = {f"function {name}": text for name, _, text in owner.execute(FUNCTIONS).fetchall()}
        texts |= {f"view {name.partition('.')[2]}": text for name, text in owner.execute(VIEWS).fetchall()}
    texts |= {f"statement {name}": text for name, text in load_statements(sql_folder()).items()}
    guarded = {mutant.of: f"table {mutant.of.partition(' ')[2].partition('.')[0]}" for mutant in mutants}
    users = users_in(texts | dict.fromkeys(guarded.values(), ""))
    return mutants, {of: users[of] if of in users else users[table] for of, table in guarded.items()}


def _python() -> tuple[list[Mutant], Users]:
    """Every mutant of the Python; a constant is used by all of its module."""
    written = write_mutants()
    users: Users = {each.of: {each.of} for each in written}
    functions = [Mutant(each.of, each.clause, lambda each=each: each.name, REPLACED) for each in written]
    constants = []
    for of, clause, expression in constant_mutants():
        module = of.rpartition(".")[0]
        users[of] = {user for user in users if user.startswith(f"{module}.")}
        constants.append(Mutant(of, clause, lambda expression=expression: expression))
    return list(numbered([*functions, *constants])), users


def _wanted(mutants: list[Mutant], chosen: Namespace, results: Results) -> list[Mutant]:
    if chosen.only:
        return [mutant for mutant in mutants if chosen.only in mutant.name]
    if chosen.survivors:
        explained = {each["mutant"] for each in survivors()}
        lived = {name for name, verdict in results.found.items() if verdict.outcome == "survived"}
        return [mutant for mutant in mutants if mutant.name in lived - explained]
    return [mutant for mutant in mutants if mutant.name not in results.found]


def _learn(trials: Trials, target: str) -> dict[str, Learned]:
    """From the last time, for the tests that are the same; the others run once."""
    path = _learned_path(target)
    known = {test: Learned(**each) for test, each in json.loads(path.read_text()).items()} if path.exists() else {}
    tests = trials.warm(TESTS[target])
    new = [test for test in tests if test not in known]
    if new:
        print(f"running {len(new)} tests once", flush=True)
        learned, verdict = trials.learn(new)
        known |= learned
        _keep(known, target)
        if verdict.outcome != "survived":
            raise AssertionError(f"without any mutant: {verdict}")
    return {test: known[test] for test in tests}


def _learned_path(target: str) -> Path:
    return WORK / f"learned-{target}.json"


def _keep(learned: dict[str, Learned], target: str) -> None:
    _learned_path(target).write_text(json.dumps({test: asdict(each) for test, each in learned.items()}))


def _run_alone(trials: Trials, learned: dict[str, Learned], results: Results) -> None:
    """What noticed a mutant must pass by itself without one, or it noticed nothing: then its mutants are not judged."""
    noticed: dict[str, list[str]] = defaultdict(list)
    for name, verdict in results.found.items():
        if verdict.by in learned:
            noticed[verdict.by].append(name)
    waiting = [test for test in noticed if not learned[test].passes_alone]
    print(f"running {len(waiting)} tests by themselves, unchanged", flush=True)
    while waiting or trials.running:
        while waiting and len(trials.running) < trials.most:
            test = waiting.pop()
            trials.begin_alone(test, AT_LEAST_SECONDS + PATIENCE * learned[test].seconds)
        for ran, verdict in trials.finished():
            test = str(ran)
            learned[test].passes_alone = verdict.outcome == "survived"
            if not learned[test].passes_alone:
                print(f"fails by itself: {test}: {verdict.why}", flush=True)
                results.forget(noticed[test])


def _note_names(learned: dict[str, Learned], users: Users) -> None:
    """A test uses what its file names: of a function that the server reads into the caller's it knows nothing."""
    things = {of.partition(" ")[2]: of for of in users}
    words: dict[str, set[str]] = {}
    for test, each in learned.items():
        file = test.partition("::")[0]
        if file not in words:
            words[file] = set(WORD.findall((HERE.parents[1] / file).read_text(encoding="utf-8")))
        each.uses += [things[name] for name in words[file] & things.keys() if things[name] not in each.uses]


def _try(trials: Trials, mutants: list[Mutant], selection: Selection, seconds: float, results: Results) -> None:
    waiting = list(reversed(mutants))
    done = 0
    while waiting or trials.running:
        while waiting and len(trials.running) < trials.most:
            mutant = waiting.pop()
            tests = selection.tests(mutant, seconds)
            if not tests:
                results.add(mutant, Verdict("survived", why="no test uses it"))
                continue
            allowed = AT_LEAST_SECONDS + PATIENCE * sum(selection.learned[test].seconds for test in tests)
            trials.begin(mutant, tests, allowed)
        for tried, verdict in trials.finished():
            assert isinstance(tried, Mutant)
            done += 1
            results.add(tried, verdict)
            if verdict.by:
                selection.killed(tried, verdict.by)
            print(f"{done}/{len(mutants)} {verdict.outcome} {verdict.seconds} s {tried.name} {verdict.by}", flush=True)


def _report(target: str, mutants: list[Mutant], results: Results) -> int:
    names = [mutant.name for mutant in mutants]
    missing = [name for name in names if name not in results.found]
    living = [name for name in names if results.found.get(name, NOT_JUDGED).outcome == "survived"]
    explained = {each["mutant"] for each in survivors()}
    unexplained = [name for name in living if name not in explained]
    print(f"{len(names)} mutants, {len(missing)} not judged, {len(living)} survivors, {len(unexplained)} unexplained")
    if os.environ.get("RECORD"):
        results.keep()
    if not missing:
        record(f"mutants-{target}", RUNS[target], totals(mutants, results.found))
    return 1 if missing or unexplained else 0
