"""The errands of a check, by the work that they do [S11, S12, S13, S9].

Adding one means a module beside this file and its entry in `ERRANDS`; what makes an account's work
wait is said in `sync.sql.claims.WORK`.
"""

from __future__ import annotations

from sync.errands.audits import audit
from sync.errands.base import Check, Errand
from sync.errands.deliveries import deliveries
from sync.errands.logins import log_in
from sync.errands.marks import marks
from sync.errands.replies import send_replies
from sync.types import Work

__all__ = ["AFTER_CATCHING_UP", "BEFORE_LOGIN", "BEFORE_READING", "ERRANDS", "Check", "Errand"]

ERRANDS: dict[Work, Errand] = {
    Work.LOGINS: log_in,
    Work.DELIVERIES: deliveries,
    Work.MARKS: marks,
    Work.REPLIES: send_replies,
    Work.AUDITS: audit,
}

# What the platform pushed is here already: it needs no session, and waits for none.
BEFORE_LOGIN = (Work.DELIVERIES,)
# `Work.LOGINS` comes before all of these, in place of a plain login.
BEFORE_READING = (Work.REPLIES,)
# A courtesy and a comparison: neither keeps an account from being read.
AFTER_CATCHING_UP = (Work.MARKS, Work.AUDITS)
