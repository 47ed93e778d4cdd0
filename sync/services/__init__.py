"""Writes on accounts: what people change, and what their checks report."""

from sync.services.accounts import (
    check_now,
    create_account,
    delete_account,
    set_strategy,
    update_account,
)
from sync.services.checks import (
    Problem,
    Run,
    begin_run,
    caught_up,
    finish_run,
    note,
    record_failure,
    record_login,
)
from sync.services.deliveries import (
    none_pending,
    note_missed,
    numbered_at,
    pending_deliveries,
    prune_deliveries,
    settle,
)
from sync.services.housekeeping import prune_runs
from sync.services.leases import LEASE_S, Held, Told, give_back, renew
from sync.services.rows import ACCOUNTS, notify

__all__ = [
    "ACCOUNTS",
    "LEASE_S",
    "Held",
    "Problem",
    "Run",
    "Told",
    "begin_run",
    "caught_up",
    "check_now",
    "create_account",
    "delete_account",
    "finish_run",
    "give_back",
    "none_pending",
    "note",
    "note_missed",
    "notify",
    "numbered_at",
    "pending_deliveries",
    "prune_deliveries",
    "prune_runs",
    "record_failure",
    "record_login",
    "renew",
    "set_strategy",
    "settle",
    "update_account",
]
