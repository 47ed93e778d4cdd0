"""What an empty database needs before people can log in: tables, an admin, a first worker.

Runs in a process of its own (`manage.py bootstrap`): `up` itself does without Django.
"""

from __future__ import annotations

import secrets

import psycopg
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from crm.env import Env
from crm.up.prepared import ADMIN, FIRST_WORKER, Prepared
from lifecycle.models import WorkerConfig
from lifecycle.queries import fleet_elsewhere
from lifecycle.services import create_config

ACTOR = "up"
CONNECT_S = 10
LOCK_KEY = 0x4D757374657255  # "MusterU": one `up` at a time prepares a database


def prepare(env: Env) -> Prepared:
    """Migrate, make the first admin and the first worker.

    Several hosts may share a database, though one home at a time runs its workers (adr 0020): an
    advisory lock makes them take turns.
    """
    url = env.resolved_database_url
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_S) as lock:
        lock.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        migrated = _migrate()
        created, password = _first_admin(env.admin_password)
        elsewhere = fleet_elsewhere(env.home_ref)
        named = str(elsewhere) if elsewhere else None
        return Prepared(password, created, migrated, _first_worker(), named)


def _migrate() -> bool:
    """Whether there was something to do. What follows a migration (roles) is done anyway."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # a migration takes the time that it takes
    before = MigrationRecorder(connection).applied_migrations().keys()
    call_command("migrate", interactive=False, verbosity=0)
    return MigrationRecorder(connection).applied_migrations().keys() != before


def _first_admin(given_password: str | None) -> tuple[bool, str | None]:
    """Whether one was made, and the password if it was generated."""
    with transaction.atomic():
        if User.objects.filter(is_superuser=True).exists():
            return False, None
        password = given_password or secrets.token_urlsafe(12)
        User.objects.create_superuser(ADMIN, password=password)
    return True, None if given_password else password


def _first_worker() -> bool:
    """One worker, so that the fleet page shows life. Not again after somebody deleted it."""
    if WorkerConfig.history.exists():
        return False
    create_config({"worker_id": FIRST_WORKER, "name": "Worker 1", "auto_start": True}, ACTOR)
    return True
