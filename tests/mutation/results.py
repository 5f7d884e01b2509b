"""What has been found: a line for each mutant while the work goes on, and the totals for docs/guarantees.md."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.verdicts import Verdict

HERE = Path(__file__).resolve().parent
SURVIVORS = HERE / "survivors.toml"
LIVING = "alive, each with a reason in `survivors.toml`"
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

    def forget(self, names: Iterable[str]) -> None:
        """As if these had not been tried."""
        for name in names:
            self.found.pop(name, None)
        lines = [json.dumps([name, asdict(verdict)]) + "\n" for name, verdict in self.found.items()]
        self.path.write_text("".join(lines))


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
