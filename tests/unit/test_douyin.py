"""What Douyin pushes: events and their signatures."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.errors import BadSignature, Malformed
from sync.platforms.base import HookRequest
from sync.platforms.douyin.events import OF_NO_INTEREST, read_event
from sync.platforms.douyin.hooks import DouyinHooks
from sync.platforms.douyin.place import Place
from sync.types import (
    AccountRef,
    CommentRecord,
    ConversationRecord,
    Direction,
    MessageRecord,
    Refused,
)
from tests.pushed.requests import (
    DOUYIN,
    FAN,
    ME,
    Pushed,
    comment_event,
    compact,
    douyin,
    private_message,
)

NOW = datetime.now(UTC)
DAY_S = 86_400
ACCOUNT = AccountRef(1, "douyin", ME, "", dict(DOUYIN), {})


@pytest.mark.parametrize("as_text", [True, False], ids=["JSON text", "object"])
def test_a_private_message(as_text: bool) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    talk, said = read_event(private_message(7, "你好", as_text=as_text, at=at), ME)
    assert talk == ConversationRecord("@talk==", "小红")
    assert isinstance(said, MessageRecord)
    assert (said.external_id, said.conversation_id) == ("@message-7", "@talk==")
    assert (said.sender_id, said.sender_name, said.text) == (FAN, "小红", "你好")
    assert (said.direction, said.sent_at) == (Direction.INBOUND, at)


def test_what_we_sent_is_ours_and_numbers_may_be_texts() -> None:
    event = private_message(8, event="im_send_msg", create_time="1710000000000")
    talk, said = read_event(event, ME)
    assert isinstance(talk, ConversationRecord)
    assert talk.title == "小红", "the other one's name"
    assert isinstance(said, MessageRecord)
    assert said.direction is Direction.OUTBOUND
    assert said.sent_at == datetime.fromtimestamp(1_710_000_000, UTC)


def test_media_are_references() -> None:
    event = private_message(9, "", message_type="image", resource_url="https://p.example/a.jpeg")
    (_talk, said) = read_event(event, ME)
    assert isinstance(said, MessageRecord)
    assert said.content_type == "image"
    assert [one.url for one in said.attachments] == ["https://p.example/a.jpeg"]


def test_a_comment() -> None:
    (said,) = read_event(comment_event(3, reply_to_comment_id="@top=="), ME)
    assert isinstance(said, CommentRecord)
    assert (said.external_id, said.post_id, said.parent_id) == ("@comment-3", "@item-1", "@top==")
    assert (said.author_id, said.author_name, said.text) == (FAN, "小红", "好看")
    (top,) = read_event(comment_event(4), ME)
    assert isinstance(top, CommentRecord)
    assert top.parent_id == "", "0 is none"
    (mine,) = read_event(comment_event(5, comment_user_id=ME), ME)
    assert isinstance(mine, CommentRecord)
    assert mine.direction is Direction.OUTBOUND


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"event": "something_new", "content": {}},
        {"event": "im_receive_msg", "content": "no JSON"},
        {"event": "im_receive_msg", "content": "[" * 100_000},
        {"event": "im_receive_msg", "content": {}, "to_user_id": ME},
        comment_event(1, create_time="long ago"),
        comment_event(1, comment_id=""),
        private_message(1) | {"to_user_id": "somebody else"},
    ],
)
def test_what_nobody_knows_is_refused_with_the_reason(raw: Any) -> None:
    (refused,) = read_event(raw, ME)
    assert isinstance(refused, Refused)
    assert refused.error
    assert json.loads(refused.raw) == raw


def test_known_events_without_a_record_are_none() -> None:
    for name in OF_NO_INTEREST:
        assert read_event({"event": name, "content": {}}, ME) == []


@pytest.mark.parametrize(
    ("item", "count", "days_later", "age_days", "needed"),
    [
        ("known", 3, 0.5, 1, False),
        ("known", 4, 0.5, 1, True),
        ("known", 2, 0.5, 1, True),  # deleted ones are a change too
        ("known", 0, 0.5, 1, True),
        ("known", 3, 1, 1, True),  # one deleted, one new: as many as before
        ("known", 3, 1, 29.9, True),
        ("known", 3, 1, 31, False),
        ("known", 4, 1, 31, True),
        ("none", 0, 1, 1, False),
        ("new", 0, 1, 1, False),
        ("new", 1, 0, 1, True),
        ("new", -1, 0, 1, True),
        ("untold", -1, 0.5, 1, False),
        ("untold", -1, 1, 31, True),
    ],
)
def test_which_works_are_read(
    item: str, count: int, days_later: float, age_days: float, needed: bool
) -> None:
    read_at = 1e9
    place = Place().having("known", 3, read_at).having("none", 0, read_at)
    place = place.having("untold", -1, read_at)
    now = read_at + days_later * DAY_S
    assert place.needs(item, count, now - age_days * DAY_S, now) is needed


# --- webhooks ---------------------------------------------------------------------------------


def request(pushed: Pushed) -> HookRequest:
    headers = {name.lower(): value for name, value in pushed.headers.items()}
    return HookRequest("POST", headers, {}, pushed.body)


def check(pushed: Pushed, now: datetime = NOW, account: AccountRef = ACCOUNT) -> Any:
    return DouyinHooks().check(account, request(pushed), now)


def test_the_signature_of_the_documents() -> None:
    """sha1(client_secret + body), worked out by `sha1sum`."""
    account = replace(ACCOUNT, credentials={"client_secret": "abc"})
    body = b'{"event":"authorize"}'
    signature = "f6c68be8616b2137ee77fba347d95a235c3b363c"
    check(Pushed(body, {"X-Douyin-Signature": signature}), account=account)
    check(Pushed(body, {"X-Douyin-Signature": signature.upper()}), account=account)


def test_a_delivery_is_named_by_its_msg_id() -> None:
    delivery = check(douyin(private_message(1), msg_id="m-1"))
    assert (delivery.delivery_id, delivery.order_key) == ("m-1", "@talk==")
    assert delivery.recipient == ME
    assert check(douyin(private_message(1, event="im_send_msg"), msg_id="m")).recipient == ME
    assert check(douyin(comment_event(1), msg_id="m")).order_key == "@item-1"
    unnamed = douyin(private_message(1))
    assert check(unnamed).delivery_id == check(unnamed).delivery_id
    assert len(check(douyin(private_message(1), msg_id="x" * 300)).delivery_id) == 64


def test_signature_and_freshness() -> None:
    pushed = douyin(private_message(1), msg_id="m")
    for broken in (
        douyin(private_message(1), secret="another-secret"),
        replace(pushed, body=pushed.body + b" "),
        replace(pushed, headers={}),
    ):
        with pytest.raises(BadSignature):
            check(broken)
    with pytest.raises(BadSignature):
        check(pushed, account=replace(ACCOUNT, credentials={}))
    with pytest.raises(BadSignature, match="too old"):
        check(pushed, NOW + timedelta(days=15))
    with pytest.raises(BadSignature, match="too old"):
        check(douyin(comment_event(1)), NOW + timedelta(days=15))  # in seconds
    check(pushed, NOW + timedelta(days=13))
    for body in (b"{", b"[]", b'{"event": 1}', b'{"event": "x", "content": "no JSON"}'):
        with pytest.raises(Malformed):
            check(douyin(body))


def test_the_challenge_is_answered() -> None:
    event = {"event": "verify_webhook", "client_key": "", "content": {"challenge": 12345}}
    hooks = DouyinHooks()
    for pushed in (
        douyin(event),
        Pushed(compact(event)),
        douyin({**event, "content": '{"challenge": 12345}'}),
    ):
        assert json.loads(hooks.answer(ACCOUNT, request(pushed)) or b"") == {"challenge": 12345}
    with pytest.raises(BadSignature):
        hooks.answer(ACCOUNT, request(douyin(event, secret="another-secret")))
    assert hooks.answer(ACCOUNT, request(douyin(private_message(1, "verify_webhook")))) is None
    assert hooks.answer(ACCOUNT, request(Pushed(b"verify_webhook"))) is None
