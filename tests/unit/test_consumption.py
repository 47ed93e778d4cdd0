"""What a worker says of its queues [L9], over everything that Hypothesis can think of."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.consumption import Consumption, Look, judge

DEMANDED = frozenset({"default", "worker.w"})
WELL = Look(consumed=DEMANDED, is_free=True, received=7)
CANCELLED = replace(WELL, consumed=frozenset({"worker.w"}))
STUFFED = replace(WELL, waiting=frozenset({"default"}))


def test_a_worker_that_consumes_is_well() -> None:
    assert judge(DEMANDED, WELL, WELL) == Consumption(("default", "worker.w"))
    assert str(judge(DEMANDED, WELL, WELL)) == ""


def test_a_cancelled_queue_is_missing_once_two_looks_have_seen_it() -> None:
    assert judge(DEMANDED, WELL, CANCELLED).missing == ()
    found = judge(DEMANDED, CANCELLED, CANCELLED)
    assert found == Consumption(consumed=("worker.w",), missing=("default",))
    assert str(found) == "does not consume default"
    assert judge(DEMANDED, CANCELLED, WELL).missing == ()


def test_a_worker_that_waits_for_its_broker_or_drains_is_not_judged() -> None:
    blind = Look(consumed=None)
    assert judge(DEMANDED, CANCELLED, blind) == Consumption()
    assert judge(DEMANDED, blind, CANCELLED).missing == ()
    assert judge(DEMANDED, None, CANCELLED).missing == ()


def test_free_slots_a_full_queue_and_nothing_fetched() -> None:
    found = judge(DEMANDED, STUFFED, STUFFED)
    assert found.unfetched == ("default",)
    assert str(found) == "fetches nothing from default though it has free slots"


def test_no_slot_is_free_for_however_long() -> None:
    busy = replace(STUFFED, is_free=False)
    assert judge(DEMANDED, busy, busy).unfetched == ()


def test_what_still_receives_is_well() -> None:
    assert judge(DEMANDED, STUFFED, replace(STUFFED, received=8)).unfetched == ()
    assert judge(DEMANDED, WELL, STUFFED).unfetched == ()  # has only just become full


queues = st.frozensets(st.sampled_from(["a", "b", "c", "d", "e"]))
looks = st.builds(
    Look,
    consumed=st.one_of(st.none(), queues),
    is_free=st.booleans(),
    received=st.integers(0, 2),
    waiting=queues,
)


@given(demanded=queues, before=st.one_of(st.none(), looks), now=looks)
def test_nothing_is_said_that_both_looks_do_not_show(
    demanded: frozenset[str], before: Look | None, now: Look
) -> None:
    found = judge(demanded, before, now)
    assert set(found.consumed) == (now.consumed or set())
    assert not set(found.missing) & set(found.unfetched)
    for look in (before, now):
        if look is None or look.consumed is None:
            assert (found.missing, found.unfetched) == ((), ())
            continue
        assert set(found.missing) <= demanded - look.consumed
        assert look.is_free or not found.unfetched
        assert set(found.unfetched) <= look.waiting
    assert bool(str(found)) == bool(found.missing or found.unfetched)


@given(demanded=queues, look=looks)
def test_what_does_not_change_is_found(demanded: frozenset[str], look: Look) -> None:
    """Whatever is missing or not fetched for two looks is said: the promise, not only caution."""
    found = judge(demanded, look, look)
    if look.consumed is not None:
        assert set(found.missing) == demanded - look.consumed
        assert set(found.unfetched) == (look.consumed & look.waiting if look.is_free else set())
