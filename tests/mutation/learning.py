"""Which tests use which function and statement, and how long each takes: learnt by running them once, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mutmut.mutation.trampoline as trampoline
import psycopg
import pytest

import reminders.store.statements as statements
from tests.databases import SharedServer, TestDatabase
from tests.mutation.python import called_by

USED = "SELECT funcname FROM pg_stat_user_functions WHERE schemaname = 'reminders'"
OTHERS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type = 'client backend'
"""


@dataclass
class Learned:
    """Of one test: its seconds, set-up included, what it uses, as "function x", "statement y", "python z", and whether
    it passes by itself, in a process of its own."""

    seconds: float = 0.0
    uses: list[str] = field(default_factory=list)
    passes_alone: bool = False


class Learning:
    """A plugin of pytest's that fills `learned`."""

    def __init__(self, ledger_template: str) -> None:
        self.ledger_template = ledger_template
        self.learned: dict[str, Learned] = {}
        # A ledger that tests share is used by all of them, from the one that made it to the one that ends it.
        self.order: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.learned[nodeid] = Learned()
        self.order.append(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.learned[report.nodeid].seconds += report.duration

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is used, until the end."""
        with pytest.MonkeyPatch.context() as patch:
            load, clone, close = statements.load_statements, SharedServer.database, TestDatabase.close
            begun: dict[str, int] = {}

            def loaded(folder: Path) -> dict[str, str]:
                return Noting(load(folder), self)

            @contextmanager
            def database(server: SharedServer, template: str = "template1") -> Iterator[TestDatabase]:
                with clone(server, template) as made:
                    if template == self.ledger_template:
                        begun[made.name] = len(self.order) - 1
                    yield made

            def closed(made: TestDatabase) -> None:
                if made.name in begun:
                    used = _functions_used(made)
                    for nodeid in self.order[max(begun.pop(made.name), 0) :]:
                        self.note(nodeid, [f"function {name}" for name in used])
                close(made)

            def called(name: str, caller: str | None = None) -> None:  # noqa: ARG001
                if self.order:
                    self.note(self.order[-1], [called_by(name)])

            patch.setattr(trampoline, "record_trampoline_hit", called)
            patch.setattr(statements, "load_statements", loaded)
            patch.setattr(SharedServer, "database", database)
            patch.setattr(TestDatabase, "close", closed)
            yield

    def note(self, nodeid: str, uses: list[str]) -> None:
        known = self.learned[nodeid].uses
        known += [use for use in uses if use not in known]


class Noting(dict[str, str]):
    """The statements; whichever is read, is noted."""

    def __init__(self, known: dict[str, str], learning: Learning) -> None:
        super().__init__(known)
        self.learning = learning

    def __getitem__(self, name: str) -> str:
        if self.learning.order:
            self.learning.note(self.learning.order[-1], [f"statement {name}"])
        return super().__getitem__(name)


def _functions_used(database: TestDatabase) -> list[str]:
    """What the server has counted; each backend tells it when it ends, so they are ended first."""
    for connection in database._given:
        connection.close()
    with psycopg.connect(database.conninfo, autocommit=True) as owner:
        for _ in range(100):
            if _one(owner, OTHERS) == 0:
                break
            owner.execute("SELECT pg_sleep(0.02)")
        return [name for (name,) in owner.execute(USED).fetchall()]


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
