"""The restart policy [L6], also over everything that Hypothesis can think of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.policy import (
    MOMENTARY,
    Decision,
    GiveUp,
    LeaveStopped,
    Restart,
    RestartPolicy,
    backoff,
    decide,
    longest_wait,
)
from lifecycle.types import Exit, RestartMode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = RestartPolicy(delay=5 * SECOND, cap=60 * SECOND, max_attempts=3, jitter=0.0)


def after(
    attempts: int,
    uptime: timedelta,
    *,
    policy: RestartPolicy = POLICY,
    code: int = 1,
    since: datetime | None = NOW,
) -> Decision:
    return decide(
        policy,
        attempts=attempts,
        since=since,
        uptime=uptime,
        exit=Exit(code=code),
        now=NOW,
        random=lambda: 0.5,
    )


def test_the_first_restart_after_a_stable_run_is_immediate() -> None:
    assert after(0, POLICY.stable) == Restart(at=NOW, attempts=1, since=NOW)


def test_then_the_delay_doubles() -> None:
    waits = [after(n, SECOND) for n in range(3)]
    assert waits == [
        Restart(at=NOW + 5 * SECOND, attempts=1, since=NOW),
        Restart(at=NOW + 10 * SECOND, attempts=2, since=NOW),
        Restart(at=NOW + 20 * SECOND, attempts=3, since=NOW),
    ]


def test_after_the_last_attempt_it_gives_up_and_says_why() -> None:
    decision = after(3, SECOND)
    assert isinstance(decision, GiveUp)
    assert "exit code 1" in decision.reason
    assert "3 restarts" in decision.reason


def test_a_stable_run_forgets_the_attempts() -> None:
    assert after(3, POLICY.stable) == Restart(at=NOW, attempts=1, since=NOW)


def test_no_attempts_allowed_means_giving_up_at_once() -> None:
    policy = RestartPolicy(max_attempts=0)
    assert isinstance(after(0, policy.stable, policy=policy), GiveUp)


def test_attempts_of_an_earlier_window_are_forgotten_but_the_wait_is_not_skipped() -> None:
    policy = replace(POLICY, window=timedelta(minutes=10))
    old = NOW - timedelta(minutes=10, seconds=1)
    assert after(3, SECOND, policy=policy, since=old) == Restart(NOW + 5 * SECOND, 1, NOW)
    recent = NOW - timedelta(minutes=9)
    assert after(2, SECOND, policy=policy, since=recent) == Restart(NOW + 20 * SECOND, 3, recent)
    assert isinstance(after(3, SECOND, policy=policy, since=recent), GiveUp)


def test_without_a_window_only_a_stable_run_forgets() -> None:
    policy = replace(POLICY, window=None)
    assert isinstance(after(3, SECOND, policy=policy, since=NOW - timedelta(days=365)), GiveUp)


def test_a_clock_that_was_set_back_gives_nobody_up_early_or_never() -> None:
    later = NOW + timedelta(days=1)
    assert after(1, SECOND, since=later) == Restart(NOW + 10 * SECOND, 2, later)
    assert isinstance(after(3, SECOND, since=later), GiveUp)


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
        since=NOW,
        uptime=uptime,
        exit=Exit(signal=9),
        now=NOW,
        random=lambda: random,
    )
    match decision:
        case Restart(at=at, attempts=counted):
            assert uptime < policy.stable or at == NOW
            assert at >= NOW
            assert counted == (1 if uptime >= policy.stable else attempts + 1)
            assert max_attempts is None or counted <= max_attempts
        case GiveUp():
            assert max_attempts is not None
        case LeaveStopped():
            raise AssertionError("mode is always")


@given(
    policy=st.builds(
        RestartPolicy,
        mode=st.just(RestartMode.ALWAYS),
        delay=st.timedeltas(timedelta(0), timedelta(minutes=2)),
        cap=st.timedeltas(timedelta(0), timedelta(minutes=5)),
        max_attempts=st.integers(0, 8),
        stable=st.timedeltas(SECOND, timedelta(minutes=2)),
        window=st.one_of(st.none(), st.timedeltas(SECOND, timedelta(hours=1))),
    ),
    runs=st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(minutes=3)), fractions)),
)
def test_whatever_the_runs_no_window_sees_more_than_the_attempts_that_it_allows(
    policy: RestartPolicy, runs: list[tuple[timedelta, float]]
) -> None:
    """A worker's life, crash after crash: the state that is kept is what the last decision said."""
    now, attempts, since = NOW, 0, None
    restarts: list[datetime] = []  # of this window
    for uptime, random in runs:
        now += uptime
        match decide(
            policy,
            attempts=attempts,
            since=since,
            uptime=uptime,
            exit=Exit(code=1),
            now=now,
            random=lambda random=random: random,  # type: ignore[misc]
        ):
            case Restart(at=at, attempts=counted, since=begun):
                restarts = [*restarts, now] if begun == since and counted > 1 else [now]
                assert counted == len(restarts) <= (policy.max_attempts or 0)
                assert begun == restarts[0]
                assert policy.window is None or now - begun <= policy.window
                assert timedelta(0) <= at - now <= longest_wait(policy.cap)
                now, attempts, since = at, counted, begun
            case GiveUp():
                assert len(restarts) == policy.max_attempts or policy.max_attempts == 0
                assert uptime < max(policy.stable, MOMENTARY) or policy.max_attempts == 0
                return
            case LeaveStopped():
                raise AssertionError("mode is always")


AT_ONCE = RestartPolicy(delay=timedelta(0), cap=timedelta(0), max_attempts=None)


def test_instant_deaths_back_off_also_with_a_delay_of_0() -> None:
    waits, attempts = [], 0
    for _ in range(10):
        decision = after(attempts, timedelta(milliseconds=5), policy=AT_ONCE)
        assert isinstance(decision, Restart)
        waits.append((decision.at - NOW) / timedelta(milliseconds=1))
        attempts = decision.attempts
    assert waits == [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]
    assert after(attempts, MOMENTARY, policy=AT_ONCE) == Restart(NOW, attempts + 1, NOW)


@given(
    stable=st.timedeltas(timedelta(0), timedelta(minutes=2)),
    window=st.one_of(st.none(), st.timedeltas(SECOND, timedelta(hours=1))),
    runs=st.lists(st.timedeltas(timedelta(0), 2 * SECOND), min_size=20, max_size=80),
)
def test_no_worker_spins_whatever_its_runs(
    stable: timedelta, window: timedelta | None, runs: list[timedelta]
) -> None:
    """No more than a dozen starts a second, also where windows end and begin anew all the time."""
    policy = replace(AT_ONCE, stable=stable, window=window)
    now, attempts, since = NOW, 0, None
    starts: list[datetime] = []
    for uptime in runs:
        now += uptime
        decision = decide(
            policy,
            attempts=attempts,
            since=since,
            uptime=uptime,
            exit=Exit(code=1),
            now=now,
            random=lambda: 0.0,
        )
        assert isinstance(decision, Restart)
        now, attempts, since = decision.at, decision.attempts, decision.since
        starts.append(now)
    for first, later in zip(starts, starts[12:], strict=False):
        assert later - first >= SECOND


@given(code=st.integers(-255, 2**32), uptime=durations, attempts=st.integers(0, 100))
def test_never_restarts_never_and_on_failure_leaves_only_success(
    code: int, uptime: timedelta, attempts: int
) -> None:
    never = RestartPolicy(mode=RestartMode.NEVER)
    on_failure = RestartPolicy(mode=RestartMode.ON_FAILURE)
    assert isinstance(after(attempts, uptime, policy=never, code=code), LeaveStopped)
    left = isinstance(after(attempts, uptime, policy=on_failure, code=code), LeaveStopped)
    assert left == (code == 0)
