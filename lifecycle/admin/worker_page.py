"""What the pages of one worker show and offer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from lifecycle import queries, services
from lifecycle.agent.layout import STREAMS
from lifecycle.console.live import DASH, Text, age, badge, moment, span
from lifecycle.logs import reading
from lifecycle.models import LEVELS, WorkerRuntime
from lifecycle.said import said
from lifecycle.services import Wished
from lifecycle.states import WITH_PROCESS
from lifecycle.types import Level, State, Wish

TONES = {
    State.RUNNING: "green live",
    State.STARTING: "blue live",
    State.STOPPING: "amber live",
    State.STOPPED: "grey",
    State.CRASHED: "red",
    State.ERROR: "red",
}
LEVEL_TONES = {Level.DEBUG: "grey", Level.INFO: "blue", Level.WARNING: "amber", Level.ERROR: "red"}
LIFECYCLE_ROWS = 12
DOWNLOAD_LINES = 10_000

WISHES: dict[str, Callable[[str, str], Wished]] = {
    "start": services.request_start,
    "stop": services.request_stop,
    "restart": services.request_restart,
    "force-stop": partial(services.request_stop, graceful=False),
}


def wish_text(verb: str) -> str:
    """What a taken wish is called in a message."""
    return {
        "start": _("asked to start"),
        "stop": _("asked to stop"),
        "restart": _("asked to restart"),
        "force-stop": _("asked to stop at once"),
    }[verb]


def wishes_now(runtime: WorkerRuntime) -> dict[str, bool]:
    """Which buttons make sense for a worker now."""
    state, wanted = State(runtime.state), runtime.desired_state == Wish.RUNNING
    up, enabled = state in WITH_PROCESS, runtime.config.enabled
    return {
        "start": enabled and not up and not (wanted and state == State.STOPPED),
        "stop": (up and state != State.STOPPING) or (not up and wanted),
        "restart": enabled and up and state != State.STOPPING,
        "force_stop": up,
    }


def state_badge(runtime: WorkerRuntime) -> SafeString:
    state = State(runtime.state)
    return badge(runtime.get_state_display(), TONES[state], said(runtime.reason))


def outdated_badge(runtime: WorkerRuntime) -> SafeString | str:
    """Amber, with the meaning as its tooltip; "" for a worker that is up to date."""
    meaning = _(
        "It runs with an older config or code than there is now; a restart brings it up to date."
    )
    return badge(_("outdated"), "amber", meaning) if runtime.is_outdated else ""


def page(runtime: WorkerRuntime) -> dict[str, Any]:
    """Template context of `console/worker_live.html`: state, facts, checks, lifecycle log."""
    rows = queries.lifecycle_log(runtime.config.worker_id, limit=LIFECYCLE_ROWS)
    return {
        "runtime": runtime,
        "state_badge": state_badge(runtime),
        "outdated_badge": outdated_badge(runtime),
        "facts": facts(runtime),
        "log_rows": [
            (row, badge(row.get_level_display(), LEVEL_TONES[Level(row.level)]), moment(row.time))
            for row in rows
        ],
        "can": wishes_now(runtime),
    }


def facts(runtime: WorkerRuntime) -> list[tuple[str, list[tuple[Text, object]]]]:
    """All that is known of a worker [L3]: (group, [(name, value), …])."""
    return [
        (_("Process"), _process(runtime)),
        (_("Load"), _load(runtime)),
        (_("Exits and restarts"), _exits(runtime)),
        (_("Configuration"), _configuration(runtime)),
    ]


def _process(runtime: WorkerRuntime) -> list[tuple[Text, object]]:
    now, up = timezone.now(), runtime.process_id is not None
    beat = _("%(age)s ago") % {"age": age(runtime.last_heartbeat_at, now)}
    known = [
        (_("Process id"), runtime.process_id),
        (_("Container id"), runtime.container_id),
        (_("Pod name"), runtime.pod_name),
    ]
    return [
        *[(name, value) for name, value in known if value],
        *_replacement(runtime, now),
        (_("Uptime"), span(queries.uptime_s(runtime, now)) if up else DASH),
        (_("Last heartbeat"), beat if up and runtime.last_heartbeat_at else DASH),
        (_("Started"), moment(runtime.started_at)),
        (_("Ready"), moment(runtime.ready_at)),
        *([] if up else [(_("Stopped"), moment(runtime.stopped_at))]),
        (_("Consumes"), ", ".join(runtime.consumed_queues) if up else DASH),
        (_("Generation"), runtime.generation),
    ]


def _replacement(runtime: WorkerRuntime, now: datetime) -> list[tuple[Text, object]]:
    """The second process that a worker has while a restart replaces before it retires [L8]."""
    rows: list[tuple[Text, object]] = []
    if runtime.successor_generation is not None:
        text = _("%(pid)s, getting ready for %(time)s")
        said = _second(text, runtime.successor_process_id, runtime.successor_started_at, now)
        rows.append((_("New process"), said))
    if runtime.retiring_generation is not None:
        text = _("%(pid)s, finishing its tasks for %(time)s")
        said = _second(text, runtime.retiring_process_id, runtime.retiring_since, now)
        rows.append((_("Old process"), said))
    return rows


def _second(text: str, pid: int | None, since: datetime | None, now: datetime) -> str:
    return text % {"pid": pid or DASH, "time": age(since, now)}


def _load(runtime: WorkerRuntime) -> list[tuple[Text, object]]:
    config = runtime.config
    checks = queries.health(runtime, timezone.now())["checks"] if runtime.process_id else {}
    names = {
        "heartbeat": _("heartbeat"),
        "consuming": _("consuming"),
        "memory": _("memory"),
        "cpu": _("CPU"),
        "tasks": _("tasks"),
    }
    complaints = [f"{names[one]}: {said(check)}" for one, check in checks.items() if check != "ok"]
    return [
        (_("Health"), ("; ".join(complaints) or _("ok")) if checks else DASH),
        (
            _("CPU"),
            _("%(now).1f %% of %(cores)g cores")
            % {"now": runtime.cpu_usage, "cores": config.cpu_cores},
        ),
        (
            _("Memory"),
            _("%(now).0f of %(limit)d MB")
            % {"now": runtime.memory_usage_mb, "limit": config.max_memory_mb},
        ),
        (_("Accounts"), f"{runtime.assigned_accounts} / {config.max_accounts}"),
        (_("Active tasks"), f"{runtime.active_tasks} / {config.concurrency}"),
        (_("Tasks so far"), runtime.tasks_total),
        (_("Errors so far"), runtime.error_count),
    ]


def _exits(runtime: WorkerRuntime) -> list[tuple[Text, object]]:
    limit = runtime.config.max_restart_attempts
    return [
        (_("Last exit"), said(runtime.exit_text) or DASH),
        (_("Restarts"), runtime.restart_count),
        (
            _("Attempts since stable"),
            f"{runtime.restart_attempts} / {limit}",
        ),
        (_("Last restart"), moment(runtime.last_restart_at)),
        (_("Next restart"), moment(runtime.restart_at)),
        (_("Last error"), said(runtime.last_error) or DASH),
        (_("Error at"), moment(runtime.last_error_at)),
    ]


def _configuration(runtime: WorkerRuntime) -> list[tuple[Text, object]]:
    config = runtime.config
    return [
        (_("Deployment"), f"{config.get_deployment_type_display()} · {config.host}"),
        (_("Pool"), f"{config.pool} × {config.concurrency}"),
        (_("Queues"), ", ".join([config.own_queue, *config.queues])),
        (_("Config version"), config.version),
        (_("Worker version"), runtime.worker_version or DASH),
        (_("Celery version"), runtime.celery_version or DASH),
        (_("Python version"), runtime.python_version or DASH),
    ]


def log_stream(asked: str) -> str:
    return asked if asked in STREAMS else STREAMS[0]


def log_viewer(runtime: WorkerRuntime, stream: str) -> dict[str, Any]:
    """Template context of the log viewer: which stream it begins with, and where its lines are."""
    return {
        "stream": log_stream(stream),
        "streams": STREAMS,
        "levels": LEVELS,
        "follow_url": reverse("worker-follow", args=[runtime.config.worker_id]),
    }


def log_text(runtime: WorkerRuntime, stream: str) -> str:
    """The last lines as a text to be kept. Raises `BackendError`."""
    found = reading.read(runtime.config, log_stream(stream), DOWNLOAD_LINES)
    return "".join(f"{line.text}\n" for line in found.lines)
