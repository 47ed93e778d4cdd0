"""A platform that fails as real ones do: a server process (`process.py`) and its adapter.

Workers find it with `MUSTER_PLATFORMS=tests.fake,tests.fake.keyed`. Start it with
`FakeServer(directory)`; tell it what it holds and how it fails by `FakeServer.control`.

- `tests.fake`: `fake` waits for news, and tells by a reply's key whether it was sent.
- `tests.fake.keyed`: `fake-keyed` is polled, and sends once for each key.
"""

from tests.fake.adapter import Fake

platform = Fake()
