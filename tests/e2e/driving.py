"""What tests do to a whole system from outside: over its API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from sync.types import AccountRef
from tests.e2e.system import System


@contextmanager
def api_of(system: System) -> Iterator[httpx.Client]:
    """The API as the first admin."""
    token = system.manage("token", "admin").stdout.strip()
    headers = {"Authorization": f"Token {token}"}
    with httpx.Client(base_url=f"{system.url}/api/v1", headers=headers, timeout=30) as made:
        yield made


def everything(client: httpx.Client, path: str, **query: str) -> list[dict[str, Any]]:
    """All rows of a list, over all of its pages."""
    rows: list[dict[str, Any]] = []
    url: str | None = str(httpx.URL(path, params={"page_size": "200", **query}))
    while url:
        page = client.get(url).raise_for_status().json()
        rows += page["results"]
        url = page["next"]
    return rows


def add_worker(client: httpx.Client, worker_id: str, **fields: object) -> None:
    config = {"worker_id": worker_id, "restart_delay_ms": 0, **fields}
    client.post("/worker-configs", json=config).raise_for_status()


def add_account(client: httpx.Client, account: AccountRef) -> int:
    """Have an account watched; its id."""
    fields = {
        "platform": account.platform,
        "identifier": account.identifier,
        "endpoint": account.endpoint,
        "credentials": account.credentials,
    }
    added: int = client.post("/accounts", json=fields).raise_for_status().json()["id"]
    return added
