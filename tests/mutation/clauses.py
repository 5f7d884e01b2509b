"""Every clause of a statement of SQL, and the statement as it is without that clause.

The statement is read by PostgreSQL's own parser (pglast), so a clause is what the server takes for one, wherever it
stands: in a WHERE, a join, a CASE, a CHECK, a sub-query. What is printed again is parsed again before it is believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType, SetOperation
from pglast.stream import RawStream

TRUE, FALSE = (ast.A_Const(val=ast.Boolean(boolval=value)) for value in (True, False))

# Where a whole condition may stand; without it nothing is left out any more.
CONDITIONS = {
    ast.SelectStmt: ("whereClause", "havingClause"),
    ast.UpdateStmt: ("whereClause",),
    ast.DeleteStmt: ("whereClause",),
    ast.JoinExpr: ("quals",),
    ast.MergeWhenClause: ("condition",),
    ast.FuncCall: ("agg_filter",),
    ast.OnConflictClause: ("whereClause",),
}
ANY_OR_ALL = (A_Expr_Kind.AEXPR_OP_ANY, A_Expr_Kind.AEXPR_OP_ALL)
AT_LEAST, AT_MOST = ">=", "<="
CAST_TO_TEXT = re.compile(r"CAST\(('[^']*'|[\w.]+) AS text\)")

Node = ast.Node


@dataclass(frozen=True)
class Change:
    """`clause` is what is left out; `text()` writes the statement without it, when it is wanted."""

    clause: str
    text: Callable[[], str]

    def within(self, whole: Callable[[str], str]) -> Change:
        """The same change, of a text that the statement is a part of."""
        return Change(self.clause, lambda: whole(self.text()))


@dataclass(frozen=True)
class Place:
    """Where a node stands: in an attribute of its owner, or in the tuple that the attribute holds."""

    owner: Node
    attribute: str
    path: tuple[int, ...] = ()

    def get(self) -> Any:
        found = getattr(self.owner, self.attribute)
        for index in self.path:
            found = found[index]
        return found

    def put(self, value: Any) -> None:
        setattr(self.owner, self.attribute, _with(getattr(self.owner, self.attribute), self.path, value))


# A node that takes the place's, and the clause that is gone then.
Replacement = tuple[Place, Any, str]


def leave_out_of_statement(text: str) -> list[Change]:
    """Each change of one statement of SQL."""
    [raw] = parse_sql(text)
    holder = ast.RawStmt(stmt=raw.stmt)
    return _changes(holder, Place(holder, "stmt"))


def leave_out_of_body(text: str) -> list[Change]:
    """Each change of the statements of a function in SQL; of several, each is left out too."""
    printed = [show(raw.stmt) for raw in parse_sql(text)]
    found = []
    for number, statement in enumerate(printed):

        def among(changed: str, before: list[str] = printed[:number], after: list[str] = printed[number + 1 :]) -> str:
            return ";\n".join([*before, changed, *after])

        found += [change.within(among) for change in leave_out_of_statement(statement)]
        if len(printed) > 1:
            found.append(Change(statement, lambda among=among: among("SELECT")))
    return found


def leave_out_of_condition(text: str) -> list[Change]:
    """Each change of an expression that is a condition, but for the whole of it."""
    [raw] = parse_sql(f"SELECT {text}")
    return _changes(raw.stmt, Place(raw.stmt.targetList[0], "val"))


def read_condition(text: str) -> Any:
    """The node of an expression."""
    return parse_sql(f"SELECT {text}")[0].stmt.targetList[0].val


def show(node: Any) -> str:
    """The node as SQL, on one line."""
    return str(RawStream()(node))


def plain(text: str) -> str:
    """As a person would write it: the catalogue casts every word to text."""
    return CAST_TO_TEXT.sub(r"\1", " ".join(text.split()))


def _changes(root: Node, whole: Place) -> list[Change]:
    """A change for each replacement below `root`, which writes what then stands at `whole`."""

    def write(place: Place, replacement: Any) -> str:
        original = place.get()
        place.put(replacement)
        text = show(whole.get())
        place.put(original)
        if _again(text, isinstance(whole.owner, ast.ResTarget)) != text:
            raise AssertionError(f"the printer and the parser differ about {text}")
        return text

    return [
        Change(clause, lambda place=place, replacement=replacement: write(place, replacement))
        for place, replacement, clause in _replacements(root)
    ]


def _again(text: str, is_expression: bool) -> str:
    return show(read_condition(text) if is_expression else parse_sql(text)[0].stmt)


def _replacements(node: Node) -> Iterator[Replacement]:
    for attribute in CONDITIONS.get(type(node), ()):
        condition = getattr(node, attribute)
        # Of what is joined by AND each part is left out below, and so is the whole.
        if condition is not None and not _is_constant(condition) and not _is(condition, BoolExprType.AND_EXPR):
            yield Place(node, attribute), TRUE, show(condition)
    for place in _children(node):
        child = place.get()
        for kind, leave_out in LEAVE_OUT.items():
            if isinstance(child, kind):
                for replacement, clause in leave_out(child):
                    yield place, replacement, clause
        yield from _replacements(child)


def _terms(node: Any) -> Iterator[tuple[Any, str]]:
    """Of `a AND b`, `a OR b`: each of them."""
    if node.boolop != BoolExprType.NOT_EXPR:
        for number, term in enumerate(node.args):
            rest = _but(node.args, number)
            yield rest[0] if len(rest) == 1 else ast.BoolExpr(boolop=node.boolop, args=rest), show(term)


def _cases(node: Any) -> Iterator[tuple[Any, str]]:
    """Of a CASE: each WHEN. The last one left stays, for its type, and never comes true."""
    for number, case in enumerate(node.args):
        rest, arg = _but(node.args, number), node.arg
        if not rest:
            rest, arg = (ast.CaseWhen(expr=FALSE, result=case.result),), None
        clause = f"WHEN {show(case.expr)} THEN {show(case.result)}"
        yield ast.CaseExpr(arg=arg, args=rest, defresult=node.defresult), clause


def _compared(node: Any) -> Iterator[tuple[Any, str]]:
    """Of `a IN (b, c)` each value, of `a BETWEEN b AND c` each bound, of `(a, b) = (c, d)` each pair."""
    if node.kind == A_Expr_Kind.AEXPR_BETWEEN:
        for operator, bound, other in zip((AT_MOST, AT_LEAST), node.rexpr, reversed(node.rexpr), strict=True):
            yield _operation(operator, node.lexpr, other), f"{show(bound)} of {show(node)}"
    elif isinstance(node.lexpr, ast.RowExpr) and isinstance(node.rexpr, ast.RowExpr):
        yield from _paired(node)
    else:
        is_list = isinstance(node.rexpr, ast.A_ArrayExpr)
        values = node.rexpr.elements if is_list else node.rexpr
        if (is_list and node.kind in ANY_OR_ALL) or node.kind == A_Expr_Kind.AEXPR_IN:
            for number, value in enumerate(values):
                if rest := _but(values, number):
                    right = ast.A_ArrayExpr(elements=rest) if is_list else rest
                    yield _of(node, node.lexpr, right), f"{show(value)} of {show(node)}"


def _paired(node: Any) -> Iterator[tuple[Any, str]]:
    for number, (left, right) in enumerate(zip(node.lexpr.args, node.rexpr.args, strict=True)):
        lefts, rights = _but(node.lexpr.args, number), _but(node.rexpr.args, number)
        clause = f"{show(left)} = {show(right)} of {show(node)}"
        if len(lefts) == 1:
            yield _of(node, lefts[0], rights[0]), clause
        elif lefts:
            rows = [ast.RowExpr(args=args, row_format=node.lexpr.row_format) for args in (lefts, rights)]
            yield _of(node, *rows), clause


def _of(node: Any, left: Any, right: Any) -> Any:
    return ast.A_Expr(kind=node.kind, name=node.name, lexpr=left, rexpr=right)


def _operation(operator: str, left: Any, right: Any) -> Any:
    return ast.A_Expr(kind=A_Expr_Kind.AEXPR_OP, name=(ast.String(sval=operator),), lexpr=left, rexpr=right)


def _chosen(node: Any) -> Iterator[tuple[Any, str]]:
    """Of coalesce, greatest and least: each value."""
    for number, value in enumerate(node.args):
        rest = _but(node.args, number)
        if len(rest) == 1:
            yield rest[0], f"{show(value)} of {show(node)}"
        elif isinstance(node, ast.MinMaxExpr):
            yield ast.MinMaxExpr(op=node.op, args=rest), f"{show(value)} of {show(node)}"
        elif rest:
            yield ast.CoalesceExpr(args=rest), f"{show(value)} of {show(node)}"


def _joined(node: Any) -> Iterator[tuple[Any, str]]:
    """Of JOIN ... USING (a, b): each column."""
    for number, column in enumerate(node.usingClause or ()):
        if rest := _but(node.usingClause, number):
            clause = f"{column.sval} of USING ({', '.join(name.sval for name in node.usingClause)})"
            yield _copy(node, usingClause=rest), clause


def _selected(node: Any) -> Iterator[tuple[Any, str]]:
    """Of a UNION each part, as one without rows; FOR UPDATE; each WITH that only does something."""
    if node.op != SetOperation.SETOP_NONE:
        for side in ("larg", "rarg"):
            part = getattr(node, side)
            if part.op == SetOperation.SETOP_NONE and not part.valuesLists:
                yield _copy(node, **{side: _copy(part, whereClause=FALSE)}), f"UNION {show(part)}"
    if node.lockingClause:
        yield _copy(node, lockingClause=None), f"FOR UPDATE of {show(_copy(node, lockingClause=None))}"
    yield from _acted(node)


def _acted(node: Any) -> Iterator[tuple[Any, str]]:
    ctes = node.withClause.ctes if node.withClause else ()
    for number, cte in enumerate(ctes):
        if not isinstance(cte.ctequery, ast.SelectStmt) and cte.ctename not in set(_relations(node)):
            rest = _but(ctes, number)
            clause = ast.WithClause(ctes=rest, recursive=node.withClause.recursive) if rest else None
            yield _copy(node, withClause=clause), f"WITH {cte.ctename} AS ({show(cte.ctequery)})"


def _inserted(node: Any) -> Iterator[tuple[Any, str]]:
    """Of an INSERT: its ON CONFLICT."""
    if node.onConflictClause:
        yield _copy(node, onConflictClause=None), f"ON CONFLICT of {show(_copy(node, onConflictClause=None))}"
    yield from _acted(node)


def _merged(node: Any) -> Iterator[tuple[Any, str]]:
    """Of a MERGE: each WHEN."""
    for number, clause in enumerate(node.mergeWhenClauses):
        if rest := _but(node.mergeWhenClauses, number):
            yield _copy(node, mergeWhenClauses=rest), show(clause)


LEAVE_OUT: dict[type, Callable[[Any], Iterator[tuple[Any, str]]]] = {
    ast.BoolExpr: _terms,
    ast.CaseExpr: _cases,
    ast.A_Expr: _compared,
    ast.CoalesceExpr: _chosen,
    ast.MinMaxExpr: _chosen,
    ast.JoinExpr: _joined,
    ast.SelectStmt: _selected,
    ast.InsertStmt: _inserted,
    ast.MergeStmt: _merged,
}


def _copy(node: Any, **changes: Any) -> Any:
    values = {name: getattr(node, name) for name in node}
    return type(node)(**{**values, **changes})


def _is(node: Any, kind: BoolExprType) -> bool:
    return isinstance(node, ast.BoolExpr) and node.boolop == kind


def _is_constant(node: Any) -> bool:
    return isinstance(node, ast.A_Const)


def _but(values: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return (*values[:number], *values[number + 1 :])


def _with(values: Any, path: tuple[int, ...], value: Any) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    return (*values[:first], _with(values[first], rest, value), *values[first + 1 :])


def _children(node: Node) -> Iterator[Place]:
    for attribute in node:
        yield from _below(node, attribute, getattr(node, attribute), ())


def _below(owner: Node, attribute: str, value: Any, path: tuple[int, ...]) -> Iterator[Place]:
    if isinstance(value, ast.Node):
        yield Place(owner, attribute, path)
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from _below(owner, attribute, each, (*path, number))


def _relations(node: Node) -> Iterator[str]:
    """The names of all relations that are read or written below the node."""
    for place in _children(node):
        child = place.get()
        if isinstance(child, ast.RangeVar):
            yield child.relname
        yield from _relations(child)
