"""The one encrypted field type: JSON under Fernet, with keys that rotate."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

if TYPE_CHECKING:
    Field = models.Field[Any, Any]
else:
    Field = models.Field


@cache
def fernet() -> MultiFernet:
    """Encrypts with the first key of `settings.FERNET_KEYS`, decrypts with any of them."""
    return MultiFernet([Fernet(key) for key in settings.FERNET_KEYS])


class Secret(dict[str, Any]):
    """A decrypted mapping that never shows its values: not in logs, errors or the shell."""

    def __repr__(self) -> str:
        return f"Secret({', '.join(sorted(self))})"

    __str__ = __repr__


class EncryptedJSONField(Field):
    """A JSON object, stored as a Fernet token. Reads as `Secret`; can't be filtered on."""

    description = "Encrypted JSON object"

    def get_internal_type(self) -> str:
        return "TextField"

    def get_prep_value(self, value: Any) -> str | None:
        if value is None:
            return None
        return fernet().encrypt(json.dumps(dict(value)).encode()).decode()

    def from_db_value(self, value: str | None, *_: object) -> Secret | None:
        """Raises `ImproperlyConfigured` when no configured key opens the value."""
        if value is None:
            return None
        try:
            return Secret(json.loads(fernet().decrypt(value.encode())))
        except InvalidToken:
            raise ImproperlyConfigured(
                f"{self.model.__name__}.{self.name} was encrypted with a key that is not in "
                "MUSTER_FIELD_KEYS (or keys/fields of this home)"
            ) from None

    def to_python(self, value: Any) -> Any:
        return Secret(value) if isinstance(value, dict) else value
