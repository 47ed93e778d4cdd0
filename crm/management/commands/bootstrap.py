"""`manage.py bootstrap`: make the database fit for use; `up` runs it before the parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from crm.embedded import EmbeddedError, wait_postgres
from crm.env import env
from crm.up.bootstrap import prepare


class Command(BaseCommand):
    help = "Migrate the database and, in an empty one, make the first admin and the first worker."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if env.embedded_postgres:
                wait_postgres(env.socket_dir)
            self.stdout.write(json.dumps(asdict(prepare(env))))
        except (EmbeddedError, psycopg.Error, DatabaseError) as error:
            reason = " ".join(str(error).split())  # libpq's takes lines; `up` shows one, the last
            raise CommandError(f"the database can't be prepared: {reason}") from error
