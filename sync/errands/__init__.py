"""The errands of a check, by the work that they do [S11, S12, S13, S9].

Adding one means a module beside this file and its entry in `ERRANDS`; what makes an account's work
wait is said in `sync.services.work`.
"""

from __future__ import annotations

from sync.errands.base import Check, Errand
from sync.errands.deliveries import deliveries
from sync.types import Work

__all__ = ["AFTER_CATCHING_UP", "BEFORE_READING", "ERRANDS", "Check", "Errand"]

ERRANDS: dict[Work, Errand] = {Work.DELIVERIES: deliveries}

# `Work.LOGINS` comes before all of these, in place of a plain login.
BEFORE_READING = (Work.DELIVERIES, Work.REPLIES)
AFTER_CATCHING_UP = (Work.AUDITS,)
