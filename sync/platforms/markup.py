"""HTML as text for people: what platforms write in HTML is shown in the inbox without it.

Anybody can write it, so time and memory grow as its length does (tests/unit/test_markup.py). Hence
nothing of the layout is kept that takes more room than it was written in: no columns of tables, no
indents, no lengths out of styles, no bullet of a number that the sender chose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape

from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_engine import Inscriptis
from inscriptis.html_properties import Display, WhiteSpace
from inscriptis.model.config import ParserConfig
from inscriptis.model.css import CssParse
from inscriptis.model.html_document_state import HtmlDocumentState
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping
from inscriptis.model.tag.a_tag import a_end_handler
from lxml.etree import LxmlError, iterwalk
from lxml.html import HtmlElement as Element
from lxml.html import HTMLParser, document_fromstring

# Characters; beyond it there are only texts and links. The layout copies a line for each of its
# words, and the parser compares all attributes of a tag with each other.
LONGEST_PARSED = 128 * 1024
LONGEST_TAG = 16 * 1024
DEEPEST = 200  # tags within tags; the layout recurses
LONGEST_NUMBER = 9  # digits of a list's number

ANY_MARKUP = re.compile(r"<[a-zA-Z/!?]|&[#a-zA-Z]")
AMPERSAND = re.compile(r"&(amp|#38|#x26);", re.IGNORECASE)  # inscriptis unescapes twice
HUGE_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")  # `unescape` makes a number of it

# No pattern may look further than to the next "<": a page of them would be read once for each.
HIDDEN = re.compile(r"<(style|script|head|title)\b|<(!--)", re.IGNORECASE)
ENDS = {name: re.compile(rf"</{name}\s*>", re.I) for name in ("style", "script", "head", "title")}
ENDS["!--"] = re.compile("-->")
BREAK = re.compile(r"<(br|/p|/div|/tr|/li|/h[1-6])\b[^<>]*>", re.IGNORECASE)
LINK = re.compile(r"<(/?)a\b([^<>]*)>", re.IGNORECASE)
ADDRESS = re.compile(r"\bhref\s{0,9}=\s{0,9}(\"[^\"]*\"|'[^']*'|[^\s\"']+)", re.IGNORECASE)
TAG = re.compile(r"<[^<>]*>")
BLANK_LINES = re.compile(r"\n{3,}")


def readable(html: str, *, keeps_space: bool = False) -> str:
    """The text of an HTML page or piece of one. Total: broken HTML gives what can be read of it.

    `keeps_space`: line ends and runs of spaces count, as they do where people type a few tags into
    a text.
    """
    if keeps_space and not ANY_MARKUP.search(html):
        return html.replace("\r\n", "\n").strip()
    if keeps_space:
        html = f"<pre>{html}</pre>"
    html = HUGE_REFERENCE.sub("", html)
    try:
        text = laid_out(html)
    except (LxmlError, ValueError, RecursionError, LookupError, AttributeError, TypeError):
        text = bare(html)
    return BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in text.splitlines())).strip()


def laid_out(html: str) -> str:
    """With its lines, lists and links. Raises `ValueError` for what is too long or too deep for
    that, and whatever parser and layout raise."""
    if len(html) > LONGEST_PARSED or max(map(len, html.split(">"))) > LONGEST_TAG:
        raise ValueError("too long")
    data = AMPERSAND.sub("&amp;amp;", html).encode("utf-8", "replace")
    page = document_fromstring(data, parser=HTMLParser(encoding="utf-8"))
    if depth(page) > DEEPEST:
        raise ValueError("too deep")
    for item in page.iter("li"):
        if len(item.get("value", "")) > LONGEST_NUMBER:
            del item.attrib["value"]
    text: str = Inscriptis(page, layout()).get_text()
    return text


def depth(page: Element) -> int:
    level = deepest = 0
    for event, _element in iterwalk(page, events=("start", "end")):
        level += 1 if event == "start" else -1
        deepest = max(deepest, level)
    return deepest


def bare(html: str) -> str:
    """`html` without its tags. Addresses of links stay, as in the layout."""
    return unescape(TAG.sub("", BREAK.sub("\n", with_addresses(without_hidden(html)))))


def with_addresses(html: str) -> str:
    address = ""

    def told(tag: re.Match[str]) -> str:
        nonlocal address
        if tag[1]:
            ended, address = address, ""
            return f"]({ended})" if ended else ""
        found = ADDRESS.search(tag[2])
        address = found[1].strip("\"'") if found else ""
        return "[" if address else ""

    text = LINK.sub(told, html)
    return f"{text}]({address})" if address else text


def without_hidden(html: str) -> str:
    """Without styles, scripts, head and comments. What begins and never ends is shown."""
    pieces, at, endless = [], 0, set()
    for found in HIDDEN.finditer(html):
        name = (found[1] or found[2]).lower()
        if found.start() < at or name in endless:
            continue
        if (end := ENDS[name].search(html, found.end())) is None:
            endless.add(name)
            continue
        pieces.append(html[at : found.start()])
        at = end.end()
    return "".join((*pieces, html[at:]))


# --- the layout -----------------------------------------------------------------------------------


def layout() -> ParserConfig:
    """One for each page: the engine keeps the page that it writes in its style of the body, and
    another thread has another page.

    Addresses of links are shown: a link without its address can't be judged or followed.
    """
    config = ParserConfig(
        css={**STYLES, "body": HtmlElement(display=Display.inline, whitespace=WhiteSpace.normal)},
        display_links=True,
        custom_html_tag_handler_mapping=HANDLERS,
    )
    config.attribute_handler = OwnStyle()
    return config


class OwnStyle:
    """In the place of `inscriptis.model.attribute.Attribute`."""

    def apply_attributes(
        self, attributes: Mapping[str, str], html_element: HtmlElement
    ) -> HtmlElement:
        """Of an element's own style only what hides it, and what keeps space. All attributes are
        not asked for: that takes their number squared."""
        for directive in attributes.get("style", "").lower().split(";"):
            name, _, said = directive.partition(":")
            match name.strip():
                case "display":
                    CssParse.attr_display(said.strip(), html_element)
                case "white-space":
                    CssParse.attr_white_space(said.strip(), html_element)
        return html_element


def nothing(*_of: object) -> None:
    pass


def end_cell(state: HtmlDocumentState) -> None:
    """A row is a line, where its cells are no longer than that."""
    cell = state.tags[-1]
    if cell.display is not Display.none and not cell.canvas.current_block.is_empty():
        cell.canvas.write(cell, "  ", WhiteSpace.pre)


def end_link(state: HtmlDocumentState) -> None:
    """An address is told once, also of links within links."""
    a_end_handler(state)
    state.link_target = ""


LINE = HtmlElement(display=Display.block)
LINES = ("div", "ul", "ol", "table", "tr", "caption")
STYLES = CSS_PROFILES["relaxed"] | dict.fromkeys(LINES, LINE)
HANDLERS = CustomHtmlTagHandlerMapping(
    start_tag_mapping=dict.fromkeys(("table", "tr", "td", "th"), nothing),
    end_tag_mapping={"table": nothing, "td": end_cell, "th": end_cell, "a": end_link},
)
