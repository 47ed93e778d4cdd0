"""Secrets in what processes print [L12]."""

from __future__ import annotations

import json
import logging
import logging.config
from typing import Any

import pytest
import structlog

from crm.logs import logging_config
from lifecycle.logs.redaction import Redactor, redact, secrets_in
from lifecycle.masking import MASK

SECRET = "hunter2-Ab9"


@pytest.mark.parametrize(
    "line",
    [
        "password=hunter2-Ab9",
        "PASSWORD = 'hunter2-Ab9'",
        'db_password: "hunter2-Ab9", user: x',
        '{"password": "hunter2-Ab9"}',
        '{"password":"a \\" hunter2-Ab9 quoted"}',
        '{"body": "{\\"password\\": \\"hunter2-Ab9\\"}"}',
        "?token=hunter2-Ab9&x=1",
        "access_token=hunter2-Ab9",
        "accessToken: hunter2-Ab9",
        "api-key=hunter2-Ab9",
        "apikey: hunter2-Ab9",
        "client_secret='two words hunter2-Ab9'",
        "Authorization: Bearer hunter2-Ab9",
        "authorization: Basic hunter2-Ab9==",
        "{'Authorization': 'Token hunter2-Ab9'}",
        '{"headers": {"Authorization": "Digest username=x, response=hunter2-Ab9"}}',
        "(b'authorization', b'Bearer hunter2-Ab9')",
        "Cookie: muster_session=hunter2-Ab9; other=1",
        "sent Bearer hunter2-Ab9 to it",
        "redis://:hunter2-Ab9@host/0",
        "postgres://me:hunter2-Ab9@db/x failed",
    ],
)
def test_what_looks_like_a_secret_is_hidden(line: str) -> None:
    found = redact(line)
    assert SECRET not in found
    assert MASK in found
    if line.startswith("{") and '"' in line:
        json.loads(found)


@pytest.mark.parametrize(
    "line",
    [
        "tokens=512 max_tokens: 9",
        "the password was wrong",
        "Basic authentication is used",
        "https://example.org/a@b",
        "keys: 12, monkey=3",
        '{"event": "login", "user": "ann"}',
        "mailto ann@example.org",
    ],
)
def test_what_does_not_is_left_alone(line: str) -> None:
    assert redact(line) == line


def test_what_stands_around_a_secret_is_left() -> None:
    assert redact('{"a": 1, "token": "x y", "b": 2}') == f'{{"a": 1, "token": "{MASK}", "b": 2}}'
    assert redact("token=abc&page=2") == f"token={MASK}&page=2"
    assert redact("amqp://u:pw12@h/v") == f"amqp://u:{MASK}@h/v"


def test_known_secrets_are_hidden_in_every_form() -> None:
    hide = Redactor(['quo"te\n秘密 line', "abc", "longer-secret", "longer"])
    for line in (
        'quo"te',
        "秘密 line",
        json.dumps('quo"te\n秘密 line'),
        "longer-secret",
        "x longer y",
    ):
        assert MASK in hide(line), line
    assert hide("longer-secret") == MASK
    assert hide("abc") == "abc"  # too short: it would hide half of every line
    assert hide("秘 unrelated") == "秘 unrelated"


def test_which_values_of_a_config_are_secrets() -> None:
    env = {
        "API_TOKEN": "one",
        "LANG": "zh",
        "DATABASE_URL": "postgres://me:two@db/x",
        "HOMEPAGE": "https://example.org/a@b",
        "ssh": {"password": "three", "user": "u"},
        "credentials": {"any": ["four"]},
        "list": [{"secret": "five"}],
        "port": 22,
    }
    assert set(secrets_in(env)) == {"one", "two", "three", "four", "five"}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_our_own_records_hold_no_secret(
    log_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = logging_config(log_format, "INFO")
    out = logging.StreamHandler()
    formatter: Any = config["formatters"]["structured"]
    out.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=formatter["processors"], foreign_pre_chain=formatter["foreign_pre_chain"]
        )
    )
    logger = logging.getLogger("muster.test.redaction")
    logger.propagate = False
    monkeypatch.setattr(logger, "handlers", [out])
    try:
        raise ValueError("could not use password=hunter2-Ab9")  # noqa: TRY301
    except ValueError:
        logger.exception(
            "tried %s", "redis://:hunter2-Ab9@h/0", extra={"deep": {"api_key": SECRET, "n": [1]}}
        )
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert SECRET not in said
    assert said.count(MASK) >= 3
    if log_format == "json":
        record = json.loads(said)
        assert record["deep"] == {"api_key": MASK, "n": [1]}
        assert record["level"] == "error"
