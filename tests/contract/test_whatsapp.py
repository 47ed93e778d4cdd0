"""The WhatsApp adapter, and our webhook address, against a double of the Cloud API. No live account
was tried.

It has no history to read: the suite of the other platforms has nothing to ask of it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection as database
from django.utils import timezone

from crm.asgi import Handler
from sync.errors import (
    LoginExpired,
    LoginFailed,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.models import Account, HookDelivery
from sync.platforms.whatsapp import platform
from sync.platforms.whatsapp.adapter import WhatsAppConnection
from sync.platforms.whatsapp.hooks import WhatsAppHooks
from sync.types import AccountRef, MessageRecord, OutgoingReply, Refused
from tests.contract.suite.reading import read, tell_nobody
from tests.contract.suite.wire import Wire, wire_to
from tests.doubles.process import DoubleProcess
from tests.pushed.requests import CUSTOMER, NUMBER, WHATSAPP
from tests.served import served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

DAY_S = 86_400
T = TypeVar("T")


class Stage:
    def __init__(self, double: DoubleProcess, wire: Wire) -> None:
        self.double, self.wire = double, wire
        endpoint = f"http://127.0.0.1:{wire.port}"
        self.account = AccountRef(1, "whatsapp", NUMBER, endpoint, dict(WHATSAPP), {})


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Stage]:
    async with DoubleProcess("whatsapp", tmp_path) as double, wire_to(double.port) as wire:
        yield Stage(double, wire)


@pytest.fixture
async def connection(stage: Stage) -> AsyncIterator[WhatsAppConnection]:
    async with platform.connect(stage.account) as opened:
        await opened.login(tell_nobody)
        yield opened


def reply(text: str, key: str = "key-1") -> OutgoingReply:
    return OutgoingReply(key, text, datetime.now(UTC), conversation_id=CUSTOMER)


# --- login and reading ------------------------------------------------------------------------


async def test_login(stage: Stage) -> None:
    async with platform.connect(stage.account) as connection:
        session = await connection.login(tell_nobody)
        assert session == {
            "phone_number_id": NUMBER,
            "phone_number": "+1 555-078-3881",
            "name": "Shop",
        }
        assert [batch.records for batch in await read(connection)] == [()]
        await stage.double.order("revoke")
        with pytest.raises(LoginExpired, match="190"):
            await read(connection)
        with pytest.raises(LoginFailed, match="190"):
            await connection.login(tell_nobody)
    wrong = replace(stage.account, identifier="999")
    async with platform.connect(wrong) as connection:
        with pytest.raises(LoginFailed):
            await connection.login(tell_nobody)


async def test_the_session_outlives_the_server(
    stage: Stage, connection: WhatsAppConnection
) -> None:
    stage.double.kill()
    with pytest.raises(PlatformUnavailable):
        await read(connection)
    await stage.double.start()
    assert await read(connection)


# --- replies ----------------------------------------------------------------------------------


async def test_replies(stage: Stage, connection: WhatsAppConnection) -> None:
    await stage.double.order("say", text="多少钱？")
    assert await connection.send(reply("你好 <answer> & more")) == "wamid.sent1"
    (sent,) = await stage.double.order("look", at="sent")
    assert (sent["to"], sent["text"]["body"]) == (CUSTOMER, "你好 <answer> & more")
    assert sent["biz_opaque_callback_data"] == "key-1"
    with pytest.raises(RequestRejected, match="too long"):
        await connection.send(reply("x" * 4097))
    stage.wire.lose_answer_to("lost")
    with pytest.raises(PlatformUnavailable):
        await connection.send(reply("lost"))
    with pytest.raises(RequestRejected, match="may have been sent"):
        await connection.find_sent(reply("lost"))
    sent = await stage.double.order("look", at="sent")
    assert [one["text"]["body"] for one in sent].count("lost") == 1


async def test_a_reply_after_24_hours_is_refused(
    stage: Stage, connection: WhatsAppConnection
) -> None:
    await stage.double.order("say", text="yesterday", at=time.time() - DAY_S - 1)
    with pytest.raises(RequestRejected, match="more than 24 hours"):
        await connection.send(reply("late"))
    await stage.double.order("say", text="today")
    assert await connection.send(reply("in time"))


async def test_trouble_has_its_name(stage: Stage, connection: WhatsAppConnection) -> None:
    await stage.double.order("say", text="hello")
    for status, code, error in (
        (400, 130429, RateLimited),
        (500, 131000, PlatformUnavailable),
        (400, 131026, RequestRejected),
        (401, 190, LoginExpired),
    ):
        await stage.double.order("fail", status=status, code=code)
        with pytest.raises(error):
            await connection.send(reply("x"))
    assert await connection.send(reply("x"))


# --- what is pushed ---------------------------------------------------------------------------


@pytest.fixture
def account(transactional_db: None) -> Account:
    return Account.objects.create(
        platform="whatsapp", identifier=NUMBER, credentials=WHATSAPP, next_due_at=timezone.now()
    )


@pytest.fixture
def address(account: Account) -> Iterator[str]:
    """Where the platform pushes to."""
    with served(Handler()) as url:
        yield f"{url}/api/v1/hooks/whatsapp/{account.pk}"


async def in_database(ask: Callable[[], T]) -> T:
    """In a thread, which leaves no connection behind."""

    def run() -> T:
        try:
            return ask()
        finally:
            database.close()

    return await sync_to_async(run)()


async def test_what_is_pushed_arrives_once(stage: Stage, account: Account, address: str) -> None:
    right = WHATSAPP["verify_token"]
    order = stage.double.order
    assert await order("subscribe", url=address, verify_token=right) == [200, "1158201444"]
    status, said = await order("subscribe", url=address, verify_token="wrong")
    assert (status, "1158201444" in said) == (401, False)

    await order("say", text="你好 👩🏽‍🚀")
    await order("say", content={"type": "image", "image": {"id": "I", "caption": "this one"}})
    await order("status", message="wamid.sent1", status="failed")
    for _ in range(2):  # Meta sends some twice
        assert await order("deliver", url=address) == [200, 200, 200]
    kept = await in_database(lambda: list(HookDelivery.objects.order_by("pk")))
    assert len(kept) == 3
    hooks, ref = WhatsAppHooks(), replace(stage.account, account_id=account.pk)
    rows = [row for one in kept for row in hooks.read(ref, {}, bytes(one.body))]
    said = [(one.text, one.content_type) for one in rows if isinstance(one, MessageRecord)]
    assert said == [("你好 👩🏽‍🚀", "text"), ("this one", "image")]
    (failed,) = (one for one in rows if isinstance(one, Refused))
    assert "131026" in failed.error


async def test_what_another_app_signed_is_refused(
    stage: Stage, account: Account, address: str
) -> None:
    account.credentials = {**WHATSAPP, "app_secret": "another-secret"}
    await in_database(account.save)
    await stage.double.order("say", text="hello")
    assert await stage.double.order("deliver", url=address) == [401]
    assert not await in_database(HookDelivery.objects.exists)
    async with httpx.AsyncClient() as client:
        answer = await client.post(address, content=b"{}")
    assert answer.status_code == 401
