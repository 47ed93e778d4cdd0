"""What the admin's open pages are told [S10]: the feed, with the inbox's own cells in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils import translation

from lifecycle.api.event_stream import EventStream
from lifecycle.console.ids import bigint
from sync import feed
from sync.live import PERMISSION, News, follow
from sync.live.console import event
from sync.live.rights import login_of


def feed_position(request: HttpRequest) -> int:
    """Where the feed stood before anything of this page was read: the page goes on from there.

    To be asked first of all; what is read afterwards can only be newer.
    """
    if not hasattr(request, "feed_position"):
        request.feed_position = feed.head()  # type: ignore[attr-defined]
    position: int = request.feed_position  # type: ignore[attr-defined]
    return position


@dataclass(frozen=True)
class AsCells:
    """Writes an entry as the inbox needs it: each row as the cells of its table."""

    columns: Any  # the list page: its methods make the cells
    language: str

    def __call__(self, news: News) -> bytes:
        with translation.override(self.language):
            return event("changes", self._said(news), news.position)

    def _said(self, news: News) -> Mapping[str, object]:
        unread = news.unread
        return {
            "account": news.account_id,
            "changes": news.changes,
            "rows": [self._row(row) for row in news.conversations],
            "messages": news.messages,
            "whole": news.is_whole,
            "unread": unread
            and {
                "total": unread.total,
                "platforms": unread.platforms,
                "accounts": unread.accounts,
            },
        }

    def _row(self, row: Any) -> Mapping[str, object]:
        return {
            "id": row.pk,
            "at": row.last_message_at.isoformat() if row.last_message_at else "",
            "unread": row.unread_count,
            "cells": {
                name: str(getattr(self.columns, name)(row)) for name in self.columns.list_display
            },
        }


def stream(request: HttpRequest, columns: Any) -> HttpResponseBase:
    """The events of an open page: `?since=` or `Last-Event-ID`, then all that comes."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    since = bigint(request.headers.get("Last-Event-ID") or request.GET.get("since", ""))
    if since is None:
        return JsonResponse({"since": "a position of the feed"}, status=400)
    renderer = AsCells(columns, translation.get_language() or "en")
    return EventStream(request, follow(login_of(request), renderer, since))
