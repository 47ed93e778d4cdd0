"""The cursor: which comments and posts are read, as far as ids tell, and which are owed.

Ids rise. Times would not do: they have a resolution of 1 s, and the clock of a site may go back.
The newest are read first; what lies below is owed, stretch by stretch. Of the newest hundred it is
remembered what they said, since WordPress does not tell that a comment was edited or thrown away.
A walk that begins anew where another one was lost is bounded by time, though: see `Walk.since`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.errors import CursorInvalid
from sync.types import OpenGap

NEWEST_ID = 2**53  # above all ids


class Stretch(BaseModel):
    """Ids that are not read yet, both ends included; of these only what is as new as `since`, if it
    is given: see `Walk`.

    `skip`: about how many objects there are above it, so that its page is found at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int = Field(ge=1)
    high: int
    skip: int = 0
    since: str = ""

    def gap(self, what: str) -> OpenGap:
        return OpenGap(
            key=f"{what}:{self.low}",
            scope="",
            newer_end=str(self.high) if self.high < NEWEST_ID else "the newest",
            older_end=self.since or (str(self.low) if self.low > 1 else ""),
            reason=f"these {what} are still to be read",
        )


class Walk(BaseModel):
    """Of one collection: the highest id that is read or owed; what the newest ones said, by id;
    and the stretches that are owed, in the order in which they are read.

    `since` (ISO 8601, in the site's own time): nothing is read yet, and below the newest page only
    comments that were published then or later, and posts that were changed then or later, are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upto: int = 0
    edge: int = 0  # the lowest id that the window reaches down to
    window: dict[str, str] = {}
    owed: tuple[Stretch, ...] = ()
    since: str = ""

    def with_news(self, upto: int, window: dict[str, str], news: int, lowest: int) -> Walk:
        """After the newest page: it reaches down to the id `lowest` and has `news` new ones."""
        owed = [one.model_copy(update={"skip": one.skip + news}) for one in self.owed]
        if lowest > self.upto + 1:
            below = Stretch(low=self.upto + 1, high=lowest - 1, skip=news, since=self.since)
            owed.insert(0, below)
        return Walk(upto=max(upto, self.upto), edge=lowest, window=window, owed=tuple(owed))

    def read_down_to(self, id: int, skip: int) -> Walk:
        """The first owed stretch was read from its upper end down to this id."""
        first, *rest = self.owed
        if id > first.low:
            rest.insert(0, first.model_copy(update={"high": id - 1, "skip": skip}))
        return self.model_copy(update={"owed": tuple(rest)})


class Place(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    begun: bool = False
    posts: Walk = Walk()
    comments: Walk = Walk()

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises `CursorInvalid` for a text that is not one of ours."""
        if not cursor:
            return cls()
        try:
            return cls.model_validate_json(cursor)
        except ValidationError as error:
            raise CursorInvalid(f"this is no cursor of the WordPress adapter: {error}") from error

    def text(self) -> str:
        says = self.begun or self.comments.since or self.posts.since
        return self.model_dump_json(exclude_defaults=True) if says else ""

    @property
    def is_owing(self) -> bool:
        return bool(self.comments.owed or self.posts.owed)

    @property
    def is_owing_anew(self) -> bool:
        """Whether what is read next may be known: see `Walk.since`."""
        owed = self.comments.owed or self.posts.owed
        return bool(owed and owed[0].since)

    def gaps(self) -> tuple[OpenGap, ...]:
        return (
            *(one.gap("comments") for one in self.comments.owed),
            *(one.gap("posts") for one in self.posts.owed),
        )
