"""HTML as text for people: what platforms write in HTML is shown in the inbox without it."""

from __future__ import annotations

import re
from html import unescape

from inscriptis import get_text
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.model.config import ParserConfig
from lxml.etree import LxmlError

LONGEST_PARSED = 4 * 1024 * 1024  # characters; beyond it only the tags are taken out
DEEPEST = 200  # tags within tags; the parser recurses

HIDDEN = re.compile(r"(?is)<(style|script|head|title)\b.*?</\1\s*>|<!--.*?-->")
ANY_MARKUP = re.compile(r"<[a-zA-Z/!?]|&[#a-zA-Z]")
AMPERSAND = re.compile(r"&(amp|#38|#x26);", re.IGNORECASE)  # inscriptis unescapes twice
BREAK = re.compile(r"(?i)<(br|/p|/div|/tr|/li|/h[1-6])\b[^>]*>")
TAG = re.compile(r"<[^>]*>")
BLANK_LINES = re.compile(r"\n\s*\n\s*\n+")

# Addresses of links are shown: a link without its address can't be judged or followed.
CONFIG = ParserConfig(css=CSS_PROFILES["relaxed"], display_links=True, display_anchors=False)


def readable(html: str, *, keeps_space: bool = False) -> str:
    """The text of an HTML page or piece of one. Total: broken HTML gives what can be read of it.

    `keeps_space`: line ends and runs of spaces count, as they do where people type a few tags into
    a text.
    """
    if keeps_space and not ANY_MARKUP.search(html):
        return html.replace("\r\n", "\n").strip()
    if keeps_space:
        html = f"<pre>{html}</pre>"
    try:
        text = get_text(AMPERSAND.sub("&amp;amp;", html), CONFIG) if is_tame(html) else bare(html)
    except (LxmlError, ValueError, RecursionError, LookupError, AttributeError, TypeError):
        text = bare(html)
    return BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in text.splitlines())).strip()


def is_tame(html: str) -> bool:
    """Whether a parser that recurses should see it."""
    if len(html) > LONGEST_PARSED:
        return False
    depth = deepest = 0
    for found in re.finditer(r"<(/?)(div|table|blockquote|ul|ol|span|font|b|i|p|a)\b", html, re.I):
        depth += -1 if found[1] else 1
        deepest = max(deepest, depth)
    return deepest < DEEPEST


def bare(html: str) -> str:
    """`html` without its tags."""
    return unescape(TAG.sub("", BREAK.sub("\n", HIDDEN.sub("", html))))
