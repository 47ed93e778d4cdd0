"""`manage.py master`: the process that decides."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError
from setproctitle import setproctitle

from crm.celery import app
from lifecycle import duties, leadership, queries, services
from lifecycle.backends import backends
from lifecycle.duty_runner import DutyRunner
from lifecycle.master import BrokerAnswers, Leave, Master, Notified, ShutDown
from lifecycle.types import HomeRef

log = logging.getLogger(__name__)

BROKER_POLL_S = 1.0
ELSEWHERE_POLL_S = 1.0
BROKER_TIMEOUTS = {"socket_connect_timeout": 2, "socket_timeout": 2, "max_retries": 1}
# The thread that decides gets the interpreter from those that run duties in so much, not in 5 ms.
SWITCH_S = 0.0005
LEAD_LOST = 75  # EX_TEMPFAIL: start me again


class Command(BaseCommand):
    help = (
        "Decide which workers run. One master leads, others stand by. "
        "SIGTERM ends the master and leaves workers running; SIGUSR2 ends the fleet first."
    )
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        setproctitle("muster: master")
        sys.setswitchinterval(SWITCH_S)
        master = Master(backends())
        _on_signals(master)
        served = duties.registered()
        channels = {services.CHANNEL, *(channel for duty in served for channel in duty.channels)}
        lead = _lead(sorted(channels), settings.MUSTER.home_ref)
        master.leads = partial(is_open, lead.connection)
        runners = [DutyRunner(duty, master.leads) for duty in served]
        master.broker_answers = _broker_answers()
        if not master.broker_answers:
            log.warning("the broker does not answer: workers with auto_start wait for it")
            threading.Thread(target=_await_broker, args=[master], daemon=True).start()
        lost = threading.Event()

        def listen() -> None:
            for channel, payload in lead.notifications():
                if channel == services.CHANNEL:
                    master.items.put(Notified(payload))
                for runner in runners:
                    runner.notified(channel)
            lost.set()
            master.depose()

        threading.Thread(target=listen, name="listen", daemon=True).start()
        for runner in runners:
            runner.start()
        _say_leading()
        try:
            master.run()
        except DatabaseError as error:
            log.warning("the database is away, the lead is given up: %s", error)
            lost.set()
        # One that was frozen may see it before the thread that listens does.
        is_lost = lost.is_set() or not master.leads()
        for runner in runners:
            runner.end()
        lead.give_up()
        if is_lost:
            raise CommandError("the lead is lost", returncode=LEAD_LOST)


def _on_signals(master: Master) -> None:
    """Handlers only enqueue; the deciding thread acts."""

    def on_signal(number: int, _frame: object) -> None:
        if not master.started:  # it stands by, or waits: there is nobody to hear of it
            raise SystemExit(0)
        master.items.put(ShutDown() if number == signal.SIGUSR2 else Leave())

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, on_signal)


def is_open(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has not closed it, as far as the kernel knows: no round trip.

    The thread that listens says the same, but a process that was frozen goes on with all threads,
    and that one may be the last [L11].
    """
    look = select.poll()
    try:
        look.register(connection.fileno(), select.POLLRDHUP)
    except (psycopg.Error, ValueError):
        return False
    return not look.poll(0)


def _lead(channels: Sequence[str], home: HomeRef) -> leadership.Leadership:
    """Wait, for as long as it takes, until this process leads and the workers are this home's.

    Raises `CommandError` when the database goes away meanwhile.
    """
    try:
        while True:
            lead = leadership.acquire(settings.MUSTER.resolved_database_url, channels)
            _wait_until_migrated()
            if lead.claim_fleet(home):
                return lead
            lead.give_up()  # it is for a master of the home where they run
            _wait_while_elsewhere(home)
    except (DatabaseError, psycopg.Error) as error:
        raise CommandError(f"the database is away: {error}", returncode=LEAD_LOST) from error


def _wait_while_elsewhere(home: HomeRef) -> None:
    said = None
    while elsewhere := queries.fleet_elsewhere(home):
        if said != elsewhere:
            said = elsewhere
            log.error(
                "the workers of this database run in %s: no master leads here before they have "
                "stopped there. Is that home lost? See docs/runbook.md: another home",
                elsewhere,
            )
        time.sleep(ELSEWHERE_POLL_S)


def _wait_until_migrated() -> None:
    """Workers start only once the database is as this code expects it [L4]."""
    said = False
    while True:
        executor = MigrationExecutor(connection)
        if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return
        if not said:
            log.warning("waiting for migrations")
            said = True
        time.sleep(0.5)


def _await_broker(master: Master) -> None:
    """Tell the master once the broker answers: workers with `auto_start` wait for that [L4].
    Those that run already are looked after meanwhile."""
    while not _broker_answers():
        time.sleep(BROKER_POLL_S)
    log.info("the broker answers")
    master.items.put(BrokerAnswers())


def _broker_answers() -> bool:
    try:
        with app.connection_for_write(transport_options=BROKER_TIMEOUTS) as broker:
            broker.ensure_connection(max_retries=0)
    except (BrokerError, OSError) as error:
        log.debug("the broker does not answer: %s", error)
        return False
    return True


def _say_leading() -> None:
    """For `up` and for people: who leads on this machine."""
    path = settings.MUSTER.home / "run" / "master.json"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), "leads_since": timezone.now().isoformat()}))
    draft.rename(path)
    log.info("this master leads")
