"""What the demo asks of Muster, over the REST API, as a script of a newcomer would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
from django.contrib.auth.models import User
from knox.models import AuthToken

from crm.demo.script import Desk

WORKERS = ("demo-1", "demo-2")
TOKEN_LIFE = timedelta(minutes=10)


class SetupFailed(Exception):
    """Muster did not take what the demo asked for; the message says what it answered."""


@contextmanager
def api(url: str) -> Iterator[httpx.Client]:
    """A client of the API at `url`, in the name of the first admin, with a token for this block."""
    admin = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if admin is None:
        raise SetupFailed("there is no active admin to add the demo's accounts")
    instance, token = AuthToken.objects.create(admin, expiry=TOKEN_LIFE)
    try:
        headers = {"Authorization": f"Token {token}"}
        with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=30) as client:
            yield client
    finally:
        instance.delete()


def ensure_worker(client: httpx.Client, worker_id: str) -> bool:
    """A config of that id, started with the master; whether it was added now."""
    found = client.get(f"/worker-configs/{worker_id}")
    if found.status_code != httpx.codes.NOT_FOUND:
        checked(found)
        return False
    body = {
        "worker_id": worker_id,
        "name": f"Demo worker {worker_id.removeprefix('demo-')}",
        "description": "Added by `make demo`.",
        "deployment_type": "local",
        "auto_start": True,
        "auto_restart": True,
    }
    checked(client.post("/worker-configs", json=body))
    return True


def ensure_account(
    client: httpx.Client, desk: Desk, identifier: str, endpoint: str, password: str
) -> bool:
    """The desk's account, at `endpoint` with `password`; whether it was added now."""
    secret = {"username": desk.username, "password": password}
    query = {"platform": "matrix", "search": identifier, "page_size": "500"}
    rows: list[Mapping[str, Any]] = checked(client.get("/accounts", params=query)).json()["results"]
    for row in rows:
        if row["identifier"] == identifier:
            change = {"endpoint": endpoint, "credentials": secret}
            checked(client.patch(f"/accounts/{row['id']}", json=change))
            return False
    body = {
        "name": desk.name,
        "platform": "matrix",
        "identifier": identifier,
        "endpoint": endpoint,
        "credentials": secret,
    }
    checked(client.post("/accounts", json=body))
    return True


def checked(response: httpx.Response) -> httpx.Response:
    """The response, unless it is an error. Raises `SetupFailed`."""
    if response.is_success:
        return response
    request = response.request
    raise SetupFailed(
        f"{request.method} {request.url.path} answered {response.status_code}: {response.text}"
    )
