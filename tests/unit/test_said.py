"""`lifecycle.said`: what the lifecycle writes in English is shown in the reader's language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import translation

from lifecycle.consumption import WAITING_FOR_BROKER, complaint
from lifecycle.errors import ImpossibleTransition, UnknownWorker
from lifecycle.health import Doctor, Vitals
from lifecycle.policy import GiveUp, LeaveStopped, RestartPolicy, decide
from lifecycle.said import said
from lifecycle.sentences import SENTENCES
from lifecycle.types import EXIT_MEANINGS, Exit, Instance, RestartMode

ROOT = Path(__file__).parents[2] / "lifecycle"
NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Who takes a sentence; the modules that write them.
TAKERS = {
    *("record", "move", "call_off", "_say", "_conclude"),
    *("Diagnosis", "LeaveStopped", "GiveUp", "Stop", "CallOff", "Exit", "Finish", "SpawnRefused"),
}
WRITERS = [
    *("health.py", "policy.py", "reconcile.py", "rolling.py", "master/steps.py"),
    *("services/configs.py", "services/facts.py", "services/replacement.py", "services/rows.py"),
    *("services/reports.py", "services/rollouts.py", "services/wishes.py", "worker_port.py"),
    *("agent/keeper.py", "agent/roster.py", "backends/__init__.py"),
]
NAMES = {"CPU", "Ctrl", "MB", "SIGKILL", "SIGSEGV", "cgroup", "default", "ready"}
# Made of parts: `spoken` has the first with all of its parts, the second is the same in Chinese.
MADE_OF = {"X; gave up after X X", "X: X"}


def in_chinese(text: str) -> str:
    with translation.override("zh-hans"):
        return said(text)


def test_english_stays() -> None:
    with translation.override("en"):
        for sentence in SENTENCES:
            assert said(sentence) == sentence
    assert said("") == in_chinese("") == ""


def test_what_nobody_here_wrote_stays() -> None:
    for text in ("ValueError: no such thing", "exit", "不", "[Errno 2] No such file, %s"):
        assert in_chinese(text) == text


def test_a_text_without_end_comes_to_one() -> None:
    for text in ("a: " * 700, "killed by SIGKILL (" + "never started, " * 150 + "x)"):
        assert in_chinese(text)


def spoken() -> Iterator[str]:
    """What the code itself makes, with its figures."""
    for code in (0, 7, 126, 137, 256, *EXIT_MEANINGS):
        yield str(Exit(code))
    yield str(Exit(signal=9, note="probably out of memory: cgroup says so"))
    yield str(Exit(139, note="memory 2100 MB, over its limit of 2048 MB for 30 s"))
    yield str(Exit())
    yield WAITING_FOR_BROKER
    yield complaint(("a", "b"), ())
    yield complaint((), ("c",))
    yield complaint(("a",), ("c",))
    yield str(UnknownWorker("w1"))
    yield str(ImpossibleTransition("stopped", "ready"))
    yield "killed by SIGKILL (never started); restart in 5.0 s"
    inner = "killed by SIGKILL (memory 2100 MB, over its limit of 2048 MB for 30 s)"
    yield f"w: restart called off: the new process ended: {inner}"
    yield from illnesses()
    yield from decisions()


def illnesses() -> Iterator[str]:
    instance = Instance("w1", 1)
    well = {"heartbeat_age_s": 1.0, "heartbeat_timeout_s": 30.0, "memory_mb": 1.0}
    for sign in (
        {"heartbeat_age_s": 90.0},
        {"heartbeat_age_s": None},
        {"is_stuck": True},
        {"memory_mb": 2100.0},
        {"not_consuming": complaint(("default",), ())},
        {"not_consuming": complaint((), ("default",))},
        {"not_consuming": complaint(("default",), ("default",))},
    ):
        vitals = Vitals(instance, **{"is_stuck": False, "max_memory_mb": 2048.0, **well, **sign})  # type: ignore[arg-type]
        doctor = Doctor(watching_since=0.0)
        found = [*doctor.examine([vitals], 1000.0), *doctor.examine([vitals], 2000.0)]
        yield found[-1].cause


def decisions() -> Iterator[str]:
    for policy in (
        RestartPolicy(mode=RestartMode.NEVER),
        RestartPolicy(mode=RestartMode.ON_FAILURE),
        RestartPolicy(max_attempts=1),
        RestartPolicy(max_attempts=2, window=timedelta(minutes=5)),
    ):
        decision = decide(
            policy,
            attempts=policy.max_attempts or 0,
            since=NOW,
            uptime=timedelta(0),
            exit=Exit(0),
            now=NOW,
            random=lambda: 0.0,
        )
        assert isinstance(decision, LeaveStopped | GiveUp)
        yield decision.reason


@pytest.mark.parametrize("text", sorted(set(spoken())))
def test_what_the_lifecycle_says_is_said_in_chinese(text: str) -> None:
    shown = in_chinese(text)
    words = set(re.findall(r"(?<![0-9A-Za-z])[A-Za-z]{2,}", shown)) - NAMES
    assert shown != text
    assert words == set(), shown


def written() -> Iterator[tuple[str, str]]:
    """(where, sentence) of each that stands in the source, its figures as "X"."""
    for writer in WRITERS:
        for node in ast.walk(ast.parse((ROOT / writer).read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in TAKERS:
                where = f"{writer}:{node.lineno}"
                given = [*node.args, *(one.value for one in node.keywords)]
                yield from ((where, text) for one in given for text in texts(one) if " " in text)


def texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in values)
        case ast.IfExp(body=body, orelse=orelse):
            yield from [*texts(body), *texts(orelse)]


def test_each_sentence_that_is_written_is_known() -> None:
    found = list(written())
    assert len(found) > 25
    strange = [one for one in found if one[1] not in MADE_OF and in_chinese(one[1]) == one[1]]
    assert strange == [], "add these to lifecycle/sentences.py, and to the catalogue"
