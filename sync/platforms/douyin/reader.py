"""Reading works and their comments, page by page, by the platform's own cursors alone.

The list of works says how many comments each has. Where that number is another one than last time,
the work's comments are read again, with the replies to each; those of a young work once a day, too.
What is there already counts as same.
A reading that is cut off goes on with the work at which it stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container
from typing import Any

from pydantic import ValidationError

from sync.errors import CursorInvalid, PlatformUnavailable, RequestRejected
from sync.platforms.douyin import wire
from sync.platforms.douyin.client import DouyinClient
from sync.platforms.douyin.events import comment, post
from sync.platforms.douyin.place import Place
from sync.platforms.rest import refused
from sync.types import Batch, Record, Refused

FIRST_PAGE = "0"  # as the documents have it
NO_SUCH_PARAMETER = "2100005"  # 参数不合法
MOST_PAGES = 5000  # of one list: a platform that never ends is not followed for ever


class Reader:
    """One reading of an account's works. `now`: seconds since 1970."""

    def __init__(self, client: DouyinClient, now: Callable[[], float]) -> None:
        self._client, self._now = client, now
        self.place = Place()

    async def read(self, place: Place) -> AsyncIterator[Batch]:
        """The latest works and what changed below them; once a day, all of them."""
        self.place = place.begun(self._now())
        is_sweep = self.place.sweep is not None
        cursor = self.place.sweep if self.place.sweep is not None else FIRST_PAGE
        while True:
            page = await self._works(cursor)
            videos, bad = _videos(page)
            yield self._batch([post(one, self._client.open_id) for one in videos], bad, more=True)
            for video in videos:
                count = video.statistics.comment_count
                if self.place.needs(video.item_id, count, video.create_time, self._now()):
                    async for batch in self._item(video):
                        yield batch
            if not is_sweep:
                break
            if not page.has_more:
                self.place = self.place.swept(self._now())
                break
            cursor = _next(cursor, page)
            self.place = self.place.at_page(cursor)
        yield self._batch([], [], more=False)

    async def _works(self, cursor: str) -> wire.Page:
        """Raises `CursorInvalid` where Douyin takes the page for none that it has named."""
        try:
            return await self._client.videos(cursor)
        except RequestRejected as error:
            if cursor != FIRST_PAGE and error.code == NO_SUCH_PARAMETER:
                raise CursorInvalid(str(error)) from error
            raise

    async def _item(self, video: wire.Video) -> AsyncIterator[Batch]:
        """A work's comments; the place says that we have them once the last page is there."""
        begun = self._now()
        try:
            async for rows in self._comments(video.item_id):
                yield self._batch(*rows, more=True)
        except RequestRejected as error:  # deleted meanwhile, or its comments are closed
            raw = {"item_id": video.item_id, "comment_count": video.statistics.comment_count}
            text = f"the comments of this work can't be read: {error}"
            yield self._batch([], [refused(raw, text, "comment", video.item_id)], more=True)
        self.place = self.place.having(video.item_id, video.statistics.comment_count, begun)

    async def _comments(self, item_id: str) -> AsyncIterator[tuple[list[Record], list[Refused]]]:
        cursor = FIRST_PAGE
        for _page in range(MOST_PAGES):
            page = await self._client.comments(item_id, cursor)
            comments, bad = _read_comments(page, item_id)
            me = self._client.open_id
            yield [comment(one, item_id, "", me) for one in comments], bad
            for one in comments:
                if one.reply_comment_total:
                    async for rows in self._replies(item_id, one.comment_id):
                        yield rows
            if not page.has_more:
                return
            cursor = _next(cursor, page)
        raise PlatformUnavailable(f"the comments of a work have more than {MOST_PAGES} pages")

    async def _replies(
        self, item_id: str, comment_id: str
    ) -> AsyncIterator[tuple[list[Record], list[Refused]]]:
        cursor = FIRST_PAGE
        for _page in range(MOST_PAGES):
            page = await self._client.replies(item_id, comment_id, cursor)
            replies, bad = _read_comments(page, item_id)
            me = self._client.open_id
            yield [comment(one, item_id, comment_id, me) for one in replies], bad
            if not page.has_more:
                return
            cursor = _next(cursor, page)
        raise PlatformUnavailable(f"the replies to a comment have more than {MOST_PAGES} pages")

    async def find_reply(
        self, item_id: str, comment_id: str, text: str, since: float, taken_ids: Container[str]
    ) -> str | None:
        """The id of what we said there since then, if we did; none of those that are taken."""
        pages = self._replies(item_id, comment_id) if comment_id else self._comments(item_id)
        async for records, _bad in pages:
            for one in records:
                is_ours = getattr(one, "author_id", "") == self._client.open_id
                is_there = getattr(one, "parent_id", "") == comment_id
                at: Any = getattr(one, "published_at", None)
                is_it = getattr(one, "text", "") == text and at.timestamp() >= since
                if is_ours and is_there and is_it and one.external_id not in taken_ids:
                    return one.external_id
        return None

    def _batch(self, records: list[Any], bad: list[Refused], *, more: bool) -> Batch:
        return Batch(self.place.text(), tuple(records), tuple(bad), more=more)


def _next(cursor: str, page: wire.Page) -> str:
    """The platform's cursor of the next page. Raises `PlatformUnavailable` if it stands still."""
    if page.cursor == cursor:
        raise PlatformUnavailable("the platform says that there is more, and not where")
    return page.cursor


def _videos(page: wire.Page) -> tuple[list[wire.Video], list[Refused]]:
    good, bad = [], []
    for raw in page.list:
        try:
            good.append(wire.Video.model_validate(raw))
        except ValidationError as error:
            given = raw.get("item_id") if isinstance(raw, dict) else ""
            bad.append(refused(raw, error, "post", given))
    return good, bad


def _read_comments(page: wire.Page, item_id: str) -> tuple[list[wire.Comment], list[Refused]]:
    good, bad = [], []
    for raw in page.list:
        try:
            good.append(wire.Comment.model_validate(raw))
        except ValidationError as error:
            given = raw.get("comment_id") if isinstance(raw, dict) else ""
            bad.append(refused({"item_id": item_id, "comment": raw}, error, "comment", given))
    return good, bad
