"""How platforms and people look in lists."""

from __future__ import annotations

import hashlib

from django.utils.html import format_html
from django.utils.safestring import SafeString

from sync import platforms


def platform_label(name: str) -> str:
    """How people call a platform; its name if the adapter is no longer installed."""
    platform = platforms.registry().get(name)
    return str(platform.label) if platform else name


def face(text: str) -> SafeString:
    """A round initial in a colour of its own, so that rows are told apart at a glance."""
    hue = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 360
    initial = next((c for c in text if c.isalnum()), "?").upper()
    return format_html(
        '<span class="m-face" style="--hue:{}" aria-hidden="true">{}</span>', hue, initial
    )


def count(of: str, key: object, unread: int) -> SafeString:
    """A figure that stays right while the page is open; empty, and not shown, for none.

    `of`: `total`, `platform` or `account`; `key` says which one.
    """
    shown = f"{unread:,}" if unread else ""
    return format_html('<span class="m-count" data-unread-{}="{}">{}</span>', of, key, shown)
