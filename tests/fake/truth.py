"""What the fake platform holds, as plain data; each change of it is journalled, so that the server
may be killed.

A record is a dict as it goes over the wire: `type` (conversation, message, post, comment, or what
nobody knows), `id`, and the fields of `sync.types` under short names; times are milliseconds since
1970. An account's `log` has every version in the order in which readers get them; `state` has the
newest version of each record, whatever the order of the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Wire = dict[str, Any]
KINDS = ("conversation", "message", "post", "comment")


@dataclass
class Account:
    user: str
    password: str
    name: str
    incarnation: int = 1  # cursors of an earlier one are unknown
    log: list[Wire] = field(default_factory=list)
    state: dict[str, dict[str, Wire]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    unreadable: dict[str, Wire] = field(default_factory=dict)  # by id; belong to the dead letters
    tokens: set[str] = field(default_factory=set)
    sent: dict[str, list[str]] = field(default_factory=dict)  # ids by key; more than one is bad
    read: dict[str, str] = field(default_factory=dict)  # conversation → message


class Refusal(Exception):
    """The request can't be done: HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class Truth:
    """All accounts. Methods whose names are in `JOURNALLED` are the only ones that change it."""

    JOURNALLED = ("add", "set_password", "load", "log_in", "log_out", "forget", "mark_read")

    def __init__(self, journal: Path) -> None:
        """Goes on where the journal ends."""
        self.accounts: dict[str, Account] = {}
        self.owners: dict[str, str] = {}  # user by token
        if journal.exists():
            for line in journal.read_bytes().splitlines():
                name, values = json.loads(line)
                getattr(self, f"_{name}")(**values)
        self._journal = journal.open("ab", buffering=0)

    def change(self, operation: str, /, **values: Any) -> None:
        """Carry out one of `JOURNALLED` once it can't be forgotten."""
        if operation not in self.JOURNALLED:
            raise Refusal(404, f"there is no {operation}")
        self._journal.write(json.dumps([operation, values]).encode() + b"\n")
        getattr(self, f"_{operation}")(**values)

    def account(self, user: str) -> Account:
        if user not in self.accounts:
            raise Refusal(404, f"there is no user {user}")
        return self.accounts[user]

    def owner(self, token: str) -> Account:
        if token not in self.owners:
            raise Refusal(401, "the token is unknown or has expired")
        return self.accounts[self.owners[token]]

    def _add(self, user: str, password: str, name: str) -> None:
        self.accounts.setdefault(user, Account(user, password, name))

    def _set_password(self, user: str, password: str) -> None:
        self.account(user).password = password

    def _load(self, user: str, records: list[Wire], key: str = "") -> None:
        account = self.account(user)
        for record in records:
            account.log.append(record)
            take(account, record)
        if key:
            account.sent.setdefault(key, []).extend(record["id"] for record in records)

    def _log_in(self, user: str, token: str) -> None:
        self.account(user).tokens.add(token)
        self.owners[token] = user

    def _log_out(self, user: str) -> None:
        account = self.account(user)
        for token in account.tokens:
            del self.owners[token]
        account.tokens.clear()

    def _forget(self, user: str) -> None:
        self.account(user).incarnation += 1

    def _mark_read(self, user: str, thread: str, entry: str) -> None:
        self.account(user).read[thread] = entry


def take(account: Account, record: Wire) -> None:
    """Keep the record as the state, unless a newer version of it is there."""
    kind, id = record.get("type"), record.get("id")
    if kind not in account.state or record.get("unreadable"):
        account.unreadable[str(id)] = record
        return
    known = account.state[kind].get(str(id))
    if known is None or version(known) <= version(record):
        account.state[kind][str(id)] = record


def version(record: Wire) -> tuple[bool, int]:
    return bool(record.get("deleted")), record.get("edited") or 0


def entries(account: Account, kind: str) -> Iterable[Wire]:
    """Messages, posts or comments that are not deleted."""
    return (one for one in account.state[kind].values() if not one.get("deleted"))
