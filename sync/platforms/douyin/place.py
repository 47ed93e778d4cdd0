"""How far an account's works were read. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ConfigDict, ValidationError

from sync.errors import CursorInvalid
from sync.platforms.rest import Wire

SWEEP_EVERY_S = 24 * 3600.0
YOUNG_S = 30 * SWEEP_EVERY_S  # works that people still comment on


class Seen(Wire):
    """A work's comments as they were when they were last read to the end; or, where a cursor was
    lost and nobody knows that any more, as we have them (`is_ours`)."""

    count: int  # as the list of works had it, or as we have them
    at: float  # seconds since 1970
    is_ours: bool = False


class Place(Wire):
    """`items`: works whose comments we have. `sweep`: the platform's cursor of the page of works
    that a reading of all of them goes on with, None when none is under way."""

    model_config = ConfigDict(extra="forbid")

    items: dict[str, Seen] = {}
    sweep: str | None = None
    swept_at: float = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises `CursorInvalid`."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValidationError as error:
            raise CursorInvalid("the cursor is not one of ours") from error

    def text(self) -> str:
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def after_loss(cls, counts: Mapping[str, int], now: float) -> Place:
        """`counts`: of the comments that we have, by work. All works are due."""
        seen = {item: Seen(count=count, at=now, is_ours=True) for item, count in counts.items()}
        return cls(items=seen)

    def begun(self, now: float) -> Place:
        """Where a reading begins: all works are due once a day, else the latest page."""
        if self.sweep is None and now - self.swept_at >= SWEEP_EVERY_S:
            return self.model_copy(update={"sweep": "0"})
        return self

    def swept(self, now: float) -> Place:
        return self.model_copy(update={"sweep": None, "swept_at": now})

    def at_page(self, cursor: str) -> Place:
        return self.model_copy(update={"sweep": cursor})

    def having(self, item_id: str, count: int, now: float) -> Place:
        items = {**self.items, item_id: Seen(count=count, at=now)}
        return self.model_copy(update={"items": items})

    def needs(self, item_id: str, count: int, published_at: float, now: float) -> bool:
        """Whether a work may have comments that we have not read: it has another number of them, or
        a day has passed and it tells none, or is young, or its number is only ours. As many as
        before says little: where one was deleted and one is new it is the same number."""
        seen = self.items.get(item_id)
        if seen is None or count == 0:
            return count != (seen.count if seen else 0)
        if count > 0 and seen.count != count:
            return True
        may_differ = count < 0 or seen.is_ours or now - published_at < YOUNG_S
        return may_differ and now - seen.at >= SWEEP_EVERY_S
