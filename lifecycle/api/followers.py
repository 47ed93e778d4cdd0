"""How many logs may be followed at a time: each holds a connection to an agent, which looks for
news five times a second, for as long as somebody leaves a page open."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from weakref import WeakSet

from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException

MOST = 200  # in this process
MOST_OF_ONE = 20  # of one user
RETRY_AFTER_S = 10


class TooManyFollowers(APIException):
    """429: this user follows enough logs; 503: all users together do."""

    def __init__(self, status_code: int, detail: str) -> None:
        self.status_code = status_code
        self.wait = RETRY_AFTER_S  # becomes the header Retry-After
        super().__init__(detail, "too_many_followers")


@dataclass(frozen=True, eq=False)
class Slot:
    """Taken for as long as it is referred to: by the response, and so until its stream has ended,
    however that came."""

    user_id: int | None


class Followers:
    def __init__(self) -> None:
        self._slots: WeakSet[Slot] = WeakSet()
        self._lock = threading.Lock()

    def take(self, user_id: int | None) -> Slot:
        """Raises `TooManyFollowers`."""
        with self._lock:
            taken = [slot.user_id for slot in self._slots]
            if taken.count(user_id) >= MOST_OF_ONE:
                text = _("You follow %(count)s logs already; close some of them.")
                raise TooManyFollowers(429, text % {"count": MOST_OF_ONE})
            if len(taken) >= MOST:
                text = _("%(count)s logs are being followed, more are not possible now.")
                raise TooManyFollowers(503, text % {"count": MOST})
            slot = Slot(user_id)
            self._slots.add(slot)
            return slot


followers = Followers()
