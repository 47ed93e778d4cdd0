"""Every address that Django answers. The API's have no trailing slash; nothing but /healthz answers
without a login.

One more does, in front of Django: /api/v1/hooks/<platform>/<account>, where the signature of a
webhook is the right (`crm.asgi`, `sync.hooks.receiver`).
"""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from django.views.i18n import JavaScriptCatalog
from drf_spectacular.views import (
    SpectacularAPIView,
    SpectacularRedocView,
    SpectacularSwaggerView,
)

from crm.api import NothingHere
from crm.flower import proxy
from crm.health import Readyz, healthz
from crm.metrics import Metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", healthz, name="healthz"),
    path("readyz", Readyz.as_view(), name="readyz"),
    path("metrics", Metrics.as_view(), name="metrics"),
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("jsi18n", login_required(JavaScriptCatalog.as_view()), name="jsi18n"),
    re_path(r"^flower/(?P<path>.*)$", proxy, name="flower"),
    path("api/v1/", include("lifecycle.api.urls")),
    path("api/v1/", include("sync.api.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", login_required(SpectacularSwaggerView.as_view()), name="docs"),
    path("api/redoc", login_required(SpectacularRedocView.as_view()), name="redoc"),
    re_path(r"^api(?:/.*)?$", NothingHere.as_view()),
]
