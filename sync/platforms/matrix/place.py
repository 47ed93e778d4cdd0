"""The cursor: where we stand in an account, as JSON text. Nobody but this adapter reads it.

It holds the `since` token and what is still owed below it: stretches of history that a limited
timeline left out, and invitations that could not be followed yet. So backfill can be resumed after
a crash at any point, and nothing but one page is ever held in memory.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.errors import CursorInvalid
from sync.types import OpenGap


class Gap(BaseModel):
    """History of a room that we don't have: older than `start`, not older than `stop`.

    Both are the server's pagination tokens; without `stop` the gap reaches to the room's beginning,
    or to the last message that we know, which was sent at `floor` (ms since 1970).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    room: str
    start: str = Field(alias="from")
    stop: str | None = Field(None, alias="to")
    floor: int | None = None

    @property
    def key(self) -> str:
        """What names it while backfill works its way down: its lower end, which stays."""
        return f"{self.room} {self.stop or ''}"

    def opened(self) -> OpenGap:
        """The gap as the books have it [S9]; its ends are the homeserver's tokens."""
        if self.stop:
            reason = "the homeserver left these messages out of its answer"
        elif self.floor is not None:
            reason = "the homeserver forgot how far we had read: all since the last known message"
        else:
            reason = "the room's history before we came"
        return OpenGap(self.key, self.room, self.start, self.stop or "", reason)


class Invitation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    room: str
    tries: int = 0


class Place(BaseModel):
    """What a cursor says. The empty place stands for having nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    since: str = ""
    # Before the first answer: the last known message of each room (ms since 1970).
    floors: dict[str, int] = {}
    gaps: tuple[Gap, ...] = ()
    invitations: tuple[Invitation, ...] = ()

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises `CursorInvalid` for a text that is not one of ours."""
        if not cursor:
            return cls()
        try:
            return cls.model_validate_json(cursor)
        except ValidationError as error:
            raise CursorInvalid(f"this is not a cursor of the Matrix adapter: {error}") from error

    def open_gaps(self) -> tuple[OpenGap, ...]:
        """Each once: a room that was entered again has its beginning still before it."""
        return tuple({gap.key: gap.opened() for gap in reversed(self.gaps)}.values())

    def text(self) -> str:
        """The cursor; "" for the empty place."""
        return (
            self.model_dump_json(by_alias=True, exclude_defaults=True)
            if self.since or self.floors
            else ""
        )
