"""`sync.errands.deliveries`: what was pushed becomes rows, once, whatever happens [S13]."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.db import DataError, connection
from django.utils import timezone

from sync import platforms, services, store
from sync.errors import LoginFailed, Malformed, PlatformUnavailable, RateLimited
from sync.models import (
    Account,
    DeadLetter,
    Gap,
    HookDelivery,
    HookEndpoint,
    Message,
    PlatformServer,
    SyncRun,
)
from sync.platforms.base import Delivery, HookRequest, Hooks
from sync.services.deliveries import Settled, Tally, count, keep_malformed, take_delivery
from sync.tasks import prune_deliveries
from sync.types import AccountRef, Batch, Lease, LoginState, MessageRecord, Record, Refused
from tests.db.engine_stage import check
from tests.db.sync_stage import (
    TinyPlatform,
    check_counters,
    lease,
    make_account,
    message,
    rows,
    script,
)

pytestmark = pytest.mark.django_db

NOW = timezone.now()


class TinyHooks(Hooks):
    """A body is a JSON list of the numbers of messages; "boom" is this adapter's mistake."""

    is_numbered: ClassVar[bool] = True
    numbers_restart_after: ClassVar[timedelta | None] = timedelta(days=7)

    def setup(self, account: AccountRef, url: str) -> Sequence[tuple[str, str]]:
        return [("where", url)]

    def answer(self, account: AccountRef, request: HookRequest) -> bytes | None:
        return None

    def check(self, account: AccountRef, request: HookRequest, now: datetime) -> Delivery:
        raise Malformed("not asked for here")

    def read(
        self, account: AccountRef, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Record | Refused]:
        read = json.loads(body)
        if read == "boom":
            raise ZeroDivisionError
        if read == "bad":
            return [Refused("message", "m-bad", '{"what": 1}', "no sender")]
        return [message(number) for number in read]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyPlatform:
    platform = TinyPlatform()
    platform.hooks = TinyHooks()  # type: ignore[misc]
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform})
    return platform


@pytest.fixture
def account(db: None) -> Account:
    return make_account(
        credentials={"user": "ann", "password": "correct horse"},
        session={"token": "session-token"},
        epoch=3,
        claimed_generation=1,
    )


def push(account: Account, body: object, name: str = "", number: int | None = None) -> None:
    raw = json.dumps(body).encode()
    delivery = Delivery(name or f"d{HookDelivery.objects.count()}", number=number)
    take_delivery(account.pk, delivery, {}, raw, NOW)


def states(account: Account) -> list[str]:
    rows = HookDelivery.objects.filter(account=account).order_by("pk")
    return list(rows.values_list("state", flat=True))


def test_what_waits_is_stored_in_order_of_arrival(account: Account) -> None:
    for numbers in ([1, 2], [3], [], [4]):
        push(account, numbers)
    check(account)
    assert states(account) == ["done"] * 4
    stored = Message.objects.filter(account=account).order_by("pk")
    assert [one.external_id for one in stored] == [message(n).external_id for n in (1, 2, 3, 4)]
    assert HookDelivery.objects.filter(processed_at__isnull=True).count() == 0
    check_counters(account)
    assert account.error_count == 0
    assert SyncRun.objects.filter(account=account).count() == 1, "together, in one batch"


def test_what_was_pushed_waits_for_no_login(account: Account, tiny: TinyPlatform) -> None:
    async def refuse(_ref: AccountRef) -> None:
        raise LoginFailed("the token was withdrawn")

    tiny.on_login = refuse
    Account.objects.update(session={})
    push(account, [1])
    check(account)
    assert (states(account), account.login_state) == (["done"], LoginState.FAILED)
    assert Message.objects.filter(account=account).count() == 1


@pytest.mark.parametrize("held_up_by", ["login", "server"])
def test_what_was_pushed_is_read_where_nothing_may_be_asked(
    account: Account, tiny: TinyPlatform, held_up_by: str
) -> None:
    if held_up_by == "login":
        Account.objects.update(login_state="failed", session={})
    else:
        retry_at = NOW + timedelta(hours=1)
        PlatformServer.objects.create(platform="tiny", state="open", failures=5, retry_at=retry_at)
    Account.objects.update(error_count=4, last_error="refused", last_error_at=NOW)
    push(account, [1])
    before = account.login_state if held_up_by == "server" else LoginState.FAILED
    check(account)
    assert (states(account), account.login_state) == (["done"], before)
    assert (tiny.logins, tiny.reads) == (0, []), "neither logged in nor asked"
    assert (account.error_count, account.last_error, account.last_sync_at) == (4, "refused", None)
    assert account.claimed_generation is None
    assert account.next_due_at <= timezone.now(), "due as soon as it may ask"
    assert PlatformServer.objects.filter(state="closed").count() == 0


@pytest.mark.parametrize(
    ("error", "least_s", "most_s"),
    [(RateLimited("slow down", 600), 600, 670), (PlatformUnavailable("away"), 1, 3)],
)
def test_what_is_pushed_brings_no_request_forward_that_waits_after_an_error(
    account: Account, tiny: TinyPlatform, error: Exception, least_s: int, most_s: int
) -> None:
    tiny.on_read = script(error)
    before = timezone.now()
    check(account)
    for number in (1, 2, 3):
        push(account, [number])
        account.refresh_from_db()
        assert account.next_due_at <= timezone.now()
        check(account)
    assert (states(account), len(tiny.reads)) == (["done"] * 3, 1)
    wait_s = (account.next_due_at - before).total_seconds()
    assert least_s <= wait_s <= most_s
    assert (account.error_count, account.last_error) == (1, str(error))
    services.check_now(account.pk)
    push(account, [4])
    assert check(account).error_count == 0
    assert len(tiny.reads) == 2, "a person may"


def test_nothing_is_asked_before_the_time_that_the_platform_asked_for(
    account: Account, tiny: TinyPlatform
) -> None:
    """A reply, say, that somebody queues."""
    tiny.on_read = script(RateLimited("slow down", 600))
    check(account)
    Account.objects.update(next_due_at=timezone.now())
    check(account)
    assert len(tiny.reads) == 1
    assert account.next_due_at > timezone.now() + timedelta(seconds=590)
    Account.objects.update(not_before=timezone.now())
    check(account)
    assert (len(tiny.reads), account.error_count) == (2, 0)


def test_however_much_is_pushed_the_platform_is_asked_once_in_an_interval(
    account: Account, tiny: TinyPlatform
) -> None:
    for number in range(1, 11):
        push(account, [number])
        check(account)
    assert (states(account), len(tiny.reads)) == (["done"] * 10, 1)
    assert timezone.now() < account.next_due_at <= timezone.now() + timedelta(seconds=33)
    Account.objects.update(asks_at=timezone.now())
    push(account, [11])
    check(account)
    assert len(tiny.reads) == 2


def test_a_wait_that_is_ended_by_what_is_pushed_begins_again_after_an_interval(
    account: Account,
) -> None:
    now = timezone.now()
    services.caught_up(lease(account), now, now + timedelta(seconds=30))
    push(account, [1])
    run = services.begin_run(lease(account), now)
    assert (run.must_not_ask, run.asks_at) == (True, now + timedelta(seconds=30))
    account.conversations.create(external_id="c1", untold_read_id=1)
    assert not services.begin_run(lease(account), now).must_not_ask, "there is more to do"


def test_more_than_a_batch_takes_is_cut(account: Account, settings: Any) -> None:
    settings.MUSTER_BATCH_ROWS = 10
    for first in range(0, 60, 6):
        push(account, list(range(first, first + 6)))
    push(account, list(range(60, 95)))  # one alone that is larger than a batch
    check(account)
    assert set(states(account)) == {"done"}
    assert Message.objects.filter(account=account).count() == 95
    assert max(SyncRun.objects.values_list("read", flat=True)) <= 10


def test_many_are_read_group_by_group(account: Account) -> None:
    for number in range(250):
        push(account, [number], name=f"d{number}")
    check(account)
    assert set(states(account)) == {"done"}
    assert Message.objects.filter(account=account).count() == 250


@pytest.mark.parametrize("bad", ["bad", "boom", 5])
def test_what_cannot_be_read_holds_nobody_up(account: Account, bad: object) -> None:
    push(account, [1])
    push(account, bad)
    push(account, [2])
    check(account)
    assert states(account) == ["done", "refused", "done"]
    assert Message.objects.filter(account=account).count() == 2
    letter = DeadLetter.objects.get(account=account)
    assert letter.error
    refused = HookDelivery.objects.get(state="refused")
    assert refused.error == letter.error
    assert account.error_count == 0, "that is no failure of the check"


def test_what_no_row_can_hold_is_a_dead_letter(account: Account, tiny: TinyPlatform) -> None:
    class TooLong(TinyHooks):
        def read(self, *args: Any) -> Sequence[Record | Refused]:
            made = super().read(*args)
            return [
                MessageRecord(**{**_fields(one), "external_id": "x" * 600})
                if isinstance(one, MessageRecord) and one.text == "text 2"
                else one
                for one in made
            ]

    tiny.hooks = TooLong()  # type: ignore[misc]
    push(account, [1, 2])
    push(account, [3])
    check(account)
    assert states(account) == ["refused", "done"]
    assert Message.objects.filter(account=account).count() == 2
    assert "600 characters" in HookDelivery.objects.get(state="refused").error


def _fields(record: MessageRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in MessageRecord.__dataclass_fields__}


def test_what_the_database_refuses_is_found_out_one_by_one(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = store.ingest_batch

    def picky(lease: Lease, after: int, batch: Batch, *rest: Any, **more: Any) -> Any:
        if any(getattr(one, "text", "") == "text 2" for one in batch.records):
            raise DataError("a value that PostgreSQL can't hold")
        return original(lease, after, batch, *rest, **more)

    monkeypatch.setattr(store, "ingest_batch", picky)
    for number in (1, 2, 3):
        push(account, [number])
    check(account)
    assert states(account) == ["done", "refused", "done"]
    assert Message.objects.filter(account=account).count() == 2
    assert dict(DeadLetter.objects.get().raw) == {"value": [2]}


def test_a_delivery_that_comes_meanwhile_is_found(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [[2], [3]]
    original = services.settle

    def settle(*args: Any) -> None:
        original(*args)
        if late:
            push(account, late.pop(0))

    monkeypatch.setattr(services, "settle", settle)
    push(account, [1])
    check(account)
    assert states(account) == ["done"] * 3


def test_a_stale_check_marks_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    push(account, [1])
    original = services.pending_deliveries

    def taken_away(*args: Any) -> Any:
        Account.objects.update(epoch=9)
        return original(*args)

    monkeypatch.setattr(services, "pending_deliveries", taken_away)
    check(account)
    assert states(account) == ["pending"]
    assert not Message.objects.exists()


# --- killed at any instruction ----------------------------------------------------------------


class Killed(Exception):
    """Nothing after this statement has happened."""


@contextmanager
def killed_at(statement: int) -> Iterator[list[int]]:
    """The n-th statement fails, and so ends the transaction that it is in."""
    seen = [0]

    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        seen[0] += 1
        if seen[0] == statement:
            raise Killed(sql)
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield seen


def filled(account: Account) -> None:
    push(account, [1, 2], "a", number=1)
    push(account, "bad", "b", number=2)
    push(account, [2, 3], "c", number=5)


def stored(account: Account) -> tuple[Any, ...]:
    letters = DeadLetter.objects.filter(account=account).values_list("external_id", "error")
    gaps = Gap.objects.filter(account=account, closed_at=None).values_list("key", flat=True)
    return rows(account), states(account), list(letters), list(gaps)


@pytest.mark.django_db(transaction=True)
def test_killed_at_any_instruction_the_rows_are_the_same() -> None:
    def one() -> Account:
        made = make_account(
            credentials={"user": "ann", "password": "x" * 9}, session={"t": "x"}, epoch=3
        )
        filled(made)
        return made

    reference = one()
    with killed_at(0) as seen:
        check(reference)
    wanted, last = stored(reference), seen[0]
    assert wanted[1] == ["done", "refused", "done"]
    assert wanted[3] == ["hooks:numbers:3-4"]
    assert last > 15
    for statement in range(1, last + 1):
        account = one()
        with killed_at(statement), suppress(Killed):
            check(account)
        assert stored(account)[1] in (["pending"] * 3, wanted[1]), statement
        Account.objects.update(error_count=0, next_due_at=NOW)
        check(account)
        assert stored(account) == wanted, statement
        check_counters(account)


# --- what is missing --------------------------------------------------------------------------


def open_gaps(account: Account) -> list[str]:
    gaps = Gap.objects.filter(account=account, closed_at=None).order_by("pk")
    return list(gaps.values_list("key", flat=True))


def test_a_jump_of_the_numbers_is_a_gap_until_they_come(account: Account) -> None:
    push(account, [1], number=100)
    push(account, [2], number=104)
    check(account)
    gap = Gap.objects.get()
    assert (gap.older_end, gap.newer_end) == ("100", "104")
    assert "101" in gap.reason
    push(account, [3], number=102)
    check(account)
    assert open_gaps(account) == ["hooks:numbers:101-101", "hooks:numbers:103-103"]
    push(account, [4], number=103)
    push(account, [5], number=101)
    check(account)
    assert open_gaps(account) == []
    assert Gap.objects.filter(closed_at__isnull=False).count() == 3


def test_what_is_refused_has_come_all_the_same(account: Account) -> None:
    push(account, [1], number=1)
    push(account, "bad", number=2)
    push(account, [3], number=3)
    check(account)
    assert open_gaps(account) == []


def test_after_a_long_silence_numbers_begin_anew(account: Account) -> None:
    push(account, [1], number=100)
    check(account)
    HookEndpoint.objects.update(number_at=NOW - timedelta(days=8))
    push(account, [2], number=777_000)
    check(account)
    assert open_gaps(account) == []
    assert HookEndpoint.objects.get().number == 777_000


def test_a_batch_that_is_read_closes_no_gap_of_what_is_pushed(account: Account) -> None:
    push(account, [1], number=1)
    push(account, [2], number=3)
    check(account)
    with connection.cursor() as cursor:
        store.books.keep_gaps(cursor, account.pk, ())
    assert open_gaps(account) == ["hooks:numbers:2-2"]


def test_what_was_turned_away_is_a_gap(account: Account, tiny: TinyPlatform) -> None:
    class Unnumbered(TinyHooks):
        is_numbered = False

    tiny.hooks = Unnumbered()  # type: ignore[misc]
    since, until = NOW - timedelta(hours=3), NOW - timedelta(hours=1)
    for at, n in ((since, 2), (until, 1)):
        count({account.pk: Tally({"missed": n}, missed_since=at, missed_until=at)})
    push(account, [1])
    check(account)
    gap = Gap.objects.get()
    assert (gap.older_end, gap.newer_end) == (since.isoformat(), until.isoformat())
    assert gap.reason.startswith("3 deliveries")
    assert HookEndpoint.objects.get().missed == 0
    push(account, [2])
    check(account)
    assert Gap.objects.count() == 1


def test_numbers_tell_better_what_was_turned_away(account: Account) -> None:
    count({account.pk: Tally({"missed": 1}, missed_since=NOW, missed_until=NOW)})
    push(account, [1], number=1)
    check(account)
    assert not Gap.objects.exists()
    assert HookEndpoint.objects.get().missed == 0


# --- counting, keeping, forgetting ------------------------------------------------------------


def test_counters_add_up_and_leave_out_accounts_that_are_gone(account: Account) -> None:
    tally = Tally({"accepted": 2, "rejected": 1}, rejection="x" * 900, rejected_at=NOW)
    count({account.pk: tally, account.pk + 1000: tally})
    count({account.pk: Tally({"accepted": 3})})
    endpoint = HookEndpoint.objects.get()
    assert (endpoint.accepted, endpoint.rejected, endpoint.last_rejected_at) == (5, 1, NOW)
    assert len(endpoint.last_rejection) == 300


def test_an_account_that_is_gone_takes_nothing() -> None:
    with pytest.raises(Account.DoesNotExist):
        take_delivery(99_999, Delivery("d"), {}, b"", NOW)
    with pytest.raises(Account.DoesNotExist):
        keep_malformed(99_999, {}, b"", "why")


def test_old_ones_are_pruned_and_those_that_wait_are_kept(account: Account) -> None:
    for number in range(3):
        push(account, [number], name=f"d{number}")
    old = timezone.now() - timedelta(days=40)
    first, second, third = HookDelivery.objects.order_by("pk")
    services.settle(account.pk, [Settled(first.pk), Settled(third.pk)], False, NOW)
    HookDelivery.objects.filter(pk__in=[first.pk, second.pk]).update(received_at=old)
    prune_deliveries()
    left = HookDelivery.objects.order_by("pk").values_list("pk", flat=True)
    assert list(left) == [second.pk, third.pk]
