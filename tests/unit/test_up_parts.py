"""How each part is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from crm.env import Env
from crm.up import parts


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    for name, value in {"MUSTER_HOME": "/srv/muster", "PORT": "8123", "MUSTER_BIND": "::1"}.items():
        monkeypatch.setenv(name, value)
    return Env()


def test_the_web_listens_where_it_is_told(env: Env) -> None:
    command = parts.web(env).prepare().command
    assert command[command.index("--host") + 1] == "::1"
    assert command[command.index("--port") + 1] == "8123"


def test_flower_has_no_tcp_port(env: Env) -> None:
    command = parts.flower(env).prepare().command
    assert f"--unix-socket={Path('/srv/muster/run/flower.sock')}" in command
    assert not any(word.startswith("--port") for word in command)


def test_a_part_knows_its_name_and_home_but_not_the_admin_password(
    env: Env, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_ADMIN_PASSWORD", "secret")
    given = parts.environment(env, "web", {"EXTRA": "1"})
    assert given["MUSTER_PART"] == "web"
    assert given["MUSTER_HOME"] == "/srv/muster"
    assert given["EXTRA"] == "1"
    assert "MUSTER_ADMIN_PASSWORD" not in given


def test_sockets_move_out_of_a_home_with_a_long_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_HOME", "/" + "long/" * 30)
    env = Env()
    assert len(str(env.socket_dir / "pg" / ".s.PGSQL.5432")) < 108
    assert env.socket_dir.name.startswith("muster-")
