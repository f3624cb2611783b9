"""Headless Chromium out of the system's packages, and pages that report whatever should not happen in them."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.serve.support import TOKEN

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """A page, and what happened in it that should not."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list[str])
    """Dialogs, errors of scripts, refusals of the security policy, and requests to other hosts."""

    def choose(self, text: str) -> None:
        """Click the row with this text, and wait for its decision."""
        self.page.locator(".row", has_text=text).first.click()
        self.page.locator("#detail .verdict").wait_for()


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens the dashboard of a service; at the end, nothing may have happened in any page that should not."""
    pages: list[Opened] = []

    def go(url: str, token: str = TOKEN, width: int = 1280, height: int = 800, **more: Any) -> Opened:
        page = browser.new_page(viewport={"width": width, "height": height}, **more)
        one = Opened(page, url.rstrip("/"))
        page.on("dialog", lambda dialog: one.faults.append(f"dialog {dialog.message}"))
        page.on("pageerror", lambda fault: one.faults.append(f"error {fault}"))
        page.on("console", lambda said: one.faults.append(said.text) if "Security Policy" in said.text else None)
        page.on("request", lambda asked: _foreign(one, asked.url))
        page.goto(f"{one.url}/dashboard#token={token}")
        pages.append(one)
        return one

    yield go
    for one in pages:
        one.page.close()
    assert [fault for one in pages for fault in one.faults] == []


def _foreign(one: Opened, asked: str) -> None:
    if not asked.startswith((one.url, "data:", f"blob:{one.url}")):
        one.faults.append(f"request {asked}")
