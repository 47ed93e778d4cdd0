"""Put on PYTHONPATH by the chaos suite: gives the master, and only it, a clock that can jump.

Debian's libfaketime must be there when a process starts: so the master starts itself once more,
with it, as the same process.
"""

import os
import sys

if os.environ.get("MUSTER_PART") == "master" and "LD_PRELOAD" not in os.environ:
    os.execve(  # noqa: S606 - no shell is what we want
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        {
            **os.environ,
            "LD_PRELOAD": os.environ["CHAOS_FAKETIME"],
            "FAKETIME_TIMESTAMP_FILE": os.environ["CHAOS_CLOCK"],
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        },
    )
