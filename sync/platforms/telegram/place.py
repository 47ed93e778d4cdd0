"""How far an account was polled. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import ConfigDict, ValidationError

from sync import numbers
from sync.errors import CursorInvalid
from sync.platforms.rest import Wire
from sync.types import OpenGap

# "If there are no new updates for at least a week, then identifier of the next update will be
# chosen randomly instead of sequentially." (Update)
NUMBERS_RESTART_AFTER = timedelta(days=7)
LOST = "updates {first} to {last} were not read within 24 hours; Telegram keeps no copy"


class Place(Wire):
    """`update`: the last one that we have; asking for the next makes Telegram forget it.

    `gaps`: the first and the last number of each stretch that never came.
    """

    model_config = ConfigDict(extra="forbid")

    update: int | None = None
    at: datetime | None = None
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises `CursorInvalid`."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValidationError as error:
            raise CursorInvalid("the cursor is not one of ours") from error

    @classmethod
    def with_gaps(cls, gaps: Iterable[OpenGap]) -> Place:
        """The place that stands for nothing but these, see `open_gaps`."""
        return cls(gaps=tuple((int(one.older_end) + 1, int(one.newer_end) - 1) for one in gaps))

    def text(self) -> str:
        return self.model_dump_json(exclude_defaults=True)

    def behind(self, now: datetime) -> int | None:
        """The number after which to ask for updates. None after a quiet week: the next number may
        then be a lower one, which an offset above it would confirm unread. What we have needs no
        confirming by then, that week's requests did it."""
        return None if numbers.restarted(self.at, now, NUMBERS_RESTART_AFTER) else self.update

    def after(self, updates: Iterable[int], now: datetime) -> Place:
        """The place that stands for having these too, and for what is missing between."""
        known = (numbers.Stretch(*one) for one in self.gaps)
        last, missing = numbers.follow(self.behind(now), known, updates)
        return Place(update=last, at=now, gaps=tuple((one.first, one.last) for one in missing))

    @property
    def open_gaps(self) -> tuple[OpenGap, ...]:
        return tuple(
            OpenGap(
                key=f"updates:{first}-{last}",
                scope="",
                newer_end=str(last + 1),
                older_end=str(first - 1),
                reason=LOST.format(first=first, last=last),
            )
            for first, last in self.gaps
        )
