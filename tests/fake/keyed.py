"""The fake as a platform that is polled, and that sends a reply once for each key."""

from __future__ import annotations

from typing import ClassVar

from tests.fake.adapter import Fake


class KeyedFake(Fake):
    name: ClassVar[str] = "fake-keyed"
    label: ClassVar[str] = "Fake, polled, with keys"
    can_wait: ClassVar[bool] = False
    sends_once: ClassVar[bool] = True


platform = KeyedFake()
