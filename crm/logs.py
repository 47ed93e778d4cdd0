"""Logging of every Muster process: one structured line per event, on standard output."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from lifecycle.logs.redaction import redact
from lifecycle.masking import MASK, SECRET_NAME

OURS = {"time", "level", "logger"}
SELDOM_S = 60.0
# What libraries say at each attempt while the database or the broker is away, and their loggers.
REPEATING = ("psycopg.pool", "django_celery_beat.schedulers", "celery.worker.consumer.consumer")
REPEATED = (
    "error connecting in",
    "discarding closed connection",
    "reconnection attempt in pool",
    "Database gave error",
    "consumer: Cannot connect to",
)


def only_bugs_have_tracebacks(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Django gives one to each refusal (403, 400) too."""
    status = event.get("status_code")
    if isinstance(status, int) and status < 500:
        event.pop("exc_info", None)
    return event


def hide_secrets(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A secret is never printed: neither a value whose name sounds like one, at any depth, nor one
    that stands in a text or a traceback."""
    for key, value in event.items():
        event[key] = value if key in OURS else _hidden(key, value)
    return event


def _hidden(name: str, value: object) -> object:
    if value and not isinstance(value, bool) and SECRET_NAME.search(name):
        return MASK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _hidden(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", inner) for inner in value]
    return value


class Seldom(logging.Filter):
    """Lets what libraries say at each attempt pass once a minute: who of ours waits for it says so
    itself, once for each outage."""

    def __init__(self, beginnings: Sequence[str]) -> None:
        super().__init__()
        self._beginnings = tuple(beginnings)
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if not text.startswith(self._beginnings):
            return True
        if record.created - self._said.get(text, 0.0) < SELDOM_S:
            return False
        self._said[text] = record.created
        return True


SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """A `dictConfig` mapping; also sets structlog up to end in the standard library's handlers."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # Last but one: by then tracebacks are text, in which a secret can stand as well.
    last: list[structlog.typing.Processor] = [
        only_bugs_have_tracebacks,
        structlog.processors.format_exc_info,
        hide_secrets,
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        "foreign_pre_chain": SHARED,
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
        "filters": {
            "seldom": {"()": Seldom, "beginnings": REPEATED},
            "meant": {"()": "lifecycle.api.event_stream.Meant"},
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "structured",
            }
        },
        "root": {"handlers": ["stdout"], "level": level},
        "loggers": {
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            **{name: {"filters": ["seldom"]} for name in REPEATING},
            "uvicorn.error": {"filters": ["meant"]},
            "django.server": {"level": "WARNING", "propagate": True},
        },
    }
