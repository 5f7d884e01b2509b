"""The loader of named statements, and every statement of the release."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reminders.errors import ConfigurationError
from reminders.store import statements
from reminders.store.statements import load_statements, sql_folder, statement

ONE = "-- name: first_due\n-- What is due.\nSELECT 1\nWHERE x = %(x)s;\n"
TWO = "\n-- name: second\n-- Another one.\n\nSELECT 2 -- with a remark\n"
RELEASE = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REMINDERS_SQL", str(tmp_path))
    load_statements.cache_clear()
    return tmp_path


def test_a_file_is_cut_at_its_names(folder: Path) -> None:
    (folder / "1_a.sql").write_text(ONE + TWO)
    (folder / "2_b.sql").write_text("\n-- name: third\n-- Last.\nSELECT 3")
    (folder / "notes.txt").write_text("not SQL")
    (folder / "migrations").mkdir()
    (folder / "migrations" / "0001_a.sql").write_text("CREATE TABLE x ()")
    assert load_statements(folder) == {
        "first_due": "SELECT 1\nWHERE x = %(x)s",
        "second": "SELECT 2 -- with a remark",
        "third": "SELECT 3",
    }
    assert list(load_statements(folder)) == ["first_due", "second", "third"]
    assert statement("second") == "SELECT 2 -- with a remark"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("SELECT 1", "a.sql:1: a file begins with"),
        ("-- A header.\n" + ONE, "a.sql:1: a file begins with"),
        ("-- name: Due\n-- What.\nSELECT 1", "a.sql:1: 'Due' is not a snake_case name"),
        ("-- name: first due\n-- What.\nSELECT 1", "'first due' is not a snake_case name"),
        ("-- name:\n-- What.\nSELECT 1", "'' is not a snake_case name"),
        ("-- name: first_due\nSELECT 1", "a.sql:1: first_due needs a comment line"),
        ("-- name: first_due\n--\nSELECT 1", "first_due needs a comment line"),
        ("-- name: first_due", "first_due needs a comment line"),
        ("-- name: first_due\n-- What.\n", "first_due has no statement"),
        ("-- name: first_due\n-- What.\n;\n", "first_due has no statement"),
        ("-- name: first_due\n-- What.\n" + ONE, "a.sql:1: first_due has no statement"),
        (ONE + ONE, "a.sql:5: the name first_due is already used in a.sql:1"),
    ],
)
def test_a_malformed_file_is_refused_by_file_line_and_name(folder: Path, source: str, message: str) -> None:
    (folder / "a.sql").write_text(source)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        statement("first_due")


def test_a_name_used_in_two_files_is_refused(folder: Path) -> None:
    (folder / "a.sql").write_text(ONE)
    (folder / "b.sql").write_text(ONE)
    with pytest.raises(ConfigurationError, match=r"b\.sql:1: the name first_due is already used in a\.sql:1"):
        statement("first_due")


def test_an_unknown_name_is_refused_with_the_nearest(folder: Path) -> None:
    (folder / "a.sql").write_text(ONE)
    with pytest.raises(ConfigurationError, match=r"no statement 'first_du' .*did you mean first_due\?"):
        statement("first_du")


def test_the_folder_is_the_named_one_or_beside_the_package_or_in_airflow_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REMINDERS_SQL", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert sql_folder() == RELEASE / "include" / "sql"

    installed = tmp_path / "elsewhere" / "plugins" / "reminders" / "store" / "statements.py"
    monkeypatch.setattr(statements, "__file__", str(installed))
    with pytest.raises(ConfigurationError, match="set REMINDERS_SQL"):
        sql_folder()
    (tmp_path / "include" / "sql").mkdir(parents=True)
    assert sql_folder() == tmp_path / "include" / "sql"

    monkeypatch.setenv("REMINDERS_SQL", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="nowhere"):
        sql_folder()


def test_every_statement_that_the_code_asks_for_is_there_and_none_is_idle() -> None:
    here = load_statements(RELEASE / "include" / "sql")
    code = "\n".join(path.read_text() for path in (RELEASE / "plugins" / "reminders").rglob("*.py"))
    quoted = set(re.findall(r'"([a-z_]+)"', code))
    asked = set(re.findall(r'\b(?:statement|_all|_one|_copy|attempts)\(\s*"([a-z_]+)"', code))
    assert asked, "the pattern no longer finds how the store asks for statements"
    assert asked - here.keys() == set()
    assert here.keys() - quoted == set()


def test_placeholders_are_named_and_percent_signs_are_escaped() -> None:
    for name, text in load_statements(RELEASE / "include" / "sql").items():
        if "%(" in text:
            stray = re.sub(r"%\([a-z_]+\)s|%%", "", text)
            assert "%" not in stray, f"{name} has a percent sign that psycopg would take for a placeholder"
