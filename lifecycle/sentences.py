"""What the lifecycle stores in English: reasons, causes, exits, the messages of its log [C6].

Master, agent and workers write these; `lifecycle.said` turns them into the reader's language. A
sentence that the lifecycle writes stands here as well: `tests/unit/test_said.py` compares.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

EXITS = (
    _("exit unknown"),
    _("exit unknown (%(notes)s)"),
    _("exit code %(code)s"),
    _("exit code %(code)s (%(notes)s)"),
    _("killed by %(signal)s"),
    _("killed by %(signal)s (%(notes)s)"),
    _("128 + %(number)s: killed by %(signal)s"),
    _("it can't be executed"),
    _("the command was not found"),
    _("access violation"),
    _("out of memory"),
    _("stack overflow"),
    _("a library was not found"),
    _("ended by Ctrl-C"),
    _("the process failed to initialise"),
    _("a buffer was overrun"),
    _("never started"),
    _("as it was asked to"),
    _("it did not stop within %(time)s s"),
    _("its process is gone and nobody saw it end"),
    _("its keeper was killed before it"),
    _("its keeper was killed with it"),
    _("probably out of memory: cgroup says so"),
    _("probably out of memory: kernel says so"),
)
ILLNESSES = (
    _("waiting for broker"),
    _("no heartbeat yet"),
    _("no heartbeat for %(time)s s"),
    _("no heartbeat in the %(time)s s since its start"),
    _("last heartbeat %(time)s s ago"),
    _("its main loop makes no progress"),
    _("does not consume %(queues)s"),
    _("fetches nothing from %(queues)s though it has free slots"),
    _("does not consume %(missing)s; fetches nothing from %(queues)s though it has free slots"),
    _("does not consume %(queues)s, for %(time)s s"),
    _("fetches nothing from %(queues)s though it has free slots, for %(time)s s"),
    _(
        "does not consume %(missing)s; fetches nothing from %(queues)s though it has free slots, "
        "for %(time)s s"
    ),
    _("memory %(value)s MB, over its limit of %(limit)s MB for %(time)s s"),
    _("%(value)s MB of memory, the limit is %(limit)s"),
    _("%(value)s %% CPU, the limit is %(limit)s"),
    _("%(value)s active tasks, the limit is %(limit)s"),
    _("worker is %(state)s"),
)
MOVES = (
    _("starting"),
    _("restarting"),
    _("ready"),
    _("reset"),
    _("asked to start"),
    _("asked to stop"),
    _("asked to stop at once"),
    _("asked to restart"),
    _("the system shuts down"),
    _("stays down after this: it has no auto start"),
    _("crashed: %(exit)s"),
    _("stopped: %(exit)s"),
    _("to be replaced: %(cause)s"),
    _("%(exit)s; restart in %(time)s s"),
    _("%(exit)s; restarting now"),
    _("%(exit)s; automatic restart is off"),
    _("%(exit)s; restarted on failure only"),
    _("%(exit)s; gave up after %(n)s restart without a stable run"),
    _("%(exit)s; gave up after %(n)s restarts without a stable run"),
    _("%(exit)s; gave up after %(n)s restart without a stable run within %(time)s s"),
    _("%(exit)s; gave up after %(n)s restarts without a stable run within %(time)s s"),
    _("consumes its queues again"),
    _("worker is shutting down (%(how)s)"),
    _("config created, wish: %(wish)s"),
    _("config changed: %(fields)s"),
    _("listens on %(address)s"),
    _("the port is given up: %(why)s"),
    _("%(address)s can't be taken: %(why)s"),
    _("%(cause)s; the worker works without, and tries on"),
)
SPAWNS = (
    _("can't be started, next try in %(time)s s: %(cause)s"),
    _("could not be started for %(time)s s: %(cause)s"),
    _("working_directory %(folder)s does not exist or is not a folder"),
    _("working_directory %(folder)s can't be entered"),
    _("deployment type %(type)s is not available here yet"),
    _("the agent is away: %(why)s"),
    _("the agent did not answer: %(why)s"),
    _("the agent closed the connection"),
    _("the agent gave no answer"),
    _("%(instance)s has ended already"),
    _("%(worker)s still runs as %(instance)s"),
    _("a process of %(worker)s still holds its lock"),
    _("the keeper of %(instance)s is not done with it"),
    _("the zygote did not start %(instance)s: %(cause)s"),
    _("can't start the zygote: %(why)s"),
    _("the code can't be loaded: %(why)s"),
)
RESTARTS = (
    _("restarting: the new process starts beside the old one"),
    _("starting generation %(generation)s beside this one"),
    _("ready; generation %(generation)s retires"),
    _("generation %(generation)s has retired: %(exit)s"),
    _("restart called off: %(cause)s"),
    _("the new process ended: %(exit)s"),
    _("the new process was not ready within %(time)s s"),
    _("somebody stopped it meanwhile"),
    _("it does not run; it starts up to date"),
    _("its restart was under way and completes by itself"),
    _("%(worker)s took too long"),
    _("%(worker)s: %(cause)s"),
    _("%(worker)s is still starting: %(cause)s"),
    _("waits until it is ready again: %(workers)s"),
    _("aborted by %(who)s"),
)
ERRORS = (
    _("there is no worker '%(worker)s'"),
    _("a worker that is %(state)s can't take '%(event)s'"),
)
SENTENCES = (*EXITS, *ILLNESSES, *MOVES, *SPAWNS, *RESTARTS, *ERRORS)
