"""What a freshly forked process does to become a Celery worker."""

from __future__ import annotations

import os
import socket

from celery import Celery, signals
from celery.bin.base import CLIContext
from celery.bin.worker import worker as worker_command
from click import ClickException
from django.conf import settings
from setproctitle import setproctitle

from lifecycle import worker_port, worker_signals
from lifecycle.models import own_queue
from lifecycle.types import Pool, WorkerSpec


def preload(app: Celery) -> None:
    """Import all that a worker will need, so that its pages are shared and its start is a fork."""
    import celery.apps.worker
    import celery.concurrency.prefork
    import celery.concurrency.thread
    import celery.events.dispatcher
    import celery.events.receiver
    import celery.worker.autoscale
    import celery.worker.components
    import celery.worker.consumer.delayed_delivery
    import celery.worker.strategy  # noqa: F401
    import kombu.mixins
    import kombu.transport.redis  # noqa: F401
    import psycopg_pool  # noqa: F401

    import lifecycle.patient_consumer  # noqa: F401

    app.loader.import_default_modules()
    app.finalize()
    for _used_at_start in (app.amqp, app.control, app.events, app.log, app.backend, app.tasks):
        pass  # each is made on first use: here, once, and not in every worker


def run(app: Celery, spec: WorkerSpec) -> int:
    """Run the worker until it shuts down; returns its exit code."""
    instance = spec.instance
    setproctitle(f"muster: {instance.worker_id} (generation {instance.generation})")
    if spec.pool is Pool.PREFORK:
        # A pool's threads don't survive the fork of a pool child: each child connects for itself.
        settings.DATABASES["default"]["OPTIONS"].pop("pool", None)
    os.environ["CELERY_SKIP_CHECKS"] = "1"  # `up` and the tests run Django's checks, not each fork
    signals.setup_logging.connect(_keep_our_logging)
    reporter = worker_signals.enlist(instance, works_in_loop=spec.pool is Pool.SOLO)
    if spec.port:
        worker_port.enlist(reporter, (spec.bind, spec.port))
    context = CLIContext(app=app, no_color=True, workdir=None, quiet=True)
    # The sub-command alone: `celery` itself would import a shell and Flower into every worker.
    try:
        code = worker_command.main(
            args=arguments(spec), prog_name="celery worker", obj=context, standalone_mode=False
        )
    except ClickException as error:  # a wrong command argument
        error.show()
        return error.exit_code
    return int(code or 0)


def arguments(spec: WorkerSpec) -> list[str]:
    """The command line of `celery worker` that this spec stands for."""
    queues = (own_queue(spec.instance.worker_id), *spec.queues)
    return [
        f"--hostname={spec.instance.worker_id}@{socket.gethostname()}",
        f"--pool={spec.pool}",
        f"--concurrency={spec.concurrency}",
        f"--queues={','.join(dict.fromkeys(queues))}",
        "--without-mingle",  # 1.0 s of a 1.3 s start, for nothing that we use
        "--without-gossip",
        *spec.args,
    ]


def _keep_our_logging(**_: object) -> None:
    """A receiver of `setup_logging` tells Celery to leave logging as Django set it up."""
