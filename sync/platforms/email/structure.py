"""What a mail is made of, by the server's BODYSTRUCTURE (RFC 3501 7.4.2): which parts are the text
that people read, and which are files. So files are never fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import decode_params, quote, unquote

from sync.platforms.email.charsets import decoded
from sync.platforms.email.headers import plain

READ = ("text/plain", "text/html")
SEALED = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})
BASE64_LINE = 78  # bytes, of which two end it (RFC 2045 6.8)


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of the tree. `number` as in FETCH BODY[1.2]; `size` as transferred, in bytes."""

    number: str
    media_type: str
    encoding: str
    size: int
    charset: str = ""
    name: str = ""
    is_text: bool = False  # for people to read in the message itself
    is_flowed: bool = False
    joins_words: bool = False
    hidden: bool = field(default=False, compare=False)  # another form of what is shown

    @property
    def file_size(self) -> int:
        """The size of the file in it; at most two bytes more where base64 was filled up."""
        if self.encoding == "base64":
            lines = -(-self.size // BASE64_LINE)
            return (self.size - 2 * lines) * 3 // 4
        return self.size


@dataclass(frozen=True, slots=True)
class Structure:
    parts: tuple[Part, ...]
    is_sealed: bool

    @property
    def texts(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_text)

    @property
    def files(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if not part.is_text and not part.hidden)


def structure(tree: object) -> Structure:
    """Raises `ValueError` for what is no BODYSTRUCTURE."""
    if not isinstance(tree, tuple) or not tree:
        raise ValueError("the server tells nothing of what this mail is made of")
    try:
        parts = tuple(_leaves(tree, ""))
    except (IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"what the server tells of this mail makes no sense: {error}") from error
    return Structure(parts, media_type(tree) in SEALED)


def media_type(tree: tuple[object, ...]) -> str:
    if isinstance(tree[0], tuple):
        return f"multipart/{word(next(one for one in tree if not isinstance(one, tuple)))}"
    return f"{word(tree[0])}/{word(tree[1])}"


def _leaves(tree: tuple[object, ...], number: str) -> Iterator[Part]:
    if not isinstance(tree[0], tuple):
        yield _leaf(tree, number or "1")
        return
    branches = []
    for index, branch in enumerate(tree):
        if not isinstance(branch, tuple):
            break
        below = f"{number}.{index + 1}" if number else str(index + 1)
        branches.append(list(_leaves(branch, below)))
    shown = _best(branches) if media_type(tree) == "multipart/alternative" else None
    for index, parts in enumerate(branches):
        for part in parts:
            if shown is not None and index != shown and part.is_text:
                yield replace(part, is_text=False, hidden=True)
            else:
                yield part


def _best(branches: list[list[Part]]) -> int:
    """The form that is read: plain text that says something, else HTML, else the first."""
    for wanted in READ:
        for index, parts in enumerate(branches):
            if any(part.is_text and part.media_type == wanted and part.size for part in parts):
                return index
    return 0


def _leaf(tree: tuple[object, ...], number: str) -> Part:
    kind = media_type(tree)
    parameters = pairs(tree[2])
    at = {"text": 9, "message/rfc822": 11}.get(
        kind if kind == "message/rfc822" else word(tree[0]), 8
    )
    disposition = tree[at] if len(tree) > at else None
    manner, more = "", {}
    if isinstance(disposition, tuple) and disposition:
        manner = word(disposition[0])
        more = pairs(disposition[1] if len(disposition) > 1 else None)
    name = file_name(more, "filename") or file_name(parameters, "name")
    return Part(
        number=number,
        media_type=kind,
        encoding=word(tree[5]),
        size=tree[6] if isinstance(tree[6], int) else 0,
        charset=parameters.get("charset", ""),
        name=name,
        is_text=kind in READ and manner != "attachment" and not (name and manner),
        is_flowed=parameters.get("format", "").lower() == "flowed",
        joins_words=parameters.get("delsp", "").lower() == "yes",
    )


def word(value: object) -> str:
    return decoded(value, "").lower() if isinstance(value, bytes) else str(value or "").lower()


def pairs(value: object) -> dict[str, str]:
    """("charset" "utf-8" "format" "flowed") as a dictionary."""
    if not isinstance(value, tuple):
        return {}
    texts = [decoded(one, "") if isinstance(one, bytes) else str(one or "") for one in value]
    return {key.lower(): text for key, text in zip(texts[::2], texts[1::2], strict=False)}


def file_name(parameters: Mapping[str, str], key: str) -> str:
    """A file's name, also one in pieces or with a charset (RFC 2231), or as encoded words."""
    named = [
        (name, f'"{quote(value)}"')
        for name, value in parameters.items()
        if name.partition("*")[0] == key
    ]
    try:
        found = dict(decode_params([("", ""), *named])).get(key, "")
    except (ValueError, TypeError):  # its pieces are numbered in no way that makes sense
        return ""
    if isinstance(found, tuple):  # charset, language, value with its bytes as Latin-1
        return decoded(unquote(found[2]).encode("latin-1", "replace"), found[0] or "")
    return plain(unquote(found))
