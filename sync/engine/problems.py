"""What the errors of a check mean for its account, in words without secrets."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from lifecycle.masking import SECRET_NAME
from sync import platforms, services
from sync.errors import LoginExpired, LoginFailed, PlatformError, RateLimited, SyncError
from sync.types import AccountRef, LoginState

SHORTEST_SECRET = 4


def problem(error: SyncError, ref: AccountRef) -> services.Problem:
    """What an error means for the account's next check."""
    text = redacted(str(error) or type(error).__name__, ref)
    match error:
        case LoginFailed():
            return services.Problem(text, needs_person=True, login_state=LoginState.FAILED)
        case LoginExpired():
            return services.Problem(text, login_state=LoginState.EXPIRED)
        case RateLimited():
            return services.Problem(text, retry_after_s=error.retry_after_s)
        case PlatformError():
            return services.Problem(text)
        case _:
            return services.Problem(f"{type(error).__name__}: {text}")


def redacted(text: str, ref: AccountRef) -> str:
    """The text without anything of the account's credentials and session that must not be shown."""
    for one in _secrets(ref):
        text = text.replace(one, "[redacted]")
    return text


def _secrets(ref: AccountRef) -> list[str]:
    """The longest first. A username is none: to say whose password was refused is of use."""
    found: list[str] = []
    platform = platforms.registry().get(ref.platform)
    shape = platform.credentials.model_fields if platform else {}
    todo: list[object] = [
        ref.session,
        *(
            value
            for name, value in ref.credentials.items()
            if not (name in shape and _is_public(name, shape[name]))
        ),
    ]
    while todo:
        match todo.pop():
            case dict() as mapping:
                todo.extend(mapping.values())
            case list() as items:
                todo.extend(items)
            case str() as text if len(text) >= SHORTEST_SECRET and text != ref.identifier:
                found.append(text)
    return sorted(found, key=len, reverse=True)


def _is_public(name: str, field: FieldInfo) -> bool:
    """A plain text that the adapter does not hide, and whose name is no secret's."""
    return bool(
        field.annotation in (str, str | None) and field.repr and not SECRET_NAME.search(name)
    )
