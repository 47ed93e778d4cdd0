"""Who may do what over the API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

SAFE_AS_GET = {"HEAD": "GET", "OPTIONS": "GET"}


class RolePermission(BasePermission):
    """Each view declares `permissions = {"GET": "app.view_thing", "POST": "app.add_thing", …}`.

    A method that the view answers but doesn't declare is refused: forgetting is safe. One that it
    doesn't answer at all passes, so that the caller reads 405 and not 403.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.user, AnonymousUser) or not request.user.is_active:
            return False
        if request.method not in view.allowed_methods:
            return True
        method = SAFE_AS_GET.get(str(request.method), str(request.method))
        declared: dict[str, str] = getattr(view, "permissions", {})
        if method not in declared:
            # OPTIONS of an address that only takes POST tells nothing that the schema does not.
            return request.method == "OPTIONS"
        return request.user.has_perm(declared[method])
