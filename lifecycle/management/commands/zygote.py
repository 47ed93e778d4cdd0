"""`manage.py zygote`: started by the agent, and of no use without it."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from crm.celery import app
from lifecycle.agent import worker_main, zygote
from lifecycle.agent.code import fingerprint
from lifecycle.agent.keeper import Brood
from lifecycle.agent.layout import Home
from lifecycle.agent.limits import Room


class Command(BaseCommand):
    help = "Import everything that workers need, and fork them. The agent starts it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--room", type=Path, help="the cgroup below which workers get theirs")
        parser.add_argument("requests", type=int, help="descriptor of the agent's socket")
        parser.add_argument("errors", type=int, help="descriptor for errors, from the hello on")

    def handle(self, *_args: Any, **options: Any) -> None:
        code = fingerprint(settings.BASE_DIR)  # before the imports: at worst it is older than they
        worker_main.preload(app)
        room = Room(options["room"]) if options["room"] else None
        link = socket.socket(fileno=options["requests"])
        os.set_inheritable(options["requests"], False)
        os.dup2(options["errors"], 2)
        os.close(options["errors"])
        run = partial(worker_main.run, app)
        zygote.serve(Brood(Home(settings.MUSTER.home, room), link, run, code))
