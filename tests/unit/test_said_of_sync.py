"""`sync.sentences`: what sync's workers write in English is shown in the reader's language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.engine.problems import problem
from sync.errors import CountsDisagree, UnknownPlatform
from sync.platforms import registry, rest
from sync.sentences import sentences
from sync.types import AccountRef
from tests.unit.test_said import in_chinese, texts

ROOT = Path(__file__).parents[2] / "sync"

# Where a text comes from that a row keeps.
WRITERS = [
    *("dead_records.py", "errors.py", "merge.py", "originals.py", "hooks/take.py"),
    "reading_on.py",
    *("engine", "errands", "platforms", "services", "store"),
]
TRAILS = ["deadletters", "replies"]
TRAIL_TAKERS = {"leave_trail", "act_on_reply", "_act", "_done"}
STORED = ["engine", "errands", "store"]
WORDS = re.compile(r"[a-z']{2,} [a-z']{2,}|^[a-z]+ [a-z]+$")
# Who takes texts that no row keeps: logs, names of requests, what is read and sent.
ELSEWHERE = {
    *("debug", "info", "warning", "error", "exception", "_warn", "_note", "_database_fails"),
    *("_", "gettext", "ngettext", "compile", "command", "search", "fullmatch", "TypeError"),
    *("ImproperlyConfigured", "StaleEpoch", "CursorMoved"),
}
# Of logs, of what is told of counters, and of errors that another text stands for.
NO_ROW = re.compile(
    "account X: epoch|the feed does not go back|load everything anew|MUSTER_PLATFORMS|two platforms"
    "|it is tried again|given up|no answer in time|recount: |X of X said|and X more|the account$"
    "|conversation X$|account X: X$|nobody but ourselves takes part|a time that is none|too long"
    "|too deep|POST, or GET|Muster X|messages, smb_message"
)
NAMES = {
    *("HTTP", "JSON", "REST", "API", "Graph", "Bot", "INBOX", "UIDVALIDITY", "UIDNEXT", "SMTP"),
    *("XMPP", "Matrix", "WordPress", "Telegram", "WhatsApp", "Douyin", "Meta", "Muster", "UTC"),
    *("webhook", "webhook_secret", "setWebhook", "deleteWebhook", "refresh_token", "open_id"),
    *("redirect_uri", "access_token", "verify_token", "credentials", "address", "smtps", "xmpp"),
    *("xmpps", "code", "host", "port", "example", "org", "smtp", "ID"),
}


def test_what_others_said_stays() -> None:
    for text in ("M_FORBIDDEN: You are not invited", "chat not found", "[redacted]", "a; b"):
        assert in_chinese(text) == text


def example(sentence: str) -> str:
    return re.sub(r"%\((\w+)\)s", lambda place: "7", sentence)


@pytest.mark.parametrize("sentence", sorted(set(sentences())))
def test_each_sentence_is_chinese_in_chinese(sentence: str) -> None:
    shown = in_chinese(example(sentence))
    words = set(re.findall(r"(?<![0-9A-Za-z])[A-Za-z_]{2,}", shown)) - NAMES
    assert words == set(), shown


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    at: int = Field(ge=1)
    name: str = Field(max_length=3)
    tags: list[str]


def spoken() -> Iterator[str]:
    """What the code itself makes, and how it stands within each other."""
    ref = AccountRef(1, "matrix", "@a:b", "", {}, {})
    yield problem(UnknownPlatform("icq"), ref).error
    yield problem(CountsDisagree("the counts of batch 3 don't add up: 4"), ref).error
    with pytest.raises(ValidationError) as wrong:
        Shape.model_validate({"at": 0, "name": "1234", "tags": 7, "more": 1})
    yield rest.readable(wrong.value)
    yield f"nonsense in answer to the phone number: {rest.readable(wrong.value)}"
    yield "2 gaps are open, 1 dead letter is open"
    yield (
        "The platform no longer knows our cursor: reading all that it still has, anew. "
        "(the mails of INBOX were numbered anew (UIDVALIDITY changed))"
    )
    yield "the business account is locked (131031: 7)"
    yield ("mail 7 of INBOX can't be read: what the server tells of this mail makes no sense: 7")
    yield "HTTP 502 from the homeserver: is this the address of a Matrix homeserver?"
    yield "WhatsApp could not deliver what was sent: no reason given"


@pytest.mark.parametrize("text", list(spoken()))
def test_what_sync_says_is_said_in_chinese(text: str) -> None:
    shown = in_chinese(text)
    known = NAMES | {"UnknownPlatform", "CountsDisagree", "icq", "at", "id", "name", "tags", "more"}
    assert set(re.findall(r"(?<![0-9A-Za-z])[A-Za-z_]{2,}", shown)) - known == set(), shown


def written() -> Iterator[tuple[str, str]]:
    """(where, text) of each text of several words that stands in the source, its figures as "X"."""
    modules = [one for name in WRITERS for one in ([ROOT / name], (ROOT / name).rglob("*.py"))]
    for module in sorted({path for some in modules for path in some if path.suffix == ".py"}):
        if module.name == "sentences.py":
            continue
        tree = ast.parse(module.read_text())
        for node in within(tree):
            for text in texts(node):
                if WORDS.search(text) and not NO_ROW.search(text):
                    yield f"{module.relative_to(ROOT)}:{node.lineno}", text


def within(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions below it that may be kept: no docstrings, nothing for logs."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Expr(value=ast.Constant()):  # a docstring
                continue
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in ELSEWHERE:
                continue
            case ast.JoinedStr() | ast.Constant():
                yield child
            case _:
                yield from within(child)


def test_each_text_that_is_written_is_known() -> None:
    found = list(written())
    assert len(found) > 150
    strange = [(where, text) for where, text in found if in_chinese(text) == text]
    assert strange == [], "add these to sync/sentences.py or to the adapter's, and the catalogue"


def test_each_entry_of_a_history_is_known() -> None:
    modules = [ROOT / app / f"{name}.py" for app in ("admin", "api") for name in TRAILS]
    found = [
        text
        for module in modules
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
        if getattr(node.func, "attr", getattr(node.func, "id", "")) in TRAIL_TAKERS
        for given in node.args
        for text in texts(given)
    ]
    assert len(found) > 15
    assert [text for text in found if in_chinese(text) == text] == []


def test_what_workers_write_is_not_in_the_language_of_their_process() -> None:
    """Nor of the operator whose click it was: nothing that is stored goes through gettext."""
    modules = [path for name in STORED for path in (ROOT / name).rglob("*.py")]
    modules += [ROOT / name for name in ("merge.py", "originals.py", "services/deliveries.py")]
    speak = [path.name for path in modules if "import gettext as" in path.read_text()]
    assert len(modules) > 20
    assert speak == []


def test_each_adapter_has_its_own_sentences() -> None:
    folders = {path.parent.name for path in (ROOT / "platforms").glob("*/__init__.py")}
    assert {name for name in folders if not registry()[name].sentences} == set()
