"""The gate before every process that `up` starts: it begins once it is written down in `up.json`.

Whoever kills `up` between the fork and the record would leave a process that no later `up` finds.
As it is, the gate is a pipe: its other end goes with `up`, and what waits before it ends.
"""

from __future__ import annotations

SCRIPT = 'read -r go && exec "$@" </dev/null'
WORD = b"go\n"


def before(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command behind a gate: with the same pid it runs, without input, once it reads `WORD`
    from its stdin; at the end of that it ends."""
    return ("/bin/sh", "-c", SCRIPT, "gate", *command)
