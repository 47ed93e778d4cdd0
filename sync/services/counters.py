"""Counters against the rows that they count [S10].

They are kept right by the transactions that change the rows. Here somebody looks whether that is
so: a difference is a bug, and is repaired and reported.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db import connection, transaction

from sync import feed, sql
from sync.models import Account, SyncRun
from sync.types import RecordKind, RunOutcome

log = logging.getLogger(__name__)

AT_ONCE = 500  # conversations in one statement
MOST_SHOWN = 20  # differences in the text of one account's row


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter of a conversation, or of its account (`conversation_id` None), that was wrong."""

    account_id: int
    conversation_id: int | None
    counter: str
    said: int
    counted: int

    def __str__(self) -> str:
        whose = f"conversation {self.conversation_id}" if self.conversation_id else "the account"
        return f"{self.counter} of {whose} said {self.said}, there are {self.counted}"


def recount(*, repair: bool = True) -> list[Difference]:
    """Compare every counter with its rows; the differences, repaired unless only looked for.

    Each statement compares counters and rows as of one moment, so nobody is held up while there is
    nothing wrong. One transaction for each account that is repaired.
    """
    found = sorted(_differences(), key=lambda one: one.account_id)
    for account_id, ours in groupby(found, key=lambda one: one.account_id):
        _report(account_id, list(ours), repair)
    return found


def _differences() -> Iterator[Difference]:
    """Of conversations against their messages, then of accounts against their conversations."""
    after = 0
    while rows := _rows(sql.counts.COUNT_CONVERSATIONS, {"after": after, "most": AT_ONCE}):
        after = rows[-1][0]
        for conversation_id, account_id, *figures in rows:
            yield from _unequal(account_id, conversation_id, ("unread", "messages"), figures)
    counters = ("unread", "messages", "conversations", "posts", "comments")
    for account_id, *figures in _rows(sql.counts.COUNT_ACCOUNTS, {}):
        yield from _unequal(account_id, None, counters, figures)


def _unequal(
    account_id: int, conversation_id: int | None, counters: Sequence[str], figures: Sequence[int]
) -> Iterator[Difference]:
    """`figures`: what each counter says and what was counted, in turns."""
    for counter, said, counted in zip(counters, figures[::2], figures[1::2], strict=True):
        if said != counted:
            yield Difference(account_id, conversation_id, counter, said, counted)


def _report(account_id: int, found: list[Difference], repair: bool) -> None:
    """Where people look: the log, and the account's sync runs."""
    for one in found:
        log.error("a counter is wrong: %s", one, extra={"account_id": account_id})
    if not repair:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.books.LOCK_ACCOUNT, [account_id])
        ids = sorted({one.conversation_id for one in found if one.conversation_id})
        cursor.execute(sql.counts.REPAIR_CONVERSATIONS, {"ids": ids})
        cursor.execute(sql.counts.REPAIR_ACCOUNT, {"account": account_id})
        epoch = Account.objects.values_list("epoch", flat=True).filter(pk=account_id).first()
        if epoch is None:  # deleted since
            return
        SyncRun.objects.create(
            account_id=account_id, epoch=epoch, outcome=RunOutcome.FAILED, error=_text(found)
        )
        feed.append(
            account_id,
            {RecordKind.CONVERSATION: {"changed": ids}, "account": {"changed": [account_id]}},
        )


def _text(found: Sequence[Difference]) -> str:
    shown = "; ".join(map(str, found[:MOST_SHOWN]))
    rest = f"; and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
    return f"recount: counters were wrong and are repaired: {shown}{rest}"


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[int, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[int, ...]] = cursor.fetchall()
    return found


def lines(found: Iterable[Difference]) -> list[str]:
    """For people, one line each."""
    return [f"account {one.account_id}: {one}" for one in found]
