"""Dead letters as records: from what is kept to what can be stored [S6]. No writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pydantic
from django.core.exceptions import ValidationError
from django.utils import translation
from django.utils.translation import gettext as _

from sync import platforms
from sync.errors import SyncError
from sync.merge import merge
from sync.models import Account, DeadLetter
from sync.types import (
    AccountRef,
    Batch,
    CommentRecord,
    ConversationRecord,
    MessageRecord,
    PostRecord,
    RawShape,
    Record,
    RecordKind,
    Refused,
)

log = logging.getLogger(__name__)

SHAPES: dict[RecordKind, type[Record]] = {
    RecordKind.CONVERSATION: ConversationRecord,
    RecordKind.MESSAGE: MessageRecord,
    RecordKind.POST: PostRecord,
    RecordKind.COMMENT: CommentRecord,
}
if shapeless := set(RecordKind) - set(SHAPES):
    raise TypeError(f"records of these kinds can't be repaired: {sorted(shapeless)}")


def parsed(kind: str, content: object) -> Record:
    """A record in our shape, as a person wrote it.

    Raises `ValidationError` naming `kind`, or each bad field as `record.<field>`.
    """
    try:
        shape = SHAPES[RecordKind(kind)]
    except ValueError:
        known = ", ".join(RecordKind)
        message = _("There is no such kind of record; known: %(known)s.") % {"known": known}
        raise _bad("kind", message, "invalid_choice") from None
    if not isinstance(content, Mapping):
        raise _bad("record", _("This must be an object."), "invalid")
    unknown = sorted(set(content) - {field.name for field in fields(shape)})
    if unknown:
        says = [ValidationError(_("There is no such field."), code="unknown")]
        raise ValidationError({f"record.{name}": says for name in unknown})
    try:
        record: Record = pydantic.TypeAdapter(shape).validate_python(dict(content))
    except pydantic.ValidationError as invalid:
        raise _errors(invalid) from None
    for refused in merge(Batch(None, (record,))).refused:
        raise _bad("record", refused.error, "invalid")
    return record


def records(letter: DeadLetter, account: Account) -> Sequence[Record | Refused]:
    """What a replay stores: the repaired record, ours as it was, or the platform's read again."""
    if letter.fixed:
        return [parsed(letter.fixed["kind"], letter.fixed["record"])]
    if letter.shape == RawShape.RECORD:
        with translation.override("en"):  # the letter keeps it
            try:
                return [parsed(letter.kind, dict(letter.raw))]
            except ValidationError as invalid:
                error = "; ".join(f"{name}: {' '.join(said)}" for name, said in _said(invalid))
                return [Refused(letter.kind, letter.external_id, "", error, RawShape.RECORD)]
    ref = AccountRef(
        account_id=account.pk,
        platform=account.platform,
        identifier=account.identifier,
        endpoint=account.endpoint,
        credentials=account.credentials,
        session=account.session,
    )
    raw = original(letter.raw)
    try:
        return list(platforms.get(account.platform).reread(ref, letter.kind, raw))
    except SyncError:
        raise
    except Exception as mistake:  # the adapter's: it is the letter's new reason
        log.exception("dead letter %s can't be read again", letter.pk)
        error = f"unexpected {type(mistake).__name__}; see the web's log"
        return [Refused(letter.kind, letter.external_id, raw, error)]


def original(raw: Mapping[str, Any]) -> str:
    """The raw text as the platform's adapter handed it over; see `store.books`."""
    match dict(raw):
        case {"text": str() as text, **rest} if not rest:
            return text
        case {"value": value, **rest} if not rest:
            return json.dumps(value, ensure_ascii=False)
        case whole:
            return json.dumps(whole, ensure_ascii=False)


def template(kind: RecordKind, letter: DeadLetter) -> dict[str, Any]:
    """What a person begins with who repairs a record: all fields, filled where we know them."""
    known = dict(letter.raw) if letter.shape == RawShape.RECORD else {}
    known.setdefault("external_id", letter.external_id)
    schema = pydantic.TypeAdapter(SHAPES[kind]).json_schema()
    defaults = {name: part.get("default", "") for name, part in schema["properties"].items()}
    return {name: known.get(name, default) for name, default in defaults.items()}


def _errors(invalid: pydantic.ValidationError) -> ValidationError:
    """Each error at its field; never the value."""
    errors: dict[str, list[ValidationError]] = {}
    for error in invalid.errors(include_input=False, include_context=False, include_url=False):
        name = ".".join(["record", *map(str, error["loc"])])
        code = "required" if error["type"] == "missing" else "invalid"
        errors.setdefault(name, []).append(ValidationError(error["msg"], code=code))
    return ValidationError(errors)


def _said(invalid: ValidationError) -> list[tuple[str, list[str]]]:
    return [(name.removeprefix("record."), said) for name, said in invalid.message_dict.items()]


def _bad(name: str, message: str, code: str) -> ValidationError:
    return ValidationError({name: ValidationError(message, code=code)})
