"""What `up` says when nobody can read it any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crm.env import Env
from crm.up.prepared import Prepared
from crm.up.run import Up

PASSWORD = "correct-horse"
MADE = Prepared(admin_password=PASSWORD, admin_created=True, migrated=False, first_worker=False)


@pytest.mark.parametrize("say", [Up._say_prepared, Up._say_ready])
def test_a_password_is_for_the_console_only(
    say: Callable[[Up, Prepared], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The terminal was closed while it came up: what was said goes to the log, and stays there."""
    caplog.set_level("INFO")

    def gone(*_words: object, **_options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    say(Up(Env()), MADE)
    assert "console is gone" in caplog.text
    assert "admin" in caplog.text
    assert PASSWORD not in caplog.text
