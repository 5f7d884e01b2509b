"""What has been found: a line for each mutant while the work goes on, the verdicts that are kept, and their totals."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant
from tests.mutation.verdicts import Verdict

HERE = Path(__file__).resolve().parent
SURVIVORS = HERE / "survivors.toml"
LIVING = "alive, each with a reason in `survivors.toml`"
WORK = HERE.parents[1] / ".local" / "mutation"
KEPT = HERE / "found"

NOTICED = ("killed", "hung")
# Why a mutant may live: it behaves alike; another guard does the same; or it is not worth a test.
KINDS = ("equivalent", "kept twice", "accepted")


class Results:
    """A line for each mutant, of which the last counts. Begun work is gone on with; a new `path` begins with `kept`."""

    def __init__(self, path: Path, kept: Path) -> None:
        self.path, self.kept = path, kept
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not both: what was forgotten here would come back.
        self.found = {name: Verdict(**verdict) for name, verdict in _lines(path if path.exists() else kept)}

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        verdict.digest = mutant.digest
        self.found[mutant.name] = verdict
        with self.path.open("a") as file:
            file.write(json.dumps([mutant.name, asdict(verdict)]) + "\n")

    def forget(self, names: Iterable[str]) -> None:
        """As if these had not been tried."""
        for name in names:
            self.found.pop(name, None)
        lines = [json.dumps([name, asdict(verdict)]) + "\n" for name, verdict in self.found.items()]
        self.path.write_text("".join(lines))

    def forget_changed(self, mutants: Iterable[Mutant]) -> None:
        """Those that are no more, or are of what is defined anew."""
        digests = {mutant.name: mutant.digest for mutant in mutants}
        self.forget([name for name, verdict in self.found.items() if verdict.digest != digests.get(name)])

    def keep(self) -> None:
        """The verdicts for the repository: hours of work are not done again on another machine."""
        self.kept.parent.mkdir(exist_ok=True)
        with self.kept.open("w") as file:
            for name, verdict in sorted(self.found.items()):
                found = {"outcome": verdict.outcome, "by": verdict.by, "digest": verdict.digest}
                file.write(json.dumps([name, found]) + "\n")


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def totals(mutants: Iterable[Mutant], found: dict[str, Verdict]) -> dict[str, int]:
    """How many mutants there are that the database takes, how many a test noticed, how many live."""
    outcomes = [found[mutant.name].outcome for mutant in mutants]
    tried = [outcome for outcome in outcomes if outcome != "impossible"]
    noticed = sum(outcome in NOTICED for outcome in tried)
    return {"mutants": len(tried), "noticed by a test": noticed, LIVING: len(tried) - noticed}


def survivors() -> list[dict[str, str]]:
    """survivors.toml: of each mutant that lives its name, the kind of reason, and the reason."""
    listed: list[dict[str, str]] = tomllib.loads(SURVIVORS.read_text())["survivor"] if SURVIVORS.exists() else []
    return listed
