"""The cursor: where we stand in each archive of an account, as JSON text."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from sync.errors import CursorInvalid
from sync.types import OpenGap

OWN = ""  # the name of the account's own archive; others are rooms, by their address


class Gap(BaseModel):
    """What we don't have of an archive: older than `newer`, newer than `older`; archive ids.

    Without `older` it reaches to the archive's beginning. `left`: about how many messages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    newer: str
    older: str = ""
    left: int | None = None


class Position(BaseModel):
    """`top`: the newest archive id that we have, "" while the archive was empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top: str = ""
    gaps: tuple[Gap, ...] = ()


class Place(BaseModel):
    """Positions by archive. No archive: we have nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    archives: dict[str, Position] = {}

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises `CursorInvalid` for a text that is not one of ours."""
        if not cursor:
            return cls()
        try:
            place = cls.model_validate_json(cursor)
        except ValidationError as error:
            raise CursorInvalid(f"this is not a cursor of the XMPP adapter: {error}") from error
        if not place.archives:
            raise CursorInvalid("this cursor of the XMPP adapter names no archive")
        return place

    def text(self) -> str:
        """The cursor; "" for the empty place."""
        return self.model_dump_json(exclude_defaults=True) if self.archives else ""

    def at(self, archive: str) -> Position:
        return self.archives.get(archive, Position())

    def moved(self, archive: str, position: Position) -> Place:
        return Place(archives={**self.archives, archive: position})

    def owed(self) -> str | None:
        """The archive whose gap is to be read next, None when there is none."""
        return next((name for name, each in self.archives.items() if each.gaps), None)

    def open_gaps(self) -> tuple[OpenGap, ...]:
        """As the books have them [S9]; their ends are archive ids."""
        return tuple(
            OpenGap(
                key=f"{archive} {gap.older}",
                scope=archive,
                newer_end=gap.newer,
                older_end=gap.older,
                reason="the archive has more than one page of these",
            )
            for archive, position in self.archives.items()
            for gap in position.gaps
        )

    def remaining(self) -> int | None:
        """About how many messages the gaps hold; None when a server doesn't count."""
        counts = [gap.left for each in self.archives.values() for gap in each.gaps]
        return None if None in counts else sum(count for count in counts if count)
