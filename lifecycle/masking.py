"""What of a config is a secret, said once for the API and the admin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SECRET_FIELDS = ("env_variables", "deployment_options")  # of a config: they may hold secrets
SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|pwd|secret|token|credential|authorization|api_?key|private_?key|_key$"
    r"|_dsn$|^key$|^client_keys?$",
    re.IGNORECASE,
)
URL_WITH_PASSWORD = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:([^/@]*)@")
MASK = "********"


def masked(value: Any) -> Any:
    """A copy in which every value whose name, or form, says that it is a secret is hidden."""
    if isinstance(value, Mapping):
        return {
            name: MASK if inner and SECRET_NAME.search(str(name)) else masked(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    return MASK if isinstance(value, str) and URL_WITH_PASSWORD.match(value) else value
