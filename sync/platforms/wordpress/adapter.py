"""The WordPress adapter: a platform, and the connection of one account."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import httpx
from pydantic import BaseModel, ValidationError

from sync.batches import slices, sorted_out
from sync.errors import LoginExpired, LoginFailed, PlatformUnavailable, RequestRejected
from sync.platforms.base import Connection, Platform, Tell
from sync.platforms.listing import Dated, progressive
from sync.platforms.wordpress import records
from sync.platforms.wordpress.client import PAGE, Client
from sync.platforms.wordpress.credentials import WordPressCredentials
from sync.platforms.wordpress.place import Place, Walk
from sync.platforms.wordpress.reader import COMMENTS, POSTS, SHOWN, Reader, pieces_of
from sync.platforms.wordpress.sentences import SENTENCES
from sync.platforms.wordpress.wire import Comment, User
from sync.types import (
    NOTHING_DONE,
    AccountRef,
    Batch,
    Done,
    LastKnown,
    Listing,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)

MAY_MODERATE = "moderate_comments"
ALREADY_THERE = "comment_duplicate"
OVERLAP = 10  # of two pages
# Site and we may disagree on the time, and a site on its zone.
SKEW = timedelta(days=2)
ORDER = timedelta(hours=3)  # posts are in the order of the site's own time, summer time included
LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class WordPress(Platform):
    """Posts of a site are works; comments, approved or waiting for approval, are comments."""

    name: ClassVar[str] = "wordpress"
    label: ClassVar[str] = "WordPress"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    needs_endpoint: ClassVar[bool] = True
    credentials: ClassVar[type[BaseModel]] = WordPressCredentials
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset({RecordKind.POST, RecordKind.COMMENT})
    lists_ids: ClassVar[bool] = True

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[WordPressConnection]:
        try:
            known = WordPressCredentials.model_validate(dict(account.credentials))
            auth = httpx.BasicAuth(known.username, known.application_password)
        except ValidationError:  # `login` says what is wrong with them
            auth = None
        async with httpx.AsyncClient(
            base_url=account.endpoint.rstrip("/"),
            auth=auth,
            headers={"User-Agent": "Muster"},
            limits=httpx.Limits(max_connections=4),
            follow_redirects=False,  # with credentials nobody is followed elsewhere
        ) as http:
            yield WordPressConnection(account, Client(http))

    def reread(self, account: AccountRef, kind: str, raw: str) -> Sequence[Record | Refused]:
        try:
            found = json.loads(raw)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            return [Refused(kind, "", raw, "this is no object of WordPress")]
        if kind == RecordKind.POST:
            return [records.post(found)]
        return [records.comment(found, user_id(account.session))]


class WordPressConnection(Connection):
    """One user of one site. See `sync.platforms.base.Connection` for what the methods promise.

    The session is `{"user_id": …, "name": …}`: each request carries the application password.
    """

    def __init__(self, account: AccountRef, client: Client) -> None:
        self._account = account
        self._client = client
        self.session: dict[str, object] = dict(account.session)

    async def login(self, tell: Tell) -> dict[str, object]:
        """Also raises `LoginFailed` for a user who may not moderate: it would not see all."""
        try:
            WordPressCredentials.model_validate(dict(self._account.credentials))
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {error}") from None
        try:
            user = User.model_validate(await self._client.me())
        except (LoginExpired, RequestRejected) as error:
            raise LoginFailed(str(error)) from error
        except ValidationError as error:
            raise PlatformUnavailable(
                f"this is not how WordPress describes a user: {error}"
            ) from None
        if not user.capabilities.get(MAY_MODERATE):
            raise LoginFailed(f"{user.name} may not moderate comments: an editor may")
        self.session = {"user_id": user.id, "name": user.name}
        return self.session

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        reader = Reader(self._client, self._me())
        try:
            async for batch in reader.read(cursor):
                yield batch
        except RequestRejected as error:
            raise _as_login(error) from error

    def cursor_after(self, known: LastKnown) -> str:
        """Comments that were published since the last that we know, and posts that were changed
        since, less two days. WordPress itself calls no cursor invalid, ids stay good for ever: only
        one that this adapter can't read is lost, and with it what the newest comments said. So what
        is read now counts as it is now. Moves to spam and trash meanwhile, edits of older comments,
        and what came with an older date (an import, say) are for the audit."""
        comments, posts = (Walk(since=_since(at)) for at in (known.comment_at, known.post_at))
        return Place(comments=comments, posts=posts).text()

    async def send(self, reply: OutgoingReply) -> str:
        """Also raises `RequestRejected`, e.g. for a closed discussion, or for a text that the
        account has said at that place already: WordPress takes none twice."""
        self._me()
        content: dict[str, object] = {
            "post": reply.post_id,
            "content": records.as_comment(reply.text),
            "author_user_agent": mark(reply),
        }
        if reply.parent_id:
            content["parent"] = reply.parent_id
        try:
            answer = await self._client.post(COMMENTS, content)
        except RequestRejected as error:
            if error.code == ALREADY_THERE and (found := await self.find_sent(reply)):
                return found
            raise
        return str(records.number(answer))

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        """Replies are marked: WordPress keeps each comment's user agent."""
        wanted = {"author": self._me(), "post": reply.post_id, **SHOWN}
        offset = 0
        while True:
            page = await self._client.page(COMMENTS, order="desc", offset=offset, **wanted)
            for raw in page.items:
                try:
                    found = Comment.model_validate(raw)
                except ValidationError:
                    continue  # not made by us: ours have what they need
                if found.author_user_agent == mark(reply):
                    return str(found.id)
                if found.date_gmt < reply.created_at - SKEW:
                    return None
            if len(page.items) < PAGE:
                return None
            offset += PAGE - 1

    async def list_ids(
        self, since: datetime, done: Done = NOTHING_DONE
    ) -> AsyncIterator[Listing | None]:
        self._me()
        until = max(datetime.now(UTC), since) + SKEW  # what the site's clock says
        for kind, path, wanted in (
            (RecordKind.COMMENT, COMMENTS, {**SHOWN, "orderby": "date_gmt"}),
            (RecordKind.POST, POSTS, {"status": "publish", "orderby": "date"}),
        ):
            before, end = done.get((kind, "")), until
            if before:
                end = before.since
                wanted["before"] = f"{end + SKEW:%Y-%m-%dT%H:%M:%S}"  # in the site's own time
            found = self._dated(path, wanted, since)
            async for listing in progressive(kind, found, since, end):
                yield listing

    async def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        reader = Reader(self._client, self._me())
        read = reader.posts if kind is RecordKind.POST else reader.comments
        for some in pieces_of([id for id in ids if id.isdecimal()], PAGE):
            for piece in slices(await read(some)):
                yield Batch(None, *sorted_out(piece), fetched=True)

    async def _dated(
        self, path: str, wanted: dict[str, str], since: datetime
    ) -> AsyncIterator[tuple[list[Dated], datetime]]:
        """When, id and version of each object since then, the newest first. Pages overlap, since
        they are counted from the newest one: one that is deleted meanwhile moves all others up."""
        offset, edge = 0, datetime.max.replace(tzinfo=UTC)
        while edge > since - ORDER:
            page = await self._client.page(path, order="desc", offset=offset, **wanted)
            times = [(records.moment(raw), raw) for raw in page.items]
            known = [(when, raw) for when, raw in times if when is not None]
            edge = min((when for when, _raw in known), default=edge)
            found = [(when, str(records.number(raw)), records.version(raw)) for when, raw in known]
            yield [one for one in found if one[0] >= since], min(edge, LATEST) + ORDER
            if len(page.items) < PAGE:
                return
            offset += PAGE - OVERLAP

    def _me(self) -> int:
        if not (found := user_id(self.session)):
            raise LoginExpired("not logged in")
        return found


def user_id(session: dict[str, object]) -> int:
    found = session.get("user_id")
    return found if isinstance(found, int) else 0


def mark(reply: OutgoingReply) -> str:
    """Told by the reply's key alone."""
    return f"Muster {hashlib.sha256(reply.key.encode()).hexdigest()[:40]}"


def _since(at: datetime | None) -> str:
    return f"{at.astimezone(UTC) - SKEW:%Y-%m-%dT%H:%M:%S}" if at else ""


def _as_login(error: RequestRejected) -> Exception:
    """A user who lost a right may get it back; until then the login says what is missing."""
    return LoginExpired(str(error)) if error.status == httpx.codes.FORBIDDEN else error
