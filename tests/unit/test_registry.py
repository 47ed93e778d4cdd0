"""Where adapters come from: folders of `sync/platforms`, and `MUSTER_PLATFORMS`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from sync import platforms


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    platforms.registry.cache_clear()
    yield
    platforms.registry.cache_clear()


def test_modules_from_elsewhere_are_found(settings: Settings) -> None:
    settings.MUSTER_PLATFORMS = ["tests.fake", "tests.fake.keyed"]
    assert {"matrix", "fake", "fake-keyed"} <= set(platforms.registry())
    settings.MUSTER_PLATFORMS = []
    platforms.registry.cache_clear()
    assert "fake" not in platforms.registry()


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["tests.nowhere"], "MUSTER_PLATFORMS: tests.nowhere: No module named"),
        (["tests.waiting"], "MUSTER_PLATFORMS: tests.waiting names no `platform`"),
        (["tests.fake", "tests.fake"], "there are two platforms called 'fake'"),
    ],
)
def test_what_can_not_be_is_said(settings: Settings, modules: list[str], said: str) -> None:
    settings.MUSTER_PLATFORMS = modules
    with pytest.raises(ImproperlyConfigured, match=said):
        platforms.registry()


def test_the_platforms_own_addresses_are_written_as_endpoints_are() -> None:
    """Else an account that names it would be another one than the account that names none."""
    for platform in platforms.registry().values():
        own = platform.default_endpoint
        assert bool(own) != platform.needs_endpoint, platform.name
        assert own == own.lower().rstrip("/")
