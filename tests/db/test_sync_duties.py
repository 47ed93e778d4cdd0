"""`sync.duties`: who checks an account, and that it is told once it is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import amqp
import kombu.exceptions
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lifecycle import duties as lifecycle_duties
from lifecycle.balance import Strategy
from lifecycle.models import WorkerConfig, WorkerRuntime, own_queue
from sync import breaker, duties, platforms, sending, services, sql
from sync.models import Account, HookDelivery, PlatformServer
from sync.schedule import DueAt
from sync.types import AccountRef, Lease, Work
from tests.db.sync_stage import AccountsDuty, TinyPlatform, lease, make_account, most_rows

pytestmark = pytest.mark.django_db

Sent = list[tuple[tuple[int, int], dict[str, Any]]]


@pytest.fixture
def now() -> datetime:
    """Later than the creation of anything in a test: what is new is due."""
    return timezone.now() + timedelta(minutes=1)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What was sent, instead of sending it."""
    messages: Sent = []

    def keep(_producer: Any, one: sending.Claim, expires: datetime) -> None:
        options = {"queue": own_queue(one.worker_id), "expires": expires}
        messages.append(((one.account_id, one.epoch), options))

    monkeypatch.setattr(sending, "send_check", keep)
    return messages


@pytest.fixture
def make_worker(make_config: Callable[..., WorkerConfig]) -> Callable[..., WorkerConfig]:
    def make(state: str = "running", **fields: Any) -> WorkerConfig:
        config = make_config(**fields)
        wish = "running" if state == "running" else "stopped"
        set_state(config, state, desired_state=wish, generation=1)
        return config

    return make


def set_state(config: WorkerConfig, state: str, **fields: Any) -> None:
    if "generation" in fields:
        fields["last_generation"] = fields["generation"]
    WorkerRuntime.objects.filter(pk=config.pk).update(state=state, **fields)


def homes() -> dict[int, int | None]:
    return dict(Account.objects.order_by("pk").values_list("pk", "worker_id"))


def test_the_duties_are_registered() -> None:
    found = {one.name: one.channels for one in lifecycle_duties.registered()}
    for name in ("assignment", "checks"):
        assert found[name] == ("muster_accounts", "muster_lifecycle")


def test_accounts_get_workers_and_are_sent(make_worker: Any, sent: Sent, now: datetime) -> None:
    first, second = make_worker(), make_worker()
    accounts = [make_account() for _ in range(4)]
    AccountsDuty().run(now)
    assert [*homes().values()] == [first.pk, second.pk, first.pk, second.pk]
    assert sorted(args for args, _ in sent) == [(account.pk, 2) for account in accounts]
    queues = {args[0]: options["queue"] for args, options in sent}
    assert queues[accounts[0].pk] == f"worker.{first.worker_id}"
    assert all(options["expires"] == now + timedelta(seconds=60) for _, options in sent)
    for account in accounts:
        account.refresh_from_db()
        assert (account.epoch, account.claimed_generation) == (2, 1)
        assert account.next_due_at == now + timedelta(seconds=duties.CLAIM_LEASE_S)
    counts = WorkerRuntime.objects.order_by("pk").values_list("assigned_accounts", flat=True)
    assert list(counts) == [2, 2]


def test_what_is_claimed_is_not_sent_again(make_worker: Any, sent: Sent, now: datetime) -> None:
    make_worker()
    make_account()
    duty = AccountsDuty()
    duty.run(now)
    duty.run(now + timedelta(seconds=30))
    assert len(sent) == 1
    duty.run(now + timedelta(seconds=61))  # the lease is over: the message was lost
    assert len(sent) == 2
    assert sent[1][0][1] > sent[0][0][1]


def test_a_finished_check_is_due_when_it_says(make_worker: Any, sent: Sent, now: datetime) -> None:
    make_worker()
    account = make_account()
    duty = AccountsDuty()
    duty.run(now)
    account.refresh_from_db()
    services.finish_run(lease(account), DueAt(now + timedelta(seconds=3)), now, None)
    assert duty.run(now + timedelta(seconds=1)) == now + timedelta(seconds=3)
    assert len(sent) == 1
    duty.run(now + timedelta(seconds=3))
    assert len(sent) == 2


def test_a_restarted_worker_is_told_again_at_once(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    worker = make_worker()
    make_account()
    duty = AccountsDuty()
    duty.run(now)
    set_state(worker, "running", generation=2)
    duty.run(now)
    duty.run(now)
    assert len(sent) == 2


def test_accounts_of_a_crashed_worker_move(make_worker: Any, sent: Sent, now: datetime) -> None:
    first, second = make_worker(), make_worker(max_accounts=1)
    accounts = [make_account(worker=first) for _ in range(2)]
    duty = AccountsDuty()
    duty.run(now)
    set_state(first, "crashed", stopped_at=now, restart_at=now)
    patience = now + timedelta(seconds=duties.RETURNING_S)
    assert duty.run(now) == patience  # it went away only just now, and is about to be back
    assert set(homes().values()) == {first.pk}
    set_state(first, "starting", restart_at=None, started_at=patience)
    duty.run(patience)
    assert homes() == {accounts[0].pk: second.pk, accounts[1].pk: first.pk}  # room for one
    assert sent[-1][1]["queue"] == f"worker.{second.worker_id}"
    assert len(sent) == 3


def test_accounts_of_a_stopped_worker_move_at_once(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    first, second = make_worker(), make_worker()
    make_account(worker=first)
    set_state(first, "stopping", desired_state="stopped", stopping_since=now)
    AccountsDuty().run(now)
    assert [*homes().values()] == [second.pk]


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ("error", {}),
        ("crashed", {"restart_at": None}),
        ("crashed", {"restart_at": timedelta(seconds=60)}),
    ],
    ids=["given up", "not restarted", "restarted in a minute"],
)
def test_accounts_of_a_worker_that_will_not_be_back_move_at_once(
    make_worker: Any, sent: Sent, now: datetime, state: str, fields: dict[str, Any]
) -> None:
    first, second = make_worker(), make_worker()
    account = make_account(worker=first, epoch=5)
    wait = fields.get("restart_at")
    set_state(first, state, stopped_at=now, restart_at=wait and now + wait)
    AccountsDuty().run(now)
    account.refresh_from_db()
    assert (account.worker_id, account.epoch) == (second.pk, 7)  # moved, then claimed


def test_nothing_is_given_to_a_worker_that_is_being_replaced(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    worker = make_worker()
    held, homeless = make_account(worker=worker), make_account()
    set_state(worker, "running", condemned="memory 900 MB, over its limit")
    AccountsDuty().run(now)
    assert homes() == {held.pk: worker.pk, homeless.pk: None}
    assert sent == []


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("least_loaded", [1, 1, 1]), ("round_robin", [0, 1, 0]), ("sticky", [0, 0, 0])],
)
def test_the_chosen_strategy_places_new_accounts(
    make_worker: Any, sent: Sent, now: datetime, strategy: str, expected: list[int]
) -> None:
    workers = [make_worker(), make_worker()]
    old = [make_account(worker=workers[0]) for _ in range(4)]
    services.set_strategy(Strategy(strategy), "ann")
    accounts = [make_account() for _ in range(3)]
    AccountsDuty().run(now)
    found = homes()
    assert [found[account.pk] for account in accounts] == [workers[i].pk for i in expected]
    assert all(found[account.pk] == workers[0].pk for account in old)


def test_round_robin_goes_on_where_it_was(make_worker: Any, sent: Sent, now: datetime) -> None:
    workers = [make_worker(), make_worker()]
    services.set_strategy(Strategy.ROUND_ROBIN, "ann")
    duty = AccountsDuty()
    given = []
    for _ in range(4):
        account = make_account()
        duty.run(now)
        given.append(homes()[account.pk])
    assert given == [workers[0].pk, workers[1].pk] * 2


def test_what_backs_off_goes_on_backing_off_elsewhere(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    gone = make_worker(state="error")
    make_worker()
    make_account(worker=gone, next_due_at=now + timedelta(seconds=100))
    AccountsDuty().run(now)
    assert sent == []


def test_a_lower_limit_takes_accounts_away(make_worker: Any, sent: Sent, now: datetime) -> None:
    worker = make_worker(max_accounts=1)
    accounts = [make_account(worker=worker) for _ in range(3)]
    AccountsDuty().run(now)
    assert homes() == {accounts[0].pk: worker.pk, accounts[1].pk: None, accounts[2].pk: None}
    assert len(sent) == 1


@pytest.mark.parametrize(
    "fields", [{"enabled": False}, {"login_state": "failed"}], ids=["disabled", "login failed"]
)
def test_some_accounts_are_left_alone(
    make_worker: Any, sent: Sent, now: datetime, fields: dict[str, Any]
) -> None:
    make_worker()
    make_account(**fields)
    assert AccountsDuty().run(now) == now + timedelta(seconds=duties.POLL_S)
    assert sent == []


def test_check_now_wakes_an_account_that_waits_for_a_person(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    make_worker()
    account = make_account(login_state="failed")
    services.check_now(account.pk)
    AccountsDuty().run(now)
    assert len(sent) == 1


def test_without_a_running_worker_nothing_is_sent(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    make_worker(state="starting")
    make_account()
    AccountsDuty().run(now)
    assert sent == []


@pytest.mark.parametrize(
    "error",
    [
        kombu.exceptions.OperationalError,
        amqp.exceptions.ConnectionError,
        amqp.exceptions.PreconditionFailed,
    ],
)
def test_a_broker_that_is_away_loses_nothing(
    make_worker: Any,
    sent: Sent,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    """Said by kombu, or by the broker's own client: that of memory:// says it as AMQP's does. The
    last one answers, and takes nothing."""
    make_worker()
    for _ in range(3):
        make_account()
    reached: list[int] = []

    def refuse(_producer: Any, one: sending.Claim, _expires: datetime) -> None:
        if len(reached) == 1:
            raise error("connection refused")
        reached.append(one.account_id)

    with monkeypatch.context() as away:
        away.setattr(sending, "send_check", refuse)
        duty = AccountsDuty()
        again = duty.run(now)
    assert now < again <= now + timedelta(seconds=2)
    left = Account.objects.filter(claimed_generation=None)
    assert left.count() == 2
    assert set(left.values_list("next_due_at", flat=True)) == {again}
    assert duty.run(now) == again  # not before the broker may be back
    duty.run(again)
    everybody = set(Account.objects.values_list("pk", flat=True))
    assert {args[0] for args, _ in sent} == everybody - set(reached)
    present = set(Account.objects.values_list("pk", "epoch"))
    assert len([args for args, _ in sent if args in present]) == 2, "and one to try whether it is"


def test_a_broker_that_stays_away_ends_no_wait(
    make_worker: Any, sent: Sent, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody replies on an account that is waited on: its check hears of it and sends it. A claim
    would end that check, and nobody would begin another."""

    def away(_sender: object) -> None:
        raise kombu.exceptions.OperationalError("connection refused")

    make_worker()
    waiting = make_account(next_due_at=now + timedelta(hours=1))
    duty = AccountsDuty()
    duty.run(now)
    Account.objects.update(claimed_generation=1)
    make_account()
    with monkeypatch.context() as outage:
        outage.setattr(sending.Sender, "_opened", away)
        later = duty.run(now)
        waiting.refresh_from_db()
        epoch = waiting.epoch
        talk = waiting.conversations.create(external_id="c1")
        waiting.replies.create(conversation=talk, text="hello")
        Account.objects.filter(pk=waiting.pk).update(next_due_at=now)
        for _ in range(3):
            later = duty.run(later)
        held = services.Held(lease(waiting), None)
        assert services.renew([held], later)[waiting.pk].work >= {Work.REPLIES}
        waiting.refresh_from_db()
        assert (waiting.epoch, sent) == (epoch, [])
    duty.run(later)
    assert [args for args, _ in sent if args[0] == waiting.pk] == [(waiting.pk, epoch + 1)]


def test_a_broker_that_is_found_away_ends_one_wait(
    make_worker: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many are asked for when it goes away. Their checks go on, and hear what they are asked."""

    def away(_producer: object, _one: sending.Claim, _expires: datetime) -> None:
        raise kombu.exceptions.OperationalError("connection refused")

    make_worker()
    for _ in range(3):
        make_account(next_due_at=now + timedelta(hours=1))
    duty = AccountsDuty()
    duty.run(now)
    Account.objects.update(claimed_generation=1, next_due_at=now)
    before = set(Account.objects.values_list("pk", "epoch"))
    monkeypatch.setattr(sending, "send_check", away)
    duty.run(duty.run(now))
    assert len(before - set(Account.objects.values_list("pk", "epoch"))) == 1


def test_a_connection_that_has_become_old_is_made_anew(
    make_worker: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that was restarted meanwhile costs no check its turn."""
    make_worker()
    producers: list[Any] = []

    def first_fails(producer: Any, _one: sending.Claim, _expires: datetime) -> None:
        producers.append(producer)
        if len(producers) == 2:
            raise ConnectionResetError("gone")

    monkeypatch.setattr(sending, "send_check", first_fails)
    duty = AccountsDuty()
    for _ in range(2):
        make_account()
        duty.run(now)
    first, old, fresh = producers
    assert old is first
    assert fresh is not first
    assert Account.objects.filter(claimed_generation=1).count() == 2


def test_a_full_claim_asks_to_run_again_at_once(
    make_worker: Any, sent: Sent, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_worker()
    for _ in range(3):
        make_account()
    monkeypatch.setattr(duties, "MOST_AT_ONCE", 2)
    duty = AccountsDuty()
    assert duty.run(now) == now
    duty.run(now)
    assert len({args[0] for args, _ in sent}) == 3


@pytest.mark.parametrize("number", [1, 40])
def test_the_number_of_queries_does_not_grow_with_the_accounts(
    make_worker: Any, sent: Sent, now: datetime, number: int
) -> None:
    make_worker(max_accounts=100)
    for _ in range(number):
        make_account()
    duty = AccountsDuty()
    with CaptureQueriesContext(connection) as first:
        duty.run(now)
    with CaptureQueriesContext(connection) as idle:
        duty.run(now)
    assert (len(first), len(idle)) == (15, 9)


def test_a_released_claim_that_was_taken_anew_is_left_alone(now: datetime) -> None:
    account = make_account(epoch=4, claimed_generation=1, next_due_at=now)
    services.give_back([Lease(account.pk, 3)], now + timedelta(seconds=9))
    account.refresh_from_db()
    assert (account.claimed_generation, account.next_due_at) == (1, now)


def test_what_was_made_due_meanwhile_stays_due() -> None:
    """A delivery between the last look at what waits and the end of the check."""
    due_at = timezone.now() - timedelta(seconds=1)
    account = make_account(epoch=4, claimed_generation=1, next_due_at=due_at)
    services.give_back([lease(account)], due_at + timedelta(hours=1))
    account.refresh_from_db()
    assert (account.claimed_generation, account.next_due_at) == (None, due_at)


# --- servers that do not answer ---------------------------------------------------------------

REF = AccountRef(0, "tiny", "", "https://down.test", {}, {})


def break_server(now: datetime, times: int = breaker.OPENS_AFTER) -> PlatformServer:
    for _ in range(times):
        services.server_failed(REF, "connection refused", now, 0.5)
    return PlatformServer.objects.get()


def test_accounts_of_an_open_server_are_not_checked(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    make_worker(max_accounts=100)
    down = [make_account(endpoint="https://down.test") for _ in range(3)]
    up = make_account(endpoint="https://up.test")
    server = break_server(now)
    assert (server.state, server.last_error) == ("open", "connection refused")
    duty = AccountsDuty()
    next_at = duty.run(now)
    assert [args[0] for args, _ in sent] == [up.pk]
    assert next_at == now + timedelta(seconds=duties.POLL_S)  # it does not spin on those that wait

    assert server.retry_at is not None
    later = server.retry_at
    duty.run(later)  # one tries
    server.refresh_from_db()
    assert server.state == "half_open"
    assert len(sent) == 2
    tried = sent[1][0][0]
    assert tried in {one.pk for one in down}
    duty.run(later)
    assert len(sent) == 2  # and nobody else

    services.server_answered(REF)
    server.refresh_from_db()
    assert (server.state, server.failures) == ("closed", 0)
    duty.run(later)
    assert {args[0] for args, _ in sent[2:]} == {one.pk for one in down} - {tried}


def test_a_trial_that_fails_opens_the_server_for_longer(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    make_worker()
    make_account(endpoint="https://down.test")
    first = break_server(now)
    assert first.retry_at is not None
    later = first.retry_at
    duty = AccountsDuty()
    duty.run(later)
    second = break_server(later, times=1)
    assert second.state == "open"
    assert second.retry_at is not None
    assert second.retry_at - later > first.retry_at - now


def test_a_trial_that_tells_nothing_is_followed_by_another(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    make_worker()
    make_account(endpoint="https://down.test")
    server = break_server(now)
    assert server.retry_at is not None
    later = server.retry_at
    duty = AccountsDuty()
    duty.run(later)
    duty.run(later + timedelta(seconds=breaker.TRIAL_S + 1))
    assert len(sent) == 2


def test_an_open_server_without_a_due_account_waits_without_spinning(
    make_worker: Any, sent: Sent, now: datetime
) -> None:
    make_worker()
    make_account(endpoint="https://down.test", next_due_at=now + timedelta(hours=1))
    server = break_server(now)
    assert server.retry_at is not None
    later = server.retry_at + timedelta(seconds=1)
    duty = AccountsDuty()
    assert duty.run(later) == later + timedelta(seconds=duties.POLL_S)
    server.refresh_from_db()
    assert (server.state, sent) == ("open", [])
    soon = later + timedelta(seconds=2)
    Account.objects.update(next_due_at=soon)
    assert duty.run(later) == soon
    duty.run(soon)
    server.refresh_from_db()
    assert (server.state, len(sent)) == ("half_open", 1)


@pytest.mark.parametrize("left", ["moved", "disabled", "deleted", "login failed", ""])
def test_a_server_that_nobody_would_ask_is_forgotten(
    make_worker: Any, sent: Sent, now: datetime, left: str
) -> None:
    """An endpoint with a typo, corrected: its breaker would stay open for good."""
    make_worker()
    account = make_account(endpoint="https://down.test")
    server = break_server(now)
    make_account(endpoint="https://up.test")
    PlatformServer.objects.create(platform="tiny", endpoint="https://up.test", failures=2)
    assert server.retry_at is not None
    later = server.retry_at + timedelta(seconds=1)
    mine = Account.objects.filter(pk=account.pk)
    match left:
        case "moved":
            mine.update(endpoint="https://up.test")
        case "disabled":
            mine.update(enabled=False)
        case "deleted":
            mine.delete()
        case "login failed":
            mine.update(login_state="failed")
    duties.FreshnessDuty().run(later)
    endpoints = sorted(PlatformServer.objects.values_list("endpoint", flat=True))
    down = [] if left else ["https://down.test"]
    assert endpoints == [*down, "https://up.test"]
    duty = AccountsDuty()
    duty.run(later)
    assert duty.run(later) == later + timedelta(seconds=duties.POLL_S)


def test_a_closed_breaker_is_not_written(django_assert_num_queries: Any, now: datetime) -> None:
    account = make_account(claimed_generation=1)
    with django_assert_num_queries(2):
        run = services.begin_run(lease(account), now)
    assert not run.is_server_troubled
    break_server(now, times=1)
    Account.objects.update(endpoint="https://down.test")
    assert services.begin_run(lease(account), now).is_server_troubled


# --- what was pushed waits for no login and no server -------------------------------------------


@pytest.fixture
def pushing(monkeypatch: pytest.MonkeyPatch) -> TinyPlatform:
    """The tiny platform pushes; what it pushes is read by nobody here."""
    platform = TinyPlatform()
    platform.hooks = object()  # type: ignore[misc, assignment]
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform})
    return platform


def push(account: Account, count: int = 1) -> None:
    had = account.deliveries.count()
    HookDelivery.objects.bulk_create(
        HookDelivery(account=account, delivery_id=f"d{n}", body=b"")
        for n in range(had, had + count)
    )


def process(account: Account, now: datetime) -> None:
    """As the check of an account that must not ask ends."""
    account.refresh_from_db()
    run = services.begin_run(lease(account), now)
    assert run.must_not_ask
    account.deliveries.update(state="done")
    services.give_back([lease(account)], now)


@pytest.mark.parametrize("held_up_by", ["login", "server"])
def test_deliveries_of_an_account_that_may_not_ask_are_claimed_once(
    make_worker: Any, sent: Sent, now: datetime, pushing: TinyPlatform, held_up_by: str
) -> None:
    make_worker(max_accounts=100)
    state = "failed" if held_up_by == "login" else "success"
    account = make_account(endpoint="https://down.test", login_state=state)
    other = make_account(endpoint="https://down.test", login_state=state)
    if held_up_by == "server":
        break_server(now)
    push(account, 3)
    duty = AccountsDuty()
    duty.run(now)
    duty.run(now)
    assert [args[0] for args, _ in sent] == [account.pk]
    process(account, now)
    assert duty.run(now) == now + timedelta(seconds=duties.POLL_S), "nothing is left to do for it"
    assert len(sent) == 1
    push(account)
    assert duty.run(now) == now + timedelta(seconds=duties.POLL_S)
    assert [args[0] for args, _ in sent] == [account.pk] * 2
    other.refresh_from_db()
    assert other.epoch == 1, "assigned, never claimed"


def test_it_is_known_when_deliveries_that_were_claimed_are_due_again(
    make_worker: Any, sent: Sent, now: datetime, pushing: TinyPlatform
) -> None:
    make_worker()
    account = make_account(login_state="failed")
    push(account)
    duty = AccountsDuty()
    duty.run(now)
    soon = now + timedelta(seconds=2)
    Account.objects.update(next_due_at=soon)
    assert duty.run(now) == soon
    duty.run(soon)
    assert len(sent) == 2


def test_deliveries_that_nobody_can_read_are_not_claimed(
    make_worker: Any, sent: Sent, now: datetime, pushing: TinyPlatform
) -> None:
    pushing.hooks = None  # type: ignore[misc]
    make_worker()
    push(make_account(login_state="failed"))
    assert AccountsDuty().run(now) == now + timedelta(seconds=duties.POLL_S)
    assert sent == []


def test_only_the_account_that_tries_a_server_asks_it(
    make_worker: Any, sent: Sent, now: datetime, pushing: TinyPlatform
) -> None:
    make_worker(max_accounts=100)
    accounts = [make_account(endpoint="https://down.test") for _ in range(3)]
    server = break_server(now)
    assert server.retry_at is not None
    for one in accounts:
        push(one)
    told = Account.objects.filter(pk=accounts[0].pk)  # it would come first, and may not ask
    told.update(not_before=server.retry_at + timedelta(hours=1), next_due_at=now)
    later = server.retry_at + timedelta(minutes=1)
    Account.objects.update(asks_at=later, audit_due_at=later)
    AccountsDuty().run(server.retry_at)
    for one in accounts:
        one.refresh_from_db()
    asking = [
        one.pk
        for one in accounts
        if not services.begin_run(lease(one), server.retry_at).must_not_ask
    ]
    server.refresh_from_db()
    assert (len(sent), asking) == (3, [server.tried_by_id])
    assert asking != [accounts[0].pk]
    again = break_server(now, times=1)
    assert (again.state, again.tried_by_id) == ("open", None)
    tried = Account.objects.get(pk=asking[0])
    assert services.begin_run(lease(tried), now).must_not_ask


def test_a_login_that_is_asked_for_is_claimed_with_all_that_waits(
    make_worker: Any, sent: Sent, now: datetime, pushing: TinyPlatform
) -> None:
    make_worker()
    account = make_account(login_state="failed")
    push(account)
    duty = AccountsDuty()
    duty.run(now)
    services.ask_login(account.pk, "ann", now)
    duty.run(now)
    account.refresh_from_db()
    assert [args for args, _ in sent] == [(account.pk, 2), (account.pk, 3)]
    assert not services.begin_run(lease(account), now).must_not_ask


def test_a_claim_looks_at_no_account_without_deliveries(
    make_worker: Any, now: datetime, pushing: TinyPlatform
) -> None:
    """3,000 accounts whose login failed, 3,000 deliveries of one of them: a handful of rows."""
    worker = make_worker(max_accounts=3000)
    Account.objects.bulk_create(
        Account(platform="tiny", identifier=f"@{n}", login_state="failed", worker=worker)
        for n in range(3000)
    )
    push(Account.objects.earliest("pk"), 3000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sync_account, sync_hookdelivery")
        values: dict[str, Any] = {"now": now, "lease_until": now, "most": 500, "pushing": ["tiny"]}
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql.claims.CLAIM_PUSHED, values)
        (plan,) = cursor.fetchone()
    assert most_rows(plan[0]["Plan"]) < 10, plan
