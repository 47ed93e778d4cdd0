"""The errors of sync: one tree. `permanent` says whether trying again can help."""

from __future__ import annotations

import math

LONGEST_THROTTLE_S = 86_400.0  # a platform that asks for more is asked again after a day


class SyncError(Exception):
    """Something about an account could not be done."""

    permanent = False


class Rejected(SyncError):
    """Something that people asked for and that can't be; the message tells them why."""


class KeyReused(Rejected):
    """An idempotency key that stands for something else already."""


class LoginUnderWay(Rejected):
    """The account has an open login session already."""


class StillRefused(SyncError):
    """A dead letter that was replayed and still can't be stored; the message is the new reason."""


class StaleEpoch(SyncError):
    """The account was given to somebody else: this writer must stop [S5]."""

    def __init__(self, account_id: int, held: int, current: int | None) -> None:
        self.account_id, self.held, self.current = account_id, held, current
        super().__init__(f"account {account_id}: epoch {held} is stale, current is {current}")


class CursorMoved(SyncError):
    """Another run committed first: read again from the account's present cursor."""


class CountsDisagree(SyncError):
    """A batch's counts do not add up; nothing of it was written."""

    permanent = True


class FeedPruned(SyncError):
    """The feed no longer holds what follows a position: whoever stood there has to reload."""

    permanent = True

    def __init__(self, position: int, newest: int) -> None:
        self.position, self.newest = position, newest
        super().__init__(
            f"the feed does not go back to position {position}; "
            f"load everything anew and go on from {newest}"
        )


class PlatformError(SyncError):
    """A platform did not do what was asked."""


class PlatformUnavailable(PlatformError):
    """Can't be reached, timed out, or answered 5xx."""


class Unreachable(PlatformUnavailable):
    """There was no connection: nothing of the request got there."""


class RateLimited(PlatformError):
    """The platform asks us to slow down, for at most a day; 0 where what it says makes no sense."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        is_time = 0 < retry_after_s < math.inf
        self.retry_after_s = min(retry_after_s, LONGEST_THROTTLE_S) if is_time else 0.0
        super().__init__(message)


class OutcomeUnknown(PlatformError):
    """The platform does not say whether it has what an earlier request may have brought it."""

    permanent = True


class LoginFailed(PlatformError):
    """The credentials are wrong: a person has to act."""

    permanent = True


class LoginExpired(PlatformError):
    """The session is no longer valid; logging in again may help."""


class LoginCancelled(PlatformError):
    """Whoever asked for the login gave it up."""


class BadSignature(PlatformError):
    """A webhook request that nobody with the account's secret has sent just now."""

    permanent = True


class Malformed(PlatformError):
    """A webhook request that is signed and is not what the platform's documents say."""

    permanent = True


class CursorInvalid(PlatformError):
    """The platform does not know our cursor any more."""


class RequestRejected(PlatformError):
    """The platform understood the request and refuses it: sending it again will not help."""

    permanent = True

    def __init__(self, message: str, status: int, code: str = "") -> None:
        self.status, self.code = status, code  # HTTP status; the platform's own error code
        super().__init__(message)


class UnknownPlatform(SyncError):
    permanent = True

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no platform '{name}'")


class Interrupted(SyncError):
    """The check was ended from outside: the worker stops, or a newer check took its place."""
