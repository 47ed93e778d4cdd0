"""`manage.py recount`: do all counters say what there is? Ends with 1 when one did not [S10]."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from sync.services.counters import lines, recount


class Command(BaseCommand):
    help = "Compare every unread count and total with its rows, and repair what is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--only-look", action="store_true", help="change nothing")

    def handle(self, *, only_look: bool = False, **_options: Any) -> None:
        found = recount(repair=not only_look)
        for line in lines(found):
            self.stdout.write(line)
        if found:
            done = "nothing was changed" if only_look else "repaired"
            self.stderr.write(f"{len(found)} counters were wrong; {done}")
            sys.exit(1)
        self.stdout.write("every counter is right")
