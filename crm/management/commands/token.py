"""`manage.py token <user>`: a token for the API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from knox.models import AuthToken


class Command(BaseCommand):
    help = "Print a new API token of a user. It is shown once; only its digest is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the user's login name")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        try:
            owner = User.objects.get(username=user, is_active=True)
        except User.DoesNotExist:
            raise CommandError(f"there is no active user '{user}'") from None
        _, token = AuthToken.objects.create(owner)
        self.stdout.write(token)
