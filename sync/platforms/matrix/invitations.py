"""Entering the rooms that a watched account is invited to.

An invitation is told once, so those that can't be followed yet are kept in the cursor.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sync.errors import PlatformUnavailable, RateLimited, RequestRejected
from sync.platforms.matrix import wire
from sync.platforms.matrix.client import MatrixClient
from sync.platforms.matrix.events import refusal
from sync.platforms.matrix.place import Invitation, Place
from sync.types import Refused

log = logging.getLogger(__name__)

JOIN_TRIES = 10


@dataclass(frozen=True, slots=True)
class Followed:
    entered: bool
    refused: tuple[Refused, ...]
    later: tuple[Invitation, ...]  # to be tried again


async def follow(client: MatrixClient, place: Place, answer: wire.Rooms) -> Followed:
    """Join the rooms of new invitations, and of `place`'s unless history is still owed.

    The rest waits for the next time after one that fails, which then comes last: messages must not
    wait for a server that is away. What is refused for good, or has failed ten times, is kept as a
    dead letter.
    """
    known = still_open(place.invitations, answer)
    new = new_invitations(known, answer)
    due = new if place.gaps else known + new
    later = list(known) if place.gaps else []
    refused: list[Refused] = []
    entered = False
    for position, invitation in enumerate(due):
        try:
            await client.join(invitation.room)
        except RateLimited:
            later += due[position:]
            break
        except PlatformUnavailable as error:  # often the inviting server, not the account's own
            later += due[position + 1 :]
            again = Invitation(room=invitation.room, tries=invitation.tries + 1)
            if again.tries < JOIN_TRIES:
                later.append(again)
            else:
                refused.append(not_entered(again, error))
            break
        except RequestRejected as error:
            refused.append(not_entered(invitation, error))
        else:
            entered = True
            log.info("entered room %s", invitation.room)
    return Followed(entered, tuple(refused), tuple(later))


def still_open(known: tuple[Invitation, ...], answer: wire.Rooms) -> list[Invitation]:
    """Those of `known` that the answer does not settle: joined elsewhere, withdrawn."""
    return [
        each for each in known if each.room not in answer.join and each.room not in answer.leave
    ]


def new_invitations(known: list[Invitation], answer: wire.Rooms) -> list[Invitation]:
    rooms_known = {each.room for each in known}
    return [Invitation(room=room) for room in answer.invite if room not in rooms_known]


def not_entered(invitation: Invitation, error: Exception) -> Refused:
    reason = f"the room can't be entered: {error}"
    return refusal({"room_id": invitation.room}, reason, "invitation")
