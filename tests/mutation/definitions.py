"""Mutants of what a migrated ledger holds: its constraints, unique indexes, triggers, functions, views and transitions.

They are read from the catalogue, where only the last definition of each object is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from pglast import parse_sql

from tests.mutation.clauses import (
    Change,
    leave_out_of_body,
    leave_out_of_condition,
    leave_out_of_statement,
    plain,
    read_condition,
    show,
)
from tests.mutation.mutants import ADDED, Mutant, numbered
from tests.mutation.plpgsql import BODY, leave_out_of_function

Connection = psycopg.Connection[Any]

# NOT NULL apart: most of these columns are written by one statement, which has the value.
CONSTRAINTS = """
SELECT k.conname, coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text), k.contypid <> 0,
       k.contype, pg_get_constraintdef(k.oid)
FROM pg_constraint k WHERE k.connamespace = 'reminders'::regnamespace AND k.contype NOT IN ('n', 't') ORDER BY 2, 1
"""
INDEXES = """
SELECT c.relname, i.indrelid::regclass::text, pg_get_indexdef(c.oid)
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relnamespace = 'reminders'::regnamespace AND i.indisunique
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid) ORDER BY 1
"""
TRIGGERS = """
SELECT t.tgname, t.tgrelid::regclass::text, pg_get_triggerdef(t.oid) FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'reminders'::regnamespace AND NOT t.tgisinternal ORDER BY 2, 1
"""
FUNCTIONS = """
SELECT p.proname, l.lanname, pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'reminders'::regnamespace AND p.prokind = 'f' ORDER BY 1
"""
VIEWS = """
SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_class c
WHERE c.relnamespace = 'reminders'::regnamespace AND c.relkind = 'v' ORDER BY 1
"""
STATES = "SELECT array_agg(DISTINCT s) FROM reminders.transition, unnest(ARRAY[from_state, to_state]::text[]) s"
TRANSITIONS = """
SELECT before, after, array_agg(t.role_name ORDER BY t.role_name) FILTER (WHERE t.role_name IS NOT NULL)
FROM unnest(%(states)s::text[]) before CROSS JOIN unnest(%(states)s::text[]) after
LEFT JOIN reminders.transition t ON (t.from_state, t.to_state) = (before, after)
WHERE before <> after GROUP BY before, after ORDER BY before, after
"""
ALLOW = """
INSERT INTO reminders.transition SELECT DISTINCT '{before}', '{after}', role_name FROM reminders.transition
ON CONFLICT DO NOTHING
"""
FORBID = """
DELETE FROM reminders.transition WHERE (from_state, to_state, role_name) = ('{before}', '{after}', '{role}')
"""


def definition_mutants(connection: Connection) -> list[Mutant]:
    """All of them, in the same order each time. Reads only, as the superuser."""
    return list(numbered(mutant for kind in KINDS for mutant in kind(connection)))


def _constraints(connection: Connection) -> Iterator[Mutant]:
    for name, owner, is_of_domain, kind, definition in connection.execute(CONSTRAINTS).fetchall():
        alter = f"ALTER {'DOMAIN' if is_of_domain else 'TABLE'} {owner}"
        of = f"constraint {_short(owner)}.{name}"
        yield _mutant(of, "all of it", f"{alter} DROP CONSTRAINT {name} CASCADE")
        replace = f"{alter} DROP CONSTRAINT {name} CASCADE; {alter} ADD CONSTRAINT {name}"
        if kind == "c":
            for change in leave_out_of_condition(definition.removeprefix("CHECK ")):
                yield _changed(of, change.within(lambda text, replace=replace: f"{replace} CHECK ({text})"))
        elif kind == "u":
            columns = definition.removeprefix("UNIQUE (").removesuffix(")").split(", ")
            for column in columns if len(columns) > 1 else ():
                rest = ", ".join(other for other in columns if other != column)
                yield _mutant(of, column, f"{replace} UNIQUE ({rest})")


def _indexes(connection: Connection) -> Iterator[Mutant]:
    for name, table, definition in connection.execute(INDEXES).fetchall():
        of, drop = f"index {_short(table)}.{name}", f"DROP INDEX reminders.{name}"
        [raw] = parse_sql(definition)
        condition, columns = raw.stmt.whereClause, raw.stmt.indexParams
        yield _mutant(of, "all of it", drop)
        if condition is not None:
            yield _mutant(of, plain(show(condition)), f"{drop}; {_with(definition, 'whereClause', None)}")
            for change in leave_out_of_condition(show(condition)):
                yield _changed(of, change.within(_written(drop, definition, "whereClause")))
        for number, column in enumerate(columns):
            if rest := (*columns[:number], *columns[number + 1 :]):
                yield _mutant(of, column.name, f"{drop}; {_with(definition, 'indexParams', rest)}")


def _triggers(connection: Connection) -> Iterator[Mutant]:
    for name, table, definition in connection.execute(TRIGGERS).fetchall():
        of, drop = f"trigger {_short(table)}.{name}", f"DROP TRIGGER {name} ON {table}"
        condition = parse_sql(definition)[0].stmt.whenClause
        yield _mutant(of, "all of it", drop)
        if condition is not None:
            yield _mutant(of, plain(show(condition)), f"{drop}; {_with(definition, 'whenClause', None)}")
            for change in leave_out_of_condition(show(condition)):
                yield _changed(of, change.within(_written(drop, definition, "whenClause")))


def _functions(connection: Connection) -> Iterator[Mutant]:
    for name, language, definition in connection.execute(FUNCTIONS).fetchall():
        changes = leave_out_of_function(definition) if language == "plpgsql" else _leave_out_of_sql(definition)
        yield from (_changed(f"function {name}", change) for change in changes)


def _leave_out_of_sql(definition: str) -> list[Change]:
    parts = BODY.fullmatch(definition)
    if parts is None:
        raise AssertionError(f"no body in {definition}")
    head, quote = parts["head"], parts["quote"]
    return [change.within(lambda text: f"{head}\n{text}\n{quote}") for change in leave_out_of_body(parts["body"])]


def _views(connection: Connection) -> Iterator[Mutant]:
    for name, definition in connection.execute(VIEWS).fetchall():
        create = f"CREATE OR REPLACE VIEW {name} AS"
        for change in leave_out_of_statement(definition):
            yield _changed(f"view {_short(name)}", change.within(lambda text, create=create: f"{create} {text}"))


def _transitions(connection: Connection) -> Iterator[Mutant]:
    """Each line of the state machine forbidden to each role that has it, and allowed to all that do not."""
    [(states,)] = connection.execute(STATES).fetchall()
    for before, after, roles in connection.execute(TRANSITIONS, {"states": states}).fetchall():
        line = f"{before} -> {after}"
        for role in roles or ():
            yield _mutant("transition", f"{line} by {role}", FORBID.format(before=before, after=after, role=role))
        yield Mutant("transition", f"{line} by all", _always(ALLOW.format(before=before, after=after)), ADDED)


KINDS: tuple[Callable[[Connection], Iterator[Mutant]], ...] = (
    _triggers,
    _indexes,
    _functions,
    _views,
    _constraints,
    _transitions,
)


def _mutant(of: str, clause: str, text: str) -> Mutant:
    return Mutant(of, clause, _always(text))


def _changed(of: str, change: Change) -> Mutant:
    return Mutant(of, plain(change.clause), change.text)


def _always(text: str) -> Callable[[], str]:
    return lambda: text


def _written(drop: str, definition: str, attribute: str) -> Callable[[str], str]:
    return lambda condition: f"{drop}; {_with(definition, attribute, read_condition(condition))}"


def _with(definition: str, attribute: str, value: Any) -> str:
    """The definition with something else in the place of one of its parts."""
    statement = parse_sql(definition)[0].stmt
    setattr(statement, attribute, value)
    return show(statement)


def _short(name: str) -> str:
    return name.removeprefix("reminders.")
