"""What else a batch leaves: refused records and gaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from django.db.backends.utils import CursorWrapper

from sync import sql
from sync.models import DeadLetter
from sync.types import OpenGap, Refused


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
    """A row for each refusal; one that is there already (the account was read anew) stays one."""
    DeadLetter.objects.bulk_create(
        (
            DeadLetter(
                account_id=account_id,
                kind=one.kind,
                external_id=one.external_id,
                identity=one.external_id or sha256(one.raw.encode(errors="replace")).hexdigest(),
                shape=one.shape,
                raw=_raw(one.raw),
                size=len(one.raw.encode(errors="replace")),
                error=one.error,
            )
            for one in refused
        ),
        ignore_conflicts=True,
    )


def _raw(text: str) -> dict[str, Any]:
    """The raw record as the JSON object that the encrypted field takes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}
