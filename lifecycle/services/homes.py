"""Giving up the home that runs the workers of this database [L11] (docs/adr/0020)."""

from __future__ import annotations

from django.db import connection, transaction

from lifecycle.errors import Rejected
from lifecycle.leadership import LOCK_KEY
from lifecycle.models import FleetHome


def forget_home(named: str) -> None:
    """A home is lost, with all that ran in it: the next master leads, wherever it is.

    `named`: "host:path", so that nobody gives up one that he did not mean. Raises `Rejected`: it is
    another one, or a master leads, so that nothing is lost.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
        if cursor.fetchone() != (True,):
            raise Rejected("", "a master leads: if it is one of the lost home, end it first")
        known = FleetHome.objects.select_for_update().first()
        if str(known) != named:
            raise Rejected("", f"the workers run in {known or 'no home yet'}, not in {named}")
        FleetHome.objects.all().delete()
