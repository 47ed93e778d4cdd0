"""Making up many records, by a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from tests.fake.truth import Wire

WORDS = "order parcel invoice 你好 订单 спасибо gracias 👍 refund size when where thanks".split()  # noqa: SIM905
SPAN_MS = 30 * 86_400_000


@dataclass(frozen=True)
class Wanted:
    """How many of each."""

    seed: int = 1
    conversations: int = 0
    messages: int = 0
    posts: int = 0
    comments: int = 0
    edits: int = 0  # of messages and comments: a later version
    deletions: int = 0
    unknown: int = 0  # records of a kind that nobody knows
    malformed: int = 0  # messages without a time
    disorder: int = 0  # how many places a record may be from where it belongs in the log
    prefix: str = ""  # of ids

    @classmethod
    def of(cls, given: Wire) -> Wanted:
        return cls(**{each.name: given[each.name] for each in fields(cls) if each.name in given})


def generate(wanted: Wanted, now_ms: int) -> list[Wire]:
    """The records in the order of a log: by time, then disordered."""
    chance = random.Random(wanted.seed)
    prefix = wanted.prefix or f"g{wanted.seed}-"
    talks = [f"{prefix}c{n}" for n in range(max(1, wanted.conversations))]
    works = [f"{prefix}p{n}" for n in range(max(1, wanted.posts))]
    kinds = ["message"] * wanted.messages + ["comment"] * wanted.comments
    chance.shuffle(kinds)
    step_ms = SPAN_MS // (2 * max(1, len(kinds)))
    log: list[Wire] = []
    if wanted.conversations or wanted.messages:
        log += [{"type": "conversation", "id": id, "title": f"Talk {id}"} for id in talks]
    if wanted.posts or wanted.comments:
        log += [_post(id, now_ms - SPAN_MS + n) for n, id in enumerate(works)]
    said = [
        _entry(
            kind,
            f"{prefix}e{n}",
            chance.choice(talks if kind == "message" else works),
            now_ms - SPAN_MS // 2 - 120_000 + n * step_ms,
            chance,
        )
        for n, kind in enumerate(kinds)
    ]
    log += [*said, *_changes(said, wanted, chance), *_unreadable(wanted, prefix, talks[0], chance)]
    if wanted.disorder:
        places = [n + chance.uniform(0, wanted.disorder) for n in range(len(log))]
        log = [log[n] for n in sorted(range(len(log)), key=places.__getitem__)]
    return log


def _changes(said: list[Wire], wanted: Wanted, chance: random.Random) -> list[Wire]:
    """Later versions of some records."""
    edited = chance.sample(said, min(wanted.edits, len(said)))
    deleted = chance.sample(said, min(wanted.deletions, len(said)))
    return [
        {**one, "text": f"{one['text']} (edited)", "edited": one["at"] + 60_000} for one in edited
    ] + [{**one, "text": "", "files": [], "deleted": True} for one in deleted]


def _unreadable(wanted: Wanted, prefix: str, thread: str, chance: random.Random) -> list[Wire]:
    """What ends in the dead letters."""
    polls = [
        {"type": "poll", "id": f"{prefix}u{n}", "question": "red or blue?"}
        for n in range(wanted.unknown)
    ]
    timeless = [
        {**_entry("message", f"{prefix}x{n}", thread, 0, chance), "at": "then", "unreadable": True}
        for n in range(wanted.malformed)
    ]
    return [*polls, *timeless]


def _post(id: str, at: int) -> Wire:
    return {"type": "post", "id": id, "title": f"Work {id}", "text": "look", "at": at, "own": True}


def _entry(kind: str, id: str, thread: str, at: int, chance: random.Random) -> Wire:
    return {
        "type": kind,
        "id": id,
        "thread": thread,
        "sender": f"u{chance.randrange(50)}",
        "name": f"Friend {chance.randrange(50)}",
        "text": " ".join(chance.choices(WORDS, k=chance.randrange(1, 40))),
        "at": at,
        "own": chance.random() < 0.2,
    }
