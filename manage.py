#!/usr/bin/env python
"""Entry point of every Muster command: `python manage.py up`, `ps`, `token`, …"""

import os
import sys


def run() -> int:
    """Run the command that was given; the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm.settings")
    match sys.argv[1:]:
        # Supervisors need no Django: they start sooner and stay small.
        case ["up"]:
            from crm.up import run as up

            return up.command()
        case ["agent", *words]:
            from crm import agent

            return agent.command(words)
        case _:
            from django.core.management import execute_from_command_line

            execute_from_command_line(sys.argv)
            return 0


def main() -> int:
    """The same, with a word instead of a traceback for what people do wrong."""
    try:
        from crm.env_checks import BadSettings

        try:
            return run()
        except BadSettings as error:
            print(error, file=sys.stderr)  # noqa: T201
            return 2
    except KeyboardInterrupt:
        return 130  # as a shell says it: 128 + SIGINT


if __name__ == "__main__":
    sys.exit(main())
