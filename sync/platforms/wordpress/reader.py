"""Reading a site: its posts and comments as rows, and the place after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from sync.batches import slices, sorted_out
from sync.platforms.wordpress import records
from sync.platforms.wordpress.client import PAGE, Client
from sync.platforms.wordpress.place import NEWEST_ID, Place, Stretch, Walk
from sync.platforms.wordpress.records import Raw, number, version
from sync.types import Batch, CommentRecord
from sync.weights import Row

POSTS = "/wp/v2/posts"
PAGES = "/wp/v2/pages"  # of the other kind: they can be commented, too
COMMENTS = "/wp/v2/comments"
PAGES_BETWEEN_NEWS = 10
# Approved and waiting for approval (WP_Comment_Query).
SHOWN = {"status": "all", "orderby": "id"}
STEP_BACK = 25


@dataclass(frozen=True, slots=True)
class Step:
    """What one page brought, and where the walk stands after it."""

    rows: list[Row]
    walk: Walk
    changed: list[Row] = field(default_factory=list)  # known ones that say something else now


@dataclass(slots=True)
class Reader:
    """`me`: the account's user id."""

    client: Client
    me: int
    _totals: dict[tuple[str, str], int] = field(default_factory=dict)  # by path and `since`
    _told: set[str] = field(default_factory=set)  # posts that this reading has brought

    async def read(self, cursor: str) -> AsyncIterator[Batch]:
        """News first, then a page of what is owed, and so on until nothing is."""
        place = Place.parse(cursor)
        while True:
            posts = await self._new_posts(place.posts)
            comments = await self._new_comments(place.comments)
            news = Place(begun=True, posts=posts.walk, comments=comments.walk)
            below = await self._posts_of([*comments.changed, *comments.rows])
            changed = [*posts.changed, *below, *comments.changed]
            rows = [*posts.rows, *comments.rows]
            left = self._remaining(news, len(rows))
            for piece in slices(changed) if changed else ():
                kept, refused = sorted_out(piece)
                yield Batch(None, kept, refused, more=True, remaining=left, fetched=True)
            if news != place or rows:
                is_anew = bool(place.comments.since or place.posts.since)
                for batch in self._cut(rows, news, fetched=is_anew):
                    yield batch
            place = news
            for _ in range(PAGES_BETWEEN_NEWS):
                if not place.is_owing:
                    return
                is_anew = place.is_owing_anew
                place, rows = await self._owed(place)
                for batch in self._cut(rows, place, fetched=is_anew):
                    yield batch

    async def posts(self, ids: Sequence[str]) -> list[Row]:
        """The published posts and pages of these ids, at most 100, as they are now."""
        found: list[Row] = []
        for path in (POSTS, PAGES):
            if left := [id for id in ids if id not in self._told]:
                wanted = {"include": ",".join(left), "status": "publish"}
                found += await self._posts((await self.client.page(path, **wanted)).items)
        return found

    async def comments(self, ids: Sequence[str]) -> list[Row]:
        """The comments of these ids, at most 100, approved or waiting, as they are now."""
        page = await self.client.page(COMMENTS, include=",".join(ids), status="all")
        return await self._comments(page.items)

    async def _new_posts(self, walk: Walk) -> Step:
        """The posts that were changed last. When all of a page is news, there may be more of it:
        then all are owed, and what is the same costs little."""
        page = await self.client.page(POSTS, orderby="modified", order="desc", status="publish")
        self._totals[POSTS, ""] = page.total
        window = {str(number(raw)): version(raw) for raw in page.items}
        news = [raw for raw in page.items if walk.window.get(str(number(raw))) != version(raw)]
        is_more = len(page.items) == PAGE == len(news)
        after = walk.model_copy(update={"window": window, "since": ""})
        if is_more:
            owed = Stretch(low=1, high=NEWEST_ID, since=walk.since)
            after = after.model_copy(update={"owed": (owed,)})
        known = [raw for raw in news if str(number(raw)) in walk.window]
        fresh = [raw for raw in news if str(number(raw)) not in walk.window]
        return Step(await self._posts(fresh), after, await self._posts(known))

    async def _new_comments(self, walk: Walk) -> Step:
        """The newest page: new ones, and known ones that were edited, thrown away or taken back."""
        page = await self.client.page(COMMENTS, order="desc", **SHOWN)
        self._totals[COMMENTS, ""] = page.total
        items = page.items
        window = {str(number(raw)): version(raw) for raw in items}
        # An id may show after a higher one when two are written at once; and what was thrown away
        # may come back: the window knows. Below it nothing is news, once reading has begun.
        unknown = [raw for raw in items if str(number(raw)) not in walk.window]
        news = [raw for raw in unknown if number(raw) > walk.upto or not number(raw)]
        changed = [raw for raw in unknown if max(1, walk.edge) <= number(raw) <= walk.upto]
        changed += [
            raw for raw in items if walk.window.get(str(number(raw)), version(raw)) != version(raw)
        ]
        lowest = number(items[-1]) if len(items) == PAGE else 1
        gone = [id for id in walk.window if id not in window and int(id) >= lowest]
        count = sum(number(raw) > walk.upto for raw in items)
        after = walk.with_news(max(map(number, items), default=0), window, count, lowest)
        rows = await self._comments(reversed(news))
        rows += await self._gone(gone)
        return Step(rows, after, await self._comments(changed))

    async def _gone(self, ids: Sequence[str]) -> list[Row]:
        """Those that were thrown away or taken for spam. Of what was deleted for good WordPress
        tells nothing: the audit finds it."""
        rows: list[Row] = []
        for status in ("trash", "spam"):
            for start in range(0, len(ids), PAGE):
                include = ",".join(ids[start : start + PAGE])
                page = await self.client.page(COMMENTS, include=include, status=status)
                rows += await self._comments(page.items)
        return rows

    async def _owed(self, place: Place) -> tuple[Place, list[Row]]:
        """The next page of what is owed: comments first, they bring their posts."""
        if place.comments.owed:
            items, walk = await self._page(COMMENTS, place.comments, SHOWN)
            rows = await self._comments(reversed(items))
            below = await self._posts_of(rows)
            return place.model_copy(update={"comments": walk}), [*below, *rows]
        items, walk = await self._page(POSTS, place.posts, {"status": "publish", "orderby": "id"})
        return place.model_copy(update={"posts": walk}), await self._posts(items)

    async def _page(
        self, path: str, walk: Walk, wanted: dict[str, str]
    ) -> tuple[list[dict[str, object]], Walk]:
        """The upper end of the first owed stretch, the newest first.

        Pages are counted from the newest one, and that moves: by new ones, and by those that are
        deleted meanwhile. So a page must begin above the stretch, or a hole could be between.
        """
        stretch = walk.owed[0]
        skip, step = max(0, stretch.skip - 1), STEP_BACK
        wanted = {**wanted, **newer(path, stretch.since)}
        while True:
            page = await self.client.page(path, order="desc", offset=skip, **wanted)
            ids = [number(raw) for raw in page.items]
            if len(ids) == PAGE and ids[-1] > stretch.high:  # all of it is above
                skip += PAGE - 1
            elif skip == 0 or (ids and ids[0] > stretch.high):
                break
            else:
                skip, step = max(0, skip - step), step * 2
        self._totals[path, stretch.since] = page.total
        items = [raw for raw in page.items if stretch.low <= number(raw) <= stretch.high]
        lowest = ids[-1] if len(ids) == PAGE and ids[-1] > stretch.low else stretch.low
        return items, walk.read_down_to(lowest, skip + len(page.items))

    async def _posts_of(self, rows: Iterable[Row]) -> list[Row]:
        """The posts that these comments are below, where not told already."""
        wanted = {row.post_id for row in rows if isinstance(row, CommentRecord)} - self._told
        posts = [await self.posts(some) for some in pieces_of(sorted(wanted), PAGE)]
        self._told |= wanted
        return list(chain.from_iterable(posts))

    async def _posts(self, items: Iterable[Raw]) -> list[Row]:
        """In a thread, as below: long HTML takes a while, and the loop has other accounts."""
        raws = list(items)
        self._told |= {str(number(raw)) for raw in raws}
        return await asyncio.to_thread(lambda: [records.post(raw) for raw in raws])

    async def _comments(self, items: Iterable[Raw]) -> list[Row]:
        raws = list(items)
        return await asyncio.to_thread(lambda: [records.comment(raw, self.me) for raw in raws])

    def _cut(self, rows: Iterable[Row], after: Place, *, fetched: bool) -> list[Batch]:
        """Only the last batch carries the place after the page: a crash between them reads the page
        again and never skips [S4]. `fetched`: others of these are known, and may say something
        else by now, which WordPress does not tell."""
        pieces = list(slices(rows))
        batches = []
        for count, piece in enumerate(pieces, start=1):
            kept, refused = sorted_out(piece)
            is_last = count == len(pieces)
            left = sum(len(each) for each in pieces[count:])
            batches.append(
                Batch(
                    cursor=after.text() if is_last else None,
                    records=kept,
                    refused=refused,
                    more=not is_last or bool(after.gaps()),
                    gaps=after.gaps() if is_last else None,
                    remaining=self._remaining(after, left),
                    fetched=fetched,
                )
            )
        return batches

    def _remaining(self, place: Place, more: int) -> int | None:
        """About how many are owed, and `more`: ids have holes, and the total counts all. None
        before a stretch that is bounded by time is counted."""
        owed = [(COMMENTS, one) for one in place.comments.owed]
        owed += [(POSTS, one) for one in place.posts.owed]
        if any(one.since and (path, one.since) not in self._totals for path, one in owed):
            return None
        return more + sum(
            min(one.high - one.low + 1, max(0, self._totals[path, one.since] - one.skip))
            for path, one in owed
        )


def newer(path: str, since: str) -> dict[str, str]:
    """What to ask for besides, so that only what is as new comes; both compare the site's own
    time."""
    if not since:
        return {}
    return {"modified_after" if path == POSTS else "after": since}


def pieces_of(ids: Sequence[str], size: int) -> list[list[str]]:
    return [list(ids[start : start + size]) for start in range(0, len(ids), size)]
