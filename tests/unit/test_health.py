"""Who is unwell [L9]."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.health import FIRST_BEAT_S, MEMORY_PATIENCE_S, Doctor, Vitals
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


def test_one_that_hangs_before_its_first_heartbeat(doctor: Doctor) -> None:
    mute = replace(WELL, heartbeat_age_s=None)
    assert doctor.examine([mute], LATER) == []
    assert doctor.examine([mute], LATER + FIRST_BEAT_S) == []
    (found,) = doctor.examine([mute], LATER + FIRST_BEAT_S + 1)
    assert (found.cause, found.graceful) == ("no heartbeat in the 61 s since its start", False)
    doctor.start_over(LATER + FIRST_BEAT_S + 1)
    assert doctor.examine([mute], LATER + FIRST_BEAT_S + 2) == []


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


def test_one_that_does_not_consume_is_drained_once_it_lasts_as_long_as_a_silence_may(
    doctor: Doctor,
) -> None:
    idle = replace(WELL, not_consuming="does not consume default")
    assert doctor.examine([idle], LATER) == []
    assert doctor.examine([idle], LATER + 30) == []
    (found,) = doctor.examine([idle], LATER + 31)
    assert (found.cause, found.graceful) == ("does not consume default, for 31 s", True)


def test_one_that_consumes_again_is_well(doctor: Doctor) -> None:
    idle = replace(WELL, not_consuming="does not consume default")
    doctor.examine([idle], LATER)
    doctor.examine([WELL], LATER + 20)
    assert doctor.examine([idle], LATER + 40) == []


signs = st.builds(
    replace,
    st.just(WELL),
    instance=st.builds(Instance, st.sampled_from(["a", "b"]), st.integers(1, 2)),
    heartbeat_age_s=st.one_of(st.none(), st.floats(0, 100)),
    memory_mb=st.floats(0, 4096),
    not_consuming=st.sampled_from(["", "does not consume default"]),
)
rounds = st.lists(
    st.tuples(st.floats(0.1, 40), st.lists(signs, unique_by=lambda found: found.instance)),
    max_size=30,
)


@given(rounds=rounds)
def test_nobody_is_condemned_for_what_has_not_lasted(
    rounds: list[tuple[float, list[Vitals]]],
) -> None:
    doctor, now = Doctor(watching_since=0.0), 0.0
    ill_since: dict[tuple[str, Instance], float] = {}
    for passed, workers in rounds:
        now += passed
        ill = {("idle", v.instance) for v in workers if v.not_consuming}
        ill |= {("greedy", v.instance) for v in workers if v.memory_mb > v.max_memory_mb}
        ill |= {("mute", v.instance) for v in workers if v.heartbeat_age_s is None}
        ill_since = {key: ill_since.get(key, now) for key in ill}
        for found in doctor.examine(workers, now):
            (vitals,) = (v for v in workers if v.instance == found.instance)
            idle_s = now - ill_since.get(("idle", found.instance), now)
            over_s = now - ill_since.get(("greedy", found.instance), now)
            mute_s = now - ill_since.get(("mute", found.instance), now)
            silent_s = vitals.heartbeat_age_s or 0
            timeout_s = vitals.heartbeat_timeout_s
            is_silent = silent_s > timeout_s and now > timeout_s
            is_silent = is_silent or mute_s > FIRST_BEAT_S
            assert is_silent or idle_s > timeout_s or over_s >= MEMORY_PATIENCE_S
            assert found.graceful == (not is_silent)
