"""What has been found: a line for each mutant while the work goes on, and the totals that are kept with the project."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.verdicts import Verdict

HERE = Path(__file__).resolve().parent
COUNTS, SURVIVORS = HERE / "counts.json", HERE / "survivors.toml"
WORK = HERE.parents[1] / ".local" / "mutation"

NOTICED = ("killed", "hung")
# Why a mutant may live: it behaves alike; another guard does the same; or it is not worth a test.
KINDS = ("equivalent", "kept twice", "accepted")


class Results:
    """A file of lines, one for each mutant: the last one counts. Begun work is gone on with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, Verdict] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                name, verdict = json.loads(line)
                self.found[name] = Verdict(**verdict)

    def add(self, name: str, verdict: Verdict) -> None:
        self.found[name] = verdict
        with self.path.open("a") as file:
            file.write(json.dumps([name, asdict(verdict)]) + "\n")

    def forget(self) -> None:
        self.found = {}
        self.path.unlink(missing_ok=True)


def totals(mutants: Iterable[Mutant], found: dict[str, Verdict]) -> dict[str, dict[str, int]]:
    """By the kind of what was changed: how many mutants, how many a test noticed, how many live."""
    counted: dict[str, dict[str, int]] = {}
    for mutant in mutants:
        verdict = found[mutant.name]
        if verdict.outcome == "impossible":
            continue
        kind = counted.setdefault(mutant.kind, {"mutants": 0, "killed": 0, "survivors": 0})
        kind["mutants"] += 1
        kind["killed" if verdict.outcome in NOTICED else "survivors"] += 1
    return dict(sorted(counted.items()))


def write_totals(target: str, counted: dict[str, dict[str, int]]) -> None:
    """Into counts.json, beside the other target's."""
    known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    known[target] = counted
    COUNTS.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")


def survivors() -> list[dict[str, str]]:
    """survivors.toml: of each mutant that lives its name, the kind of reason, and the reason."""
    listed: list[dict[str, str]] = tomllib.loads(SURVIVORS.read_text())["survivor"] if SURVIVORS.exists() else []
    return listed
