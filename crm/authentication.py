"""Who is asking, over the API."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed


class TokenLogin(TokenAuthentication):  # type: ignore[misc]  # knox is untyped
    """Knox's, which takes any bytes for text: what can't be a token of ours is a 401."""

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isalnum():  # of bytes: ASCII letters and digits alone
            raise AuthenticationFailed(_("Invalid token."))
        return super().authenticate_credentials(token)


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """The same entry in the schema."""

    target_class = "crm.authentication.TokenLogin"
    priority = 1
