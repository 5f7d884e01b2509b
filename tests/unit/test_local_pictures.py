"""The README's pictures show nobody real, and weigh little."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.pictures import FOLDER, NoPicture, refuse_real_people

README = Path(__file__).parents[2] / "README.md"
INVENTED = ["+12125550100", "+442079460999", "+441134960000", "+61255500001", "paws-1@example.com", "x@example.org"]


def test_the_sample_books_people_may_be_shown() -> None:
    refuse_real_people(INVENTED)


@pytest.mark.parametrize(
    "real", ["+12125551234", "+442079470000", "+4915112345678", "ann@example.com.evil.test", "ann@mail.test"]
)
def test_nobody_else_may(real: str) -> None:
    with pytest.raises(NoPicture, match="1 addresses are not the sample book's"):
        refuse_real_people([*INVENTED, real])


def test_an_empty_network_gives_no_picture() -> None:
    with pytest.raises(NoPicture, match="nobody was reached yet"):
        refuse_real_people([])


def test_the_readme_shows_each_picture_with_words_for_it() -> None:
    shown = dict(re.findall(r"!\[([^\]]+)\]\((docs/pictures/[^)]+)\)", README.read_text(encoding="utf-8")))
    assert sorted(shown.values()) == sorted(f"docs/pictures/{path.name}" for path in FOLDER.glob("*.png"))
    assert min(len(words) for words in shown) > 20
    assert sum(path.stat().st_size for path in FOLDER.glob("*.png")) < 700_000
