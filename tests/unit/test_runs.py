"""The page of guarantees shows the counts that the tools wrote, and names tests and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runs import PAGE, page, record

ROOT = Path(__file__).parents[2]
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_shows_the_last_runs() -> None:
    assert page(TEXT) == TEXT, "python -m tests.runs brings it up to date"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[a-z_/]+(?:\.py)?)`", TEXT))))
def test_what_the_page_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_[a-z_]+\.py)`", TEXT))))
def test_what_the_page_names_after_its_folder_exists(name: str) -> None:
    assert [*ROOT.glob(f"tests/*/{name}")]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z]+)", TEXT))))
def test_the_commands_of_the_page_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_without_being_asked_a_tool_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.runs.RUNS", tmp_path / "runs")
    monkeypatch.delenv("RECORD", raising=False)
    record("a tool", "a run", {"found": 1})
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("RECORD", "1")
    record("a tool", "a run", {"found": 1})
    assert (tmp_path / "runs" / "a tool.json").exists()


def test_make_chaos_names_each_folder_whose_tests_it_is_for() -> None:
    tests = ROOT.glob("tests/*/test_*.py")
    marked = {str(test.parent.relative_to(ROOT)) for test in tests if re.search(r"mark\.chaos", test.read_text())}
    [named] = re.findall(r'-m "chaos or always" (.+)', (ROOT / "Makefile").read_text())
    assert set(named.split()) == marked
