"""The restart policy [L6], also over everything that Hypothesis can think of."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.policy import (
    Decision,
    GiveUp,
    LeaveStopped,
    Restart,
    RestartPolicy,
    backoff,
    decide,
)
from lifecycle.types import Exit, RestartMode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = RestartPolicy(delay=5 * SECOND, cap=60 * SECOND, max_attempts=3, jitter=0.0)


def after(
    attempts: int, uptime: timedelta, *, policy: RestartPolicy = POLICY, code: int = 1
) -> Decision:
    return decide(
        policy,
        attempts=attempts,
        uptime=uptime,
        exit=Exit(code=code),
        now=NOW,
        random=lambda: 0.5,
    )


def test_the_first_restart_after_a_stable_run_is_immediate() -> None:
    assert after(0, POLICY.stable) == Restart(at=NOW, attempts=1)


def test_then_the_delay_doubles() -> None:
    waits = [after(n, SECOND) for n in range(3)]
    assert waits == [
        Restart(at=NOW + 5 * SECOND, attempts=1),
        Restart(at=NOW + 10 * SECOND, attempts=2),
        Restart(at=NOW + 20 * SECOND, attempts=3),
    ]


def test_after_the_last_attempt_it_gives_up_and_says_why() -> None:
    decision = after(3, SECOND)
    assert isinstance(decision, GiveUp)
    assert "exit code 1" in decision.reason
    assert "3 restarts" in decision.reason


def test_a_stable_run_forgets_the_attempts() -> None:
    assert after(3, POLICY.stable) == Restart(at=NOW, attempts=1)


def test_no_attempts_allowed_means_giving_up_at_once() -> None:
    policy = RestartPolicy(max_attempts=0)
    assert isinstance(after(0, policy.stable, policy=policy), GiveUp)


def test_modes() -> None:
    never = RestartPolicy(mode=RestartMode.NEVER)
    on_failure = RestartPolicy(mode=RestartMode.ON_FAILURE)
    assert isinstance(after(0, SECOND, policy=never), LeaveStopped)
    assert isinstance(after(0, SECOND, policy=on_failure, code=0), LeaveStopped)
    assert isinstance(after(0, SECOND, policy=on_failure, code=1), Restart)
    assert isinstance(after(0, SECOND, code=0), Restart)


durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1))
fractions = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(delay=durations, cap=durations, attempts=st.integers(0, 10**6), random=fractions)
def test_backoff_is_never_negative_and_never_over_the_cap(
    delay: timedelta, cap: timedelta, attempts: int, random: float
) -> None:
    policy = RestartPolicy(delay=delay, cap=cap, jitter=0.2)
    assert timedelta(0) <= backoff(policy, attempts, random) <= cap


@given(
    attempts=st.integers(0, 20),
    uptime=durations,
    max_attempts=st.one_of(st.none(), st.integers(0, 10)),
    random=fractions,
)
def test_a_restart_is_never_in_the_past_and_counts_up_by_one_or_starts_over(
    attempts: int, uptime: timedelta, max_attempts: int | None, random: float
) -> None:
    policy = RestartPolicy(max_attempts=max_attempts)
    decision = decide(
        policy,
        attempts=attempts,
        uptime=uptime,
        exit=Exit(signal=9),
        now=NOW,
        random=lambda: random,
    )
    match decision:
        case Restart(at=at, attempts=counted):
            assert at >= NOW
            assert counted == (1 if uptime >= policy.stable else attempts + 1)
            assert max_attempts is None or counted <= max_attempts
        case GiveUp():
            assert max_attempts is not None
        case LeaveStopped():
            raise AssertionError("mode is always")
