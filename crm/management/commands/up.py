"""`manage.py up`: the whole of Muster on this machine, until Ctrl-C."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from crm.up.run import CantRun, main


class Command(BaseCommand):
    help = "Bring up the whole system on this machine and keep it up until Ctrl-C or SIGTERM."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            main()
        except CantRun as error:
            raise CommandError(str(error)) from error
