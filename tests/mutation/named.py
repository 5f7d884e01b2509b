"""Mutants of the named statements of include/sql."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reminders.store.statements import load_statements, sql_folder
from tests.mutation.clauses import leave_out_of_statement, plain
from tests.mutation.mutants import Mutant, numbered

PARAMETER = re.compile(r"%\((\w+)\)s")
NUMBERED = re.compile(r"\$(\d+)")
# COPY has no clause, and the parser knows it only without its parameters.
UNREADABLE = "COPY"


def statement_mutants() -> list[Mutant]:
    """All of them, in the order of the files."""
    return list(numbered(_found()))


def _found() -> Iterator[Mutant]:
    for name, text in load_statements(sql_folder()).items():
        if text.startswith(UNREADABLE):
            continue
        # The server's own parser reads $1 and %, psycopg's %(name)s and %%.
        names = list(dict.fromkeys(PARAMETER.findall(text)))
        bound = PARAMETER.sub(lambda found, names=names: f"${names.index(found[1]) + 1}", text).replace("%%", "%")

        def unbound(text: str, names: list[str] = names) -> str:
            return NUMBERED.sub(lambda found: f"%({names[int(found[1]) - 1]})s", text.replace("%", "%%"))

        for change in leave_out_of_statement(bound):
            clause = NUMBERED.sub(lambda found, names=names: names[int(found[1]) - 1], change.clause)
            yield Mutant(f"statement {name}", plain(clause), change.within(unbound).text)
