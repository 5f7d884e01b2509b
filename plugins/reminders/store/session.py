"""One connection to the ledger: transactions under a role, named statements, errors without personal data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from reminders.errors import ConfigurationError
from reminders.failpoints import reached
from reminders.store.statements import statement

MOST_TRIES = 5
# A process that stands still in the middle of a transaction (stopped, frozen, cut off) keeps its locks no longer than
# an attempt keeps its lease: then the server ends the transaction.
IDLE_AT_MOST = timedelta(seconds=60)
# A booking database may be as slow as a cycle is long, and what is staged meanwhile only the next staging waits for.
READS_BOOK_AT_MOST = timedelta(minutes=5)
STAGE = "stage"

Row = dict[str, Any]
Connection = psycopg.Connection[Any]
P = ParamSpec("P")
R = TypeVar("R")


def without_row(error: psycopg.Error) -> psycopg.Error:
    """An error of the same class that names its code and guard: the server's text quotes rows, with their addresses."""
    guard = error.diag.constraint_name
    return type(error)(f"{type(error).__name__} {error.sqlstate or ''}" + (f": {guard}" if guard else ""))


def guard_of(error: psycopg.Error) -> str:
    """The name of the guard that refused, of an error that `Session.acting_as` raised; empty when none did."""
    return str(error).partition(": ")[2]


def again_after_deadlock(work: Callable[P, R]) -> Callable[P, R]:
    """Repeat a method that is one transaction when the server rolled it back to end a deadlock, a few times at most."""

    @wraps(work)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(MOST_TRIES - 1):
            try:
                return work(*args, **kwargs)
            except psycopg.errors.DeadlockDetected:
                continue
        return work(*args, **kwargs)

    return tried


class Session:
    """One psycopg 3 connection, whose login may act as the roles that its user needs. Rows come back as dicts."""

    def __init__(self, connection: Connection) -> None:
        connection.autocommit = True
        connection.row_factory = dict_row
        self.connection = connection

    @contextmanager
    def acting_as(self, role: str, work: str = "") -> Iterator[Connection]:
        """One transaction under `role`; the connection itself holds no right on the ledger. `work` names it when it
        writes, for its failpoints; without a name the database lets it read only, and with one what the connection may
        by default, so that a ledger which its administrator has made read-only stays so.

        The server ends it when this process does nothing with it for `IDLE_AT_MOST`, or, while it stages the book, for
        `READS_BOOK_AT_MOST`. Errors of the database keep their class and lose their text, which can quote personal
        data.
        """
        idle = READS_BOOK_AT_MOST if work == STAGE else IDLE_AT_MOST
        try:
            with self._transaction(writes=bool(work)):
                try:
                    self.one("act_as", role=role, idle=f"{idle / timedelta(milliseconds=1):.0f}ms")
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
                    raise ConfigurationError(
                        f"ledger_db: its login may not act as {role}: grant it that role"
                    ) from error
                yield self.connection
                if work:
                    reached(work, "before_commit")
        except psycopg.Error as error:
            failure = without_row(error)
            raise failure from None
        if work:
            reached(work, "committed")

    def rows(self, name: str, **values: Any) -> list[Row]:
        """The rows of a named statement, within `acting_as`."""
        return self.connection.execute(statement(name), values).fetchall()

    def one(self, name: str, **values: Any) -> Row:
        """The first row of a named statement, within `acting_as`; empty when there is none."""
        row = self.connection.execute(statement(name), values).fetchone()
        return row if row is not None else {}

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        """Everything in this block happens in one transaction that is rolled back at its end, and sees itself."""
        with self._transaction(writes=True, force_rollback=True):
            yield

    @contextmanager
    def _transaction(self, writes: bool, force_rollback: bool = False) -> Iterator[None]:
        """A transaction; within another, a part of that, which may write as the other may."""
        is_outer = self._is_idle()
        if is_outer and not writes:
            self.connection.read_only = True
        try:
            with self.connection.transaction(force_rollback=force_rollback):
                yield
        finally:
            # Whoever else uses the connection finds it as it was.
            if is_outer and self._is_idle():
                self.connection.read_only = None

    def _is_idle(self) -> bool:
        return self.connection.info.transaction_status is TransactionStatus.IDLE
