"""The admin site of Muster: unfold's, with the operators' home as its first page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite

from lifecycle.console.live import polls


class MusterAdminSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold is untyped
    index_title = _("Home")
    index_template = "console/home.html"

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The home page; answers the poll of `live-home` with its changing part alone."""
        from crm.console.home import home  # models are not loaded yet when the site is made

        context = home(request.user)
        if polls(request, "live-home"):
            return TemplateResponse(request, "console/home_live.html", context)
        return super().index(request, context | (extra_context or {}))  # type: ignore[no-any-return]
