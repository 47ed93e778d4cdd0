"""The live console [S10]: one reader of the feed for each web process, shared by all its consoles.

`expanding` turns feed entries into what people see, once for everybody; `hub` follows the feed and
keeps the latest in memory; `console` is one reader's way along it; `rights` ends those who lost
their login or their right.
"""

from sync.live.console import follow
from sync.live.expanding import News, Renderer, Unread
from sync.live.rights import PERMISSION, Login

__all__ = ["PERMISSION", "Login", "News", "Renderer", "Unread", "follow"]
