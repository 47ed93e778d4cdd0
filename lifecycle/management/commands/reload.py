"""`manage.py reload`: new workers get the code that is on disk now."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lifecycle.agent.client import AgentClient
from lifecycle.agent.zygotes import HELLO_S
from lifecycle.errors import BackendUnavailable


class Command(BaseCommand):
    help = (
        "Have the agent load the code anew, for workers that are started from now on. Those that "
        "run go on; they are shown as outdated. When the code can't be loaded nothing changes."
    )
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        agent = AgentClient(settings.MUSTER.agent_socket)
        try:
            answer = agent.call("reload", patience_s=HELLO_S + 5)
        except BackendUnavailable as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"New workers run code {answer['code']}.")
