"""What a config's free-form fields must look like, said once for the admin and the API."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A worker is forked from a process that has read its settings: these would have no effect.
OURS = re.compile(r"MUSTER_.*|DATABASE_URL|BROKER_URL")
MAX_ENV_BYTES = 64 * 1024
MAX_OPTIONS_BYTES = 64 * 1024


def validate_env_variables(value: Any) -> None:
    """An object of strings; names as POSIX shells take them; at most 64 KB with the names."""
    if not isinstance(value, dict):
        raise ValidationError(_("Must be a JSON object of strings."), code="not_an_object")
    errors = [error for name, text in value.items() for error in _variable_errors(name, text)]
    if errors:
        raise ValidationError(errors)
    # The closing zero and the '=' count as well, as they do for execve.
    size = sum(len(f"{name}={text}".encode()) + 1 for name, text in value.items())
    if size > MAX_ENV_BYTES:
        raise ValidationError(_("At most 64 KB in all."), code="too_large")


def _variable_errors(name: str, text: Any) -> list[ValidationError]:
    errors = []
    if not ENV_NAME.fullmatch(name):
        message = _("'%(name)s' is no name: letters, digits and '_', not beginning with a digit.")
        errors.append(ValidationError(message, code="bad_name", params={"name": name[:100]}))
    if OURS.fullmatch(name):
        message = _(
            "'%(name)s' is a setting of the whole installation: a worker can't have another."
        )
        errors.append(ValidationError(message, code="ours", params={"name": name[:100]}))
    if not isinstance(text, str):
        message = _("The value of '%(name)s' must be a string.")
        errors.append(ValidationError(message, code="not_a_string", params={"name": name[:100]}))
    elif "\0" in text or not _encodable(text):
        message = _("The value of '%(name)s' holds characters that no process can be given.")
        errors.append(ValidationError(message, code="bad_value", params={"name": name[:100]}))
    return errors


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def validate_options(value: Any) -> None:
    """A JSON object of a bearable size; what is in it is checked by its deployment type."""
    if not isinstance(value, dict):
        raise ValidationError(_("Must be a JSON object."), code="not_an_object")
    if len(repr(value)) > MAX_OPTIONS_BYTES:
        raise ValidationError(_("At most 64 KB in all."), code="too_large")
