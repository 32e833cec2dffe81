"""The browser that pages are opened in notices what a page must not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import open_page


def write(folder: Path, script: str) -> Path:
    path = folder / "page.html"
    path.write_text(f"<!doctype html><link rel=icon href=data:,><p>Hello<script>{script}</script>")
    return path


def test_a_quiet_page_passes(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, write(tmp_path, "console.log('ready')"), colors="dark") as watched:
        assert watched.page.inner_text("p") == "Hello"
        assert watched.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("console.error('broken')", "error: broken"),
        ("console.warn('odd')", "warning: odd"),
        ("throw new Error('thrown')", "uncaught: thrown"),
    ],
)
def test_a_complaint_is_noticed(browser: Browser, tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said), open_page(browser, write(tmp_path, script)):
        pass


def test_a_request_to_others_is_noticed(browser: Browser, tmp_path: Path) -> None:
    path = write(tmp_path, "fetch('http://127.0.0.1:9/a', {mode: 'no-cors'}).catch(() => 0)")
    with pytest.raises(AssertionError), open_page(browser, path) as watched:
        watched.page.wait_for_load_state()
    assert watched.foreign == ["http://127.0.0.1:9/a"]
