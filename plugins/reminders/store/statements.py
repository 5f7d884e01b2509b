"""The named statements of include/sql/*.sql.

A file holds any number of statements. Each begins with the line `-- name: <snake_name>`, goes on with one comment line
that says what it is for, and runs to the next name or the end of the file. Values are psycopg's named parameters,
`%(name)s`; nothing is ever formatted into the text.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from reminders.errors import ConfigurationError

NAME_LINE = re.compile(r"^-- name: *(.*?) *$")
SNAKE_NAME = re.compile(r"[a-z][a-z0-9_]*")


def statement(name: str) -> str:
    """The text of the statement called `name`, without its name and comment lines and without a final semicolon.

    Raises `ConfigurationError` when there is no such statement, or when any file of the folder is malformed.
    """
    statements = load_statements(sql_folder())
    if name not in statements:
        near = difflib.get_close_matches(name, statements, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"there is no statement {name!r} in {sql_folder()}{hint}")
    return statements[name]


def sql_folder() -> Path:
    """The folder include/sql: $REMINDERS_SQL, else the one beside plugins/, else the one in $AIRFLOW_HOME.

    Raises `ConfigurationError` when none of them is a folder, or $REMINDERS_SQL names something else.
    """
    named = os.environ.get("REMINDERS_SQL")
    if named:
        candidates = [Path(named)]
    else:
        candidates = [Path(__file__).resolve().parents[3] / "include" / "sql"]
        if home := os.environ.get("AIRFLOW_HOME"):
            candidates.append(Path(home) / "include" / "sql")
    for folder in candidates:
        if folder.is_dir():
            return folder
    tried = ", ".join(str(folder) for folder in candidates)
    raise ConfigurationError(
        f"the SQL files are missing (looked in {tried}); set REMINDERS_SQL to the folder include/sql"
    )


@lru_cache(maxsize=8)
def load_statements(folder: Path) -> dict[str, str]:
    """Read every *.sql directly in `folder` (not its migrations), in the order of their names.

    Returns the text of each statement by its name. Raises `ConfigurationError`, naming the file and the line, for text
    before the first name, a name that is not snake_case, a missing comment, an empty statement, or a name used twice.
    """
    statements: dict[str, str] = {}
    places: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        for name, line, text in parse_statements(path.name, path.read_text(encoding="utf-8")):
            place = f"{path.name}:{line}"
            if name in statements:
                raise ConfigurationError(f"{place}: the name {name} is already used in {places[name]}")
            statements[name] = text
            places[name] = place
    return statements


def parse_statements(file_name: str, source: str) -> Iterator[tuple[str, int, str]]:
    """Yield (name, line number of the name, text) for each statement of one file; errors as in `load_statements`."""
    lines = source.splitlines()
    starts = [number for number, line in enumerate(lines) if NAME_LINE.match(line)]
    preamble = lines[: starts[0]] if starts else lines
    if any(line.strip() for line in preamble):
        raise ConfigurationError(f"{file_name}:1: a file begins with a line '-- name: <snake_name>'")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        name = lines[start].removeprefix("-- name:").strip()
        place = f"{file_name}:{start + 1}"
        if not SNAKE_NAME.fullmatch(name):
            raise ConfigurationError(f"{place}: {name!r} is not a snake_case name")
        comment, body = lines[start + 1 : start + 2], lines[start + 2 : end]
        if not comment or not re.match(r"-- \S", comment[0]):
            raise ConfigurationError(f"{place}: {name} needs a comment line '-- ...' under its name")
        text = "\n".join(body).strip().removesuffix(";").rstrip()
        if not text:
            raise ConfigurationError(f"{place}: {name} has no statement")
        yield name, start + 1, text
