"""Comments and posts as records, the cursor, refusals of the site. No server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from sync.errors import (
    CursorInvalid,
    LoginExpired,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.markup import readable
from sync.platforms.wordpress import platform, records
from sync.platforms.wordpress.client import failure, retry_after_s
from sync.platforms.wordpress.place import Place, Walk
from sync.types import AccountRef, CommentRecord, Direction, PostRecord, Refused

COMMENT: dict[str, object] = {
    "id": 7,
    "post": 3,
    "parent": 5,
    "author": 0,
    "author_name": "Ann &amp; Bob",
    "author_email": "Ann@X.org",
    "content": {"raw": "a <b>b</b>\nc &amp; d", "rendered": "…"},
    "date_gmt": "2026-03-01T12:00:00",
    "status": "approved",
}
POST: dict[str, object] = {
    "id": 3,
    "author": 2,
    "title": {"rendered": "Orders &#8211; 订单"},
    "content": {"rendered": "<p>What do <em>you</em> think?</p>"},
    "link": "https://blog.example.org/3",
    "date_gmt": "2026-03-01T12:00:00",
    "modified_gmt": "2026-03-02T12:00:00",
}


class TestRecords:
    def test_comment(self) -> None:
        found = records.comment(COMMENT, me=9)
        assert found == CommentRecord(
            external_id="7",
            post_id="3",
            parent_id="5",
            author_id="ann@x.org",
            author_name="Ann & Bob",
            text="a b\nc & d",
            published_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        )

    def test_own_comment_is_outbound(self) -> None:
        found = records.comment({**COMMENT, "author": 9, "parent": 0}, me=9)
        assert isinstance(found, CommentRecord)
        assert (found.direction, found.author_id, found.parent_id) == (Direction.OUTBOUND, "9", "")

    @pytest.mark.parametrize(
        ("status", "is_gone"), [("hold", False), ("spam", True), ("trash", True)]
    )
    def test_states_of_moderation(self, status: str, is_gone: bool) -> None:
        found = records.comment({**COMMENT, "status": status}, me=9)
        assert isinstance(found, CommentRecord)
        assert (found.is_deleted, found.text == "") == (is_gone, is_gone)

    def test_post(self) -> None:
        found = records.post(POST)
        assert isinstance(found, PostRecord)
        assert (found.title, found.text) == ("Orders – 订单", "What do you think?")
        assert found.edited_at == datetime(2026, 3, 2, 12, tzinfo=UTC)

    def test_malformed_one_is_refused_and_can_be_read_again(self) -> None:
        refused = records.comment({**COMMENT, "date_gmt": "yesterday"}, me=9)
        assert isinstance(refused, Refused)
        assert (refused.external_id, refused.kind) == ("7", "comment")
        assert "date_gmt" in refused.error
        account = AccountRef(1, "wordpress", "x", "http://x", {}, {"user_id": 9})
        (again,) = platform.reread(account, "comment", refused.raw)
        assert isinstance(again, Refused)
        mended = refused.raw.replace("yesterday", "2026-03-01T12:00:00")
        assert platform.reread(account, "comment", mended) == [records.comment(COMMENT, me=9)]
        assert isinstance(platform.reread(account, "post", "nonsense")[0], Refused)

    def test_version_changes_with_what_is_shown(self) -> None:
        same = {**COMMENT, "link": "elsewhere"}
        other = {**COMMENT, "content": {"raw": "x"}}
        assert records.version(COMMENT) == records.version(same) != records.version(other)


class TestMarkup:
    def test_typed_text_keeps_its_space(self) -> None:
        assert readable("a\n\n  b\tc", keeps_space=True) == "a\n\n  b\tc"
        assert readable("a\n  <i>b</i>", keeps_space=True) == "a\n  b"

    def test_links_lists_and_entities(self) -> None:
        html = '<ul><li>a &amp; b</li></ul><a href="https://x.org/?a=1&amp;b=2">c</a> &amp;lt;'
        assert readable(html) == "  * a & b\n[c](https://x.org/?a=1&b=2) &lt;".strip()

    @pytest.mark.parametrize(
        "html", ["<div>" * 50_000 + "x", "<section>" * 50_000 + "x", "<", "<a", "&#x110000;", "\0"]
    )
    def test_no_page_breaks_it(self, html: str) -> None:
        assert isinstance(readable(html), str)


class TestPlace:
    def test_a_full_page_leaves_the_rest_owed(self) -> None:
        walk = Walk(upto=50).with_news(400, {}, 100, 301)
        assert [(one.low, one.high, one.skip) for one in walk.owed] == [(51, 300, 100)]
        walk = walk.read_down_to(201, 200).with_news(402, {}, 2, 303)
        assert [(one.low, one.high, one.skip) for one in walk.owed] == [(51, 200, 202)]

    def test_nothing_is_owed_where_pages_meet(self) -> None:
        assert Walk(upto=300).with_news(400, {}, 100, 301).owed == ()

    def test_text_and_back(self) -> None:
        place = Place(begun=True, comments=Walk().with_news(400, {"400": "x"}, 100, 301))
        assert Place.parse(place.text()) == place
        assert Place.parse("") == Place()
        with pytest.raises(CursorInvalid):
            Place.parse('{"begun": 7, "more": 1}')


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (401, {"code": "incorrect_password", "message": "no"}, LoginExpired),
            (403, {"code": "rest_comment_closed", "message": "no"}, RequestRejected),
            (404, {"code": "rest_no_route", "message": "no"}, RequestRejected),
            (404, "<html>", PlatformUnavailable),
            (500, {"code": "internal_server_error"}, PlatformUnavailable),
            (503, "maintenance", PlatformUnavailable),
            (429, {"code": "comment_flood", "message": "slow down"}, RateLimited),
            (301, "", PlatformUnavailable),
        ],
    )
    def test_each_has_its_error(self, status: int, body: object, error: type[Exception]) -> None:
        response = (
            httpx.Response(status, text=body)
            if isinstance(body, str)
            else httpx.Response(status, json=body)
        )
        assert type(failure(response)) is error

    def test_retry_after(self) -> None:
        assert retry_after_s("7") == 7
        assert retry_after_s("") == 15
        assert retry_after_s("999999999") == 3600
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        assert 50 < retry_after_s(soon) <= 60
