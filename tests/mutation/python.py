"""Mutants of the Python that decides: the policy, the send path as far as it is Python, and the classes of errors.

mutmut writes them: each function of a module becomes all of its mutants beside the original, and a variable of the
environment says which of them is called. Decorated functions it leaves alone, so a cache is put on afterwards.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents

from tests.mutation.places import HERE, MODULES, PLUGINS, SIGN, module_path

CHOSEN = "MUTANT_UNDER_TEST"
CACHED = re.compile(r"^@(?P<cache>lru_cache\(.*\))\n(?P<function>def (?P<name>\w+))", re.MULTILINE)
CLASS = "ǁ"
CONTEXT = 24


@dataclass(frozen=True)
class Written:
    """One mutant as mutmut calls it, of which function, and what differs."""

    name: str
    of: str
    clause: str


def write_mutants() -> list[Written]:
    """All mutants, in the order of the modules."""
    return [written for module in MODULES for written in _written(module, _mutate(module))]


def put_mutants_first(folder: Path) -> None:
    """Copy the package to `folder` with its mutants, and have Python import it from there. Before its first import."""
    if "reminders" in sys.modules:
        raise AssertionError("the package is imported already, as it is")
    shutil.copytree(PLUGINS, folder / "plugins")
    for module in MODULES:
        (folder / "plugins" / module_path(module)).write_text(_mutate(module).code, encoding="utf-8")
    sys.path.insert(0, str(folder / "plugins"))
    os.environ["REMINDERS_SQL"] = str(PLUGINS.parent / "include" / "sql")


def called_by(name: str) -> str:
    """The function, as "python policy.minute", that mutmut calls reminders.policy.x_minute."""
    module, _, function = name.partition("__mutmut")[0].rpartition(".")
    of = (
        function.removeprefix("x").strip(CLASS).replace(CLASS, ".")
        if CLASS in function
        else function.removeprefix("x_")
    )
    return f"python {module.removeprefix('reminders.')}.{of}"


def _mutate(module: str) -> MutatedFile:
    code = (PLUGINS / module_path(module)).read_text(encoding="utf-8")
    with contextlib.chdir(HERE):
        mutated = mutate_file_contents(module_path(module).name, CACHED.sub(r"\g<function>", code))
    caches = [f"{found['name']} = {found['cache']}({found['name']})" for found in CACHED.finditer(code)]
    return replace(mutated, code="\n".join([mutated.code, *caches, ""]))


def _written(module: str, mutated: MutatedFile) -> Iterator[Written]:
    lines = mutated.code.splitlines()
    wanted = MODULES[module]

    def source(function: str) -> list[str]:
        span = mutated.line_span_by_function_name[function]
        return [line.strip().replace(function, "") for line in lines[span.start - 1 : span.end]]

    for name in mutated.mutant_names:
        of = called_by(f"reminders.{module}.{name}")
        if not wanted or of.removeprefix(f"python {module}.") in wanted:
            original = source(f"{name.partition('__mutmut')[0]}__mutmut_orig")
            yield Written(f"reminders.{module}.{name}", of, _difference(original, source(name)))


def _difference(original: list[str], changed: list[str]) -> str:
    """What stands in the place of what, from a few words before to where both go on alike."""
    lines = [line for line in difflib.ndiff(original, changed) if line[0] in "-+"]
    before, after = (" ".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
    alike = _alike(before, after)
    start = max(before.rfind(" ", 0, max(alike - CONTEXT, 0)), 0)
    rest = [text[start:].strip() for text in (before, after)]
    ending = _alike(*(text[alike - start :][::-1] for text in rest))
    shown = [text[: len(text) - max(ending - CONTEXT, 0)] for text in rest]
    return SIGN.join(shown)


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
