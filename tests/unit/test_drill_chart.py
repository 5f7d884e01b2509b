"""The chart of the two nights is a picture, and a page that loads nothing."""

from __future__ import annotations

import re
from pathlib import Path

from tests.drill import chart, figures
from tests.drill.book import HOUR, Book
from tests.drill.night import NIGHT, Run, judged
from tests.unit.test_drill_figures import ADA, BOOK, LADDER, heard

QUIET = judged(BOOK, NIGHT, heard(LADDER))
LOUD = judged(BOOK, NIGHT, heard([*LADDER, *[("call", NIGHT.reverted_at, "Ada")] * 40]))
RUNS = {"Loud": LOUD, "Quiet": QUIET}


def test_contacts_are_counted_by_quarter_of_an_hour_and_not_by_person() -> None:
    frame = heard([("sms", NIGHT.morning_at, "for Ada; for Ben"), ("sms", NIGHT.morning_at + HOUR / 5, "for Ada")])
    (counted,) = chart.by_quarter(frame).to_dict("records")
    assert counted["contacts"] == 2
    assert counted["quarter"] == NIGHT.morning_at
    assert counted["quarter_ends"] == NIGHT.morning_at + HOUR / 4


def test_nothing_is_a_chart_too() -> None:
    silent = judged(Book((ADA,), {}), NIGHT, heard([]))
    assert chart.by_quarter(silent.heard).empty
    assert chart.nights({"Silent": silent}, NIGHT, 1).to_dict()


def test_picture_and_page_are_written_and_the_page_loads_nothing(tmp_path: Path) -> None:
    picture, page = chart.write(tmp_path / "new", RUNS, NIGHT, 2)
    assert picture.read_bytes().startswith(b"\x89PNG")
    source = page.read_text(encoding="utf-8")
    assert not re.search(r"<script[^>]*\bsrc=|<link\b|@import", source)
    assert "40 at once on one line" in source
    assert "never two on one line" in source
    assert page.stat().st_size < 3_000_000


def test_the_figures_of_a_run_are_those_of_its_own_part_of_the_log() -> None:
    assert isinstance(LOUD, Run)
    assert LOUD.night["most_calls_at_once"] == 40
    assert LOUD.normal["contacts"] == 0
    assert set(LOUD.night) == set(figures.LABELS)
