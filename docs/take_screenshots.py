"""Take the pictures of the README from a running Muster.

    python docs/take_screenshots.py --password … [--base http://127.0.0.1:8000] [--user admin]

Writes fleet.png, inbox.png (1280 × 800, light) and phone.png (390 × 844, dark) into
docs/screenshots/. Needs Chromium at /usr/bin/chromium (Debian: `chromium fonts-noto-cjk`) and the
development dependencies.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OUT = Path(__file__).parent / "screenshots"
DESK, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)


def main() -> None:
    given = arguments()
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with logged_in(browser, given, DESK, dark=False) as page:
            take(page, f"{given.base}/admin/lifecycle/workerruntime/", "fleet.png")
            take(page, f"{given.base}/admin/sync/conversation/", "inbox.png")
        with logged_in(browser, given, PHONE, dark=True) as page:
            take(page, f"{given.base}/admin/", "phone.png")
        browser.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="http://127.0.0.1:8000")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", required=True)
    return parser.parse_args()


@contextmanager
def logged_in(
    browser: Browser, given: argparse.Namespace, viewport: ViewportSize, *, dark: bool
) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(f"{given.base}/admin/login/")
    page.fill("[name=username]", given.user)
    page.fill("[name=password]", given.password)
    page.press("[name=password]", "Enter")
    expect(page).to_have_url(re.compile(r"/admin/$"))
    yield page
    context.close()


def take(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.wait_for_load_state("load")
    page.evaluate("document.fonts.ready")
    page.screenshot(path=str(OUT / name))


if __name__ == "__main__":
    main()
