"""What a setting may be, and what people are told when it is not. No secret gets into a message."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from typing import Annotated
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, ValidationError
from pydantic.fields import FieldInfo

DATABASE_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss")
SOCKET_SCHEME = "redis+socket"
# What the clients in requirements.txt speak. `memory` is for tests: it ends with the process.
BROKER_SCHEMES = (*REDIS_SCHEMES, SOCKET_SCHEME, "amqp", "amqps", "pyamqp", "memory")
FIELD_KEY_BYTES = 32
HIGHEST_PORT = 65535
WRONG_PORT = f"its port is no number from 1 to {HIGHEST_PORT}"
KOMBU_PARTS = {"transport", "hostname", "port", "userid", "password", "virtual_host"}
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class BadSettings(Exception):
    """Variables hold what they can't; the message is for people, one line for each variable."""


def explain(error: ValidationError, fields: dict[str, FieldInfo]) -> str:
    """One line for each bad variable: its name, what it holds unless that is secret, what is right.

    `fields` are those of the model that refused; each has a description of a right value.
    """
    named = {str(field.validation_alias): field for field in fields.values()}
    lines = []
    for wrong in error.errors():
        name = str(wrong["loc"][0])
        field = named[name]
        shown = f"{wrong['input']!r} is not" if field.repr else "not"
        reason = str(wrong["ctx"]["error"]) if wrong["type"] == "value_error" else ""
        lines.append(f"{name}: {shown} {field.description}" + (f": {reason}" if reason else ""))
    return "\n".join(lines)


def split_keys(keys: str) -> list[str]:
    """One key a line, or with commas between."""
    return [key.strip() for key in keys.replace("\n", ",").split(",") if key.strip()]


def _check_database_url(url: str) -> str:
    """What libpq and Django can use."""
    _check_scheme(url, DATABASE_SCHEMES)
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        # libpq quotes what it does not understand: that may be the password.
        raise ValueError(str(error).split('"')[0].strip(" :\n")) from None
    for port in filter(None, str(parts.get("port", "")).split(",")):
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= HIGHEST_PORT):
            raise ValueError(WRONG_PORT)
    if not parts.get("dbname") and not parts.get("service"):
        raise ValueError("it names no database")
    return url


def _check_broker_url(url: str) -> str:
    """What kombu can use: one URL, or several with semicolons between."""
    for one in url.split(";"):
        scheme = _check_scheme(one, BROKER_SCHEMES)
        try:
            parts = urlsplit(one)
            port = parts.port
        except ValueError:  # its text quotes the URL
            raise ValueError("its host or port can't be understood") from None
        if port == 0:
            raise ValueError(WRONG_PORT)
        if scheme in REDIS_SCHEMES and not re.fullmatch(r"/?\d*", parts.path, re.ASCII):
            raise ValueError("what follows the host is no database number")
        if scheme == SOCKET_SCHEME and parts.path in ("", "/"):
            raise ValueError("it names no socket")
        if scheme != SOCKET_SCHEME and KOMBU_PARTS & parse_qs(parts.query).keys():
            raise ValueError("what follows ? repeats a part of the URL")
    return url


def _check_field_keys(keys: str) -> str:
    for number, key in enumerate(split_keys(keys), 1):
        try:
            length = len(urlsafe_b64decode(key))
        except ValueError:
            length = 0
        if length != FIELD_KEY_BYTES:
            raise ValueError(f"number {number} is no such key")
    return keys


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, OSError):  # OSError: the name of a directory
        raise ValueError("this machine knows no such time zone") from None
    return name


def _check_log_level(level: str) -> str:
    if level.upper() not in LOG_LEVELS:
        raise ValueError
    return level.upper()


def _check_modules(names: str) -> str:
    for name in filter(None, map(str.strip, names.split(","))):
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} is no such name")
    return names


def _check_scheme(url: str, schemes: tuple[str, ...]) -> str:
    found = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", url)
    if not found:
        raise ValueError("it does not begin with a scheme and ://")
    if found[1] not in schemes:
        raise ValueError(f"it begins with {found[0]}")
    return found[1]


DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]
BrokerUrl = Annotated[str, AfterValidator(_check_broker_url)]
FieldKeys = Annotated[str, AfterValidator(_check_field_keys)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
LogLevel = Annotated[str, AfterValidator(_check_log_level)]
PythonModules = Annotated[str, AfterValidator(_check_modules)]
