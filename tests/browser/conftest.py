"""One Chromium for a module's tests; without one on this system they are skipped, and say how to get it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from local.browser import NoBrowser, chromium, installed


# Not for the whole session: while it is open, playwright's event loop runs, and other tests start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        installed()
    except NoBrowser as error:
        pytest.skip(str(error))
    with chromium() as running:
        yield running
