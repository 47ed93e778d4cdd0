"""`manage.py agent`: the processes of this host."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from setproctitle import setproctitle

from lifecycle.agent import limits
from lifecycle.agent.server import Agent, take_agent_lock
from lifecycle.errors import BackendUnavailable


class Command(BaseCommand):
    help = "Fork and watch the workers of this host, as the master tells. SIGHUP loads code anew."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        own = [sys.executable, str(settings.BASE_DIR / "manage.py"), "zygote"]
        parser.add_argument(
            "--zygote", nargs="+", default=own, metavar="WORD", help="the program that forks"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        env = settings.MUSTER
        try:
            _lock = take_agent_lock(env.agent_socket)
        except BackendUnavailable as error:
            raise CommandError(str(error)) from error
        setproctitle("muster: agent")
        command = options["zygote"]
        if room := limits.find_room():
            command += ["--room", str(room.path)]
        # Not on uvloop: it lost the end of a pidfd while other descriptors came and went, and the
        # keeper of that worker was waited for until the agent was restarted.
        asyncio.run(Agent(env.home, env.agent_socket, command).run())
