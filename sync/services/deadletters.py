"""What people do with records that did not validate: repair, replay, discard, reopen [S6]."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from sync import feed, store
from sync.dead_records import parsed, records
from sync.errors import Rejected, StillRefused, SyncError
from sync.merge import clean, merge
from sync.models import Account, DeadLetter
from sync.types import Batch, DeadLetterState, Lease, Receipt, Record, Refused
from sync.weights import weight

log = logging.getLogger(__name__)

MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of one dead letter of many; `code` and `error` are "" where it worked."""

    letter_id: int
    state: str | None  # None: there is no such letter
    code: str = ""
    error: str = ""


def fix_dead_letter(letter_id: int, kind: str, content: object, by: str) -> DeadLetter:
    """Put a repaired record, in our own shape, beside the raw one; a replay takes it instead.

    Raises `DeadLetter.DoesNotExist`, `Rejected` when it is not open, `ValidationError` naming
    `kind` or `record.<field>`.
    """
    parsed(kind, content)
    with _locked(letter_id) as (_account, letter):
        _require_open(letter)
        letter.fixed = {"kind": kind, "record": content}
        letter.save(update_fields=["fixed"])
        _tell(letter)
    _note("repaired", letter, by)
    return letter


def replay_dead_letter(letter_id: int, by: str) -> DeadLetter:
    """Store what the letter holds, in one transaction with its new state, however large it is.

    Replayed twice is replayed. Raises `DeadLetter.DoesNotExist`; `Rejected` when it was discarded;
    `StillRefused` when it still can't be stored: then the letter holds the new reason.
    """
    with _locked(letter_id) as (account, letter):
        if letter.state == DeadLetterState.REPLAYED:
            return letter
        _require_open(letter)
        error = _store(account, letter, by)
        if error:
            letter.error, letter.replays = clean(error), letter.replays + 1
            letter.save(update_fields=["error", "replays"])
            _tell(letter)
    if error:
        _note("still refused", letter, by)
        raise StillRefused(error)
    _note("replayed", letter, by)
    return letter


def discard_dead_letter(letter_id: int, by: str) -> DeadLetter:
    """Nobody needs it; it is kept and can be reopened. Discarded twice is discarded.

    Raises `DeadLetter.DoesNotExist`, `Rejected` when it was replayed.
    """
    with _locked(letter_id) as (_account, letter):
        if letter.state == DeadLetterState.DISCARDED:
            return letter
        _require_open(letter)
        _resolve(letter, DeadLetterState.DISCARDED, by)
    _note("discarded", letter, by)
    return letter


def reopen_dead_letter(letter_id: int, by: str) -> DeadLetter:
    """Undo a discard. Raises `DeadLetter.DoesNotExist`, `Rejected` when it was replayed."""
    with _locked(letter_id) as (_account, letter):
        if letter.state == DeadLetterState.OPEN:
            return letter
        if letter.state == DeadLetterState.REPLAYED:
            raise Rejected(_("What it held is stored; there is nothing to reopen."))
        letter.state, letter.resolved_at = DeadLetterState.OPEN.value, None
        letter.resolved_by = ""
        letter.save(update_fields=["state", "resolved_at", "resolved_by"])
        _tell(letter)
    _note("reopened", letter, by)
    return letter


Action = Callable[[int, str], DeadLetter]
ACTIONS: dict[str, Action] = {
    "replay": replay_dead_letter,
    "discard": discard_dead_letter,
    "reopen": reopen_dead_letter,
}


def resolve_dead_letters(action: str, letter_ids: Iterable[int], by: str) -> list[Resolved]:
    """One of `ACTIONS` for each; one that can't be doesn't hold up the others."""
    return [_one(ACTIONS[action], letter_id, by) for letter_id in dict.fromkeys(letter_ids)]


def _one(act: Action, letter_id: int, by: str) -> Resolved:
    try:
        return Resolved(letter_id, act(letter_id, by).state)
    except DeadLetter.DoesNotExist:
        return Resolved(letter_id, None, "not_found", _("There is no such dead letter."))
    except (SyncError, ValidationError) as error:
        code = "still_refused" if isinstance(error, StillRefused) else "rejected"
        said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        return Resolved(letter_id, DeadLetterState.OPEN.value, code, said)
    except Exception:  # a row that somebody else holds, say: the others have their turn
        log.exception("dead letter could not be resolved", extra={"dead_letter_id": letter_id})
        said = _("It failed unexpectedly; see the log.")
        return Resolved(letter_id, DeadLetterState.OPEN.value, "error", said)


def _store(account: Account, letter: DeadLetter, by: str) -> str:
    """Store the letter's records and resolve it; why that can't be, "" if it was done.

    A refusal among them keeps the letter open and stores nothing of it: it is replayed whole.
    """
    found = records(letter, account)
    refused = [one for one in found if isinstance(one, Refused)]
    kept: tuple[Record, ...] = tuple(one for one in found if not isinstance(one, Refused))
    merged = merge(Batch(None, kept, remaining=account.backlog), sum(map(weight, kept)))
    refused += (*merged.refused, *store.split_known(account.pk, merged.messages).refused)
    if refused:
        return "; ".join(one.error for one in refused)

    def resolve(_receipt: Receipt) -> None:
        _resolve(letter, DeadLetterState.REPLAYED, by)

    try:  # in a transaction of its own: the caller's goes on
        store.ingest(Lease(account.pk, account.epoch), account.sequence, merged, "", resolve)
    except store.REFUSALS as error:
        log.exception("a dead letter can't be stored", extra=_about(letter, by))
        letter.refresh_from_db()
        return f"it can't be stored: {type(error).__name__}"
    return ""


@contextmanager
def _locked(letter_id: int) -> Iterator[tuple[Account, DeadLetter]]:
    """Account and letter, locked in the order in which checks lock them."""
    with transaction.atomic():
        account_id = DeadLetter.objects.values_list("account_id", flat=True).get(pk=letter_id)
        account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
        yield account, DeadLetter.objects.select_for_update(no_key=True).get(pk=letter_id)


def _require_open(letter: DeadLetter) -> None:
    match letter.state:
        case DeadLetterState.REPLAYED:
            raise Rejected(_("What it held is stored already."))
        case DeadLetterState.DISCARDED:
            raise Rejected(_("It was discarded; reopen it first."))


def _resolve(letter: DeadLetter, state: DeadLetterState, by: str) -> None:
    letter.state, letter.resolved_by = state.value, by[:150]
    letter.resolved_at = timezone.now()
    if state == DeadLetterState.REPLAYED:
        letter.replays += 1
    letter.save(update_fields=["state", "resolved_at", "resolved_by", "replays"])
    _tell(letter)


def _tell(letter: DeadLetter) -> None:
    feed.append(letter.account_id, {"account": {"changed": [letter.account_id]}})


def _note(what: str, letter: DeadLetter, by: str) -> None:
    log.info("dead letter %s", what, extra=_about(letter, by))


def _about(letter: DeadLetter, by: str) -> dict[str, Any]:
    return {"actor": by, "dead_letter_id": letter.pk, "account_id": letter.account_id}
