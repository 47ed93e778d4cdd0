"""Audits: the platform's ids against ours, repaired window by window [S9]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from sync import platforms, services, store
from sync.errands import audits as errand
from sync.errors import (
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    Rejected,
    RequestRejected,
)
from sync.merge import merge
from sync.models import Account, Audit, DeadLetter, Gap, Message, RecordVersion
from sync.services.audits import MOST_FAILURES
from sync.types import Batch, Lease, MessageRecord, Refused, Work
from tests.db.engine_stage import check
from tests.db.errand_stage import OutboxConnection, OutboxPlatform, due, perform
from tests.db.sync_stage import NOON, check_counters, conversation, make_account, message

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutboxPlatform:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": made})
    return made


@pytest.fixture
def account(platform: OutboxPlatform) -> Account:
    """Platform and store hold messages 1 to 6."""
    made = make_account()
    messages = [message(number) for number in range(1, 7)]
    stored(made, conversation("c1"), *messages)
    Message.objects.update(stored_at=NOON)
    platform.held = {one.external_id: one for one in messages}
    return made


def stored(account: Account, *records: Any) -> None:
    account.refresh_from_db()
    lease = Lease(account.pk, account.epoch)
    store.ingest(lease, account.sequence, merge(Batch("c", tuple(records))))


def audited(account: Account, platform: OutboxPlatform) -> Audit:
    """One more audit, to its end."""
    services.ask_audit(account.pk, "ann", timezone.now(), full=True)
    perform(errand.audit, account, platform)
    return Audit.objects.order_by("-pk")[0]


def due_in_s(account: Account) -> float:
    """Until its next audit."""
    assert account.audit_due_at is not None
    return (account.audit_due_at - timezone.now()).total_seconds()


def figures(audit: Audit) -> tuple[int, ...]:
    return audit.listed, audit.missing, audit.outdated, audit.vanished, audit.repaired


def test_what_agrees_is_proven_complete(account: Account, platform: OutboxPlatform) -> None:
    before = timezone.now()
    audit = audited(account, platform)
    assert (audit.outcome, audit.asked_by, audit.error) == ("complete", "ann", "")
    assert figures(audit) == (6, 0, 0, 0, 0)
    account.refresh_from_db()
    assert account.complete_until is not None
    assert audit.until == account.complete_until >= before
    assert due_in_s(account) > account.audit_interval_s * 0.8
    assert platform.fetched == []


def test_missing_outdated_and_vanished_are_repaired(
    account: Account, platform: OutboxPlatform
) -> None:
    platform.versions = dict.fromkeys(platform.held, "v1")
    audited(account, platform)
    platform.held["m7"] = message(7)  # never told
    platform.held["m3"] = message(3, text="edited", edited_at=NOON + timedelta(hours=1))
    del platform.held["m5"]
    platform.versions |= {"m3": "v2", "m7": "v1"}
    platform.fetched.clear()
    audit = audited(account, platform)
    assert audit.outcome == "complete"
    assert figures(audit) == (6, 1, 1, 1, 3)
    assert sorted(platform.fetched) == ["m3", "m5", "m7"]
    texts = dict(Message.objects.values_list("external_id", "text"))
    assert (texts["m3"], texts["m7"]) == ("edited", "text 7")
    buried = Message.objects.get(external_id="m5")
    assert (buried.is_deleted, buried.text) == (True, "")
    assert RecordVersion.objects.filter(record_id=buried.pk, content__text="text 5").exists()
    check_counters(account)
    platform.fetched.clear()
    assert figures(audited(account, platform)) == (6, 0, 0, 0, 0)
    assert platform.fetched == []


def test_versions_that_are_times_need_no_fetching(
    account: Account, platform: OutboxPlatform
) -> None:
    for one in platform.held.values():
        assert isinstance(one, MessageRecord)
        platform.versions[one.external_id] = one.sent_at.isoformat().replace("+00:00", "Z")
    audited(account, platform)
    assert platform.fetched == []
    platform.versions["m2"] = (NOON + timedelta(hours=3)).isoformat()
    audited(account, platform)
    assert platform.fetched == ["m2"]


@pytest.mark.parametrize("version", ["", "a-hash", "2026-01-01T12:00:05Z"])
def test_what_was_deleted_and_is_listed_again_is_brought_back(
    account: Account, platform: OutboxPlatform, version: str
) -> None:
    """An e-mail moved out and back, a comment out of the bin, whatever lists tell of versions."""
    platform.versions = dict.fromkeys(platform.held, version) if version else {}
    audited(account, platform)
    away = platform.held.pop("m5")
    assert figures(audited(account, platform)) == (5, 0, 0, 1, 1)
    platform.held["m5"] = away
    stored(account, away)
    assert Message.objects.get(external_id="m5").is_deleted, "a page that is read may be an old one"
    audit = audited(account, platform)
    assert (audit.outcome, figures(audit)) == ("complete", (6, 0, 1, 0, 1))
    back = Message.objects.get(external_id="m5")
    assert (back.is_deleted, back.text) == (False, "text 5")
    kept = RecordVersion.objects.filter(record_id=back.pk).order_by("pk")
    assert [one.content["is_deleted"] for one in kept] == [False, True]
    check_counters(account)
    platform.fetched.clear()
    assert figures(audited(account, platform)) == (6, 0, 0, 0, 0)
    assert [one for one in platform.fetched if one == "m5"] == []


def test_what_was_deleted_and_is_listed_no_more_stays_deleted(
    account: Account, platform: OutboxPlatform
) -> None:
    """The list is older than the deletion, which came by reading: the platform is asked again."""
    gone = platform.held.pop("m5")
    audited(account, platform)
    listed = platform.held | {"m5": gone}
    platform.held, held = listed, platform.held

    async def now_gone(_connection: Any, *_args: object) -> Any:
        platform.held = held
        yield Batch(None)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.db.errand_stage.OutboxConnection.fetch", now_gone)
        audited(account, platform)
    assert Message.objects.get(external_id="m5").is_deleted


def test_a_list_that_is_older_than_a_row_buries_nothing(
    account: Account, platform: OutboxPlatform
) -> None:
    stored(account, message(8))  # just now, after the list was made
    platform.held["m8"] = message(8)
    listed_before = {k: v for k, v in platform.held.items() if k != "m8"}
    platform.held, everything = listed_before, platform.held
    Message.objects.filter(external_id="m8").update(stored_at=timezone.now() + timedelta(seconds=9))
    audited(account, platform)
    assert not Message.objects.get(external_id="m8").is_deleted
    Message.objects.filter(external_id="m8").update(stored_at=NOON)
    platform.held = everything
    platform.windows = [(NOON + timedelta(hours=1), timezone.now()), (NOON, NOON)]
    Message.objects.filter(external_id="m8").update(sent_at=NOON + timedelta(hours=2))
    audited(account, platform)  # listed in another window than we think
    assert platform.fetched == ["m8"]
    assert not Message.objects.get(external_id="m8").is_deleted


@pytest.mark.parametrize("lacks", ["gap", "lost for good", "letter"])
def test_complete_is_not_claimed_while_something_is_known_to_lack(
    account: Account, platform: OutboxPlatform, lacks: str
) -> None:
    if lacks != "letter":
        row: Any = Gap.objects.create(account=account, key="g", newer_end="b", older_end="a")
    else:
        platform.held["m9"] = Refused("message", "m9", '{"id": "m9"}', "no sender")
        row = None
    audit = audited(account, platform)
    account.refresh_from_db()
    assert (audit.outcome, account.complete_until) == ("failed", None)
    assert "1 " in audit.error
    if lacks == "gap":
        row.closed_at = timezone.now()
        row.save()
    elif row:
        services.accept_gap(row.pk, "ann", timezone.now())
    else:
        services.discard_dead_letter(DeadLetter.objects.get().pk, "ann")
    assert audited(account, platform).outcome == "complete"
    account.refresh_from_db()
    assert account.complete_until is not None


def test_a_long_audit_is_cut_and_goes_on(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "SLICE_S", -1.0)
    edges = [NOON + timedelta(seconds=s) for s in (7, 5, 3, 0)]
    platform.windows = [(low, high) for high, low in pairwise(edges)]
    services.ask_audit(account.pk, "", timezone.now())
    listed = []
    while Audit.objects.get().outcome == "running":
        perform(errand.audit, account, platform)
        listed.append(Audit.objects.get().listed)
    assert listed == [2, 4, 6, 6] or listed == [2, 4, 6]
    account.refresh_from_db()
    assert account.complete_until == Audit.objects.get().until


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_cut_audit_lists_on_below_what_was_compared(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """Also where the adapter can't: then nothing is compared twice all the same."""
    monkeypatch.setattr(errand, "SLICE_S", -1.0)
    platform.goes_on = goes_on
    edges = [NOON + timedelta(seconds=s) for s in (7, 6, 5, 4, 3, 0)]
    platform.windows = [(low, high) for high, low in pairwise(edges)]
    services.ask_audit(account.pk, "", timezone.now())
    while Audit.objects.get().outcome == "running":
        perform(errand.audit, account, platform)
    listings = len(platform.listed)
    assert Audit.objects.get().listed == 6
    # One window is compared by each part, the next one listed before it ends.
    assert listings == 5 + 4 if goes_on else listings > 5 + 4


@pytest.mark.parametrize("killed_at", range(4))
def test_killed_anywhere_it_goes_on_and_claims_nothing_that_was_not_compared(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    class Killed(BaseException):
        pass

    edges = [NOON + timedelta(seconds=s) for s in (8, 6, 4, 2, 0)]
    platform.windows = [(low, high) for high, low in pairwise(edges)]
    for missing in (1, 3, 5, 7):
        Message.objects.filter(external_id=f"m{missing}").delete()
        platform.held[f"m{missing}"] = message(missing)
    services.ask_audit(account.pk, "", timezone.now())
    whole, calls = errand._window, 0

    async def window(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 == killed_at:
            raise Killed
        await whole(*args)

    monkeypatch.setattr(errand, "SAVE_S", 3600.0)  # nothing but the first window is saved
    monkeypatch.setattr(errand, "_window", window)
    with pytest.raises(Killed):
        perform(errand.audit, account, platform)
    audit = Audit.objects.get()
    assert (audit.outcome, bool(audit.progress)) == ("running", killed_at > 0)
    account.refresh_from_db()
    assert account.complete_until is None
    perform(errand.audit, account, platform)
    audit = Audit.objects.get()
    assert (audit.outcome, audit.missing) == ("complete", 4)
    held = {one.external_id for one in Message.objects.all()}
    assert held == platform.held.keys()
    assert calls == (killed_at + 1) + 4 - (killed_at > 0), "all but what was saved, once more"


def test_a_long_listing_is_waited_for_while_answers_come(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes many answers has as much time for each; one that does not come ends the part."""
    whole, pause_s = OutboxConnection.list_ids, 0.02

    async def slowly(self: OutboxConnection, *args: Any) -> Any:
        for _answer in range(20):
            await asyncio.sleep(pause_s)
            yield None
        async for each in whole(self, *args):
            yield each

    monkeypatch.setattr(OutboxConnection, "list_ids", slowly)
    monkeypatch.setattr(errand, "ANSWER_S", 0.2)
    platform.held["m7"] = message(7)
    assert figures(audited(account, platform)) == (7, 1, 0, 0, 1)
    pause_s = 2.0
    services.ask_audit(account.pk, "ann", timezone.now())
    perform(errand.audit, account, platform)
    asked = Audit.objects.order_by("-pk")[0]
    assert (asked.outcome, asked.error) == ("running", "the platform did not answer in time")


def test_a_first_audit_waits_for_the_first_full_read_and_its_turn(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = make_account()
    assert fresh.audit_due_at is None
    run = services.begin_run(Lease(fresh.pk, fresh.epoch), timezone.now())
    assert Work.AUDITS in run.work
    monkeypatch.setattr(errand, "random", lambda: 0.5)
    perform(errand.audit, fresh, platform)
    fresh.refresh_from_db()
    assert due_in_s(fresh) == pytest.approx(fresh.audit_interval_s / 2, abs=10)
    assert not Audit.objects.filter(account=fresh).exists()
    run = services.begin_run(Lease(fresh.pk, fresh.epoch), timezone.now())
    assert Work.AUDITS not in run.work


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], None]:
    """Makes fetching by id fail so, or work again."""
    whole, errors = OutboxConnection.fetch, list[Exception]()

    async def fetch(connection: OutboxConnection, *args: Any) -> Any:
        for error in errors:
            raise error
        async for batch in whole(connection, *args):
            yield batch

    def answer(error: Exception | None) -> None:
        errors[:] = [error] if error else []

    monkeypatch.setattr(OutboxConnection, "fetch", fetch)
    return answer


AWAY = [PlatformUnavailable("away"), PlatformError("SEARCH failed"), KeyError("a mistake")]


@pytest.mark.parametrize("error", AWAY)
def test_what_is_not_answered_puts_the_audit_off_and_not_the_account(
    account: Account, platform: OutboxPlatform, answers: Any, error: Exception
) -> None:
    platform.held["m7"] = message(7)
    Account.objects.update(session={"token": "t"})
    account.refresh_from_db()
    services.ask_audit(account.pk, "", timezone.now())
    answers(error)
    before = timezone.now()
    check(account)
    assert (account.error_count, account.last_error) == (0, "")
    assert account.last_sync_at is not None
    assert account.last_sync_at >= before
    audit = Audit.objects.get()
    assert (audit.outcome, audit.failures) == ("running", 1)
    assert audit.error in (str(error), "unexpected KeyError; see the worker's log")
    assert 149 < due_in_s(account) < 301
    check(account)
    assert Audit.objects.get().failures == 1, "not before its time"
    answers(None)
    asked = services.ask_audit(account.pk, "ann", timezone.now(), full=True)
    assert (asked.pk, asked.since.year, due(account)) == (audit.pk, 1970, True)
    check(account)
    audit = Audit.objects.get()
    assert (audit.outcome, audit.error, figures(audit)) == ("complete", "", (7, 1, 0, 0, 1))


def test_an_audit_that_is_never_answered_fails(
    account: Account, platform: OutboxPlatform, answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "random", lambda: 1.0)
    platform.held["m7"] = message(7)
    platform.windows = [(NOON + timedelta(seconds=low), NOON + timedelta(days=1)) for low in (9, 0)]
    services.ask_audit(account.pk, "", timezone.now())
    answers(PlatformUnavailable("500"))
    waits = []
    while Audit.objects.get().outcome == "running":
        perform(errand.audit, account, platform)
        account.refresh_from_db()
        waits.append(round(due_in_s(account) / 60))
    assert waits[:-1] == [5, 10, 20, 40, *[60] * (MOST_FAILURES - 5)]
    assert waits[-1] > 60, "the next one is as after any other"
    audit = Audit.objects.get()
    assert (audit.outcome, audit.error) == ("failed", "500")


def test_an_audit_that_comes_on_does_not_fail(
    account: Account, platform: OutboxPlatform, answers: Any
) -> None:
    platform.held["m1"] = message(1, text="edited")
    edges = [NOON + timedelta(seconds=s) for s in (8, 6, 4, 2, 0)]
    platform.windows = [(low, high) for high, low in pairwise(edges)]
    Message.objects.filter(external_id__in=["m1", "m3"]).delete()
    services.ask_audit(account.pk, "", timezone.now())
    Audit.objects.update(failures=MOST_FAILURES - 1)
    answers(PlatformUnavailable("500"))
    perform(errand.audit, account, platform)
    assert (Audit.objects.get().outcome, Audit.objects.get().failures) == ("running", 1)


def test_a_rate_limit_is_the_accounts_and_puts_the_audit_off(
    account: Account, platform: OutboxPlatform, answers: Any
) -> None:
    platform.held["m7"] = message(7)
    services.ask_audit(account.pk, "", timezone.now())
    answers(RateLimited("slow down", 60))
    with pytest.raises(RateLimited):
        perform(errand.audit, account, platform)
    account.refresh_from_db()
    assert (Audit.objects.get().failures, due_in_s(account) > 100) == (1, True)


def test_what_the_platform_refuses_is_the_audits_failure(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> Any:
        raise RequestRejected("not allowed to list", 403)

    monkeypatch.setattr("tests.db.errand_stage.OutboxConnection.list_ids", refuse)
    audit = audited(account, platform)
    assert (audit.outcome, audit.error) == ("failed", "not allowed to list")
    account.refresh_from_db()
    assert due_in_s(account) > 0


def test_audits_are_scheduled_and_follow_on_each_other(
    account: Account, platform: OutboxPlatform
) -> None:
    Account.objects.update(audit_due_at=timezone.now() - timedelta(seconds=1))
    perform(errand.audit, account, platform)
    first = Audit.objects.get()
    assert (first.asked_by, first.outcome, first.since.year) == ("", "complete", 1970)
    perform(errand.audit, account, platform)
    assert Audit.objects.count() == 1, "not before its time"
    Account.objects.update(
        audit_due_at=timezone.now(), complete_until=timezone.now() - timedelta(days=90)
    )
    perform(errand.audit, account, platform)
    assert age_days(Audit.objects.order_by("-pk")[0].since) == pytest.approx(91, abs=0.1)
    services.ask_audit(account.pk, "ann", timezone.now(), full=True)
    assert Audit.objects.order_by("-pk")[0].since.year == 1970


def age_days(moment: datetime) -> float:
    return (timezone.now() - moment) / timedelta(days=1)


def test_asking(account: Account, platform: OutboxPlatform, monkeypatch: Any) -> None:
    Account.objects.update(next_due_at=timezone.now() + timedelta(hours=1))
    services.ask_audit(account.pk, "ann", timezone.now())
    assert due(account)
    with pytest.raises(Rejected, match="under way"):
        services.ask_audit(account.pk, "bob", timezone.now())
    monkeypatch.setattr(OutboxPlatform, "lists_ids", False)
    with pytest.raises(Rejected, match="can't list"):
        services.ask_audit(account.pk, "bob", timezone.now())
    perform(errand.audit, account, platform)
    account.refresh_from_db()
    assert due_in_s(account) > 0, "not asked again at once"
