"""The registry of platforms: every folder here that names a `platform`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from sync.errors import UnknownPlatform
from sync.platforms.base import Platform


@cache
def registry() -> dict[str, Platform]:
    """All adapters by name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            platform: Platform = import_module(f"{__name__}.{module.name}").platform
            found[platform.name] = platform
    return found


def get(name: str) -> Platform:
    """The adapter called `name`. Raises `UnknownPlatform`."""
    try:
        return registry()[name]
    except KeyError:
        raise UnknownPlatform(name) from None
