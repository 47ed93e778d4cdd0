"""What processes print of errors."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog

from crm.logs import SELDOM_S, Seldom, logging_config


@pytest.mark.parametrize(("status", "expected"), [(403, False), (500, True)])
def test_a_refusal_has_no_traceback(status: int, expected: bool) -> None:
    """Django logs every 403 with one; a log in which they mean nothing hides the bugs."""
    given: Any = logging_config("json", "INFO")["formatters"]["structured"]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=given["processors"], foreign_pre_chain=given["foreign_pre_chain"]
    )
    caught = (PermissionError, PermissionError("not yours"), None)
    record = logging.LogRecord("django.request", 30, "", 0, "Forbidden: /x", None, caught)
    record.status_code = status
    assert ("PermissionError" in formatter.format(record)) is expected


def test_what_a_library_repeats_is_said_once_a_minute() -> None:
    seldom = Seldom(["error connecting"])

    def passes(text: str, at: float) -> bool:
        record = logging.LogRecord("psycopg.pool", logging.WARNING, "", 0, text, ("pool-1",), None)
        record.created = at
        return seldom.filter(record)

    assert [passes("error connecting in %r", at) for at in (1e9, 1e9 + 1, 1e9 + SELDOM_S - 1)] == [
        True,
        False,
        False,
    ]
    assert passes("error connecting in %r", 1e9 + SELDOM_S)
    assert all(passes("something else of %r", 1e9) for _ in range(3))
