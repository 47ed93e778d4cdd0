"""What sync stores in English is shown in Chinese on each page of the admin, and stays English in
the API [C6]."""

from __future__ import annotations

from html import unescape

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from sync.models import (
    Account,
    Audit,
    Conversation,
    DeadLetter,
    Gap,
    HookDelivery,
    HookEndpoint,
    LoginSession,
    PlatformServer,
    Reply,
    SyncRun,
)
from tests.db.api_helpers import V1

pytestmark = pytest.mark.django_db

ERROR = "HTTP 502 from the homeserver: is this the address of a Matrix homeserver?"
STORED = {  # where: (the stored text, what a Chinese reader sees)
    "account": (ERROR, "主服务器返回 HTTP 502：这是 Matrix 主服务器的地址吗？"),
    "notice": (
        "The platform no longer knows our cursor: reading all that it still has, anew. (the cursor "
        "is not one of ours)",
        "(游标不是我们的)",
    ),
    "server": ("no answer within 60 s", "60 秒内没有回答"),
    "run": ("unexpected KeyError; see the worker's log", "意外的 KeyError；见工作进程的日志"),
    "audit": (
        "2 gaps are open, 1 dead letter is open",
        "有 2 个缺口未补，有 1 条死信未处理",
    ),
    "gap": ("these comments are still to be read", "这些评论还没有读取"),
    "gap's end": ("the newest", "最新"),
    "letter": (
        "content.body: Field required; origin_server_ts: Input should be a valid integer",
        "content.body: 缺少此字段; origin_server_ts: 内容应为有效的整数",
    ),
    "login": ("Nobody finished the login in time.", "没有人在规定时间内完成登录。"),
    "reply": (
        "the mail server refuses the login: no such user",
        "邮件服务器拒绝 登录：no such user",
    ),
    "delivery": ("the body is not JSON", "正文不是 JSON"),
    "rejection": ("it is too old to be sent now", "它过旧，不可能是现在发出的"),
}
PLACES = {
    "account": ["home", "sync_account", "proof", "sync_platformserver"],
    "notice": ["proof", "sync_account"],
    "server": ["sync_platformserver"],
    "run": ["sync_syncrun", "syncrun"],
    "audit": ["sync_audit", "audit", "proof"],
    "gap": ["sync_gap", "gap", "proof"],
    "gap's end": ["sync_gap", "gap", "proof"],
    "letter": ["sync_deadletter", "deadletter", "discard"],
    "login": ["sync_loginsession", "loginsession"],
    "reply": ["sync_reply", "reply", "thread"],
    "delivery": ["sync_hookdelivery", "hookdelivery", "account"],
    "rejection": ["account"],
}


@pytest.fixture
def stored(db: None) -> Account:
    """A row for each text; the notice stands on a second account, that does not fail."""
    now, text = timezone.now(), {name: stored for name, (stored, _shown) in STORED.items()}
    account = Account.objects.create(
        platform="telegram",
        identifier="bot",
        error_count=3,
        last_error=text["account"],
        last_error_at=now,
        stalled_since=now,
        last_sync_at=now,
    )
    Account.objects.create(
        platform="matrix",
        identifier="@a:b",
        enabled=False,
        notice=text["notice"],
        notice_at=now,
    )
    PlatformServer.objects.create(platform="telegram", failures=5, last_error=text["server"])
    SyncRun.objects.create(account=account, epoch=1, outcome="failed", error=text["run"])
    Audit.objects.create(account=account, outcome="failed", since=now, error=text["audit"])
    Gap.objects.create(account=account, key="g", newer_end="the newest", reason=text["gap"])
    DeadLetter.objects.create(
        account=account, kind="message", identity="m", external_id="m", raw={}, error=text["letter"]
    )
    LoginSession.objects.create(
        account=account, state="expired", expires_at=now, message=text["login"]
    )
    talk = Conversation.objects.create(account=account, external_id="c", title="Talk")
    Reply.objects.create(
        account=account, conversation=talk, text="Hi", state="failed", error=text["reply"]
    )
    HookDelivery.objects.create(
        account=account, delivery_id="d", body=b"{", state="refused", error=text["delivery"]
    )
    HookEndpoint.objects.create(
        account=account, last_rejected_at=now, last_rejection=text["rejection"]
    )
    return account


def addresses(account: Account) -> dict[str, str]:
    """Each list, each row's page, and the parts that pages fetch."""
    found = {"home": reverse("admin:index")}
    for model in (one for one in admin.site._registry if one._meta.app_label == "sync"):
        label = model._meta.label_lower.replace(".", "_")
        found[label] = reverse(f"admin:{label}_changelist")
        if model is not PlatformServer and (row := first(model)):
            found[model._meta.model_name or ""] = reverse(f"admin:{label}_change", args=[row.pk])
    letter, talk = DeadLetter.objects.get(), Conversation.objects.get()
    return found | {
        "proof": reverse("admin:sync_account_proof", args=[account.pk]),
        "history": reverse("admin:sync_deadletter_history", args=[letter.pk]),
        "discard": reverse("admin:sync_deadletter_discard", args=[letter.pk]),
        "thread": reverse("admin:sync_reply_thread", args=["conversation", talk.pk]),
    }


def first(model: type[Model]) -> Model | None:
    return model._default_manager.order_by("pk").first()


def test_no_page_shows_what_is_stored_in_english(admin_client: Client, stored: Account) -> None:
    admin_client.cookies["django_language"] = "zh-hans"
    second = Account.objects.get(platform="matrix")
    pages = addresses(stored)
    shown = {}
    for name, address in pages.items():
        response = admin_client.get(address, follow=True)
        assert response.status_code == 200, address
        shown[name] = unescape(response.content.decode())
    of_second = reverse("admin:sync_account_proof", args=[second.pk])
    shown["proof"] += unescape(admin_client.get(of_second).content.decode())
    assert [
        (name, text) for name in shown for text, _ in STORED.values() if text in shown[name]
    ] == []
    assert "从 最初 到 最新" in shown["proof"]
    assert [
        (what, place)
        for what, places in PLACES.items()
        for place in places
        if STORED[what][1] not in shown[place]
    ] == []


def test_in_english_and_in_the_api_it_stays(
    admin_client: Client, api_client: APIClient, stored: Account
) -> None:
    proof = admin_client.get(reverse("admin:sync_account_proof", args=[stored.pk]))
    assert ERROR in unescape(proof.content.decode())
    chinese = {"Accept-Language": "zh-hans"}
    found = api_client.get(f"{V1}/accounts/{stored.pk}", headers=chinese).json()
    assert found["last_error"] == ERROR
    letters = api_client.get(f"{V1}/dead-letters", headers=chinese).json()["results"]
    assert [one["error"] for one in letters] == [STORED["letter"][0]]
