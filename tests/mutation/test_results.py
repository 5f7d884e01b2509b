"""Verdicts on mutants are gone on with elsewhere, and are dropped when what they are on has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant
from tests.mutation.places import HERE
from tests.mutation.results import KEPT, Results
from tests.mutation.verdicts import Verdict

ROOT = HERE.parents[1]


def mutant(name: str, text: str = "as it is") -> Mutant:
    return Mutant(f"function {name}", "a clause", lambda: text)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Two verdicts that another machine has found."""
    path = tmp_path / "found" / "sql.jsonl"
    elsewhere = Results(tmp_path / "elsewhere" / "sql.jsonl", path)
    for name in ("one", "two"):
        elsewhere.add(mutant(name), Verdict("killed", by="a test"))
    elsewhere.keep()
    return path


def test_what_was_found_elsewhere_is_not_tried_again(tmp_path: Path, kept: Path) -> None:
    here = Results(tmp_path / "here" / "sql.jsonl", kept)
    here.forget_changed([mutant("one"), mutant("two")])
    assert set(here.found) == {mutant("one").name, mutant("two").name}


def test_what_is_defined_anew_or_is_no_more_is_forgotten_and_stays_so(tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "here" / "sql.jsonl"
    Results(path, kept).forget_changed([mutant("one", text="anew")])
    assert Results(path, kept).found == {}


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.jsonl")), ids=lambda path: path.stem)
def test_what_noticed_a_mutant_is_there_still(tmp_path: Path, path: Path) -> None:
    noticed = {verdict.by for verdict in Results(tmp_path / "none", path).found.values() if verdict.by}
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in {test.partition("::")[0] for test in noticed}}
    gone = []
    for test in noticed:
        file, _, case = test.partition("::")
        if f"def {case.partition('[')[0]}(" not in texts[file]:
            gone.append(test)
    assert noticed
    assert gone == []
