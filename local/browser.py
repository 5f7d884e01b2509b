"""A real Chromium, the system's own, for the tests of pages and for the README's pictures. It reaches loopback only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium here: `make browser` as root, or install the system's package chromium"
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class NoBrowser(Exception):
    """This system has no Chromium; the message says how to get one."""


def installed() -> str:
    """The path of the system's Chromium. Raises `NoBrowser`."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    raise NoBrowser(MISSING)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium that ends with the block. Raises `NoBrowser`."""
    path = installed()
    with sync_playwright() as playwright:
        # Its signal handlers would take Ctrl-C away from the caller's.
        browser = playwright.chromium.launch(
            executable_path=path, args=QUIET, handle_sigint=False, handle_sigterm=False, handle_sighup=False
        )
        try:
            yield browser
        finally:
            browser.close()
