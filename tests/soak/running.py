"""Runs seasons one after the other, each on an empty ledger, and says what they cost."""

from __future__ import annotations

import gc
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import psutil

from tests.databases import FOLDER_VARIABLE, SharedServer, fill_ledger
from tests.drill.night import PURE
from tests.drill.ringonce import Act
from tests.soak.judge import Judge
from tests.soak.report import Report, reported
from tests.soak.season import Season

FOR_EVER = ExitStack()


@contextmanager
def remembering() -> Iterator[None]:
    """What depends on its arguments alone is worked out once for all seasons; what the product logs is not printed, as
    each fault leads to some."""
    with ExitStack() as until_the_end:
        for module, name in PURE:
            remembered = lru_cache(maxsize=200_000)(getattr(module, name))
            until_the_end.enter_context(patch.object(module, name, remembered))
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)
        until_the_end.callback(logging.disable, before)
        yield


def run_season(
    server: SharedServer, seed: int, days: int, until: int | None = None, sabotage: Act | None = None
) -> tuple[Season, Judge, Report]:
    """The season of `seed`, judged; see `Season`. Use it within `remembering`."""
    with server.database(server.template("ledger_template", fill_ledger)) as database:
        began = time.process_time()
        season = Season(database, seed, days, until, sabotage)
        season.run()
        judge = Judge(season)
        return season, judge, reported(season, judge, time.process_time() - began)


def begin() -> None:
    """The start of a worker process, which lives until all seasons are run."""
    gc.freeze()
    FOR_EVER.enter_context(remembering())


def work(seed: int, days: int, until: int | None) -> Report:
    """A season on the server of the whole run; one that an error has ended has failed, and the others go on."""
    try:
        return run_season(SharedServer(Path(os.environ[FOLDER_VARIABLE])), seed, days, until)[2]
    except Exception:
        return Report(failures={seed: traceback.format_exc()})


def server_seconds(server: SharedServer) -> float:
    """CPU seconds of the database server with all its processes, those that have ended too."""
    server.server.attach()
    postmaster = psutil.Process(server.server.pid)
    spent = postmaster.cpu_times()
    seconds = spent.user + spent.system + spent.children_user + spent.children_system
    for process in postmaster.children(recursive=True):
        try:
            spent = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += spent.user + spent.system
    return float(seconds)
