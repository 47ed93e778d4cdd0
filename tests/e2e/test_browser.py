"""The console in a real Chromium, as an operator uses it: nothing is reloaded by hand [C4]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from crm.demo.synapse import Synapse
from crm.up.prepared import ADMIN, FIRST_WORKER
from docs.take_screenshots import CHROMIUM, DESK, FLAGS
from tests.contract.matrix_stage import MatrixStage, matrix_stage
from tests.e2e.driving import add_account, add_worker, api_of
from tests.e2e.system import PASSWORD, System
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300)]

WORKER = "browser-1"
PATIENCE_MS = 60_000  # of each expectation: the machine may be busy

# What no page may have: the first look of any accessibility checker.
FLAWS = """() => {
  const shown = (e) => e.checkVisibility();
  const all = (query) => [...document.querySelectorAll(query)].filter(shown);
  const labelled = (e) => e.labels?.length || e.ariaLabel || e.getAttribute("aria-labelledby")
    || e.title || e.placeholder;
  const named = (e) => e.innerText.trim() || e.ariaLabel || e.title || e.querySelector("[alt]");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  return [
    ...(document.documentElement.lang ? [] : ["the page has no language"]),
    ...(document.title ? [] : ["the page has no title"]),
    ...all("img:not([alt])").map((e) => `no alt: ${e.outerHTML}`),
    ...all("a[href], button").filter((e) => !named(e)).map((e) => `no name: ${e.outerHTML}`),
    ...all("input:not([type=hidden]), select, textarea").filter((e) => !labelled(e))
      .map((e) => `no label: ${e.outerHTML}`),
    ...ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `id twice: ${id}`),
    ...(document.documentElement.scrollWidth > innerWidth ? ["wider than the window"] : []),
  ];
}"""


@dataclass
class Screen:
    """A page with everything that went wrong in it."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({self.page.url})")

    def _on_response(self, response: Any) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.status} {response.url}")

    def check(self) -> None:
        """The page is sound: nobody wrote an error, nothing is without a name."""
        assert self.page.evaluate(FLAWS) == [], self.page.url
        assert self.errors == []

    def follow(self, link: str) -> None:
        """Click a link of the sidebar."""
        self.page.get_by_role("link", name=re.compile(rf"^\W*(\w+ )?{link}")).first.click()
        self.page.wait_for_load_state("load")
        self.check()

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Nothing in here may load a page anew."""
        self.page.evaluate("window.stayed = true")
        yield
        assert self.page.evaluate("window.stayed"), "the page was loaded anew"

    def row(self, text: str) -> Locator:
        return self.page.locator("#result_list tbody").filter(has_text=text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def screen(browser: Browser, system: System) -> Iterator[Screen]:
    """The first admin, logged in through the form."""
    expect.set_options(timeout=PATIENCE_MS)
    context = browser.new_context(viewport=DESK, base_url=system.url)
    context.set_default_timeout(PATIENCE_MS)
    screen = Screen(context.new_page())
    screen.listen()
    page = screen.page
    page.goto("/")
    screen.check()
    page.fill("[name=username]", ADMIN)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/admin/$"))
    screen.check()
    yield screen
    context.close()


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """Another thread for what is async: this one's event loop is Playwright's."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture
def stage(portal: BlockingPortal, homeserver: Synapse) -> Iterator[MatrixStage]:
    with portal.wrap_async_context_manager(matrix_stage(homeserver)) as opened:
        yield opened


@pytest.fixture
def client(system: System) -> Iterator[httpx.Client]:
    with api_of(system) as made:
        yield made


def only_worker(client: httpx.Client, system: System) -> None:
    """The first worker stands down: who is started from the page does the work."""
    system.running_worker(FIRST_WORKER)
    client.post(f"/workers/{FIRST_WORKER}/stop", json={}).raise_for_status()
    eventually(lambda: system.worker_state(FIRST_WORKER) == "stopped")
    add_worker(client, WORKER, name="Started by hand")


def test_a_worker_is_started_a_message_arrives_the_worker_is_stopped(
    system: System,
    client: httpx.Client,
    stage: MatrixStage,
    portal: BlockingPortal,
    screen: Screen,
) -> None:
    only_worker(client, system)
    account_id = add_account(client, stage.account)
    room = portal.call(stage.thread)

    def say(text: str) -> None:
        portal.call(stage.say, room, text)

    start_from_the_fleet(screen)
    assert system.running_worker(WORKER)
    eventually(lambda: client.get(f"/accounts/{account_id}").json()["last_sync_at"], 60)
    watch_the_inbox(screen, say)
    read_the_conversation(screen, say)
    stop_from_the_fleet(screen)
    eventually(lambda: system.worker_pid(WORKER) is None)
    assert system.worker_state(WORKER) == "stopped"


def start_from_the_fleet(screen: Screen) -> None:
    screen.follow("Workers")
    row = screen.row(WORKER)
    expect(row.locator(".m-badge")).to_have_text("stopped")
    with screen.staying():
        row.get_by_role("button", name=f"Start {WORKER}", exact=True).click()
        expect(row.locator(".m-badge")).to_have_text("running")
        expect(row.get_by_role("button", name=f"Stop {WORKER}", exact=True)).to_be_enabled()
        screen.check()


def watch_the_inbox(screen: Screen, say: Callable[[str], None]) -> None:
    screen.follow("Conversations")
    with screen.staying():
        say("first: grüße 你好 مرحبا")
        row = screen.row("first: grüße 你好 مرحبا")
        expect(row).to_be_visible()
        expect(row.locator(".field-unread")).to_have_text("1")
        say("second")
        expect(screen.row("second").locator(".field-unread")).to_have_text("2")
        screen.check()


def read_the_conversation(screen: Screen, say: Callable[[str], None]) -> None:
    page = screen.page
    screen.row("second").get_by_role("link").first.click()
    chat = page.get_by_role("log", name="Messages")
    expect(chat.get_by_text("first: grüße 你好 مرحبا")).to_be_visible()
    with screen.staying():
        say("third")
        expect(chat.get_by_text("third", exact=True)).to_be_visible()
        page.get_by_role("button", name="Mark read").click()
        expect(chat.locator(".m-fresh")).to_have_count(0)
        screen.check()


def stop_from_the_fleet(screen: Screen) -> None:
    screen.follow("Workers")
    row = screen.row(WORKER)
    with screen.staying():
        row.get_by_role("button", name=f"Stop {WORKER}", exact=True).click()
        expect(row.locator(".m-badge")).to_have_text("stopped")
        screen.check()
