"""What the API's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F

from lifecycle import services
from lifecycle.backends.base import LogStart
from lifecycle.errors import BackendUnavailable
from lifecycle.logs.lines import Piece, Place
from lifecycle.types import Alive, Instance, ProcessRef
from sync.models import Account, Comment, Conversation, DeadLetter, Message, Post, SyncRun

V1 = "/api/v1"
CREDENTIALS = {"username": "sales", "password": "hunter2"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def errors_of(response: Any, status: int) -> dict[str | None, str]:
    """The codes of an error answer by attribute, after checking that it has the one shape: with
    both versions where an edit was out of date, and nowhere else."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert body["errors"]
    out_of_date = body["errors"][0]["code"] == "out_of_date"
    assert set(body) == {"type", "errors"} | ({"conflict"} if out_of_date else set())
    for error in body["errors"]:
        assert set(error) == {"code", "detail", "attr"}
        assert error["detail"]
    return {error["attr"]: error["code"] for error in body["errors"]}


def detail_of(response: Any) -> str:
    return str(response.json()["errors"][0]["detail"])


def spawn(worker_id: str, generation: int = 1, pid: int = 4242) -> Instance:
    """What the master and the agent do after a start: claim it, and say that a process exists."""
    instance = Instance(worker_id, generation)
    services.claim_start(worker_id, generation)
    services.spawned(Alive(instance, ProcessRef(pid, 1, "boot"), datetime.now(UTC)))
    return instance


class PrintedLog:
    """A backend whose workers printed these lines; `asked` is what was read of whom."""

    def __init__(self, *lines: str) -> None:
        self.text = "".join(f"{line}\n" for line in lines).encode()
        self.asked: list[tuple[str, str, LogStart]] = []
        self.start, self.whole = Place(3, 7), True

    def read_log(self, worker_id: str, stream: str, start: LogStart) -> PrintedLog:
        self.asked.append((worker_id, stream, start))
        return self

    follow_log = read_log

    def pieces(self) -> Iterator[Piece]:
        yield Piece(self.start, self.text)


class AwayLog:
    def read_log(self, worker_id: str, stream: str, start: LogStart) -> PrintedLog:
        raise BackendUnavailable("the agent does not answer")

    follow_log = read_log


def run(worker_id: str) -> Instance:
    services.request_start(worker_id, "test")
    instance = spawn(worker_id)
    services.ready(instance, {"worker": "0.1.0", "python": "3.11", "celery": "5.6"})
    return instance


def make_account(number: int = 1, **fields: Any) -> Account:
    return Account.objects.create(
        platform="matrix",
        identifier=f"@sales-{number}:example.org",
        endpoint="https://matrix.example.org",
        credentials=CREDENTIALS,
        **fields,
    )


def make_conversation(account: Account, number: int = 1, **fields: Any) -> Conversation:
    named = {"external_id": f"!room-{number}", "title": f"Room {number}"}
    return Conversation.objects.create(account=account, **{**named, **fields})


def make_message(conversation: Conversation, number: int = 1, **fields: Any) -> Message:
    said = {
        "external_id": f"${conversation.pk}-{number}",
        "sender_id": "@bob:example.org",
        "sender_name": "Bob",
        "text": f"message {number}",
        "direction": "inbound",
        "sent_at": NOON + timedelta(seconds=number),
    }
    message = Message.objects.create(
        account=conversation.account, conversation=conversation, **{**said, **fields}
    )
    unread = int(message.direction == "inbound" and not message.is_read)
    Conversation.objects.filter(pk=conversation.pk).update(unread_count=F("unread_count") + unread)
    Account.objects.filter(pk=conversation.account_id).update(
        unread_total=F("unread_total") + unread
    )
    return message


def make_letter(account: Account, number: int = 1, **fields: Any) -> DeadLetter:
    values: dict[str, Any] = {
        "kind": "message",
        "external_id": f"$dead-{number}",
        "identity": f"$dead-{number}",
        "raw": {"event_id": f"$dead-{number}", "body": "hunter2 words"},
        "error": "no sender",
    }
    return DeadLetter.objects.create(account=account, **{**values, **fields})


def fill(accounts: int, each: int) -> Account:
    """Accounts with `each` rows of every kind; returns the last account."""
    account = make_account(0)
    for number in range(1, accounts + 1):
        account = make_account(number)
        for row in range(each):
            conversation = make_conversation(account, row, last_message_at=NOON)
            make_message(conversation, row)
            post = Post.objects.create(
                account=account, external_id=f"p{row}", author_id="a", published_at=NOON
            )
            Comment.objects.create(
                account=account,
                post=post,
                external_id=f"c{row}",
                author_id="b",
                direction="inbound",
                published_at=NOON,
            )
            SyncRun.objects.create(account=account, sequence=row, epoch=1, outcome="committed")
            DeadLetter.objects.create(
                account=account,
                kind="message",
                identity=str(row),
                raw={"body": "raw words"},
                error="no sender",
            )
    return account
