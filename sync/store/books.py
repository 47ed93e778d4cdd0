"""What else a batch leaves: refused records and gaps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from django.db.backends.utils import CursorWrapper

from sync import sql
from sync.models import DeadLetter
from sync.types import OpenGap, Refused

KEY = ("kind", "identity")  # and the account: dead_letter_is_there_once
# Of a letter whose record came in a newer version: what a person made of the older one (a repair, a
# replay, a discard) says nothing of it.
RENEWED = [
    *("shape", "raw", "fixed", "size", "error", "state", "resolved_at", "resolved_by"),
    "created_at",
]


def keep_gaps(cursor: CursorWrapper, account_id: int, gaps: Sequence[OpenGap] | None) -> None:
    """The account's open gaps are exactly these; those that are open no more are closed [S9]."""
    if gaps is None:
        return
    one_each = {gap.key: gap for gap in gaps}
    cursor.execute(sql.books.CLOSE_GAPS, {"account": account_id, "keys": list(one_each)})
    if one_each:
        cursor.execute(
            sql.books.OPEN_GAPS,
            {
                "account": account_id,
                "keys": list(one_each),
                "scopes": [gap.scope for gap in one_each.values()],
                "newer": [gap.newer_end for gap in one_each.values()],
                "older": [gap.older_end for gap in one_each.values()],
                "reasons": [gap.reason for gap in one_each.values()],
            },
        )


def keep_refused(account_id: int, refused: Sequence[Refused]) -> None:
    """A row for each refusal, open. What is there already with the same raw record (the account was
    read anew) stays as it is, also where a person replayed or discarded it; a newer version of it
    takes its place and is open. The caller holds the account's row: nobody writes beside this.
    """
    if not refused:
        return
    last = {(letter.kind, letter.identity): letter for letter in _letters(account_id, refused)}
    kinds, identities = zip(*last, strict=True)
    there = DeadLetter.objects.filter(
        account_id=account_id, kind__in=kinds, identity__in=identities
    )
    held = {(one.kind, one.identity): _text(one.raw) for one in there.only(*KEY, "raw")}
    DeadLetter.objects.bulk_create(
        [letter for key, letter in last.items() if held.get(key) != _text(letter.raw)],
        update_conflicts=True,
        unique_fields=["account", *KEY],
        update_fields=RENEWED,
    )


def _letters(account_id: int, refused: Sequence[Refused]) -> Iterator[DeadLetter]:
    for one in refused:
        content = one.raw.encode(errors="replace")
        yield DeadLetter(
            account_id=account_id,
            kind=one.kind,
            external_id=one.external_id,
            identity=one.external_id or sha256(content).hexdigest(),
            shape=one.shape,
            raw=_raw(one.raw),
            size=len(content),
            error=one.error,
        )


def _text(raw: Mapping[str, Any]) -> str:
    """To tell versions apart: two that are not a number are the same here."""
    return json.dumps(raw, sort_keys=True)


def _raw(text: str) -> dict[str, Any]:
    """The raw record as the JSON object that the encrypted field takes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}
