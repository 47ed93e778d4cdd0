"""HTML as text; and what a stranger may write without costing more than its length."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sync.platforms.email.charsets import decoded, unbase64
from sync.platforms.email.headers import addresses_of, plain
from sync.platforms.email.letter import unflowed
from sync.platforms.email.structure import file_name
from sync.platforms.markup import DEEPEST, LONGEST_PARSED, readable

Make = Callable[[int], str]

UNTAMED = "<div>" * (DEEPEST + 1)  # so deep that only its tags are taken out


def of(unit: str, before: str = "", after: str = "") -> Make:
    return lambda size: before + unit * (size // len(unit)) + after


def wide_and_high(size: int) -> str:
    """A column whose width is that of its longest line."""
    lines, line = "a<br>" * (size // 10), "x" * (size // 2)
    return f"<table><tr><td>{lines}</td></tr><tr><td>{line}</td></tr></table>"


HOSTILE: dict[str, Make] = {
    "table": wide_and_high,
    "cells": of("<td>a", "<table><tr>"),
    "indents": of("x<br>", "<ul>" * 150),
    "indented text": of("x\n", "<ul>" * 150 + "<pre>"),
    "margins": of("<p style='margin-top:99999em'>x</p>"),
    "paddings": of("x<br>", "<div style='padding-left:99999em'>"),
    "numbers": of("<li>a", "<ol><li value=" + "9" * 4000 + ">"),
    "styles": of("style:", "<a style='", "'>x"),
    "one address": of("y", "<a><div>" * 90 + "<a href='", "'>x"),
    "words": of("x<b>y</b>"),
    "declaration": of(" ", "<?xml"),
    "signs": of("<", UNTAMED),
    "begun styles": of("<style", UNTAMED),
    "endless comments": of("<!--", UNTAMED),
    "endless of all kinds": of("<style><!--<head><title><script>", UNTAMED),
    "begun ends": of("</style", UNTAMED + "<style>"),
    "begun breaks": of("<br ", UNTAMED),
    "begun links": of("<a href=", UNTAMED),
    "references": of("&#"),
    "lines": of("\n  ", "", "x"),
}
HOSTILE_ELSEWHERE: dict[str, tuple[Callable[[str], object], Make]] = {
    "address without @": (addresses_of, of("a")),
    "addresses": (addresses_of, of("a@b,")),
    "encoded words without end": (plain, of("=?a?q? ")),
    "encoded words": (plain, of("=?a?b?YQ== ")),
    "name of a file": (lambda text: file_name({"filename": text}, "filename"), of(";")),
    "pieces of a name": (
        lambda text: file_name({f"filename*{n}": "a" for n in range(len(text) // 4)}, "filename"),
        of("a"),
    ),
    "base64 in pieces": (lambda text: unbase64(text.encode()), of("QQ==")),
    "flowed lines": (lambda text: unflowed(text, joins_words=True), of("a \n")),
    "punycode": (lambda text: decoded(text.encode(), "punycode"), of("a-b9")),
}


def cpu_s(read: Callable[[str], object], text: str) -> float:
    """Of the best of three, so that a neighbour on the machine does not count."""

    def once() -> float:
        begin = time.process_time()
        read(text)
        return time.process_time() - begin

    return min(once() for _ in range(3))


def grows_too_fast(read: Callable[[str], object], make: Make, size: int) -> str:
    """Twice the length may take twice the time; four times is what this looks for. "" if it does
    not."""
    one, two = cpu_s(read, make(size)), cpu_s(read, make(2 * size))
    return "" if two < 3 * one + 0.01 else f"{one:.3f} s, then {two:.3f} s"


class TestStrangers:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_time_grows_with_the_length(self, name: str) -> None:
        assert not grows_too_fast(readable, HOSTILE[name], 10_000)

    @pytest.mark.parametrize("name", HOSTILE_ELSEWHERE)
    def test_time_of_the_rest_of_a_mail(self, name: str) -> None:
        read, make = HOSTILE_ELSEWHERE[name]
        assert not grows_too_fast(read, make, 20_000)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_memory_grows_with_the_length(self, name: str) -> None:
        text = HOSTILE[name](60_000)
        tracemalloc.start()
        try:
            shown = readable(text)
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 50_000_000
        assert len(shown) <= 2 * len(text)

    def test_tag_with_all_its_attributes(self) -> None:
        """The parser compares each with each: what it is given is bounded."""
        tag = "<a " + " ".join(f"a{n}" for n in range(LONGEST_PARSED))
        whole = tag[: LONGEST_PARSED - 20] + ">x</a>"
        short = (tag[:15_000] + ">x</a>") * 8
        assert readable(whole) == "x"
        assert cpu_s(readable, whole) < 0.5
        assert cpu_s(readable, short) < 2

    @pytest.mark.parametrize("sign", ["(", ":", "a:"])
    def test_addresses_in_no_end_of_brackets(self, sign: str) -> None:
        """The standard library recurses."""
        assert [one.mailbox for one in addresses_of(sign * 5000 + " ann@x.org")] == ["ann@x.org"]

    def test_number_that_is_none(self) -> None:
        assert readable("a &#" + "9" * 5000 + "; b") == "a b"


class TestLayout:
    def test_row_is_a_line(self) -> None:
        html = "<table><tr><th>No.<th>Item</tr><tr><td>1<td>long name</tr></table>after"
        assert readable(html) == "No.  Item\n1  long name\nafter"

    def test_table_that_only_lays_out(self) -> None:
        html = "<table><tr><td><table><tr><td><p>one</p><p>two</p></td></tr></table></td></tr>"
        assert readable(html) == "one\n\ntwo"

    def test_lists(self) -> None:
        html = "<ul><li>a<ul><li>b</ul></ul><ol><li value=5>c<li>d</ol>"
        assert readable(html) == "* a\n+ b\n5. c\n6. d"

    def test_hidden_stays_hidden_and_typed_space_stays(self) -> None:
        html = '<p style="x:y;display: none">no</p><b style="white-space:pre-wrap">a   b</b>'
        assert readable(html) == "a   b"

    @pytest.mark.parametrize("before", ["", UNTAMED, "x" * LONGEST_PARSED])
    def test_links_have_their_address(self, before: str) -> None:
        html = f"{before}<a HREF = 'https://x.org/?a=1&amp;b=2'>c</a> <a name=d>e</a>"
        assert readable(html).endswith("[c](https://x.org/?a=1&b=2) e")

    def test_address_is_told_once(self) -> None:
        assert readable("<a href=x><div><a href=y>z</a></div></a>") == "[\n[z](y)"

    def test_without_layout_the_hidden_is_hidden_and_what_never_ends_is_shown(self) -> None:
        html = f"{UNTAMED}<style>p</style>a<!-- b --><SCRIPT>c</script >d<br>e<title>f"
        assert readable(html) == "ad\nef"

    def test_declared_charset_is_that_of_the_bytes_and_not_of_the_text(self) -> None:
        html = '<?xml version="1.0" encoding="gb2312"?><meta charset="gbk"><p>你好</p>'
        assert readable(html) == "你好"

    def test_pages_in_threads_do_not_mix(self) -> None:
        """The engine writes to its style of the body."""
        pages = [f"text {n} <p>{n}</p>" * 200 for n in range(40)]
        alone = [readable(page) for page in pages]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(readable, pages)) == alone
