"""A real browser for the tests of pages: the system's Chromium, driven by playwright.

Playwright's own browsers are not needed; its wheel has the driver. The fixture lives as long as a
test module. While it does, its event loop counts as running in this thread: a module that uses it
must not call `asyncio.run` itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

# A container has no user namespaces and no graphics card; nothing may go out.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """The path of the system's Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Watched:
    """An open page, and all that it said and asked for since it was opened."""

    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda request: self.complaints.append(f"no {request.url}"))

    def assert_quiet(self) -> None:
        """Neither a warning nor an error, and nothing asked of anybody else."""
        self.page.evaluate("0")  # what happened before this answer has been reported by then
        assert not self.complaints, self.complaints
        assert not self.foreign, self.foreign

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        inside = ("data:", "blob:")
        if not request.url.startswith((self.origin, *inside)):
            self.foreign.append(request.url)


@contextmanager
def open_page(
    browser: Browser,
    address: str | Path,
    *,
    width: int = 1280,
    height: int = 900,
    colors: Literal["light", "dark"] = "light",
    touch: bool = False,
) -> Iterator[Watched]:
    """A page at an address, or from a file; what it may ask for is that origin or that file.

    When the body is over, the page must have been quiet all the time.
    """
    if isinstance(address, Path):
        url = origin = address.resolve().as_uri()
    else:
        url, origin = address, "/".join(address.split("/", 3)[:3]) + "/"
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=colors, has_touch=touch
    )
    try:
        watched = Watched(context.new_page(), origin)
        watched.page.goto(url)
        yield watched
        watched.assert_quiet()
    finally:
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; without one the test is skipped."""
    path = find_browser()
    if path is None:
        pytest.skip("There is no Chromium: on Debian, `apt-get install chromium`.")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()
