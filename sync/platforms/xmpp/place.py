"""The cursor: where we stand in each archive of an account, as JSON text."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from sync.errors import CursorInvalid
from sync.types import OpenGap

OWN = ""  # the name of the account's own archive; others are rooms, by their address


class Gap(BaseModel):
    """What we don't have of an archive: older than `newer`, newer than `older`; archive ids.

    Without `older` it reaches to the archive's beginning, or to the last message that we know,
    which was sent at `floor`. `left`: about how many messages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    newer: str
    older: str = ""
    floor: datetime | None = None
    left: int | None = None

    def opened(self, archive: str) -> OpenGap:
        """As the books have it [S9]; its ends are archive ids."""
        reason = "the archive has more than one page of these"
        if self.floor is not None:
            reason = "the server forgot how far we had read: all since the last known message"
        return OpenGap(f"{archive} {self.older}", archive, self.newer, self.older, reason)


class Position(BaseModel):
    """`top`: the newest archive id that we have, "" while the archive was empty; `total`: how many
    messages there were then (RSM counts the whole archive), None where the server doesn't count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top: str = ""
    total: int | None = None
    gaps: tuple[Gap, ...] = ()


class Place(BaseModel):
    """Positions by archive. No archive: we have nothing, or what `floors` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    archives: dict[str, Position] = {}
    # Of archives that are not read yet: when the last known message of each conversation was sent.
    floors: dict[str, datetime] = {}

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises `CursorInvalid` for a text that is not one of ours."""
        if not cursor:
            return cls()
        try:
            place = cls.model_validate_json(cursor)
        except ValidationError as error:
            raise CursorInvalid(f"this is not a cursor of the XMPP adapter: {error}") from error
        if not (place.archives or place.floors):
            raise CursorInvalid("this cursor of the XMPP adapter names no archive")
        return place

    def text(self) -> str:
        """The cursor; "" for the empty place."""
        says = self.archives or self.floors
        return self.model_dump_json(exclude_defaults=True) if says else ""

    def at(self, archive: str) -> Position:
        return self.archives.get(archive, Position())

    def moved(self, archive: str, position: Position) -> Place:
        archives = {**self.archives, archive: position}
        floors = {peer: at for peer, at in self.floors.items() if peer != archive}
        return Place(archives=archives, floors=floors)

    def floor(self, archive: str, rooms: Collection[str]) -> datetime | None:
        """When the last message that we know of an archive was sent, if it is not read yet. Our own
        has all conversations but the rooms."""
        if archive in self.archives:
            return None
        if archive != OWN:
            return self.floors.get(archive)
        return max((at for peer, at in self.floors.items() if peer not in rooms), default=None)

    def with_floors_of(self, rooms: Collection[str]) -> Place:
        floors = {peer: at for peer, at in self.floors.items() if peer in rooms}
        return self.model_copy(update={"floors": floors})

    def owed(self) -> str | None:
        """The archive whose gap is to be read next, None when there is none."""
        return next((name for name, each in self.archives.items() if each.gaps), None)

    def open_gaps(self) -> tuple[OpenGap, ...]:
        return tuple(
            gap.opened(archive)
            for archive, position in self.archives.items()
            for gap in position.gaps
        )

    def remaining(self) -> int | None:
        """About how many messages the gaps hold; None when a server doesn't count."""
        counts = [gap.left for each in self.archives.values() for gap in each.gaps]
        return None if None in counts else sum(count for count in counts if count)
