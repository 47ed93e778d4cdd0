"""When is Muster up: the web answers, a master leads, the agent answers."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Callable

import psycopg

from crm.env import Env
from lifecycle.agent.client import AgentClient
from lifecycle.errors import BackendUnavailable
from lifecycle.leadership import LOCK_KEY

POLL_S = 0.05
ANSWER_S = 5.0

# One row while some master, here or elsewhere, holds the lead (pg_locks splits a bigint key).
LEADER_SQL = """
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND classid = %(high)s::oid AND objid = %(low)s::oid
"""


async def until(check: Callable[[Env], bool], env: Env) -> None:
    """Return once `check` holds. It runs in a thread; it is asked for as long as it takes."""
    while not await asyncio.to_thread(check, env):
        await asyncio.sleep(POLL_S)


def web_answers(env: Env) -> bool:
    """/healthz answers. The name we call it by may be refused (400): it still answers."""
    host = "127.0.0.1" if env.bind in ("0.0.0.0", "::") else env.bind  # noqa: S104
    connection = http.client.HTTPConnection(host, env.port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/healthz", headers={"Host": "127.0.0.1"})
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def master_leads(env: Env) -> bool:
    try:
        with psycopg.connect(
            env.resolved_database_url, connect_timeout=int(ANSWER_S)
        ) as connection:
            key = {"high": LOCK_KEY >> 32, "low": LOCK_KEY & 0xFFFFFFFF}
            return connection.execute(LEADER_SQL, key).fetchone() is not None
    except psycopg.OperationalError:
        return False


def agent_answers(env: Env) -> bool:
    try:
        AgentClient(env.agent_socket).call("status")
    except BackendUnavailable:
        return False
    return True


def port_is_free(bind: str, port: int) -> bool:
    """Whether the web will be able to listen. Raises `OSError` when `bind` is not ours to use."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
            probe.listen()
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno != 98:
                raise
            return False
    return True
