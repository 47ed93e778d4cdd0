"""The system under test, whole and real, and the hands that break it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from crm.env import Env
from lifecycle.agent import process
from lifecycle.types import ProcessRef
from tests.chaos import fleet, sight
from tests.chaos.faults import Fault, FillDisk, Freeze, Kill, KillTogether, SetClock, Wish
from tests.chaos.invariants import WISHED_S
from tests.chaos.ledger import Ledger
from tests.chaos.work import Work
from tests.e2e.prepared import prepare
from tests.e2e.system import System

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
CLOCK_SITE = Path(__file__).parent / "clock"
LOGS_SIZE = "192m"
CHUNKS = (1024 * 1024, 4096, 1)


class ChaosSystem(System):
    """`manage.py up` whose master has a clock that can jump, where libfaketime is installed."""

    @property
    def environment(self) -> dict[str, str]:
        given = super().environment
        if not FAKETIME:
            return given
        path = os.pathsep.join(filter(None, [str(CLOCK_SITE), given.get("PYTHONPATH")]))
        ours = {"CHAOS_FAKETIME": str(FAKETIME[0]), "CHAOS_CLOCK": str(self.clock)}
        return given | ours | {"PYTHONPATH": path}

    @property
    def clock(self) -> Path:
        return self.home.parent / "clock"


class LogReader:
    """Reads a log that grows and is rotated: every byte once."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._inode: int | None = None
        self._offset = 0

    def new(self) -> bytes:
        """What was added since the last call."""
        data = b""
        with suppress(FileNotFoundError):
            while True:
                current = self.log.stat().st_ino
                if self._inode in (None, current):
                    self._inode = current
                    return data + self._read(self.log)
                data += self._read(self._rotated())
                self._inode, self._offset = self._newer(), 0
        return data

    def _files(self) -> list[Path]:
        """Newest first."""
        numbered = sorted(self.log.parent.glob(f"{self.log.name}.[0-9]*"), reverse=True)
        return [self.log, *numbered]

    def _rotated(self) -> Path:
        return next(path for path in self._files() if path.stat().st_ino == self._inode)

    def _newer(self) -> int:
        files = self._files()
        return files[files.index(self._rotated()) - 1].stat().st_ino

    def _read(self, path: Path) -> bytes:
        with path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        return data


class World:
    """A running system with its fleet; knows who bears which name now, and strikes them."""

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self.root, self.say = root, say
        self.system = ChaosSystem(root / "home")
        self.tallies = root / "tallies"
        self.logs = self.system.home / "logs"
        self.kills = 0
        self.has_own_disk = False
        self.ledgers = {worker_id: Ledger(worker_id) for worker_id in fleet.WORKERS}
        self._readers = {w: LogReader(self.log_of(w)) for w in fleet.WORKERS}
        self._clicks, self._clicking = ThreadPoolExecutor(4), list[Future[None]]()
        self._token = ""
        broker = Env.model_construct(home=self.system.home, broker_url=None).resolved_broker_url
        self.work = Work(broker, root / "journal")

    # --- up and down ---

    def set_up(self) -> None:
        prepare(self.system.home)
        self.tallies.mkdir()
        self.logs.mkdir(parents=True)
        self.system.clock.write_text("+0\n")
        if os.geteuid() == 0:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={LOGS_SIZE}", "chaos", str(self.logs)]
            self.has_own_disk = (
                subprocess.run(mount, check=False, capture_output=True).returncode == 0
            )
        how = "a tmpfs of its own" if self.has_own_disk else "a file-size limit on the keepers"
        self.say(f"disk full: {how}; clock: {'libfaketime' if FAKETIME else 'not installed'}")
        self.system.up()
        self._token = self.system.manage("token", "admin").stdout.strip()
        for worker_id in fleet.WORKERS:
            body = fleet.config(worker_id, str(self.tallies))
            self.call("/worker-configs", body).raise_for_status()
        for worker_id in (*fleet.WORKERS, "worker-1"):  # the last is of a new installation
            self.system.running_worker(worker_id)

    def tear_down(self) -> None:
        self.work.close()
        self._clicks.shutdown(cancel_futures=True)
        self.system.kill_everything()
        if self.has_own_disk:
            subprocess.run(["umount", "--lazy", self.logs], check=True)  # noqa: S607

    def log_of(self, worker_id: str) -> Path:
        return self.logs / "workers" / worker_id / "stdout.log"

    def call(self, path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Token {self._token}"}
        url = f"{self.system.url}/api/v1{path}"
        return httpx.post(url, json=body, headers=headers, timeout=20)

    # --- strike ---

    def strike(self, fault: Fault) -> Callable[[], None]:
        """Do it; returns what ends it."""
        match fault:
            case Kill(target, worker_id):
                for ref in self._who(target, worker_id):
                    self.kills += process.send(ref, signal.SIGKILL)
            case KillTogether(targets, worker_id):
                self._kill_together(targets, worker_id)
            case Freeze(target, _hold_s, worker_id):
                return self._freeze(self._who(target, worker_id, whole=True))
            case FillDisk():
                return self._fill_disk()
            case SetClock(offset_s):
                self.system.clock.write_text(f"{offset_s:+d}\n")
            case Wish():
                self._clicking.append(self._clicks.submit(self._click, fault))
        return lambda: None

    def wait_for_clicks(self) -> None:
        """Every operator has an answer, or has given up: no wish comes after this."""
        wait(self._clicking)
        self._clicking.clear()

    def _kill_together(self, targets: tuple[str, ...], worker_id: str) -> None:
        """Nobody is left to read its pipe: what was in there is gone with the kernel's buffer."""
        refs = [
            ref
            for target in targets
            for ref in self._who(target, worker_id if target in ("keeper", "main") else "")
        ]
        self.kills += sum(process.send(ref, signal.SIGKILL) for ref in refs)
        self.ledgers[worker_id].forgive(self._tallies(worker_id))

    def _freeze(self, frozen: list[ProcessRef]) -> Callable[[], None]:
        for ref in frozen:
            process.send(ref, signal.SIGSTOP)

        def thaw() -> None:
            for ref in frozen:
                process.send(ref, signal.SIGCONT)

        return thaw

    def _click(self, wish: Wish) -> None:
        """What an operator does; an answer that does not come is part of the game."""
        how = {"graceful": wish.graceful, "timeout": int(WISHED_S * 1000)}
        options = {} if wish.verb == "start" else how
        with suppress(httpx.HTTPError):
            if len(wish.worker_ids) > 1:
                body = {"action": wish.verb, "worker_ids": list(wish.worker_ids)}
                self.call("/workers/batch", {**body, "options": options})
            else:
                self.call(f"/workers/{wish.worker_ids[0]}/{wish.verb}", options)

    def _who(self, target: str, worker_id: str, *, whole: bool = False) -> list[ProcessRef]:
        """The bearers of a name now; `whole`: with all children, to freeze a database."""
        pids = self._pids(target, worker_id)
        if whole and target == "postgres":
            pids += [c.pid for pid in pids for c in psutil.Process(pid).children()]
        found = []
        for pid in pids:
            with suppress(ProcessLookupError):
                found.append(process.refer(pid))
        return found

    def _pids(self, target: str, worker_id: str) -> list[int]:
        titles = [(pid, title.strip()) for pid, title in self.system.processes().items()]
        if target in ("main", "keeper", "pool"):
            wanted = (target, worker_id)
            home = self.system.home
            return [pid for pid, t in titles if sight.role_of(home, pid, t)[:2] == wanted]
        if target == "zygote":
            agent = self.system.part("agent")["pid"]
            zygotes = [pid for pid, title in titles if title == "muster: zygote"]
            return [pid for pid in zygotes if process.parent_of(pid) == agent]
        pid = self.system.part(target)["pid"]
        return [pid] if pid else []

    def part_age_s(self, name: str) -> float:
        """How long a part has run; 0 when it does not."""
        pid = self.system.part(name).get("pid")
        try:
            return process.age_s(process.refer(pid)) if pid else 0.0
        except ProcessLookupError:
            return 0.0

    def _fill_disk(self) -> Callable[[], None]:
        if not self.has_own_disk:
            return self._limit_files()
        ballast = self.logs / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in CHUNKS:
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        return lambda: ballast.unlink()

    def _limit_files(self) -> Callable[[], None]:
        titles = self.system.processes().items()
        keepers = [pid for pid, title in titles if title.startswith("muster: keeper")]
        former = {}
        for pid in keepers:
            with suppress(ProcessLookupError):
                former[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE, (64, -1))

        def lift() -> None:
            for pid, limit in former.items():
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

        return lift

    # --- watch ---

    def lines_behind(self) -> list[str]:
        """Read what the logs have grown by; lines that were written and are not there (yet)."""
        found = []
        for worker_id, ledger in self.ledgers.items():
            tallies = self._tallies(worker_id)
            ledger.feed(self._readers[worker_id].new(), tallies)
            found += ledger.behind(tallies)
        return found

    def line_violations(self) -> list[str]:
        """Lost, repeated and torn lines since the last call."""
        found = [v for ledger in self.ledgers.values() for v in ledger.violations]
        for ledger in self.ledgers.values():
            ledger.violations.clear()
        return found

    def _tallies(self, worker_id: str) -> dict[str, int]:
        """How many lines each process of this worker has written so far."""
        files = self.tallies.glob(f"{worker_id}.*")
        return {f.suffix[1:]: int.from_bytes(f.read_bytes(), "little") for f in files}


@contextmanager
def world(say: Callable[[str], None]) -> Iterator[World]:
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    root.chmod(0o755)
    made = World(root, say)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()
        shutil.rmtree(root, ignore_errors=True)
