"""A WordPress site with a watched editor, and somebody else who comments, for the tests."""

from __future__ import annotations

import asyncio
import html
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar

import httpx

from crm.demo.synapse import free_port
from sync.platforms.base import Platform
from sync.platforms.wordpress import platform as wordpress
from sync.types import AccountRef, RecordKind
from tests.contract.suite.stage import Ability, Stage
from tests.contract.suite.wire import Wire, wire_to
from tests.contract.wordpress_server import User, WordPressServer


class WordPressStage(Stage):
    """Every test finds the site empty."""

    platform: ClassVar[Platform] = wordpress
    kind: ClassVar[RecordKind] = RecordKind.COMMENT
    largest: ClassVar[int] = 65_000  # a comment's column has 65,535 bytes
    backlog: ClassVar[int] = int(os.environ.get("MUSTER_TEST_BACKLOG", "3000"))
    lacks: ClassVar[Mapping[Ability, str]] = {
        Ability.EDITS: "WordPress does not tell when a comment was edited",
        Ability.SAME_TEXT_TWICE: "WordPress refuses what somebody has said already",
        Ability.SESSIONS: "each request carries the application password",
        Ability.STALE_CURSORS: "ids stay good for ever",
        Ability.LATE_DELETIONS: "of what was thrown away it does not tell: the audit finds it",
    }

    def __init__(self, server: WordPressServer, wire: Wire) -> None:
        self.server, self.wire = server, wire
        self.watched, self.friend = server.users["sales"], server.users["friend"]
        self.root = server.users["boss"]
        credentials: dict[str, object] = {
            "username": self.watched.login,
            "application_password": self.watched.password,
        }
        self.account = AccountRef(
            account_id=1,
            platform="wordpress",
            identifier="blog.example.org",
            endpoint=f"http://127.0.0.1:{wire.port}",
            credentials=credentials,
            session={},
        )
        wrong = {**credentials, "application_password": "abcd efgh ijkl mnop"}
        self.wrong = replace(self.account, credentials=wrong)
        self.away = replace(self.account, endpoint=f"http://127.0.0.1:{free_port()}")

    async def thread(self) -> str:
        return await self.new_post("订单 Orders", "What do you think?")

    async def new_post(self, title: str, text: str) -> str:
        made = await self.call(
            self.watched, "POST", "posts", title=title, content=text, status="publish"
        )
        return str(made["id"])

    async def new_page(self, title: str) -> str:
        made = await self.call(
            self.root, "POST", "pages", title=title, status="publish", comment_status="open"
        )
        return str(made["id"])

    async def say(self, thread: str, text: str) -> str:
        return await self.comment(self.friend, thread, text)

    async def say_as_account(self, thread: str, text: str) -> str:
        return await self.comment(self.watched, thread, text)

    async def answer(self, thread: str, parent: str, text: str) -> str:
        return await self.comment(self.friend, thread, text, parent=parent)

    async def say_many(self, thread: str, texts: Iterable[str]) -> None:
        """Past WordPress, which makes some twenty a second."""
        columns = (
            "comment_post_ID, user_id, comment_author, comment_author_email, comment_date,"
            " comment_date_gmt, comment_content, comment_approved, comment_type"
        )
        who = f"{thread}, {self.friend.id}, 'Fränzi 王', 'friend@example.org'"
        rows = [f"({who}, NOW(), UTC_TIMESTAMP(), '{text}', '1', 'comment')" for text in texts]
        for start in range(0, len(rows), 500):
            values = ",".join(rows[start : start + 500])
            await self.sql(f"INSERT INTO wp_comments ({columns}) VALUES {values}")  # noqa: S608

    async def edit(self, thread: str, entry: str, text: str) -> None:
        await self.call(self.friend, "POST", f"comments/{entry}", content=html.escape(text))

    async def set_status(self, entry: str, status: str) -> None:
        await self.call(self.friend, "POST", f"comments/{entry}", status=status)

    async def post_many(self, count: int) -> None:
        """Posts, past WordPress."""
        when = "'2026-01-01 00:00:00'"
        values = ",".join(
            f"({self.watched.id}, {when}, {when}, {when}, {when}, 'p{n}', 'x', '', '', '', '',"
            " 'publish', 'post')"
            for n in range(count)
        )
        await self.sql(
            "INSERT INTO wp_posts (post_author, post_date, post_date_gmt, post_modified,"  # noqa: S608
            " post_modified_gmt, post_title, post_content, post_excerpt, to_ping, pinged,"
            f" post_content_filtered, post_status, post_type) VALUES {values}"
        )

    async def delete(self, thread: str, entry: str) -> None:
        await self.call(self.friend, "DELETE", f"comments/{entry}")

    async def texts(self, thread: str) -> list[str]:
        answer = await self.request(
            self.friend, "GET", "comments", params={"post": thread, "per_page": "100", **RAW}
        )
        return [html.unescape(one["content"]["raw"]) for one in answer.json()]

    async def lock_out(self) -> None:
        await self._rename_passwords("_application_passwords", "taken_away")

    async def let_in(self) -> None:
        """Undo `lock_out`: the site is for all tests."""
        await self._rename_passwords("taken_away", "_application_passwords")

    async def _rename_passwords(self, name: str, new_name: str) -> None:
        where = f"WHERE meta_key = '{name}'"
        await self.sql(f"UPDATE wp_usermeta SET meta_key = '{new_name}' {where}")  # noqa: S608

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.kill)

    async def restart(self, clock_offset_s: float = 0) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start, clock_offset_s)

    # --- the site -----------------------------------------------------------------------------

    async def comment(self, user: User, thread: str, text: str, **more: str) -> str:
        content = html.escape(text, quote=False)
        made = await self.call(user, "POST", "comments", post=thread, content=content, **more)
        return str(made["id"])

    async def call(self, user: User, method: str, path: str, **body: str) -> dict[str, object]:
        answer = await self.request(user, method, path, body=body)
        found: dict[str, object] = answer.json()
        return found

    async def request(
        self,
        user: User | None,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Past the wire."""
        auth = (user.login, user.password) if user else None
        query = {"rest_route": f"/wp/v2/{path}", **(params or {})}
        async with httpx.AsyncClient(base_url=self.server.url, timeout=60, auth=auth) as http:
            answer = await http.request(method, "/", params=query, json=body)
        answer.raise_for_status()
        return answer

    async def sql(self, statements: str) -> str:
        return await asyncio.to_thread(self.server.sql, statements)


RAW = {"context": "edit", "status": "all"}


@asynccontextmanager
async def wordpress_stage(server: WordPressServer) -> AsyncIterator[WordPressStage]:
    await asyncio.to_thread(server.empty)
    async with wire_to(server.port) as wire:
        stage = WordPressStage(server, wire)
        try:
            yield stage
        finally:
            await stage.let_in()
