"""Worker configs: what people configure."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from lifecycle.conflict import Conflict, differences
from lifecycle.errors import OutOfDate, Rejected
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.services.rows import locked, notify, record
from lifecycle.states import WITH_PROCESS
from lifecycle.types import Wish

# What a process gets at its start; all else applies to what runs already.
SPAWN_FIELDS = frozenset(
    {"pool", "concurrency", "queues", "env_variables", "command_args", "working_directory", "port"}
    | {"max_memory_mb", "cpu_cores"}  # as far as the kernel enforces them
    | {"log_max_mb", "log_files"}  # its keeper rotates by them
)
NOT_SET_BY_PEOPLE = frozenset(
    {"id", "worker_id", "version", "spawn_version", "created_at", "updated_at"}
)


def create_config(fields: dict[str, Any], actor: str) -> WorkerConfig:
    """A new config with its runtime row. With `auto_start` the wish is `running` from the start.

    Raises `django.core.exceptions.ValidationError` naming each bad field.
    """
    config = WorkerConfig(**fields)
    config.full_clean()
    with transaction.atomic():
        config.save()
        wish = Wish.RUNNING if config.auto_start and config.enabled else Wish.STOPPED
        runtime = WorkerRuntime.objects.create(config=config, desired_state=wish.value)
        record(runtime, "created", f"config created, wish: {wish}", actor)
        notify(config.worker_id)
    return config


def update_config(config: WorkerConfig, fields: dict[str, Any], actor: str) -> WorkerConfig:
    """Change a config; what already runs keeps its old one until it is restarted. One that now
    starts by itself starts.

    `config.version` is the version that was edited. Raises `ValidationError`; `OutOfDate`, with
    both versions, when somebody else saved in between; `UnknownWorker` when somebody deleted it;
    `Rejected` for another deployment type while a process may still run: only its own backend can
    end that.
    """
    if fields.get("worker_id", config.worker_id) != config.worker_id:
        raise Rejected(
            config.worker_id, _("The worker id can't be changed; create another config.")
        )
    with locked(config.worker_id) as runtime:
        current = WorkerConfig.objects.get(pk=config.pk)  # what came with the lock may be older
        if current.version != config.version:
            raise _out_of_date(current, config.version, fields)
        changed = {name for name, value in fields.items() if getattr(current, name) != value}
        if "deployment_type" in changed:
            _require_no_process(runtime, config.worker_id)
        for name, value in fields.items():
            setattr(config, name, value)
        config.full_clean()
        config.version += 1
        if changed & SPAWN_FIELDS:
            config.spawn_version += 1
        config.save()
        said = ", ".join(sorted(changed)) or "nothing"
        record(runtime, "configured", f"config changed: {said}", actor)
        if wish := _wish(config, changed):
            runtime.desired_state = wish.value
    return config


def _wish(config: WorkerConfig, changed: set[str]) -> Wish | None:
    """What a change of config wishes for (adr 0005); None: what was wished before."""
    if not config.enabled:
        return Wish.STOPPED
    if config.auto_start and changed & {"auto_start", "enabled"}:
        return Wish.RUNNING
    return None


def _out_of_date(current: WorkerConfig, edited: int, fields: dict[str, Any]) -> OutOfDate:
    old = current.history.filter(version=edited).order_by("-pk").first()
    latest = current.history.select_related("history_user").order_by("-pk").first()
    who = latest.history_user.get_username() if latest and latest.history_user else ""
    found = differences(settings_of(old) if old else {}, fields, settings_of(current))
    said = _("Version %(edited)s is out of date, version %(current)s is current.") % {
        "edited": edited,
        "current": current.version,
    }
    if who and edited < current.version:
        said += " " + _("%(who)s changed this while you edited it.") % {"who": who}
    return OutOfDate(said, Conflict(edited, current.version, who, found))


def settings_of(version: Any) -> dict[str, Any]:
    """What people can set in a config, as it is in this one or was in a kept version of it."""
    names = (field.name for field in WorkerConfig._meta.fields)  # noqa: SLF001 - public, by Django's documentation
    return {name: getattr(version, name) for name in names if name not in NOT_SET_BY_PEOPLE}


def delete_config(config: WorkerConfig, actor: str) -> None:
    """Delete a config and its runtime. Raises `Rejected` while a process may still run."""
    with locked(config.worker_id) as runtime:
        _require_no_process(runtime, config.worker_id)
        config.delete()
        notify(config.worker_id)


def _require_no_process(runtime: WorkerRuntime, worker_id: str) -> None:
    """Raises `Rejected`."""
    if runtime.state in WITH_PROCESS:
        raise Rejected(
            worker_id,
            _("%(worker)s is %(state)s; stop it first.")
            % {"worker": worker_id, "state": runtime.get_state_display()},
        )
    if runtime.retiring_generation is not None:
        raise Rejected(
            worker_id,
            _("%(worker)s has an old process that is about to end; try again then.")
            % {"worker": worker_id},
        )
