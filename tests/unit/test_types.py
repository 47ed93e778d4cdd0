"""Exits as people say them, and events as the log names them."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.types import EVENTS, Event, Exit


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Exit(), "exit unknown"),
        (Exit(code=0), "exit code 0"),
        (Exit(code=1), "exit code 1"),
        (Exit(code=1, note="memory over its limit"), "exit code 1 (memory over its limit)"),
        (Exit(code=127), "exit code 127 (the command was not found)"),
        (Exit(code=137), "exit code 137 (128 + 9: killed by SIGKILL)"),
        (
            Exit(code=3221225794),
            "exit code 3221225794 (0xC0000142, the process failed to initialise)",
        ),
        (Exit(code=4294967295), "exit code 4294967295 (0xFFFFFFFF)"),
        (Exit(signal=15), "killed by SIGTERM"),
        (
            Exit(signal=9, note="probably out of memory: cgroup says so"),
            "killed by SIGKILL (probably out of memory: cgroup says so)",
        ),
        (Exit(signal=99), "killed by signal 99"),
    ],
)
def test_an_exit_as_people_say_it(how: Exit, said: str) -> None:
    assert str(how) == said


@given(code=st.integers(-(2**31), 2**32))
def test_the_number_is_always_said(code: int) -> None:
    assert str(code) in str(Exit(code=code))


def test_each_event_that_the_log_is_told_of_is_known() -> None:
    """The log's filter offers these; Django's own would read the whole log for them."""
    services = Path(__file__).parents[2] / "lifecycle" / "services"
    told = {
        node.args[1].value
        for module in services.glob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "record"
        if isinstance(node.args[1], ast.Constant)
    }
    assert told == set(EVENTS) - set(Event)
