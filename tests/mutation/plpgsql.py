"""The SQL in a function that is written in PL/pgSQL: each condition and statement by its place in the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pglast import parse_plpgsql

from tests.mutation.clauses import Change, leave_out_of_condition, leave_out_of_statement

BODY = re.compile(r"(?P<head>.*AS (?P<quote>\$\w*\$))(?P<body>.*)(?P=quote)\s*", re.DOTALL)
OWN_TYPE = re.compile(r"\breminders\.\w+")
PERFORM = "PLpgSQL_stmt_perform"
# What PL/pgSQL takes out of a statement before the server reads it.
TAKEN_OUT = re.compile(r"INTO\s+[\w.]+(\s*,\s*[\w.]+)*", re.IGNORECASE)
# Where a statement keeps its SQL.
FIELDS = ("cond", "sqlstmt", "expr", "query")


def leave_out_of_function(definition: str) -> list[Change]:
    """Each change of a function as `pg_get_functiondef` writes it, as the whole definition."""
    parts = BODY.fullmatch(definition)
    if parts is None:
        raise AssertionError(f"no body in {definition}")
    head, body, quote = parts["head"], parts["body"], parts["quote"]
    found = []
    seen: Counter[str] = Counter()
    for kind, query in _expressions(parse_plpgsql(_without_own_types(head, body, quote))):
        written = query.replace("SELECT", "PERFORM", 1) if kind == PERFORM else query
        start = _places(body, written)[seen[written]]
        seen[written] += 1
        end = start + len(written)

        def among(changed: str, before: str = head + body[:start], after: str = body[end:] + quote) -> str:
            return f"{before}{changed}{after}"

        found += [change.within(among) for change in LEAVE_OUT[kind](query, body[start:end])]
    return found


def _without_own_types(head: str, body: str, quote: str) -> str:
    """The parser knows no types but the server's own: in declarations another stands for them, of the same length."""
    declared, begin, rest = body.partition("BEGIN")
    return f"{head}{OWN_TYPE.sub(lambda own: 'text'.ljust(len(own[0])), declared)}{begin}{rest}{quote}"


def _expressions(node: Any) -> Iterator[tuple[str, str]]:
    """The kind and the SQL of each statement that can be changed, in the order of the text."""
    if isinstance(node, list):
        for each in node:
            yield from _expressions(each)
    elif isinstance(node, dict):
        for name, child in node.items():
            if name in LEAVE_OUT:
                field = next(field for field in FIELDS if field in child)
                yield name, child[field]["PLpgSQL_expr"]["query"]
            yield from _expressions(child)


def _places(body: str, query: str) -> list[int]:
    """Where the query stands, which has blanks where the text has its INTO."""
    return [
        start
        for start in range(len(body) - len(query) + 1)
        if all(ours in (theirs, " ") for theirs, ours in zip(body[start : start + len(query)], query, strict=True))
    ]


def _condition(query: str, _text: str) -> list[Change]:
    """An IF also never comes true."""
    return [*leave_out_of_condition(query), Change(query, lambda: "false")]


def _statement(query: str, text: str) -> list[Change]:
    into = TAKEN_OUT.search(text) if query != text else None
    if into is None:
        return [*leave_out_of_statement(query), Change(query, lambda: "NULL")]
    # What it brings into a variable is needed by what follows.
    return [change.within(lambda changed: f"{changed} {into[0]}") for change in leave_out_of_statement(query)]


def _performed(query: str, _text: str) -> list[Change]:
    changes = leave_out_of_statement(query)
    performed = [change.within(lambda changed: changed.replace("SELECT", "PERFORM", 1)) for change in changes]
    return [*performed, Change(query, lambda: "NULL")]


def _returned(query: str, _text: str) -> list[Change]:
    return leave_out_of_statement(query)


def _assigned(query: str, _text: str) -> list[Change]:
    target, _, value = query.partition(":=")
    changes = leave_out_of_statement(f"SELECT {value}")
    return [change.within(lambda changed: f"{target}:= {changed.removeprefix('SELECT ')}") for change in changes]


LEAVE_OUT: dict[str, Callable[[str, str], list[Change]]] = {
    "PLpgSQL_stmt_if": _condition,
    "PLpgSQL_if_elsif": _condition,
    "PLpgSQL_stmt_execsql": _statement,
    PERFORM: _performed,
    "PLpgSQL_stmt_return_query": _returned,
    "PLpgSQL_stmt_assign": _assigned,
}
