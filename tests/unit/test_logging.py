"""What processes print of errors."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog

from crm.logs import logging_config


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
