"""Where platforms push to us: what takes their requests, and what it counts [S13]."""


def path(platform: str, account_id: int) -> str:
    """The address that an account's platform pushes to, below this site's root."""
    return f"/api/v1/hooks/{platform}/{account_id}"
