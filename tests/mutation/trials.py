"""A trial: some tests, in a child process, on a ledger or with statements that a mutant has changed.

The parent has imported every test and what it needs, and each child is forked from it: a trial costs its tests and
little more. All share one PostgreSQL server. No product code knows of this: a mutant's ledger is another template than
the tests would have made, and its statements are another folder, which REMINDERS_SQL names.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, settings
from psycopg import sql

import tests.databases as databases
from reminders.store.migrate import record_definitions
from reminders.store.statements import load_statements, sql_folder
from tests.databases import FOLDER_VARIABLE, SharedServer
from tests.mutation.constants import put_constant
from tests.mutation.learning import Learned, Learning
from tests.mutation.mutants import Mutant
from tests.mutation.python import CHOSEN
from tests.mutation.verdicts import Verdict

LEDGER = "ledger_template"
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "--no-header", "--tb=short")
PAUSE = 0.02
FILES_AT_FIRST = 2
# The same examples each time, and no search for the smallest one that fails.
PROFILE = "trial"
settings.register_profile(
    PROFILE, derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate)
)


@dataclass
class Running:
    pid: int
    subject: Mutant | str
    begun: float
    allowed: float
    answer: Path
    tests: int


class Watcher:
    """A plugin of pytest's: only `tests` run, in this order, and the first that fails is noted."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.rank = {test: number for number, test in enumerate(tests)}
        self.by = self.why = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self.rank]
        items[:] = sorted(chosen, key=lambda item: self.rank[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.by:
            self.by = report.nodeid
            self.why = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr)[-400:]


@dataclass
class Trials:
    """At most `most` children at a time. `folder` holds the server and what the children say."""

    folder: Path
    most: int
    running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = SharedServer(self.folder / "run")
        self.server.template(LEDGER, databases.fill_ledger)
        os.environ[FOLDER_VARIABLE] = str(self.folder / "run")
        # The folder is this run's: no child clears it away.
        databases.claim_folder = lambda: None
        databases.remove_folder = lambda _folder: None
        self.number = 0

    def warm(self, paths: Sequence[str]) -> list[str]:
        """Import every test; returns their ids."""
        settings.load_profile(PROFILE)
        collected: list[str] = []

        class Collector:
            def pytest_collection_finish(self, session: pytest.Session) -> None:
                collected.extend(item.nodeid for item in session.items)

        with _silent(self.folder / "warm.txt"):
            code = pytest.main([*OPTIONS, "--collect-only", *paths], plugins=[Collector()])
        if code != pytest.ExitCode.OK:
            raise AssertionError((self.folder / "warm.txt").read_text())
        # What all children share is not looked through by each.
        gc.collect()
        gc.freeze()
        return collected

    def learn(self, tests: Sequence[str]) -> tuple[dict[str, Learned], Verdict]:
        """Run them once, unchanged: what is learned of those before the first that fails, and how it ended."""
        with psycopg.connect(self.server.server.conninfo(), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET track_functions = 'all'")
            admin.execute("SELECT pg_reload_conf()")
        answer = self.folder / "learned.json"

        def learn(_place: Path) -> Verdict:
            os.environ[CHOSEN] = "stats"
            learning = Learning(LEDGER)
            with learning.watching():
                verdict = self._run(tests, learning)
            learning.learned.pop(verdict.by, None)
            answer.write_text(json.dumps({test: asdict(each) for test, each in learning.learned.items()}))
            return verdict

        self._fork(learn, "what is learned", tests, float("inf"))
        [(_, verdict)] = self.finished()
        return {test: Learned(**each) for test, each in json.loads(answer.read_text()).items()}, verdict

    def begin_alone(self, test: str, allowed: float) -> None:
        """Fork a child for a test by itself, unchanged."""
        self._fork(lambda _place: self._run([test]), test, [test], allowed)

    def begin(self, mutant: Mutant, tests: Sequence[str], allowed: float) -> None:
        """Fork a child for the mutant, which is ended after so many seconds."""
        self._fork(lambda place: self._try(mutant, tests, place), mutant, tests, allowed)

    def _fork(
        self, act: Callable[[Path], Verdict], subject: Mutant | str, tests: Sequence[str], allowed: float
    ) -> None:
        self.number += 1
        place = self.folder / f"trial-{self.number}"
        place.mkdir()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setsid()
                with _silent(place / "output.txt"):
                    (place / "verdict.json").write_text(json.dumps(asdict(act(place))))
                code = 0
            finally:
                os._exit(code)
        self.running.append(Running(pid, subject, time.monotonic(), allowed, place, len(tests)))

    def finished(self) -> Iterator[tuple[Mutant | str, Verdict]]:
        """Wait until a child has ended, and yield its mutant, or the test that it ran by itself, and what it found;
        those that hang are ended here."""
        while self.running:
            ended = [each for each in self.running if self._has_ended(each)]
            for each in ended:
                self.running.remove(each)
                yield each.subject, self._verdict(each)
            if ended:
                return
            time.sleep(PAUSE)

    def close(self) -> None:
        for each in self.running:
            _end(each.pid)
        self.server.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _has_ended(self, running: Running) -> bool:
        if time.monotonic() - running.begun > running.allowed:
            _end(running.pid)
        return os.waitpid(running.pid, os.WNOHANG)[0] != 0

    def _verdict(self, running: Running) -> Verdict:
        seconds = time.monotonic() - running.begun
        self._forget(running.answer.name)
        try:
            said = Verdict(**json.loads((running.answer / "verdict.json").read_text()))
        except FileNotFoundError:
            if seconds < running.allowed:
                raise AssertionError((running.answer / "output.txt").read_text()) from None
            said = Verdict("hung")
        shutil.rmtree(running.answer)
        said.seconds, said.tests = round(seconds, 1), running.tests
        return said

    def _forget(self, name: str) -> None:
        with psycopg.connect(self.server.server.conninfo(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _try(self, mutant: Mutant, tests: Sequence[str], place: Path) -> Verdict:
        try:
            self._apply(mutant, place)
        except psycopg.Error as error:
            return Verdict("impossible", why=str(error))
        return self._run_in_steps(tests)

    def _apply(self, mutant: Mutant, place: Path) -> None:
        if mutant.kind == "statement":
            os.environ["REMINDERS_SQL"] = str(_changed_folder(mutant, place))
        elif mutant.kind != "python":
            self._change_ledger(mutant, place.name)
        elif mutant.text().startswith("reminders."):
            os.environ[CHOSEN] = mutant.text()
        else:
            put_constant(mutant.of, mutant.text())

    def _run_in_steps(self, tests: Sequence[str]) -> Verdict:
        """First those of few files: to collect them all costs more than most tests, and few are needed for most."""
        files: dict[str, int] = {}
        for place, test in enumerate(tests):
            files.setdefault(test.partition("::")[0], place)
        ends = [*list(files.values())[FILES_AT_FIRST : FILES_AT_FIRST + 1], len(tests)]
        verdict = self._run(tests[: ends[0]])
        if verdict.outcome == "survived" and ends[0] < len(tests):
            verdict = self._run(tests[ends[0] :])
        return verdict

    def _run(self, tests: Sequence[str], *plugins: object) -> Verdict:
        watcher = Watcher(tests)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        os.environ[FOLDER_VARIABLE] = str(self.folder / "run")
        code = pytest.main([*OPTIONS, *files], plugins=[watcher, *plugins])
        if code == pytest.ExitCode.OK:
            return Verdict("survived")
        if code == pytest.ExitCode.TESTS_FAILED and watcher.by:
            return Verdict("killed", by=watcher.by, why=watcher.why)
        raise AssertionError(f"pytest ended with {code}")

    def _change_ledger(self, mutant: Mutant, name: str) -> None:
        """Make the mutant's ledger from the good one, and have every test clone that."""
        identifier = sql.Identifier(name)
        with psycopg.connect(self.server.server.conninfo(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(LEDGER)))
            with psycopg.connect(self.server.server.conninfo(name)) as connection:
                connection.execute(mutant.text().encode())
                connection.commit()
                # Else preflight would refuse the mutant for being another, which no test need notice.
                record_definitions(connection)
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(identifier))
        made = SharedServer.template

        def template(server: SharedServer, wanted: str, fill: Callable[[Any], None]) -> str:
            return name if wanted == LEDGER else made(server, wanted, fill)

        SharedServer.template = template  # type: ignore[method-assign]


def _changed_folder(mutant: Mutant, place: Path) -> Path:
    """A copy of include/sql in which the mutant's text stands for its statement's."""
    name = mutant.of.removeprefix("statement ")
    original, changed = load_statements(sql_folder())[name], mutant.text()
    folder = place / "sql"
    shutil.copytree(sql_folder(), folder)
    place.chmod(0o755)
    for path in folder.glob("*.sql"):
        before, found, after = path.read_text(encoding="utf-8").partition(f"-- name: {name}\n")
        if found:
            path.write_text(before + found + after.replace(original, changed, 1), encoding="utf-8")
    if load_statements(folder)[name] != changed:
        raise AssertionError(f"{mutant.name} is not in {folder}")
    return folder


@contextmanager
def _silent(path: Path) -> Iterator[None]:
    """What pytest and the tests print goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _end(pid: int) -> None:
    """End a child of ours and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
