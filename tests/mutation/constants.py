"""Mutants of a module's own tables and numbers, which mutmut leaves alone: each element gone, each number one more."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.mutation.places import MODULES, PLUGINS, module_path

# They are the defaults of parameters, which were read when the module was.
DEFAULTS = frozenset({"CONNECT_TIMEOUT", "READ_TIMEOUT", "ANSWER_TIMEOUT"})


def constant_mutants() -> Iterator[tuple[str, str, str]]:
    """(of, clause, the constant's new value as an expression) for each of them."""
    for module in MODULES:
        tree = ast.parse((PLUGINS / module_path(module)).read_text(encoding="utf-8"))
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                if name.isupper() and name not in DEFAULTS:
                    for clause, changed in _changes(statement.value):
                        yield f"python {module}.{name}", clause, ast.unparse(changed)


def put_constant(of: str, expression: str) -> None:
    """Give the constant another value in its module, and wherever it was imported to."""
    module_name, _, name = of.removeprefix("python ").rpartition(".")
    module = importlib.import_module(f"reminders.{module_name}")
    original = getattr(module, name)
    changed = eval(expression, vars(module))  # the expression is the module's own, with an element less
    for other in [known for known in sys.modules.values() if known is not None]:
        if getattr(other, name, None) is original:
            setattr(other, name, changed)


def _changes(value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Each of the elements of a table is left out; a number that stands alone is one more."""
    whole = ast.unparse(value)
    elements: set[ast.expr | None] = set()
    for place, node in enumerate(ast.walk(value)):
        parts = _elements(node) if len(_elements(node)) > 1 else []
        elements.update(parts)
        for number, part in enumerate(parts):
            changed = deepcopy(value)
            holder = _at(changed, place)
            for field in ("keys", "values") if isinstance(node, ast.Dict) else ("elts",):
                del getattr(holder, field)[number]
            yield f"{ast.unparse(part)} of {whole}", changed
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node not in elements:
            changed = deepcopy(value)
            _at(changed, place).value = node.value + 1
            yield f"{node.value}, and with {node.value + 1}, in {whole}", changed


def _elements(node: ast.AST) -> list[Any]:
    if isinstance(node, ast.Dict):
        return node.keys
    return node.elts if isinstance(node, ast.Set | ast.Tuple | ast.List) else []


def _at(value: ast.expr, place: int) -> Any:
    return list(ast.walk(value))[place]
