"""`manage.py demo`: real accounts, on a real chat server, with people who talk, until Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from crm.demo.install import SynapseFailed
from crm.demo.run import Demo, DemoFailed
from crm.demo.setup import SetupFailed
from crm.env import env
from sync.errors import PlatformError


class Command(BaseCommand):
    help = "Watch two accounts on a real chat server, with people who write to them, until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            asyncio.run(Demo(env).run())
        except (DemoFailed, SetupFailed, SynapseFailed, PlatformError) as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"Muster's database can't be used: {error}") from error
        except OSError as error:
            raise CommandError(f"the demo can't run in {env.home}: {error}") from error
