"""`manage.py agent`: the processes of this host."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from setproctitle import setproctitle

from crm.celery import app
from lifecycle.agent import limits, worker_main
from lifecycle.agent.server import Agent, take_agent_lock
from lifecycle.agent.zygote import fork_zygote
from lifecycle.errors import BackendUnavailable


class Command(BaseCommand):
    help = "Fork and watch the workers of this host, as the master tells."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        env = settings.MUSTER
        try:
            lock = take_agent_lock(env.agent_socket)
        except BackendUnavailable as error:
            raise CommandError(str(error)) from error
        worker_main.preload(app)
        run = partial(worker_main.run, app)
        zygote_pid, zygote = fork_zygote(env.home, run, lock, limits.find_room())
        setproctitle("muster: agent")
        asyncio.run(Agent(env.home, env.agent_socket, zygote_pid, zygote).run())
