"""The only reader of the environment. Everything else imports the typed `env` object."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import tempfile
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parent.parent

# sun_path holds 108 bytes with the closing zero; PostgreSQL appends "/pg/.s.PGSQL.5432".
LONGEST_SOCKET_DIR = 80


class Env(BaseSettings):
    """Settings of one Muster process, read once.

    Raises `pydantic.ValidationError` naming each bad variable when a value has the wrong shape.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    home: Path = Field(CHECKOUT / "var", validation_alias="MUSTER_HOME")
    database_url: str | None = Field(None, validation_alias="DATABASE_URL")
    broker_url: str | None = Field(None, validation_alias="BROKER_URL")
    port: int = Field(8000, ge=1, le=65535, validation_alias="PORT")
    bind: str = Field("127.0.0.1", validation_alias="MUSTER_BIND")
    allowed_hosts: str = Field("127.0.0.1,localhost,[::1]", validation_alias="MUSTER_ALLOWED_HOSTS")
    trusted_origins: str = Field("", validation_alias="MUSTER_TRUSTED_ORIGINS")
    admin_password: str | None = Field(None, validation_alias="MUSTER_ADMIN_PASSWORD", repr=False)
    secret_key: str | None = Field(None, validation_alias="MUSTER_SECRET_KEY", repr=False)
    field_keys: str | None = Field(None, validation_alias="MUSTER_FIELD_KEYS", repr=False)
    time_zone: str = Field("UTC", validation_alias=AliasChoices("MUSTER_TIME_ZONE"))
    debug: bool = Field(False, validation_alias="MUSTER_DEBUG")
    log_format: str = Field(
        "json", pattern="^(json|console)$", validation_alias="MUSTER_LOG_FORMAT"
    )
    log_level: str = Field("INFO", validation_alias="MUSTER_LOG_LEVEL")
    part: str = Field("shell", validation_alias="MUSTER_PART")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().resolve()

    @cached_property
    def socket_dir(self) -> Path:
        """Where the Unix sockets are: the home's `run/`, or a short path if that is too long."""
        run = self.home / "run"
        if len(str(run)) <= LONGEST_SOCKET_DIR and "," not in str(run):  # libpq splits at commas
            return run
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"muster-{os.getuid()}-{digest}"

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
    def fernet_keys(self) -> list[str]:
        """Newest first: the first encrypts, all decrypt, so that a key can be rotated."""
        fresh = base64.urlsafe_b64encode(os.urandom(32)).decode()
        given = self.field_keys or key_file(self.home / "keys" / "fields", fresh)
        return [key.strip() for key in given.replace("\n", ",").split(",") if key.strip()]


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


env = Env()
