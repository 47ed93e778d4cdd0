"""The fake platform's HTTP server: `python -m tests.fake.server <directory> <port>`.

What the adapter asks goes through the faults; `/control/` never fails.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

from tests.fake import api
from tests.fake.faults import Fault, Faults, Misfortune
from tests.fake.truth import Account, Refusal, Truth, Wire

LONGEST_WAIT_S = 60.0
LARGE_PAGES = 50  # in one
ABOUT_A_RECORD = 250  # bytes
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
JSON = [(b"content-type", b"application/json")]


class Server:
    """An ASGI application."""

    def __init__(self, directory: Path) -> None:
        self.truth = Truth(directory / "journal")
        self.misfortune = Misfortune()
        self.waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.commands = api.Commands(self.truth, self.tell)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        try:
            body = await whole_body(receive)
            if path.startswith("/control/"):
                answer = self.control(path.removeprefix("/control/"), body)
                await respond(send, 200, answer)
            else:
                await self.serve(scope, path, body, receive, send)
        except Refusal as refusal:
            await respond(send, refusal.status, {"error": str(refusal)})
        except (KeyError, TypeError, ValueError) as error:
            await respond(send, 400, {"error": f"{type(error).__name__}: {error}"})

    def tell(self, user: str) -> None:
        for future in self.waiting.pop(user, ()):
            if not future.done():
                future.set_result(None)

    # --- for tests ---

    def control(self, name: str, given: Wire) -> Any:
        """`faults`: {chances…, user?} or {order: fault, path?}; `happened`; else `api.Commands`."""
        match name:
            case "faults" if "order" in given:
                self.misfortune.ordered.append((Fault(given["order"]), given.get("path", "")))
                return {}
            case "faults":
                self.misfortune.give(given.pop("user", ""), Faults.of(given))
                return {}
            case "happened":
                return dict(self.misfortune.happened)
            case _:
                return self.commands.carry_out(name, given)

    # --- for the adapter ---

    async def serve(
        self, scope: Scope, path: str, body: Wire, receive: Receive, send: Send
    ) -> None:
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        account = None if path == "/login" else self.truth.owner(token_of(scope))
        user = account.user if account else str(body.get("user", ""))
        faults = self.misfortune.of_request(user, path)
        if Fault.EXPIRE in faults and account:
            self.truth.change("log_out", user=user)
            raise Refusal(401, "the session has expired")
        if Fault.ERROR_500 in faults:
            raise Refusal(500, "something broke")
        if Fault.RATE_LIMIT in faults:
            wait_s = self.misfortune.settings(user).retry_after_s
            await respond(send, 429, {"error": "slow down"}, {"retry-after": str(wait_s)})
            return
        if Fault.HANG in faults:
            await until_gone(receive)
            return
        if Fault.SLOW in faults:
            await asyncio.sleep(self.misfortune.settings(user).slow_s)
        if account is None:
            answer = self.log_in(body)
        else:
            pages = LARGE_PAGES if Fault.LARGE in faults else 1
            answer = await self.answer(account, path, query, body, receive, pages)
            if "records" in answer:
                answer = self.spoilt(answer, account, faults)
        share = 0.0 if Fault.LOST_ANSWER in faults else 0.5 if Fault.HALF in faults else 1.0
        await respond(send, 200, answer, share=share)

    def log_in(self, body: Wire) -> Wire:
        account = self.truth.accounts.get(body["user"])
        if account is None or account.password != body["password"]:
            raise Refusal(403, "user or password is wrong")
        token = secrets.token_urlsafe(16)
        self.truth.change("log_in", user=account.user, token=token)
        return {"token": token, "user": account.user}

    async def answer(
        self,
        account: Account,
        path: str,
        query: dict[str, str],
        body: Wire,
        receive: Receive,
        pages: int,
    ) -> Wire:
        limit = min(api.PAGE, int(query.get("limit") or api.PAGE)) * pages
        match path:
            case "/changes":
                after, wait_s = query["after"], float(query.get("wait") or 0)
                if after and wait_s and api.position(account, after) == len(account.log):
                    await self.news(account.user, min(wait_s, LONGEST_WAIT_S), receive)
                return api.changes(account, after, limit)
            case "/history":
                newer, older = int(query["newer"]), int(query["older"])
                return api.history(account, query["incarnation"], newer, older, limit)
            case "/ids":
                return api.listing(account, query["kind"], int(query["since"]), int(query["until"]))
            case "/records":
                return api.records(account, body["kind"], body["ids"])
            case "/entries":
                return self.send(account, body)
            case "/sent":
                sent = account.sent.get(query["key"], [])
                return {"id": sent[0] if sent else None}
            case "/read":
                self.truth.change(
                    "mark_read", user=account.user, thread=body["thread"], entry=body["entry"]
                )
                return {}
            case _:
                raise Refusal(404, f"there is no {path}")

    def send(self, account: Account, body: Wire) -> Wire:
        """Idempotent by its key only if the request says so (`once`)."""
        sent = account.sent.get(body["key"], [])
        if body["once"] and sent:
            return {"id": sent[0]}
        made = api.entry(account, body, is_own=True)
        self.truth.change("load", user=account.user, records=[made], key=body["key"])
        self.tell(account.user)
        return {"id": made["id"]}

    async def news(self, user: str, wait_s: float, receive: Receive) -> None:
        """Until there is some, the time is over, or whoever asked has gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[user].add(future)
        gone = asyncio.create_task(until_gone(receive))
        try:
            await asyncio.wait((future, gone), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if others := self.waiting.get(user):
                others.discard(future)

    def spoilt(self, answer: Wire, account: Account, faults: set[Fault]) -> Wire:
        """The page, with its records repeated, disordered, or far too many."""
        records = list(answer["records"])
        chance = random.Random(len(account.log) + len(records))
        if Fault.DUPLICATES in faults and records:
            records += chance.choices(records, k=len(records) // 2 + 1)
            records += chance.choices(account.log, k=10)
        if Fault.REORDER in faults:
            chance.shuffle(records)
        answer = {**answer, "records": records}
        if Fault.LARGE in faults:
            limits = self.misfortune.settings(account.user)
            missing = limits.large_bytes - ABOUT_A_RECORD * len(records)
            answer["padding"] = "x" * max(0, missing)
        return answer


def token_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value.decode()).removeprefix("Bearer ")
    return ""


async def whole_body(receive: Receive) -> Wire:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"".join(pieces)
    given = json.loads(body) if body else {}
    if not isinstance(given, dict):
        raise TypeError("a body is an object")
    return given


async def until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(
    send: Send,
    status: int,
    answer: Any,
    headers: dict[str, str] | None = None,
    *,
    share: float = 1.0,
) -> None:
    """`share` below 1: the length of all of it and a part of it; the connection breaks there."""
    body = json.dumps(answer, ensure_ascii=False).encode()
    named = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*JSON, *named, length]}
    await send(start)
    part = body[: int(len(body) * share)]
    # uvicorn closes the connection of an application that leaves its response unfinished.
    await send({"type": "http.response.body", "body": part, "more_body": len(part) < len(body)})


def main() -> None:
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    uvicorn.run(
        Server(directory),
        host="127.0.0.1",
        port=port,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=120,
    )


if __name__ == "__main__":
    main()
