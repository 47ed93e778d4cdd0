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
from sync.services.housekeeping import prune_runs
from sync.services.leases import LEASE_S, Held, Told, give_back, renew
from sync.services.rows import ACCOUNTS, notify
from sync.services.servers import server_answered, server_failed

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
    "note",
    "notify",
    "prune_runs",
    "record_failure",
    "record_login",
    "renew",
    "server_answered",
    "server_failed",
    "set_strategy",
    "update_account",
]
