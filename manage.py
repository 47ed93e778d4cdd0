#!/usr/bin/env python
"""Entry point of every Muster command: `python manage.py up`, `ps`, `token`, …"""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm.settings")
    if sys.argv[1:] == ["up"]:  # a supervisor needs no Django: it starts sooner and stays small
        from crm.up.run import command

        sys.exit(command())

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
