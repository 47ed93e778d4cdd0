"""Muster's Celery application, whose workers stamp the moment of `worker_ready`.

`celery -A tests.benchmarks.supervised.stamped worker …` is what other supervisors run;
`python -m tests.benchmarks.supervised.stamped zygote …` is the zygote, which forks the same.
"""

from __future__ import annotations

import sys

from celery import signals

from crm.celery import app
from tests.benchmarks.supervised import stamps

__all__ = ["app"]


def _stamp(sender: object, **_: object) -> None:
    stamps.send(str(getattr(sender, "hostname", "")).partition("@")[0])


signals.worker_ready.connect(_stamp, weak=False)

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
