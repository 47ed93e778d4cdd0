"""The only writer of worker configs, runtime state and lifecycle logs.

People write wishes (`wishes`), the master and the workers write facts (`facts`). Each function is
one transaction: the row is locked, the transition table asked, the row and its log row written, and
the channel `muster_lifecycle` notified with the worker's id when the transaction commits.
"""

from lifecycle.services.configs import create_config, delete_config, settings_of, update_config
from lifecycle.services.facts import (
    claim_start,
    code_loaded,
    condemned,
    exited,
    set_assigned_accounts,
    settled,
    spawn_delayed,
    spawn_refused,
    spawned,
    start_waits,
    stopping,
)
from lifecycle.services.homes import forget_home
from lifecycle.services.metrics import sampled
from lifecycle.services.replacement import called_off, claim_succession
from lifecycle.services.reports import (
    consumption_changed,
    heartbeat,
    port_said,
    ready,
    shutting_down,
    tasks_failed,
)
from lifecycle.services.rollouts import (
    abort_rollout,
    advance_rollout,
    begin_rollout,
    outdated_workers,
)
from lifecycle.services.rows import CHANNEL, look, make_durable, notify
from lifecycle.services.wishes import (
    Wished,
    clear_wishes_without_auto_start,
    request_restart,
    request_start,
    request_stop,
    wait_for_process,
)

__all__ = [
    "CHANNEL",
    "Wished",
    "abort_rollout",
    "advance_rollout",
    "begin_rollout",
    "called_off",
    "claim_start",
    "claim_succession",
    "clear_wishes_without_auto_start",
    "code_loaded",
    "condemned",
    "consumption_changed",
    "create_config",
    "delete_config",
    "exited",
    "forget_home",
    "heartbeat",
    "look",
    "make_durable",
    "notify",
    "outdated_workers",
    "port_said",
    "ready",
    "request_restart",
    "request_start",
    "request_stop",
    "sampled",
    "set_assigned_accounts",
    "settings_of",
    "settled",
    "shutting_down",
    "spawn_delayed",
    "spawn_refused",
    "spawned",
    "start_waits",
    "stopping",
    "tasks_failed",
    "update_config",
    "wait_for_process",
]
