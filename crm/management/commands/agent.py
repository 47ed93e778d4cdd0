"""`manage.py agent`, for the list of commands: `manage.py` itself runs it without Django."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from crm import agent


class Command(BaseCommand):
    help = agent.HELP
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(agent.command(argv[2:]))

    def handle(self, *_args: Any, **_options: Any) -> None:
        sys.exit(agent.command([]))
