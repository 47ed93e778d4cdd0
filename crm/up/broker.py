"""Whether a broker that is not ours answers: found out by `python -m crm.up.broker`, heard by `up`.

A process of its own: a client library would cost `up` 20 MB for all its life, and a thread that
waits for a silent host can't be cancelled.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from crm.env import env
from crm.up.supervisor import Supervisor

ATTEMPT_S = 3
RETRY_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Word:
    """What was found out. Without `trouble` the broker answers."""

    address: str  # without the password
    trouble: str | None


async def listen(supervisor: Supervisor, heard: Callable[[Word], None]) -> bool:
    """Tell `heard` what is new about the broker, until it answers. False: it can't ask."""
    async with supervisor.oneshot("broker", "-m", "crm.up.broker") as child:
        while line := await child.stdout.readline():  # type: ignore[union-attr]
            heard(Word(**json.loads(line)))
        return await child.wait() == 0


def main() -> None:
    """Print each new `Word` as a line of JSON. End once the broker answers, or with our parent."""
    parent, said = os.getppid(), None
    while os.getppid() == parent:
        word = ask(env.resolved_broker_url)
        if word != said:
            print(json.dumps(asdict(word)), flush=True)  # noqa: T201
        if word.trouble is None:
            return
        said = word
        time.sleep(RETRY_S)


def ask(url: str) -> Word:
    """Connect once, as the parts do."""
    from kombu import Connection

    patience = {"socket_connect_timeout": ATTEMPT_S, "socket_timeout": ATTEMPT_S}
    with Connection(url, connect_timeout=ATTEMPT_S, transport_options=patience) as connection:
        address, password = connection.as_uri(), connection.password
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=ATTEMPT_S)
        except Exception as error:  # each transport has its own; whichever it is, we ask again
            log.debug("the broker does not answer", exc_info=True)
            trouble = " ".join(str(error).split()) or type(error).__name__
            return Word(address, trouble.replace(password, "**") if password else trouble)
    return Word(address, None)


if __name__ == "__main__":
    main()
