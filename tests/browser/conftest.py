"""One Chromium for all tests of pages; without one on this system they are skipped, and say how to get it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from local.browser import NoBrowser, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        opened = chromium()
        running = opened.__enter__()
    except NoBrowser as error:
        pytest.skip(str(error))
    yield running
    opened.__exit__(None, None, None)
