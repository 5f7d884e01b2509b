"""The counts of the last run of each tool, which docs/guarantees.md shows: written by the tools, never by hand.

A tool calls `record`, which writes only while RECORD is set in the environment, as in `make chaos RECORD=1`.
`python -m tests.runs` brings the page up to date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "guarantees.md"
RUNS = DOCS / "runs"
BEGIN, END = "<!-- begin: the last runs -->", "<!-- end: the last runs -->"


def record(tool: str, what: str, counts: Mapping[str, int | float | str]) -> None:
    """Keep what a tool ran and what it counted, each count by its label; the order of the labels is the page's."""
    if not os.environ.get("RECORD"):
        return
    RUNS.mkdir(exist_ok=True)
    content = {"what": what, "counts": dict(counts)}
    (RUNS / f"{tool}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table() -> str:
    """The runs as a Markdown table, by tool: a line for what was run, then one for each count."""
    lines = ["| run | counted |", "|---|---:|"]
    for path in sorted(RUNS.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        lines.append(f"| **{run['what']}** | |")
        lines += [f"| {label} | {figure(count)} |" for label, count in run["counts"].items()]
    return "\n".join(lines)


def figure(count: float | str) -> str:
    """A count as the page shows it."""
    return f"{count:,}" if isinstance(count, int) else str(count)


def page(text: str) -> str:
    """The page with the table of the runs that are on file."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
