"""What each setting may hold, and what is said when it holds something else."""

from __future__ import annotations

import pytest
from django.conf import settings

from crm import env
from crm.env_checks import BadSettings

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROKER_URL", raising=False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "abc", "PORT: 'abc' is not a port number (1 to 65535)"),
        ("PORT", "0", "PORT: '0' is not a port number (1 to 65535)"),
        ("PORT", "70000", "PORT: '70000' is not a port number (1 to 65535)"),
        ("PORT", "-1", "PORT: '-1' is not a port number (1 to 65535)"),
        ("MUSTER_LOG_LEVEL", "bogus", "MUSTER_LOG_LEVEL: 'bogus' is not a level: DEBUG, INFO, "),
        ("MUSTER_LOG_FORMAT", "xml", "MUSTER_LOG_FORMAT: 'xml' is not json or console"),
        ("MUSTER_DEBUG", "perhaps", "MUSTER_DEBUG: 'perhaps' is not true or false"),
        (
            "MUSTER_PLATFORMS",
            "a.b,c/d",
            "MUSTER_PLATFORMS: 'a.b,c/d' is not names of ",
        ),
        ("MUSTER_TIME_ZONE", "Mars", "MUSTER_TIME_ZONE: 'Mars' is not a time zone such as "),
        ("MUSTER_HOME", "~nobody-here/x", "MUSTER_HOME: '~nobody-here/x' is not a directory: "),
        ("MUSTER_FIELD_KEYS", SECRET, "MUSTER_FIELD_KEYS: not Fernet keys"),
        ("DATABASE_URL", SECRET, "DATABASE_URL: not a PostgreSQL URL such as postgresql://user:"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/n", "it begins with mysql://"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}%zz@h/n", "invalid percent-encoded token"),
        ("DATABASE_URL", f"postgresql://u@h/n?{SECRET}", "missing key/value separator"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:port/n", "port is no number from 1 to 65535"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:0/n", "port is no number from 1 to 65535"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h", "it names no database"),
        ("BROKER_URL", SECRET, "BROKER_URL: not a broker URL such as redis://:password@host:6379"),
        ("BROKER_URL", f"http://u:{SECRET}@h/", "it begins with http://"),
        ("BROKER_URL", f"redis://:{SECRET}@h:port/0", "its host or port can't be understood"),
        ("BROKER_URL", f"redis://:{SECRET}@h:0/0", "port is no number from 1 to 65535"),
        ("BROKER_URL", f"redis://:{SECRET}@h/name", "no database number"),
        ("BROKER_URL", f"redis://h/0?password={SECRET}", "repeats a part of the URL"),
        ("BROKER_URL", "redis+socket://", "it names no socket"),
    ],
)
def test_a_bad_value_is_one_line_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        env.read()
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert said in line
    assert SECRET not in line
    assert refused.value.__suppress_context__  # a traceback would show the value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65535"),
        ("MUSTER_LOG_LEVEL", "debug"),
        ("MUSTER_TIME_ZONE", "Asia/Shanghai"),
        ("DATABASE_URL", "postgres://u:p%40ss@one:5432,two/n?sslmode=require"),
        ("DATABASE_URL", "postgresql://u@/n?host=%2Frun%2Fpg&port=5432"),
        ("DATABASE_URL", "postgresql://?service=muster"),
        ("BROKER_URL", "redis://"),
        ("BROKER_URL", "rediss://:p@h:6380/3?ssl_cert_reqs=required"),
        ("BROKER_URL", "redis+socket:///run/valkey.sock?virtual_host=0"),
        ("BROKER_URL", "amqp://u:p@one:5672//;amqps://u:p@two/vhost"),
        ("MUSTER_FIELD_KEYS", f"{'A' * 43}=, {'B' * 42}A="),
    ],
)
def test_a_good_value_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert "p%40ss" not in repr(env.read())


def test_every_bad_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "abc")
    monkeypatch.setenv("MUSTER_LOG_LEVEL", "loud")
    with pytest.raises(BadSettings) as refused:
        env.read()
    assert len(str(refused.value).splitlines()) == 2


def test_what_embedded_servers_use_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = env.read()
    monkeypatch.setenv("DATABASE_URL", embedded.resolved_database_url)
    monkeypatch.setenv("BROKER_URL", embedded.resolved_broker_url)
    env.read()


def test_a_pool_tries_to_connect_for_as_long_as_its_clients_wait() -> None:
    """By default a pool doubles its pauses up to 128 s, and its clients give up after 10 s each
    although the database is back."""
    pool = settings.DATABASES["default"]["OPTIONS"]["pool"]
    assert 0 < pool["reconnect_timeout"] <= pool["timeout"]
