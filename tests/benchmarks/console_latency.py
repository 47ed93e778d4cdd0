"""From a send on Matrix to an open browser: `python -m tests.benchmarks.console_latency`.

A real Synapse, a whole system, a worker that waits in its long poll, and the inbox in Chromium.
Each message says when it was sent; the page itself notes when the text is in its table. Beside it,
what the homeserver alone takes to accept a message, and how the rest is shared: from the send to
the row (homeserver, long poll, adapter), from the row to the page (commit, feed, hub, browser).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.own_home import set_up

set_up()

from crm.demo import synapse
from crm.demo.install import install
from docs.take_screenshots import CHROMIUM, DESK, FLAGS
from sync.errors import PlatformUnavailable
from tests.contract.conftest import CACHE
from tests.contract.matrix_stage import MatrixStage, matrix_stage
from tests.e2e.driving import add_account, api_of
from tests.e2e.system import PASSWORD, System
from tests.waiting import eventually

RATES = (5, 20, 50)  # messages a second
SECONDS = 15
ROOMS = 40
MEMORY = "/dev/shm"  # noqa: S108 - the homeserver's disk is no part of what is measured

# What is in the table, and since when: text → milliseconds since 1970.
NOTE = """() => {
  window.seen = {};
  const note = () => {
    const now = Date.now();
    for (const cell of document.querySelectorAll("#result_list .field-said"))
      for (const [stamp] of cell.textContent.matchAll(/t=[0-9.]+;/g)) window.seen[stamp] ??= now;
  };
  new MutationObserver(note).observe(document.body, { childList: true, subtree: true });
}"""


async def send(stage: MatrixStage, rooms: list[str], rate: int) -> dict[str, tuple[float, float]]:
    """Text → when its send began and ended, in milliseconds. Sends overlap; the rate is kept."""
    sent: dict[str, tuple[float, float]] = {}

    async def one(number: int) -> None:
        begun = time.time() * 1000
        text = f"t={number}.{rate};"
        try:
            await stage.say(rooms[number % len(rooms)], text)
        except PlatformUnavailable as error:
            print(f"the homeserver can't keep up: {error}", file=sys.stderr)
        else:
            sent[text] = begun, time.time() * 1000

    tasks, begun = [], time.monotonic()
    for number in range(rate * SECONDS):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    return sent


def stored(system: System) -> dict[str, float]:
    """Text → when the transaction began that stored it, in milliseconds."""
    query = "SELECT text, extract(epoch FROM stored_at) * 1000 FROM sync_message"
    with system.database() as connection:
        return {text: float(at) for text, at in connection.execute(query)}


def figures(delays: list[float]) -> str:
    ordered = sorted(delays)
    p99 = ordered[int(len(ordered) * 0.99)]
    return f"{statistics.median(ordered):.0f} / {p99:.0f} / {ordered[-1]:.0f}"


def show(
    rate: int,
    sent: dict[str, tuple[float, float]],
    rows: dict[str, float],
    seen: dict[str, float],
) -> None:
    shown = [text for text in sent if text in seen]
    said = {
        "messages/s": rate,
        "send → visible, median / p99 / worst ms": figures([seen[t] - sent[t][0] for t in shown]),
        "Synapse alone, send → its answer": figures([end - begin for begin, end in sent.values()]),
        "send → row": figures([rows[t] - sent[t][0] for t in shown]),
        "row → visible": figures([seen[t] - rows[t] for t in shown]),
        "seen": f"{len(shown)} of {len(sent)} (others were followed in their room at once)",
        "load": round(os.getloadavg()[0], 1),
    }
    print("  ".join(f"{name}: {value}" for name, value in said.items()), flush=True)


def open_inbox(page: Page, system: System) -> None:
    page.goto(f"{system.url}/admin/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"{system.url}/admin/sync/conversation/")
    page.wait_for_selector("body[data-feed=live]")


def measure(system: System, server: synapse.Synapse, rates: list[int]) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(matrix_stage(server)) as stage,
        api_of(system) as client,
        sync_playwright() as playwright,
    ):
        rooms = [portal.call(stage.thread) for _ in range(ROOMS)]
        account_id = add_account(client, stage.account)
        address = f"/accounts/{account_id}"
        eventually(lambda: client.get(address).json()["conversations_total"] >= ROOMS, 120)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=DESK)
        open_inbox(page, system)
        for rate in rates:
            page.evaluate(NOTE)
            sent: dict[str, Any] = portal.call(send, stage, rooms, rate)
            page.wait_for_timeout(5000)
            show(rate, sent, stored(system), page.evaluate("window.seen"))
        browser.close()


def main() -> None:
    rates = [int(one) for one in sys.argv[1:]] or list(RATES)
    python = install(CACHE / "synapse", print)
    with (
        tempfile.TemporaryDirectory(prefix="muster-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="muster-bench-", dir=MEMORY) as servers,
        synapse.Synapse(Path(servers) / "synapse", python) as server,
    ):
        system = System(Path(folder) / "home")
        try:
            system.up()
            measure(system, server, rates)
        finally:
            system.kill_everything()


if __name__ == "__main__":
    main()
