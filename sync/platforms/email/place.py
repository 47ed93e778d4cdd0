"""The cursor: how far each folder is known, and which stretches of it are still to be read.

A folder's mails are numbered upwards (UIDs) for as long as its UIDVALIDITY stands. The newest are
read first; what lies below is owed, stretch by stretch, until it is read.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.errors import CursorInvalid
from sync.types import OpenGap


class Stretch(BaseModel):
    """Mails of a folder that are not read yet: UIDs, both ends included; of these only what arrived
    on the day `since` (ISO 8601) or later, if it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    low: int = Field(ge=1)
    high: int
    since: str = ""

    def gap(self) -> OpenGap:
        return OpenGap(
            key=f"{self.folder}:{self.low}",
            scope="",
            newer_end=f"{self.folder}, UID {self.high}",
            older_end=f"{self.folder}, UID {self.low}" if self.low > 1 else "",
            reason="these mails are still to be read",
        )


class Known(BaseModel):
    """A folder: its UIDVALIDITY, and the UID up to which its mails are read or owed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validity: int
    upto: int


class Place(BaseModel):
    """What a cursor says. The empty place stands for having nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    folders: dict[str, Known] = {}
    owed: tuple[Stretch, ...] = ()  # in the order in which they are read
    since: str = ""  # of the folders that are not known yet: see `Stretch`

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises `CursorInvalid` for a text that is not one of ours."""
        if not cursor:
            return cls()
        try:
            return cls.model_validate_json(cursor)
        except ValidationError as error:
            raise CursorInvalid(f"this is not a cursor of the e-mail adapter: {error}") from error

    def text(self) -> str:
        return self.model_dump_json(exclude_defaults=True) if self.folders or self.since else ""

    def seen(self, folder: str, validity: int, upto: int) -> Place:
        """The folder reaches up to the UID `upto` now. Raises `CursorInvalid` when its UIDs mean
        other mails than before."""
        known = self.folders.get(folder)
        if known is not None and known.validity != validity:
            raise CursorInvalid(f"the mails of {folder} were numbered anew (UIDVALIDITY changed)")
        begins = known.upto + 1 if known else 1
        if known is not None and upto < begins:
            return self
        since = "" if known else self.since
        one = Stretch(folder=folder, low=begins, high=upto, since=since)
        folders = {**self.folders, folder: Known(validity=validity, upto=upto)}
        owed = (one, *self.owed) if upto >= begins else self.owed
        return Place(folders=folders, owed=owed, since=self.since)

    def read_down_to(self, uid: int) -> Place:
        """The first owed stretch was read from its upper end down to this UID."""
        first, *rest = self.owed
        if uid > first.low:
            rest.insert(0, first.model_copy(update={"high": uid - 1}))
        return self.model_copy(update={"owed": tuple(rest)})

    def gaps(self) -> tuple[OpenGap, ...]:
        return tuple(stretch.gap() for stretch in self.owed)
