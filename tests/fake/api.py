"""What the fake platform answers: reads of the truth, and the commands of tests. No I/O."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.fake.generate import Wanted, generate
from tests.fake.truth import Account, Refusal, Truth, Wire, entries

PAGE = 200  # records, at most, unless the request asks for fewer
WINDOW = 500  # ids


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def position(account: Account, token: str) -> int:
    """The place in the log that a token stands for. Raises `Refusal` 410 for one it is not of.
    `@1700000000000`: where what was written then or later begins."""
    if token.startswith("@"):
        return written_since(account, int(token[1:]))
    incarnation, _, place = token.partition(".")
    if not place.isdecimal() or incarnation != str(account.incarnation):
        raise Refusal(410, "the cursor is unknown")
    if int(place) > len(account.log):
        raise Refusal(410, "the cursor is of the future")
    return int(place)


def written_since(account: Account, moment: int) -> int:
    """Behind the last record before the first one of that time; conversations have none."""
    old = 0
    for place, record in enumerate(account.log, start=1):
        at = record.get("at")
        if isinstance(at, int) and at >= moment:
            return old
        old = place if isinstance(at, int) else old
    return old


def changes(account: Account, after: str, limit: int) -> Wire:
    """The newest records after a token; those between are left out as a gap, newest end first."""
    old = position(account, after) if after else 0
    end = len(account.log)
    begin = max(old, end - limit)
    return {
        "records": account.log[begin:end],
        "next": f"{account.incarnation}.{end}",
        "gap": [begin, old] if begin > old else None,
    }


def history(account: Account, incarnation: str, newer: int, older: int, limit: int) -> Wire:
    """The newest records of a gap, and what is left of it."""
    position(account, f"{incarnation}.{newer}")
    begin = max(older, newer - limit)
    return {
        "records": account.log[begin:newer],
        "gap": [begin, older] if begin > older else None,
    }


def listing(account: Account, kind: str, since: int, until: int) -> Wire:
    """Ids with their versions in the newest part of the window [since, until)."""
    found = sorted(
        (one["at"], one["id"], one.get("edited") or one["at"])
        for one in entries(account, kind)
        if since <= one["at"] < until
    )
    begin = since if len(found) <= WINDOW else found[-WINDOW][0]
    return {"since": begin, "ids": {id: edited for at, id, edited in found if at >= begin}}


def records(account: Account, kind: str, ids: list[str]) -> Wire:
    """As they are now; those that are deleted or unknown are left out."""
    known = account.state.get(kind, {})
    return {"records": [known[id] for id in ids if id in known and not known[id].get("deleted")]}


def entry(account: Account, given: Wire, *, is_own: bool) -> Wire:
    """A new record of somebody who writes now."""
    thread = given["thread"]
    kind = "comment" if thread in account.state["post"] else "message"
    if kind == "message" and thread not in account.state["conversation"]:
        raise Refusal(404, f"there is no conversation {thread}")
    return {
        "type": kind,
        "id": uuid.uuid4().hex,
        "thread": thread,
        "parent": given.get("parent", ""),
        "sender": account.user if is_own else "friend",
        "name": account.name if is_own else given.get("name", "Fränzi 王"),
        "text": given["text"],
        "at": now_ms(),
        "own": is_own,
        "files": given.get("files", []),
    }


class Commands:
    """What tests ask for, by the last part of the path: `POST /control/say`. All return JSON."""

    def __init__(self, truth: Truth, tell: Callable[[str], None]) -> None:
        """`tell(user)` wakes those who wait for news."""
        self._truth, self._tell = truth, tell

    def carry_out(self, name: str, given: Wire) -> Any:
        command = getattr(self, f"do_{name}", None)
        if command is not None:
            return command(**given)
        self._truth.change(name, **given)
        self._tell(given.get("user", ""))
        return {}

    def do_conversation(self, user: str, title: str = "Fränzi 王") -> Wire:
        record = {"type": "conversation", "id": f"c-{uuid.uuid4().hex}", "title": title}
        return self._append(user, record)

    def do_post(self, user: str, title: str = "A work") -> Wire:
        account = self._truth.account(user)
        record = {
            "type": "post",
            "id": f"p-{uuid.uuid4().hex}",
            "title": title,
            "text": "",
            "sender": user,
            "name": account.name,
            "at": now_ms(),
        }
        return self._append(user, record)

    def do_say(self, user: str, own: bool = False, **given: Any) -> Wire:
        return self._append(user, entry(self._truth.account(user), given, is_own=own))

    def do_say_many(self, user: str, thread: str, texts: list[str]) -> Wire:
        account = self._truth.account(user)
        made = [entry(account, {"thread": thread, "text": text}, is_own=False) for text in texts]
        self._truth.change("load", user=user, records=made)
        self._tell(user)
        return {"ids": [one["id"] for one in made]}

    def do_edit(self, user: str, id: str, text: str) -> Wire:
        known = self._find(user, id)
        edited = max(now_ms(), (known.get("edited") or 0) + 1)
        return self._append(user, {**known, "text": text, "edited": edited})

    def do_delete(self, user: str, id: str) -> Wire:
        return self._append(
            user, {**self._find(user, id), "text": "", "files": [], "deleted": True}
        )

    def do_generate(self, user: str, **wanted: Any) -> Wire:
        made = generate(Wanted.of(wanted), now_ms())
        self._truth.change("load", user=user, records=made)
        self._tell(user)
        return {"records": len(made)}

    def do_truth(self, user: str) -> Wire:
        """All that the store should have in the end."""
        account = self._truth.account(user)
        return {
            **account.state,
            "unreadable": account.unreadable,
            "sent": account.sent,
            "read": account.read,
            "log": len(account.log),
        }

    def do_texts(self, user: str, thread: str) -> list[str]:
        account = self._truth.account(user)
        said = itertools.chain(entries(account, "message"), entries(account, "comment"))
        return [one["text"] for one in said if one["thread"] == thread]

    def _append(self, user: str, record: Wire) -> Wire:
        self._truth.change("load", user=user, records=[record])
        self._tell(user)
        return {"id": record["id"]}

    def _find(self, user: str, id: str) -> Wire:
        account = self._truth.account(user)
        for kind in ("message", "comment", "post"):
            if id in account.state[kind]:
                return account.state[kind][id]
        raise Refusal(404, f"there is no {id}")
