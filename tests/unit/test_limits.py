"""`lifecycle.agent.limits`: what is asked of the kernel, and what it says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.agent import limits
from lifecycle.agent.limits import Room, Witness, cpus_for, oom_kills, own_group, victims
from lifecycle.types import Exit, Instance, Pool, ProcessRef, WorkerSpec

HYBRID = """\
31 24 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,size=4096k
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
CONTAINER = "41 31 0:38 /docker/abc /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n"
# As kernels since 5.0 write them, with their header: priority, number, microseconds since boot.
KERNEL_LOG = [
    "6,100,5000000,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=python,pid=4242,uid=0\n",
    "3,101,5000100,-;Memory cgroup out of memory: Killed process 4242 (python) total-vm:9kB\n",
    "3,102,6000000,-;Out of memory: Killed process 77 (celery) total-vm:9kB, anon-rss:1kB\n",
    "6,103,6000001,-;something else: Killed process 88 (x)\n",
    "continuation without a header",
]


def spec(**fields: float) -> WorkerSpec:
    return WorkerSpec(Instance("w", 3), (), Pool.SOLO, 1, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mounts", "groups", "expected"),
    [
        (HYBRID, "4:memory:/a\n0::/\n", "/sys/fs/cgroup/unified"),
        (
            HYBRID,
            "0::/system.slice/muster.service\n",
            "/sys/fs/cgroup/unified/system.slice/muster.service",
        ),
        (CONTAINER, "0::/docker/abc/x\n", "/sys/fs/cgroup/x"),
        (CONTAINER, "0::/elsewhere\n", None),
        (HYBRID.splitlines()[0], "0::/\n", None),
        (HYBRID, "4:memory:/a\n", None),
    ],
)
def test_where_our_own_group_is(mounts: str, groups: str, expected: str | None) -> None:
    assert own_group(mounts, groups) == (Path(expected) if expected else None)


def test_what_a_group_is_told() -> None:
    assert limits.settings_of(spec(max_memory_mb=1000, cpu_cores=1.5)) == {
        "memory.max": str(1250 * 1024 * 1024),
        "cpu.max": "150000 100000",
    }
    assert limits.settings_of(spec()) == {}


def test_a_host_that_offers_no_controllers_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    with pytest.raises(OSError, match="no controller for cpu and memory"):
        limits._delegate(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["cgroup.controllers"]


def test_a_group_that_is_ours_is_divided(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    limits._delegate(tmp_path)
    assert (tmp_path / "agent" / "cgroup.procs").read_text() == "0"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"


@given(st.text("abc-1", min_size=1), st.floats(0.01, 8), st.sets(st.integers(0, 64), min_size=1))
def test_affinity_gives_as_many_cpus_as_asked(name: str, cores: float, cpus: set[int]) -> None:
    found = cpus_for(name, cores, cpus)
    if found is None:
        assert len(cpus) <= cores + 1
    else:
        assert found <= cpus
        assert cores <= len(found) < cores + 1
        assert cpus_for(name, cores, cpus) == found


def test_workers_are_spread() -> None:
    used = [cpus_for(f"worker-{n}", 1, range(4)) or set() for n in range(40)]
    assert set().union(*used) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("text", "kills"),
    [("low 0\noom 3\noom_kill 2\n", 2), ("oom_kill 0\n", 0), ("", 0), ("oom_kill x\n", 0)],
)
def test_oom_kills_are_counted(text: str, kills: int) -> None:
    assert oom_kills(text) == kills


def test_victims_of_the_oom_killer() -> None:
    assert victims(KERNEL_LOG, since_s=0) == {4242, 77}
    assert victims(KERNEL_LOG, since_s=6.5) == {77}  # 4242 was an earlier process


def test_an_oom_kill_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kills = [7]
    monkeypatch.setattr(limits, "_kills_on_host", lambda: kills[0])
    monkeypatch.setattr(limits, "_kernel_log", lambda: KERNEL_LOG)
    worker = ProcessRef(4242, 0, "boot")
    room = Room(tmp_path)
    killed = Exit(signal=signal.SIGKILL)
    witness = Witness(Instance("w", 3), room)
    assert str(witness.explain(killed, worker)) == "killed by SIGKILL"
    kills[0] += 1
    assert str(witness.explain(killed, worker)) == (
        "killed by SIGKILL (probably out of memory: kernel says so)"
    )
    room.group(Instance("w", 3)).mkdir()
    (room.group(Instance("w", 3)) / "memory.events").write_text("oom_kill 1\n")
    assert str(witness.explain(killed, worker)) == (
        "killed by SIGKILL (probably out of memory: cgroup says so)"
    )
    assert witness.explain(Exit(code=1), worker) == Exit(code=1)
    assert witness.explain(Exit(signal=signal.SIGSEGV), worker).note == ""


def test_the_kernels_log_is_read_without_waiting() -> None:
    assert isinstance(limits._kernel_log(), list)
