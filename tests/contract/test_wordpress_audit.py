"""Audits of a real site into the store [S9]."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.utils import timezone

from sync import services
from sync.errands.audits import audit
from sync.models import Account, Audit, Comment, Post
from tests.contract.suite.reading import logged_in, read
from tests.contract.wordpress_server import WordPressServer
from tests.contract.wordpress_stage import WordPressStage, wordpress_stage
from tests.db.errand_stage import check_of, drive
from tests.db.sync_stage import NOON, make_account

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300)]


def synced(
    account: Account,
    site: WordPressServer,
    prepare: Callable[[WordPressStage], Awaitable[None]],
    change: Callable[[WordPressStage], Awaitable[None]],
) -> Audit:
    """Read what `prepare` made, then audit what `change` left of it."""

    def asked() -> None:
        for table in (Post, Comment):  # an audit leaves out what is newer than itself
            table.objects.update(stored_at=NOON)
        services.ask_audit(account.pk, "ann", timezone.now(), full=True)

    async def work(check: Any) -> None:
        async with wordpress_stage(site) as stage:
            await prepare(stage)
            async with logged_in(stage) as check.connection:
                for batch in await read(check.connection):
                    await check.store(batch)
                await change(stage)
                await check.in_database(asked)
                await audit(check)

    check: Any = check_of(account, None)  # type: ignore[arg-type]
    check.platform = WordPressStage.platform
    drive(work, check)
    return Audit.objects.latest("pk")


def test_pages_and_bare_posts_are_not_taken_for_deleted(site: WordPressServer) -> None:
    async def prepare(stage: WordPressStage) -> None:
        other = await stage.thread()
        for each in (other, await stage.new_page("About"), await stage.thread()):
            await stage.say(each, "hello")
        await stage.sql(f"UPDATE wp_posts SET post_type = 'attachment' WHERE ID = {other}")  # noqa: S608

    async def nothing(stage: WordPressStage) -> None: ...

    found = synced(make_account(platform="wordpress"), site, prepare, nothing)
    assert (found.outcome, found.vanished, found.repaired) == ("complete", 0, 0)
    assert sorted(Post.objects.values_list("title", "is_deleted")) == [
        ("", False),
        ("About", False),
        ("订单 Orders", False),
    ]


def test_post_that_became_a_draft_is_gone_with_its_new_text(site: WordPressServer) -> None:
    async def prepare(stage: WordPressStage) -> None:
        for each in (await stage.thread(), await stage.new_page("About")):
            await stage.say(each, "hello")

    async def withdrawn(stage: WordPressStage) -> None:
        await stage.sql("UPDATE wp_posts SET post_status = 'draft', post_content = 'secret'")

    found = synced(make_account(platform="wordpress"), site, prepare, withdrawn)
    assert (found.outcome, found.vanished) == ("complete", 2)
    assert sorted(Post.objects.values_list("title", "text", "is_deleted")) == [
        ("About", "", True),
        ("订单 Orders", "", True),
    ]
