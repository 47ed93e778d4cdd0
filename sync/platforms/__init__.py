"""The registry of platforms: every folder here that names a `platform`, and every module that
`MUSTER_PLATFORMS` names, for adapters that live elsewhere."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from sync.errors import UnknownPlatform
from sync.platforms.base import Platform


@cache
def registry() -> dict[str, Platform]:
    """All adapters by name. Raises `ImproperlyConfigured` for a bad `MUSTER_PLATFORMS`."""
    folders = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    platforms: list[Platform] = [
        import_module(f"{__name__}.{folder}").platform for folder in folders
    ]
    platforms += [_from_elsewhere(module) for module in settings.MUSTER_PLATFORMS]
    found: dict[str, Platform] = {}
    for platform in platforms:
        if platform.name in found:
            raise ImproperlyConfigured(f"there are two platforms called '{platform.name}'")
        found[platform.name] = platform
    return found


def _from_elsewhere(module: str) -> Platform:
    try:
        platform = getattr(import_module(module), "platform", None)
    except ImportError as error:
        raise ImproperlyConfigured(f"MUSTER_PLATFORMS: {module}: {error}") from error
    if not isinstance(platform, Platform):
        raise ImproperlyConfigured(f"MUSTER_PLATFORMS: {module} names no `platform`")
    return platform


def get(name: str) -> Platform:
    """The adapter called `name`. Raises `UnknownPlatform`."""
    try:
        return registry()[name]
    except KeyError:
        raise UnknownPlatform(name) from None
