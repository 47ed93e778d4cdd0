"""The only reader of the environment. Everything else imports the typed `env` object."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import socket
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from crm.env_checks import (
    HIGHEST_PORT,
    BadSettings,
    BrokerUrl,
    DatabaseUrl,
    FieldKeys,
    LogLevel,
    PythonModules,
    TimeZone,
    explain,
    split_keys,
)
from lifecycle.types import HomeRef

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_HOME = CHECKOUT / "var"

# sun_path holds 108 bytes with the closing zero; PostgreSQL appends "/pg/.s.PGSQL.5432".
LONGEST_SOCKET_DIR = 80


def setting(name: str, default: Any, right: str, *, secret: bool = False, **limits: Any) -> Any:
    """A field read from the variable `name`; `right` says what it may hold, after "is not"."""
    return Field(default, validation_alias=name, description=right, repr=not secret, **limits)


class Env(BaseSettings):
    """Settings of one Muster process.

    Raises `pydantic.ValidationError` when a value has the wrong shape: `read` says it to people.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    home: Path = setting("MUSTER_HOME", DEFAULT_HOME, "a directory")
    database_url: DatabaseUrl | None = setting(
        "DATABASE_URL",
        None,
        "a PostgreSQL URL such as postgresql://user:password@host:5432/name",
        secret=True,
    )
    broker_url: BrokerUrl | None = setting(
        "BROKER_URL",
        None,
        "a broker URL such as redis://:password@host:6379/0 "
        "(or with rediss://, redis+socket://, amqp://, amqps://)",
        secret=True,
    )
    port: int = setting("PORT", 8000, f"a port number (1 to {HIGHEST_PORT})", ge=1, le=HIGHEST_PORT)
    bind: str = setting("MUSTER_BIND", "127.0.0.1", "an address of this machine")
    allowed_hosts: str = setting(
        "MUSTER_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", "names with commas between"
    )
    trusted_origins: str = setting("MUSTER_TRUSTED_ORIGINS", "", "origins with commas between")
    admin_password: str | None = setting("MUSTER_ADMIN_PASSWORD", None, "a password", secret=True)
    secret_key: str | None = setting("MUSTER_SECRET_KEY", None, "a text", secret=True)
    platforms: PythonModules = setting(
        "MUSTER_PLATFORMS", "", "names of Python modules with commas between"
    )
    batch_rows: int = setting(
        "MUSTER_BATCH_ROWS", 500, "a number of rows (1 to 10000)", ge=1, le=10_000
    )
    batch_bytes: int = setting(
        "MUSTER_BATCH_BYTES",
        512 * 1024,
        "a number of bytes (1024 to 67108864)",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    dead_letter_alarm: int = setting(
        "MUSTER_DEAD_LETTER_ALARM",
        10,
        "a number of dead letters (1 to 1000000)",
        ge=1,
        le=1_000_000,
    )
    field_keys: FieldKeys | None = setting(
        "MUSTER_FIELD_KEYS",
        None,
        "Fernet keys (32 bytes in URL-safe base64) with commas between",
        secret=True,
    )
    time_zone: TimeZone = setting("MUSTER_TIME_ZONE", "UTC", "a time zone such as Europe/Berlin")
    debug: bool = setting("MUSTER_DEBUG", False, "true or false")
    log_format: Literal["json", "console"] = setting("MUSTER_LOG_FORMAT", "json", "json or console")
    log_level: LogLevel = setting(
        "MUSTER_LOG_LEVEL", "INFO", "a level: DEBUG, INFO, WARNING, ERROR or CRITICAL"
    )
    part: str = setting("MUSTER_PART", "shell", "the name of a part")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            return home.expanduser().resolve()
        except RuntimeError:  # ~ of somebody who is not there
            raise ValueError("there is no such user") from None

    @cached_property
    def socket_dir(self) -> Path:
        """Where the Unix sockets are: the home's `run/`, or a short path if that is too long."""
        run = self.home / "run"
        if len(str(run)) <= LONGEST_SOCKET_DIR and "," not in str(run):  # libpq splits at commas
            return run
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"muster-{os.getuid()}-{digest}"

    @cached_property
    def home_ref(self) -> HomeRef:
        """This home among those that share a database. Raises `OSError`.

        Its name is made up, and not kept in `keys/`: those are copied to other hosts.
        """
        identity = key_file(self.home / "id", secrets.token_hex(16))
        return HomeRef(identity, socket.gethostname(), str(self.home))

    @property
    def agent_socket(self) -> Path:
        return self.socket_dir / "agent.sock"

    @property
    def flower_socket(self) -> Path:
        return self.socket_dir / "flower.sock"

    @property
    def embedded_postgres(self) -> bool:
        return self.database_url is None

    @property
    def embedded_valkey(self) -> bool:
        return self.broker_url is None

    @property
    def resolved_database_url(self) -> str:
        """libpq URL of the database in use, given or embedded."""
        socket_dir = quote(str(self.socket_dir / "pg"), safe="")
        return self.database_url or f"postgresql://muster@/muster?host={socket_dir}&port=5432"

    @property
    def resolved_broker_url(self) -> str:
        """kombu URL of the broker in use, given or embedded."""
        return self.broker_url or f"redis+socket://{self.socket_dir / 'valkey.sock'}?virtual_host=0"

    @cached_property
    def django_secret_key(self) -> str:
        return self.secret_key or key_file(self.home / "keys" / "django", secrets.token_urlsafe(50))

    @cached_property
    def worker_metrics_token(self) -> str:
        """What `/metrics` of a worker's own port asks for. Raises `OSError`."""
        return key_file(self.home / "keys" / "metrics", secrets.token_urlsafe(32))

    @cached_property
    def fernet_keys(self) -> list[str]:
        """Newest first: the first encrypts, all decrypt, so that a key can be rotated."""
        fresh = base64.urlsafe_b64encode(os.urandom(32)).decode()
        return split_keys(self.field_keys or key_file(self.home / "keys" / "fields", fresh))


def key_file(path: Path, fresh: str) -> str:
    """The key kept at `path`, made of `fresh` on first use: 0600, and never half-written."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(fresh + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # fails if another process was first: then theirs is the key
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()


def read() -> Env:
    """The settings that the environment gives. Raises `BadSettings`."""
    try:
        return Env()
    except ValidationError as error:  # without its text: that shows the values
        raise BadSettings(explain(error, Env.model_fields)) from None


env = read()
