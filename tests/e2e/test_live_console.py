"""Open pages of the admin in a real Chromium, kept in step by the feed [S10, C4]."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from docs.take_screenshots import CHROMIUM, DESK, FLAGS
from lifecycle.admin.worker_page import WISHES
from lifecycle.models import WorkerConfig
from sync import feed, store
from sync.live import hub
from sync.models import Account, Conversation, Message
from sync.types import Attachment, Batch, Record
from tests.contract.conftest import web
from tests.db.sync_stage import conversation, lease, make_account, message

__all__ = ["web"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PATIENCE_MS = 20_000
SOON_MS = 5_000  # far below any poll that might have shown it instead; the machine may be busy


@pytest.fixture(scope="module", autouse=True)
def _database_beside_playwright() -> Iterator[None]:
    """Playwright runs an event loop in the test's thread, where Django warns of its database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


def write(account: Account, *numbers: int, room: str = "c1", **fields: Any) -> int:
    """Store inbound messages as a check does; the conversation's id."""

    now = Account.objects.get(pk=account.pk)
    records: tuple[Record, ...] = (
        conversation(room, f"Talk {room}"),
        *(message(n, room, **fields) for n in numbers),
    )
    store.ingest_batch(lease(now), now.sequence, Batch(None, records))
    return Conversation.objects.get(account=account, external_id=room).pk


@pytest.fixture
def account(transactional_db: None) -> Account:
    made: Account = make_account(name="Shop", enabled=False)
    return made


@pytest.fixture
def cookies(transactional_db: None) -> dict[str, str]:
    from django.test import Client

    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return {name: morsel.value for name, morsel in browser.cookies.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def context(
    account: Account, cookies: dict[str, str], web: str, browser: Browser
) -> Iterator[BrowserContext]:
    expect.set_options(timeout=PATIENCE_MS)
    made = browser.new_context(viewport=DESK, base_url=web)
    made.add_cookies([{"name": n, "value": v, "url": web} for n, v in cookies.items()])
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    made = context.new_page()
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    assert errors == []


def opened(page: Page, address: str) -> None:
    page.goto(address)
    expect_live(page)
    page.evaluate("window.stayed = true")


def expect_live(page: Page) -> None:
    """It is loaded, and its scripts have begun: before that a click may do nothing."""
    expect(page.locator("body")).to_have_attribute("data-feed", "live")


def expect_titles(page: Page, *titles: str) -> None:
    expect(page.locator("#result_list .field-who b")).to_have_text(titles)


def test_the_inbox_shows_what_comes_without_asking(page: Page, account: Account) -> None:
    write(account, 1, room="c1")
    write(account, 2, room="c2")
    opened(page, "/admin/sync/conversation/")
    polled: list[str] = []
    page.on("request", lambda request: polled.append(request.url))
    expect_titles(page, "Talk c2", "Talk c1")
    first = page.locator("#result_list tbody").filter(has_text="Talk c1")
    first.locator("input.action-select").check()

    write(account, 3, room="c1")
    expect(first.locator(".field-said")).to_contain_text("text 3", timeout=SOON_MS)
    expect(first.locator(".field-unread")).to_have_text("2")
    expect_titles(page, "Talk c1", "Talk c2")
    expect(first.locator("input.action-select")).to_be_checked()

    new = write(account, 4, room="c3")
    row = page.locator("#result_list tbody").filter(has_text="Talk c3")
    expect(row).to_be_visible(timeout=SOON_MS)
    expect_titles(page, "Talk c3", "Talk c1", "Talk c2")
    expect(row.locator("input.action-select")).not_to_be_checked()
    expect(row.locator("input.action-select")).to_have_value(str(new))
    expect(page.locator("#unread-bar [data-unread-total]")).to_have_text("4")
    expect(page.locator("#unread-bar [data-unread-platform=tiny]")).to_have_text("4")
    expect(page.locator("#nav-sidebar-apps [data-unread-total]")).to_have_text("4")
    expect(page.locator(f"#unread-bar [data-unread-account='{account.pk}']")).to_have_text("4")
    store.mark_all_read()
    expect(page.locator("#nav-sidebar-apps [data-unread-total]")).to_be_hidden()
    expect(page.locator("#result_list .m-count")).to_have_count(0)

    row.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(rf"/conversation/{new}/change/"))
    assert not [url for url in polled if re.search(r"/conversation/(\?|$)", url)]


def test_an_empty_and_a_filtered_inbox_ask_for_their_list(page: Page, account: Account) -> None:
    opened(page, "/admin/sync/conversation/")
    write(account, 1, room="c1")
    expect(page.locator("#result_list")).to_contain_text("Talk c1", timeout=SOON_MS)
    opened(page, "/admin/sync/conversation/?unread=yes")
    talk = write(account, 2, room="c2")
    expect(page.locator("#result_list")).to_contain_text("Talk c2", timeout=SOON_MS)
    store.mark_read(talk)
    expect(page.locator("#result_list")).not_to_contain_text("Talk c2", timeout=SOON_MS)
    assert page.evaluate("window.stayed")


def test_the_inbox_of_an_account_that_was_found_by_typing(page: Page, account: Account) -> None:
    write(account, 1, room="c1")
    write(make_account(name="Elsewhere", enabled=False), 2, room="c2")
    opened(page, "/admin/sync/conversation/?unread=yes")
    page.get_by_text("Filters filter_list").click()
    page.locator("#changelist-filter .select2-selection").click()
    page.get_by_role("searchbox").last.fill("sho")
    page.get_by_role("option", name="Shop").click()
    expect(page).to_have_url(re.compile(rf"unread=yes&account__id__exact={account.pk}$"))
    expect_live(page)
    expect_titles(page, "Talk c1")
    page.get_by_text("Filters filter_list").click()
    page.locator("#changelist-filter .select2-selection__clear").click()
    expect(page).to_have_url(re.compile(r"unread=yes&account__id__exact=$"))
    expect_titles(page, "Talk c2", "Talk c1")


def test_a_conversation_grows_and_shows_what_was_edited_and_deleted(
    page: Page, account: Account
) -> None:
    talk = write(account, 1, 2)
    opened(page, f"/admin/sync/conversation/{talk}/change/")
    chat = page.get_by_role("log", name="Messages")
    offer = Attachment("https://files.test/a.pdf", "offer.pdf")
    write(account, 3, attachments=())
    expect(chat.locator(".m-text").last).to_have_text("text 3", timeout=SOON_MS)

    write(account, 4, attachments=(offer, Attachment("mxc://x/y", "photo")))
    link = chat.get_by_role("link", name="offer.pdf")
    expect(link).to_have_attribute("href", offer.url, timeout=SOON_MS)
    expect(chat.get_by_role("link", name="photo")).to_have_count(0)

    at = message(1).sent_at
    write(account, 3, text="text 3, corrected", edited_at=at)
    third = chat.locator(".m-bubble").nth(2)
    expect(third.locator(".m-text")).to_have_text("text 3, corrected", timeout=SOON_MS)
    third.locator("summary").click()
    expect(third.locator(".m-former li")).to_contain_text("text 3 until")
    write(account, 2, text="", is_deleted=True, edited_at=at)
    second = chat.locator(".m-bubble").nth(1)
    expect(second.locator(".m-text")).to_have_text("This message was deleted.", timeout=SOON_MS)
    second.locator("summary").click()
    expect(second.locator(".m-former li")).to_contain_text("text 2")

    expect(chat.locator(".m-bubble")).to_have_count(4)
    page.get_by_role("button", name="Mark read").click()
    expect(chat.locator(".m-fresh")).to_have_count(0)
    assert Account.objects.get().unread_total == 0
    assert page.evaluate("window.stayed")


def test_a_console_that_was_offline_gets_what_it_missed_in_order_and_once(
    page: Page, context: BrowserContext, account: Account
) -> None:
    talk = write(account, 1)
    opened(page, f"/admin/sync/conversation/{talk}/change/")
    page.evaluate(
        """window.told = [];
        document.body.addEventListener("feed-message", (e) => told.push(...e.detail.ids))"""
    )
    write(account, 2)
    expect(page.locator(".m-text").last).to_have_text("text 2")
    context.set_offline(True)
    expect(page.locator("#m-live")).to_contain_text("No connection")
    for number in range(3, 40):
        write(account, number)
    context.set_offline(False)
    expect(page.locator(".m-text").last).to_have_text("text 39")
    expect(page.locator("#m-live")).to_be_hidden()
    shown = page.locator(".m-text").all_inner_texts()
    assert shown == [f"text {n}" for n in range(1, 40)]
    ids = list(Message.objects.order_by("pk").values_list("pk", flat=True))
    assert page.evaluate("told") == ids[1:]


def test_a_console_that_was_away_for_too_long_loads_anew(
    page: Page, context: BrowserContext, account: Account
) -> None:
    """What it missed was pruned meanwhile."""
    write(account, 1, room="c1")
    opened(page, "/admin/sync/conversation/")
    context.set_offline(True)
    expect(page.locator("#m-live")).to_be_visible()
    write(account, 2, room="c1")
    write(account, 3, room="c2")
    assert feed.prune(timezone.now() + timedelta(days=1)) == 3
    context.set_offline(False)
    expect(page.locator("#result_list")).to_contain_text("Talk c2")
    expect_titles(page, "Talk c2", "Talk c1")
    expect_live(page)
    write(account, 4, room="c1")
    expect(page.locator("#result_list tbody").first).to_contain_text("text 4")
    assert page.evaluate("window.stayed")


def test_a_page_that_is_hidden_lets_go_of_its_stream(page: Page, account: Account) -> None:
    opened(page, "/admin/sync/conversation/")
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    write(account, 1)
    streams: list[str] = []
    page.on("request", lambda one: streams.append(one.url) if "/events/" in one.url else None)
    page.evaluate(hide, False)
    expect(page.locator("#result_list")).to_contain_text("Talk c1")
    assert len(streams) == 1


def test_who_is_logged_out_is_sent_to_the_login(
    page: Page, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RIGHTS_S", 0.2)
    opened(page, "/admin/sync/conversation/")
    Session.objects.all().delete()
    expect(page).to_have_url(re.compile("/admin/login/"))


FLEET = "/admin/lifecycle/workerruntime/"


@pytest.fixture
def fleet(page: Page, make_config: Callable[..., WorkerConfig]) -> Page:
    make_config(worker_id="w-1")
    page.goto(FLEET)
    return page


def test_a_click_that_the_server_could_not_serve_says_so(
    fleet: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError

    monkeypatch.setitem(WISHES, "start", away)
    fleet.get_by_role("button", name="Start w-1", exact=True).click()
    toast = fleet.locator(".m-toast-error")
    expect(toast).to_contain_text("Something went wrong: Muster could not answer.")
    expect(fleet.locator("body")).not_to_have_class(re.compile("m-offline"))


def test_a_click_from_a_page_of_an_earlier_login_says_so(
    fleet: Page, context: BrowserContext, web: str
) -> None:
    context.add_cookies([{"name": settings.CSRF_COOKIE_NAME, "value": "x" * 32, "url": web}])
    fleet.get_by_role("button", name="Start w-1", exact=True).click()
    expect(fleet.locator(".m-toast-error")).to_contain_text("This page was open for too long")


def test_a_click_that_nobody_answers_says_so(fleet: Page) -> None:
    fleet.route("**/wish/start/", lambda route: route.abort())
    fleet.get_by_role("button", name="Start w-1", exact=True).click()
    expect(fleet.locator(".m-toast-error")).to_contain_text("The server did not answer.")


def test_a_page_whose_polls_fail_does_not_look_up_to_date(fleet: Page) -> None:
    """One that fails is enough, whatever the others do; and it says so until that one is back."""
    offline = expect(fleet.locator("body.m-offline"))
    with fleet.expect_response(re.compile("/rollout/banner/")) as other:
        fleet.route(re.compile(f"{FLEET}$"), lambda route: route.fulfill(status=500))
        offline.to_have_count(1)
    assert other.value.ok
    with fleet.expect_response(re.compile("/rollout/banner/")):
        pass
    offline.to_have_count(1)
    expect(fleet.locator(".m-toast")).to_have_count(0)
    fleet.unroute(re.compile(f"{FLEET}$"))
    offline.to_have_count(0)


def test_a_page_that_one_may_no_longer_see_is_left(fleet: Page) -> None:
    User.objects.update(is_superuser=False)
    expect(fleet.get_by_role("heading", level=1)).to_have_text("You may not do this")


@pytest.fixture
def log_page(page: Page, make_config: Callable[..., WorkerConfig]) -> Page:
    """Of a worker whose agent does not run: the stream is refused."""
    page.goto(reverse("admin:lifecycle_worker_log", args=[make_config(worker_id="w-1").pk]))
    return page


def test_a_log_that_is_refused_says_why(log_page: Page) -> None:
    away = log_page.locator("[data-status].m-red")
    expect(away).to_have_text("away")
    expect(log_page.get_by_role("alert")).to_contain_text("agent")
    said = "You follow 20 logs already; close some of them."
    error = {"code": "too_many_followers", "detail": said, "attr": None}
    body = json.dumps({"type": "client_error", "errors": [error]})
    log_page.route("**/logs/stream?*", lambda route: route.fulfill(status=429, body=body))
    expect(log_page.get_by_role("alert")).to_have_text(said)
    expect(away).to_have_text("away")


def test_a_log_that_one_may_no_longer_see_is_left(log_page: Page) -> None:
    User.objects.update(is_superuser=False)
    expect(log_page.get_by_role("heading", level=1)).to_have_text("You may not do this")
