"""What is stored in English, translated when it is shown [C6].

Rows, logs and the API's data hold English: what writes them serves nobody's language. `said` is the
one way from such a text to a reader's. Each app registers the sentences that it stores, with places
such as `%(cause)s` for what differs; what no sentence is found for (a platform's or the system's
own words, a traceback) stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import chain

from django.utils.translation import get_language, gettext

Sentences = Callable[[], Iterable[str]]  # in English, marked with `gettext_noop`

# In these places stand sentences, sentences between commas, and words of ours.
NESTED = frozenset({"cause", "exit"})
LISTED = "notes"
WORDS = frozenset({"state", "what", "wish"})
# What others said, of any shape. All other places end before a "; ", behind which the next text is.
OTHERS = frozenset({"answer", "why"})
DEEPEST = 6
MOST_JOINED = 20
LOOKS = {"signal": r"[\w ]+", "number": r"\d+", "code": r"-?\d+", "name": r"[^\s:]+"}
PLACE = re.compile(r"%\((\w+)\)s")

_sources: list[Sentences] = []


def register(sentences: Sentences) -> None:
    """Have these known, too; they are asked for with the first text that is shown."""
    _sources.append(sentences)
    _patterns.cache_clear()


def said(text: str) -> str:
    """The text in the reader's language."""
    is_as_stored = not text or (get_language() or "en").startswith("en")
    return text if is_as_stored else _said(text, DEEPEST)


def _said(text: str, depth: int) -> str:
    """`depth`: so many sentences may stand within each other; further ones stay."""
    for sentence, own_words, pattern in _patterns() if depth else ():
        if own_words in text and (found := pattern.fullmatch(text)):
            parts = found.groupdict().items()
            return gettext(sentence) % {name: _part(name, one, depth - 1) for name, one in parts}
    return _joined(text, depth) if depth else text


def _joined(text: str, depth: int) -> str:
    """Several, one behind the other."""
    first, *others = text.split("; ", MOST_JOINED)
    return "; ".join(_said(one, depth - 1) for one in (first, *others)) if others else text


def _part(name: str, text: str, depth: int) -> str:
    if name == LISTED:
        return _listed(text, depth)
    if name in WORDS:
        return gettext(text)
    return _said(text, depth) if name in NESTED else text


def _listed(text: str, depth: int) -> str:
    """Notes between commas, of which one may have a comma itself."""
    whole, (first, comma, rest) = _said(text, depth), text.partition(", ")
    if whole != text or not comma or not depth:
        return whole
    return f"{_said(first, depth)}, {_listed(rest, depth - 1)}"


@cache
def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """Each sentence with its longest own words, which are looked for first as that costs next to
    nothing, and with what it looks like when its places are filled. Those with most words of their
    own come first, as "killed by %(signal)s" would also take what follows."""
    known = dict.fromkeys(chain.from_iterable(sentences() for sentences in _sources))
    longest = sorted(known, key=lambda one: len(PLACE.sub("", one)), reverse=True)
    return [(one, _own_words(one), re.compile(_pattern(one), re.DOTALL)) for one in longest]


def _own_words(sentence: str) -> str:
    texts = PLACE.split(sentence)[::2]  # between them stand the places' names
    return max(texts, key=len).replace("%%", "%")


def _pattern(sentence: str) -> str:
    texts = iter(PLACE.split(sentence))
    pattern = re.escape(next(texts).replace("%%", "%"))
    for name, text in zip(texts, texts, strict=True):
        may_be_several = name in NESTED | OTHERS or name == LISTED
        looks = LOOKS.get(name, ".+?" if may_be_several else "(?:(?!; ).)+?")
        pattern += f"(?P<{name}>{looks})" + re.escape(text.replace("%%", "%"))
    return pattern
