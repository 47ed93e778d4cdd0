"""`manage.py forget_home`: the home that ran the workers is lost; let another one run them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from lifecycle.errors import Rejected
from lifecycle.services import forget_home


class Command(BaseCommand):
    help = (
        "Give up the home that runs the workers of this database, after it was lost. Only when "
        "nothing of it runs any more: its workers are started again, elsewhere."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("home", metavar="HOST:PATH", help="as the master's log names it")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            forget_home(options["home"])
        except Rejected as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['home']} is given up: the next master leads")
