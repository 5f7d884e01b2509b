"""`make pictures`: the README's pictures, taken by Chromium from the `make run` that is running.

They are published, so they are only taken where all that was reached are the invented people of the sample book.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, expect

from local.airflow import CYCLE, Airflow, Run
from local.browser import NoBrowser, chromium
from local.environment import LOCAL, ROOT
from local.processes import Processes
from local.sample_book import AUSTRALIA_EAST, AUSTRALIA_WEST, HAWAII, UNITED_KINGDOM, US_EAST

FOLDER = ROOT / "docs" / "pictures"
PHONES, GRAPH = "phones.png", "cycle.png"
INVENTED_NUMBERS = (*US_EAST, *HAWAII, *UNITED_KINGDOM, *AUSTRALIA_EAST, *AUSTRALIA_WEST)
INVENTED_DOMAINS = ("@example.com", "@example.net", "@example.org")
# Airflow's graph glides into place by itself; no event tells its end.
GLIDE_MS = 1500.0


class NoPicture(Exception):
    """There is nothing to take a picture of; the message says what to do."""


def take(folder: Path, airflow_url: str, simulator_url: str) -> None:
    """Write `PHONES` and `GRAPH` into `folder`. Raises `NoPicture`, `NoBrowser`, or an error of httpx."""
    summary = httpx.get(f"{simulator_url}/_log/summary", trust_env=False).raise_for_status().json()
    refuse_real_people([*summary["numbers"], *summary["mailboxes"]])
    airflow = Airflow(Processes(LOCAL / "logs", LOCAL / "processes.json"), {}, airflow_url)
    run, tasks = whole_run(airflow)
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        take_phones(browser, simulator_url, folder / PHONES)
        take_cycle(browser, f"{airflow_url}/dags/{CYCLE}/runs/{quote(run.run_id)}", tasks, folder / GRAPH)


def refuse_real_people(addresses: Iterable[str]) -> None:
    """Raises `NoPicture` unless there are addresses, and all are of a range or a domain kept free for fiction."""
    addresses = list(addresses)
    real = [one for one in addresses if not one.startswith(INVENTED_NUMBERS) and not one.endswith(INVENTED_DOMAINS)]
    if real:
        raise NoPicture(f"{len(real)} addresses are not the sample book's: move .local away and `make run` again")
    if not addresses:
        raise NoPicture("nobody was reached yet: wait for the first cycle, with the sample book")


def whole_run(airflow: Airflow) -> tuple[Run, int]:
    """The newest run in which every task succeeded, and how many tasks it has. Raises `NoPicture`."""
    for run in airflow.runs():
        tasks = airflow.tasks(run.run_id)
        if run.state == "success" and all(task.state == "success" for task in tasks):
            return run, len(tasks)
    raise NoPicture("no run is green from end to end: start with a fresh sample book")


def take_phones(browser: Browser, url: str, path: Path) -> None:
    """The phones and mailboxes, as far as they fit."""
    page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light")
    page.goto(url)
    page.screenshot(path=path)


def take_cycle(browser: Browser, url: str, tasks: int, path: Path) -> None:
    """The run's graph, when it shows every one of its `tasks` as a success."""
    page = browser.new_page(viewport={"width": 1200, "height": 560}, color_scheme="light")
    page.goto(url)
    page.get_by_label("Show Graph").click()
    page.get_by_label("Collapse Details Panel").click()
    expect(page.locator(".react-flow__node", has_text="success")).to_have_count(tasks, timeout=30_000)
    page.get_by_label("Fit View").click()
    page.wait_for_timeout(GLIDE_MS)
    page.screenshot(path=path)


def main() -> int:
    """Take them with the environment of .local/env; 1 with a reason when there is nothing to take one of."""
    airflow_url, simulator_url = os.environ.get("RINGONCE_AIRFLOW_URL"), os.environ.get("RINGONCE_SIMULATOR_URL")
    try:
        if airflow_url is None or simulator_url is None:
            raise NoPicture("start `make run` first, with the simulated phone network")
        take(FOLDER, airflow_url, simulator_url)
    except (NoPicture, NoBrowser, httpx.HTTPError) as error:
        print(error, file=sys.stderr)
        return 1
    print(*(str((FOLDER / name).relative_to(ROOT)) for name in (GRAPH, PHONES)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
