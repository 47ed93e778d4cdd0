"""What a room is called and who is in it: state events → conversation records. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from sync.platforms.matrix import wire
from sync.platforms.matrix.events import NAME_LIMIT, member_names, placed, refusal, state_event
from sync.types import ConversationRecord, Refused

HEROES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """What one answer says of a room. None: it does not say; "": the room has none."""

    is_whole: bool  # the answer holds the room's whole state, not only what changed
    name: str | None
    alias: str | None
    heroes: tuple[str, ...] | None  # user ids of some members, we excluded
    members: int | None  # joined and invited, we included
    names: dict[str, str]  # display names by user id
    refused: tuple[Refused, ...] = ()

    @property
    def touches_title(self) -> bool:
        """Whether the room's record may differ from what was known before."""
        mentioned = (self.name, self.alias, self.heroes, self.members)
        return self.is_whole or any(fact is not None for fact in mentioned)

    @property
    def needs_members(self) -> bool:
        """Whether the record can't be made without the list of members."""
        if self.members is None:
            return True
        named = self.heroes is not None and all(hero in self.names for hero in self.heroes)
        return not (self.name or self.alias or named)


def facts(room_id: str, room: wire.Room, is_whole: bool) -> Facts:
    """The facts of a room in an answer to /sync. What a whole state does not mention, the room
    does not have; otherwise it did not change."""
    raws = (*room.state.events, *room.timeline.events)
    absent = "" if is_whole else None
    name, alias, refused = absent, absent, []
    for raw in raws:
        event = state_event(raw)
        if event is None:
            continue
        try:
            if event.type == "m.room.name":
                name = wire.Name.model_validate(event.content).name or ""
            elif event.type == "m.room.canonical_alias":
                alias = wire.CanonicalAlias.model_validate(event.content).alias or ""
        except ValidationError as error:
            refused.append(refusal(placed(raw, room_id), error, "conversation"))
    return Facts(
        is_whole=is_whole,
        name=name,
        alias=alias,
        heroes=room.summary.heroes,
        members=room.summary.members,
        names=member_names(raws),
        refused=tuple(refused),
    )


def with_members(known: Facts, people: dict[str, str], me: str) -> Facts:
    """`known`, with the names of those who joined; where it said nothing, they are the members."""
    others = tuple(sorted(user for user in people if user != me))
    return replace(
        known,
        names={**known.names, **people},
        heroes=known.heroes or others,
        members=len(people) if known.members is None else known.members,
    )


def is_new(room: wire.Room) -> bool:
    """Whether we entered the room since: then its state is whole, with the m.room.create that
    never changes, and all of its history is unknown to us."""
    raws = (*room.state.events, *room.timeline.events)
    return any(kind_of(raw) == "m.room.create" for raw in raws)


def kind_of(raw: object) -> object:
    return raw.get("type") if isinstance(raw, dict) else None


def conversation(room_id: str, known: Facts, me: str) -> ConversationRecord:
    """The record of a room: its name, else its alias, else who else is in it."""
    heroes = known.heroes if known.heroes is not None else sorted(known.names)
    others = [user for user in heroes if user != me]
    members = known.members if known.members is not None else len(others) + 1
    title = (
        known.name
        or known.alias
        or title_of_people([known.names.get(user, user) for user in others], members - 1)
    )
    return ConversationRecord(room_id, title[:NAME_LIMIT], is_group=members > 2)


def title_of_people(names: Iterable[str], others: int) -> str:
    """Up to five names, then how many more of the `others` there are: Ana, Bo +3."""
    shown = list(names)[:HEROES_SHOWN]
    rest = others - len(shown)
    return ", ".join(shown) + (f" +{rest}" if shown and rest > 0 else "")
