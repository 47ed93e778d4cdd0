"""Flower at /flower/, behind our login [C5].

Flower listens on a Unix socket in a private directory and has no login of its own. This view hands
each request over: bodies are streamed both ways, hop-by-hop headers are dropped (RFC 9110, 7.6.1),
and neither our session nor our tokens leave this process. Flower checks no request for forgery, so
requests that change something must come from our own pages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPMethod
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

log = structlog.get_logger(__name__)

SAFE = {HTTPMethod.GET, HTTPMethod.HEAD}
UNANSWERED = {HTTPMethod.TRACE, HTTPMethod.CONNECT}
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# Ours, or to be set anew. Flower's own cookie (`_xsrf`) is of use only with a login of its own.
NOT_PASSED_ON = HOP_BY_HOP | {"cookie", "authorization", "host", "content-length", "expect"}
NOT_PASSED_BACK = HOP_BY_HOP | {"set-cookie", "server", "date"}
TIMEOUT = httpx.Timeout(connect=3, read=30, write=30, pool=3)
UPSTREAM = "http://flower"

Proxy = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


async def _proxy(request: HttpRequest, path: str) -> HttpResponseBase:
    """Hand `/flower/<path>` over; 302 to the login, 403 without the right, 502 without Flower."""
    refusal = await _refusal(request)
    if refusal is not None:
        return refusal
    transport = httpx.AsyncHTTPTransport(uds=str(settings.MUSTER.flower_socket))
    client = httpx.AsyncClient(transport=transport, timeout=TIMEOUT, trust_env=False)
    try:
        upstream = await client.send(_outgoing(client, request), stream=True)
    except httpx.HTTPError as error:
        await client.aclose()
        log.warning("flower_unreachable", error=repr(error))
        return _page(request, 502)
    except BaseException:  # cancelled: the browser went away
        await client.aclose()
        raise
    return _incoming(client, upstream)


proxy: Proxy = csrf_exempt(_proxy)  # it has its own check: `_from_our_pages`


async def _refusal(request: HttpRequest) -> HttpResponseBase | None:
    user = await request.auser()
    if not user.is_authenticated:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    if request.method in UNANSWERED:
        return HttpResponse(status=405)
    if request.method in SAFE:
        allowed = await user.ahas_perm("lifecycle.view_workerruntime")
    else:
        allowed = await user.ahas_perm("lifecycle.operate_worker") and _from_our_pages(request)
    return None if allowed else _page(request, 403)


def _from_our_pages(request: HttpRequest) -> bool:
    """Whether a browser says that this request was made by a page of this site.

    `Sec-Fetch-Site` where the browser sends it, else `Origin`, else `Referer`.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    sender = urlsplit(request.headers.get("Origin") or request.headers.get("Referer") or "")
    origin = f"{sender.scheme}://{sender.netloc}"
    ours = f"{request.scheme}://{request.get_host()}"
    return origin in {ours, *settings.CSRF_TRUSTED_ORIGINS}


def _outgoing(client: httpx.AsyncClient, request: HttpRequest) -> httpx.Request:
    headers = [(k, v) for k, v in request.headers.items() if k.lower() not in NOT_PASSED_ON]
    headers += [
        ("Host", request.get_host()),
        ("X-Forwarded-Proto", str(request.scheme)),
        ("X-Forwarded-For", request.META.get("REMOTE_ADDR") or ""),
    ]
    url = httpx.URL(UPSTREAM).copy_with(raw_path=request.get_full_path().encode("ascii"))
    # Django has read the body already, up to DATA_UPLOAD_MAX_MEMORY_SIZE.
    body = None if request.method in SAFE else request.body
    return client.build_request(str(request.method), url, headers=headers, content=body)


def _incoming(client: httpx.AsyncClient, upstream: httpx.Response) -> HttpResponseBase:
    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in upstream.aiter_raw():
                yield chunk
        finally:
            await upstream.aclose()
            await client.aclose()

    response = StreamingHttpResponse(body(), status=upstream.status_code)
    del response["Content-Type"]
    for name, value in upstream.headers.multi_items():
        # Flower lets every origin read it once its API is open: not through our login.
        if name not in NOT_PASSED_BACK and not name.startswith("access-control-"):
            response[name] = _here(value) if name == "location" else value
    response["X-Frame-Options"] = "DENY"
    return response


def _here(location: str) -> str:
    """An address of Flower's as a browser can reach it: path and query on our own host."""
    parts = urlsplit(location)
    path = parts.path if parts.path.startswith("/") else f"/flower/{parts.path}"
    return path + (f"?{parts.query}" if parts.query else "")


def _page(request: HttpRequest, status: int) -> HttpResponse:
    context = {"status": status, "log": settings.MUSTER.home / "logs" / "flower.log"}
    text = render_to_string("console/flower_trouble.html", context, request)
    return HttpResponse(text, status=status)
