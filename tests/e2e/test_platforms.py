"""The real platforms through the whole of Muster: read, changed, answered, proven [S1, S9, S12]."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from sync.types import RecordKind
from tests.contract.email_stage import email_stage
from tests.contract.matrix_stage import wired_matrix_stage
from tests.contract.suite.stage import Ability, Stage
from tests.contract.wordpress_stage import wordpress_stage
from tests.contract.xmpp_stage import xmpp_stage
from tests.e2e.driving import add_account, api_of, everything
from tests.e2e.system import System
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# A platform's server, and a watched account on it.
STAGES: dict[str, tuple[str, Callable[[Any], AbstractAsyncContextManager[Stage]]]] = {
    "matrix": ("homeserver", wired_matrix_stage),
    "email": ("post", email_stage),
    "xmpp": ("prosody", xmpp_stage),
    "wordpress": ("site", wordpress_stage),
}


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[Stage]:
    server, make = STAGES[request.param]
    made = portal.wrap_async_context_manager(make(request.getfixturevalue(server)))
    with made as opened:
        yield opened


@pytest.fixture(scope="module")
def system(module_system: System, certificate: tuple[Path, Path]) -> System:
    """One that trusts the certificate of the mail server."""
    module_system.variables["SSL_CERT_FILE"] = str(certificate[0])
    module_system.up()
    return module_system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with api_of(system) as made:
        yield made


class Watched:
    """The stage's account in the running system."""

    def __init__(self, system: System, client: httpx.Client, stage: Stage) -> None:
        self.system, self.client, self.stage = system, client, stage
        self.are_comments = stage.kind is RecordKind.COMMENT
        self.id = add_account(client, stage.account)

    def get(self, path: str = "") -> Any:
        return self.client.get(f"/accounts/{self.id}{path}").raise_for_status().json()

    def ask(self, what: str) -> Any:
        answer = self.client.post(f"/accounts/{self.id}/{what}", json={})
        return answer.raise_for_status().json()

    def entries(self) -> dict[str, dict[str, Any]]:
        """What is stored, by external id."""
        path = "/comments" if self.are_comments else "/messages"
        rows = everything(self.client, path, account=str(self.id))
        found = {row["external_id"]: row for row in rows}
        assert len(found) == len(rows)
        return found

    def stored(self, entry: str, **fields: object) -> dict[str, Any]:
        """The entry, once it is stored and is as `fields` say."""
        if not self.stage.platform.can_wait:
            self.ask("check")

        def found() -> dict[str, Any]:
            row = self.entries().get(entry)
            return row if row and fields.items() <= row.items() else {}

        return eventually(found)

    def reply(self, answered: dict[str, Any], text: str) -> dict[str, Any]:
        """Say something below an entry, as an operator does."""
        where = "comments" if self.are_comments else "conversations"
        target = answered["id"] if self.are_comments else answered["conversation"]
        posted = self.client.post(f"/{where}/{target}/replies", json={"text": text})
        return self._sent(posted.raise_for_status().json()["id"])

    def _sent(self, reply_id: int) -> dict[str, Any]:
        """The reply once it was sent. The time that a lost answer is given is over at once."""

        def reply() -> dict[str, Any]:
            found: dict[str, Any] = self.client.get(f"/replies/{reply_id}").json()
            return found

        if eventually(lambda: (one := reply())["state"] != "pending" or one["error"]) is not True:
            with self.system.database() as database:
                database.execute("UPDATE sync_reply SET next_attempt_at = now()")
            self.ask("check")
            eventually(lambda: reply()["state"] != "pending")
        assert reply()["state"] == "sent", reply()
        return reply()

    def _asked_audit(self) -> int:
        answer = self.client.post(f"/accounts/{self.id}/audits", json={})
        assert answer.status_code in (202, 409), answer.text
        return int(answer.json()["id"]) if answer.status_code == 202 else 0

    def proven(self) -> dict[str, Any]:
        """The account once an audit found it complete. The first one may be under way."""
        asked = eventually(self._asked_audit)

        def outcome() -> str:
            row = self.get("/audits")["results"][0]
            return str(row["outcome"]) if row["id"] >= asked else ""

        eventually(lambda: outcome() not in ("", "running"))
        assert outcome() == "complete", self.get("/audits")
        shown: dict[str, Any] = self.get()
        assert shown["complete_until"], shown
        return shown


def test_everything_of_a_platform_arrives_once_and_is_answered_once(
    system: System, client: httpx.Client, stage: Stage, portal: BlockingPortal
) -> None:
    talk = portal.call(stage.thread)
    early = portal.call(stage.say, talk, "early: grüße 你好")
    elsewhere = portal.call(stage.say_as_account, talk, "from our phone")
    account = Watched(system, client, stage)
    first = account.stored(early, text="early: grüße 你好", direction="inbound")
    account.stored(elsewhere, text="from our phone", direction="outbound")

    late, wrong, gone = (portal.call(stage.say, talk, text) for text in ("late", "teh", "secret"))
    for entry in (late, wrong, gone):
        account.stored(entry, direction="inbound", is_deleted=False)
    expected = {early: first["text"], elsewhere: "from our phone", late: "late", wrong: "teh"}
    if stage.has(Ability.EDITS) or account.are_comments:
        portal.call(stage.edit, talk, wrong, "the")
        account.stored(wrong, text="the")
        expected[wrong] = "the"
    portal.call(stage.delete, talk, gone)
    if stage.has(Ability.DELETIONS):
        account.stored(gone, is_deleted=True)

    plain, lost = "你好 <answer> & more", f"lost{uuid.uuid4().hex}"
    stage.sending_wire.lose_answer_to(lost)
    for text in (plain, lost):
        reply = account.reply(first, text)
        account.stored(reply["external_id"], text=text, direction="outbound")
        expected[reply["external_id"]] = text
    assert stage.sending_wire.broken == 1
    if not account.are_comments:
        account.ask("read")
        account.ask("check")
    if stage.has(Ability.MARKS_READ):
        eventually(lambda: portal.call(stage.is_read, talk, wrong))

    shown = account.proven()
    left = {id: row["text"] for id, row in account.entries().items() if not row["is_deleted"]}
    assert left == expected
    said = portal.call(stage.texts, talk)
    assert [said.count(plain), said.count(lost)] == [1, 1]
    assert shown["unread_total"] == 0
    assert (shown["error_count"], shown["login_state"]) == (0, "success")
    assert not client.get("/dead-letters", params={"account": account.id}).json()["results"]
