"""Who is unwell [L9]."""

from dataclasses import replace

import pytest

from lifecycle.health import MEMORY_PATIENCE_S, Doctor, Vitals
from lifecycle.types import Instance

LATER = 1000.0
WELL = Vitals(
    instance=Instance("worker-1", 1),
    heartbeat_age_s=9.0,
    heartbeat_timeout_s=30.0,
    is_stuck=False,
    memory_mb=100,
    max_memory_mb=2048,
)


@pytest.fixture
def doctor() -> Doctor:
    return Doctor(watching_since=0.0)


def test_the_well_are_left_alone(doctor: Doctor) -> None:
    assert doctor.examine([WELL, replace(WELL, heartbeat_age_s=None)], LATER) == []


def test_a_silent_worker_is_ended_without_asking(doctor: Doctor) -> None:
    (found,) = doctor.examine([replace(WELL, heartbeat_age_s=31.0)], LATER)
    assert (found.cause, found.graceful) == ("no heartbeat for 31 s", False)


def test_silence_means_nothing_until_we_have_watched_for_the_timeout(doctor: Doctor) -> None:
    """The database was away for everybody, or this master has only begun."""
    silent = replace(WELL, heartbeat_age_s=600.0)
    assert doctor.examine([silent], 29.0) == []
    assert doctor.examine([silent], 31.0)
    doctor.start_over(31.0)
    assert doctor.examine([silent], 60.0) == []


def test_a_stuck_main_loop(doctor: Doctor) -> None:
    (found,) = doctor.examine([replace(WELL, is_stuck=True)], LATER)
    assert "no progress" in found.cause


def test_memory_over_the_limit_for_long_is_drained_first(doctor: Doctor) -> None:
    greedy = replace(WELL, memory_mb=3000)
    assert doctor.examine([greedy], LATER) == []
    assert doctor.examine([greedy], LATER + MEMORY_PATIENCE_S - 1) == []
    (found,) = doctor.examine([greedy], LATER + MEMORY_PATIENCE_S)
    assert found.graceful
    assert "3000 MB" in found.cause


def test_a_short_peak_of_memory_is_forgotten(doctor: Doctor) -> None:
    greedy = replace(WELL, memory_mb=3000)
    doctor.examine([greedy], LATER)
    doctor.examine([WELL], LATER + 10)
    assert doctor.examine([greedy], LATER + MEMORY_PATIENCE_S) == []
