"""How the errors of sync answer over HTTP."""

from __future__ import annotations

from sync.errors import (
    CursorMoved,
    FeedPruned,
    KeyReused,
    LoginExpired,
    LoginFailed,
    LoginUnderWay,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    StaleEpoch,
    StillRefused,
    SyncError,
    UnknownPlatform,
)

# The first kind that fits counts.
ANSWERS: dict[type[Exception], tuple[int, str]] = {
    UnknownPlatform: (400, "unknown_platform"),
    KeyReused: (409, "idempotency_key_reused"),
    LoginUnderWay: (409, "login_under_way"),
    StillRefused: (409, "still_refused"),
    StaleEpoch: (409, "try_again"),
    CursorMoved: (409, "try_again"),
    FeedPruned: (410, "feed_pruned"),
    LoginFailed: (409, "login_failed"),
    LoginExpired: (409, "login_expired"),
    RateLimited: (503, "rate_limited"),
    PlatformUnavailable: (503, "platform_unavailable"),
    PlatformError: (502, "platform_error"),
    SyncError: (409, "rejected"),
}
