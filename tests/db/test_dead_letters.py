"""Dead letters: repaired, replayed, discarded, reopened; and the alarm when they grow [S6]."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation
from rest_framework.test import APIClient

from sync import platforms, queries, services, store
from sync.dead_records import original
from sync.errors import Rejected, StillRefused
from sync.merge import merge
from sync.models import Account, DeadLetter, Message
from sync.sweeps import WatchDeadLetters
from sync.types import AccountRef, Batch, Lease, RawShape, Record, Refused
from tests.db.api_helpers import V1, errors_of, make_account, make_letter
from tests.db.errand_stage import OutboxPlatform
from tests.db.sync_stage import NOON, check_counters, message

pytestmark = pytest.mark.django_db

GOOD: dict[str, Any] = {
    "external_id": "m1",
    "conversation_id": "c1",
    "sender_id": "@ann",
    "sender_name": "Ann",
    "text": "repaired",
    "sent_at": "2026-01-01T12:00:00Z",
    "direction": "inbound",
}


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutboxPlatform:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"matrix": made})
    return made


@pytest.fixture
def account(db: None) -> Account:
    return make_account()


def refused_record(account: Account, **fields: Any) -> DeadLetter:
    """A letter as the write path leaves it: a record of ours that does not fit."""
    account.refresh_from_db()
    batch = Batch("c", (message(1, **fields),))
    store.ingest(Lease(account.pk, account.epoch), account.sequence, merge(batch, largest=1_000))
    return DeadLetter.objects.get()


# --- replay -----------------------------------------------------------------------------------


def test_an_oversize_record_is_replayed_by_a_person(account: Account) -> None:
    letter = refused_record(account, text="x" * 5_000)
    assert (letter.shape, letter.state) == (RawShape.RECORD, "open")
    replayed = services.replay_dead_letter(letter.pk, "ann")
    assert (replayed.state, replayed.resolved_by, replayed.replays) == ("replayed", "ann", 1)
    assert len(Message.objects.get().text) == 5_000
    assert services.replay_dead_letter(letter.pk, "bob").resolved_by == "ann", "once is enough"
    check_counters(account)
    assert Account.objects.get().sequence == 2


def test_a_record_that_still_does_not_fit_keeps_the_new_reason(account: Account) -> None:
    letter = refused_record(account, sent_at=NOON.replace(tzinfo=None))
    with pytest.raises(StillRefused, match="time zone"):
        services.replay_dead_letter(letter.pk, "ann")
    letter.refresh_from_db()
    assert (letter.state, letter.replays) == ("open", 1)
    assert "time zone" in letter.error
    assert not Message.objects.exists()


def test_a_platforms_record_is_read_again_by_todays_code(
    account: Account, platform: OutboxPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = make_letter(account, raw={"id": "m1", "body": "hi"})
    with pytest.raises(StillRefused, match="by hand"):
        services.replay_dead_letter(letter.pk, "ann")
    seen: list[tuple[str, str, str]] = []

    def reread(
        self: OutboxPlatform, ref: AccountRef, kind: str, raw: str
    ) -> Sequence[Record | Refused]:
        seen.append((str(ref.credentials["username"]), kind, raw))
        return [message(1)]

    monkeypatch.setattr(OutboxPlatform, "reread", reread)
    assert services.replay_dead_letter(letter.pk, "ann").state == "replayed"
    assert seen == [("sales", "message", '{"id": "m1", "body": "hi"}')]
    assert Message.objects.get().external_id == "m1"


def test_one_refusal_keeps_the_whole_letter_open(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = make_letter(account)
    both = [message(1), Refused("message", "m2", "{}", "no sender")]
    monkeypatch.setattr(OutboxPlatform, "reread", lambda *_: both)
    with pytest.raises(StillRefused, match="no sender"):
        services.replay_dead_letter(letter.pk, "ann")
    assert not Message.objects.exists()


def test_a_new_reason_is_stored_in_english(account: Account) -> None:
    letter = refused_record(account, text="x" * 5_000)
    DeadLetter.objects.update(raw={"external_id": "m1", "sent": "noon"})
    with translation.override("zh-hans"), pytest.raises(StillRefused, match="There is no such"):
        services.replay_dead_letter(letter.pk, "ann")
    letter.refresh_from_db()
    assert letter.error == "sent: There is no such field."


def test_a_replay_does_not_disturb_what_is_newer(account: Account) -> None:
    letter = refused_record(account, text="x" * 5_000)
    account.refresh_from_db()
    newer = message(1, text="edited", edited_at=NOON + timedelta(hours=1))
    store.ingest(Lease(account.pk, account.epoch), account.sequence, merge(Batch("d", (newer,))))
    services.replay_dead_letter(letter.pk, "ann")
    assert Message.objects.get().text == "edited"


@pytest.mark.parametrize("raw", ["{broken", "[1, 2]", '"text"', "7", '{"a": 1, "text": "b"}'])
def test_the_raw_text_comes_back_as_it_was(account: Account, raw: str) -> None:
    refused = Refused("message", "m1", raw, "bad")
    store.ingest(Lease(account.pk, account.epoch), 0, merge(Batch("c", refused=(refused,))))
    found = original(DeadLetter.objects.get().raw)
    assert found == raw or json.loads(found) == json.loads(raw)


# --- repair -----------------------------------------------------------------------------------


def fix(client: APIClient, letter: DeadLetter, kind: object, record: object) -> Any:
    body = {"kind": kind, "record": record}
    return client.post(f"{V1}/dead-letters/{letter.pk}/fix", body, format="json")


def test_a_repaired_record_is_what_a_replay_stores(
    api: Callable[..., APIClient], operator: User, account: Account
) -> None:
    client, letter = api(operator), make_letter(account, kind="m.strange")
    assert fix(client, letter, "message", GOOD).status_code == 200
    shown = client.get(f"{V1}/dead-letters/{letter.pk}").json()
    assert shown["fixed"] == {"kind": "message", "record": GOOD}
    assert shown["raw"]["body"] == "hunter2 words", "the original is kept"
    replayed = client.post(f"{V1}/dead-letters/{letter.pk}/replay")
    assert replayed.json()["state"] == "replayed"
    assert Message.objects.get().text == "repaired"
    assert errors_of(fix(client, letter, "message", GOOD), 409) == {None: "rejected"}


@pytest.mark.parametrize(
    ("kind", "record", "name"),
    [
        ("pigeon", GOOD, "kind"),
        ("message", "text", "record"),
        ("message", {**GOOD, "sent_at": "yesterday"}, "record.sent_at"),
        ("message", {**GOOD, "sent_at": "2026-01-01T12:00:00"}, "record"),
        ("message", {**GOOD, "direction": "sideways"}, "record.direction"),
        ("message", {**GOOD, "colour": "red"}, "record.colour"),
        ("message", {k: v for k, v in GOOD.items() if k != "sender_id"}, "record.sender_id"),
        ("message", {**GOOD, "external_id": ""}, "record"),
        ("message", {**GOOD, "external_id": 7}, "record.external_id"),
        ("message", {**GOOD, "attachments": [{"name": "x"}]}, "record.attachments.0.url"),
        ("comment", GOOD, "record.conversation_id"),
    ],
)
def test_bad_repairs_name_the_field(
    api_client: APIClient, account: Account, kind: str, record: object, name: str
) -> None:
    letter = make_letter(account)
    assert name in errors_of(fix(api_client, letter, kind, record), 400)
    letter.refresh_from_db()
    assert letter.fixed is None


# --- discard and reopen -----------------------------------------------------------------------


def test_discarding_is_undone(account: Account) -> None:
    letter = make_letter(account)
    assert services.discard_dead_letter(letter.pk, "ann").state == "discarded"
    with pytest.raises(Rejected, match="reopen"):
        services.replay_dead_letter(letter.pk, "ann")
    opened = services.reopen_dead_letter(letter.pk, "ann")
    assert (opened.state, opened.resolved_at, opened.resolved_by) == ("open", None, "")


# --- over HTTP --------------------------------------------------------------------------------


def test_lists_are_filtered_and_hold_no_record(api_client: APIClient, account: Account) -> None:
    make_letter(account, 1, kind="message", error="no sender here")
    make_letter(account, 2, kind="post", state="discarded")
    make_letter(make_account(2), 3)

    def found(query: str) -> int:
        answer = api_client.get(f"{V1}/dead-letters?{query}")
        assert "hunter2" not in answer.content.decode()
        return len(answer.json()["results"])

    assert found("") == 3
    assert found("state=open") == 2
    assert found("kind=post") == 1
    assert found(f"account={account.pk}") == 2
    assert found("platform=matrix") == 3
    assert found("error=SENDER HERE&state=open") == 1
    assert found(f"error=SENDER HERE&account={account.pk}") == 1
    assert errors_of(api_client.get(f"{V1}/dead-letters?state=lost"), 400)


def test_the_record_is_for_those_who_repair_and_each_look_is_kept(
    api: Callable[..., APIClient], viewer: User, operator: User, account: Account
) -> None:
    letter = make_letter(account)
    path = f"{V1}/dead-letters/{letter.pk}"
    assert api(viewer).get(path).json()["raw"] is None
    assert not LogEntry.objects.exists()
    assert api(operator).get(path).json()["raw"]["body"] == "hunter2 words"
    assert api(operator).post(f"{path}/discard").json()["state"] == "discarded"
    trail = LogEntry.objects.filter(object_id=str(letter.pk)).order_by("pk")
    assert [(one.user, one.change_message) for one in trail] == [
        (operator, "Record seen over the API."),
        (operator, "Discarded."),
    ]


def test_many_at_once_with_a_result_for_each(
    api_client: APIClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, gone = (make_letter(account, number) for number in (1, 2, 3))
    services.discard_dead_letter(gone.pk, "ann")

    def reread(_platform: object, _ref: object, _kind: str, raw: str) -> list[Record | Refused]:
        if "$dead-1" in raw:
            return [message(1)]
        return [Refused("message", "", raw, "no sender")]

    monkeypatch.setattr(OutboxPlatform, "reread", reread)
    body = {"action": "replay", "ids": [good.pk, bad.pk, gone.pk, 2**62, good.pk]}
    answer = api_client.post(f"{V1}/dead-letters/batch", body, format="json").json()
    assert (answer["succeeded"], answer["failed"]) == (1, 3)
    codes = [one["error"] and one["error"]["code"] for one in answer["results"]]
    assert codes == [None, "still_refused", "rejected", "not_found"]


def test_what_the_database_refuses_holds_up_no_other(
    api_client: APIClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [make_letter(account, number) for number in range(1, 6)]
    ids = [one.pk for one in letters]
    whole, numbers = store.ingest, iter(range(1, 99))

    def reread(_platform: object, _ref: object, _kind: str, raw: str) -> list[Record | Refused]:
        if "$dead-3" in raw:
            raise ZeroDivisionError
        return [message(next(numbers))]

    def ingest(lease: Any, sequence: int, merged: Any, worker_id: str, within: Any) -> Any:
        def and_then(receipt: Any) -> None:
            within(receipt)  # the letter is resolved in the same transaction, and is not after all
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")

        fails = merged.messages[0].external_id == "m2"
        receipt = whole(lease, sequence, merged, worker_id, and_then if fails else within)
        if merged.messages[0].external_id == "m4":
            raise OperationalError("canceling statement due to lock timeout")
        return receipt

    monkeypatch.setattr(OutboxPlatform, "reread", reread)
    monkeypatch.setattr(store, "ingest", ingest)
    results = services.resolve_dead_letters("replay", [*ids[:3], ids[4], ids[3]], "ann")
    assert [one.code for one in results] == ["", "still_refused", "still_refused", "", "error"]
    kept = DeadLetter.objects.order_by("pk").values_list("state", "replays", "error")
    assert list(kept)[:3] == [
        ("replayed", 1, letters[0].error),
        ("open", 1, "it can't be stored: DataError"),
        ("open", 1, "unexpected ZeroDivisionError; see the web's log"),
    ]
    assert [state for state, _, _ in kept][3:] == ["open", "replayed"]
    assert sorted(Message.objects.values_list("external_id", flat=True)) == ["m1", "m3"]
    answer = api_client.post(f"{V1}/dead-letters/{ids[2]}/replay")
    assert list(errors_of(answer, 409).values()) == ["still_refused"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "action"),
        ({"action": "burn", "ids": [1]}, "action"),
        ({"action": "replay", "ids": []}, "ids"),
        ({"action": "replay", "ids": ["x"]}, "ids.0"),
        ({"action": "replay", "ids": [0]}, "ids.0"),
        ({"action": "replay", "ids": [1] * 501}, "ids"),
    ],
)
def test_bad_batches(api_client: APIClient, body: dict[str, Any], name: str) -> None:
    assert name in errors_of(api_client.post(f"{V1}/dead-letters/batch", body, format="json"), 400)


# --- in the admin -----------------------------------------------------------------------------


def test_the_page_shows_repairs_and_replays(
    client: Client, viewer: User, operator: User, account: Account
) -> None:
    letter = make_letter(account)
    page = reverse("admin:sync_deadletter_change", args=[letter.pk])
    client.force_login(viewer)
    assert "hunter2" not in client.get(page).content.decode()
    for verb in ("fix", "replay", "discard", "reopen"):
        address = reverse(f"admin:sync_deadletter_{verb}", args=[letter.pk])
        assert client.post(address).status_code == 403
    client.force_login(operator)
    assert "hunter2 words" in client.get(page).content.decode()
    address = reverse("admin:sync_deadletter_fix", args=[letter.pk])
    for text, said in (("{broken", "no JSON"), ('{"text": "x"}', "record.sender_id")):
        refused = client.post(address, {"kind": "message", "record": text}).content.decode()
        assert said in refused
        assert text.replace('"', "&quot;") in refused, "what was written is not lost"
    done = client.post(
        address, {"kind": "message", "record": json.dumps(GOOD), "replay": "1"}, follow=True
    )
    assert "is stored" in done.content.decode()
    assert Message.objects.get().text == "repaired"


def test_discarding_in_the_admin_asks_first(
    client: Client, operator: User, account: Account
) -> None:
    client.force_login(operator)
    letter = make_letter(account)
    address = reverse("admin:sync_deadletter_discard", args=[letter.pk])
    assert "Discard 1 dead letter?" in client.get(address).content.decode()
    letter.refresh_from_db()
    assert letter.state == "open"
    assert client.post(address).status_code == 302
    chosen = {"action": "reopen_selected", "_selected_action": [letter.pk]}
    client.post(reverse("admin:sync_deadletter_changelist"), chosen)
    letter.refresh_from_db()
    assert letter.state == "open"
    chosen["action"] = "discard_selected"
    asked = client.post(reverse("admin:sync_deadletter_changelist"), chosen)
    assert "Discard 1 dead letter?" in asked.content.decode()
    client.post(reverse("admin:sync_deadletter_changelist"), {**chosen, "confirmed": "1"})
    letter.refresh_from_db()
    assert letter.state == "discarded"


# --- the alarm --------------------------------------------------------------------------------


def test_the_alarm_when_they_grow(
    client: Client, viewer: User, account: Account, settings: Any, caplog: Any
) -> None:
    settings.MUSTER_DEAD_LETTER_ALARM = 3
    now, duty = timezone.now(), WatchDeadLetters()
    for number in range(2):
        make_letter(account, number)
    make_letter(account, 9, created_at=now - timedelta(hours=2))
    assert queries.dead_letter_figures(now) == queries.DeadLetterFigures(open=3, recent=2)
    client.force_login(viewer)
    home, proof = reverse("admin:index"), reverse("admin:sync_account_proof", args=[account.pk])
    with caplog.at_level(logging.ERROR, "sync.sweeps"):
        duty.run(now)
        assert "Dead letters grow" not in client.get(home).content.decode()
        make_letter(account, 3)
        for minutes in (0, 1, 2, 61):
            duty.run(now + timedelta(minutes=minutes))
        for page in (home, proof, reverse("admin:sync_deadletter_changelist")):
            assert "Dead letters grow: 3 new" in client.get(page).content.decode(), page
    assert len([one for one in caplog.records if "dead letters grow" in one.message]) == 1
    DeadLetter.objects.update(created_at=now + timedelta(minutes=130))
    with caplog.at_level(logging.ERROR, "sync.sweeps"):
        duty.run(now + timedelta(minutes=62))
        duty.run(now + timedelta(minutes=121))
        duty.run(now + timedelta(minutes=123))
    assert len([one for one in caplog.records if "dead letters grow" in one.message]) == 3


def test_replay_puts_no_mail_in_the_place_of_another(account: Account) -> None:
    """And the letter holds the reason."""
    ours = message(1, is_immutable=True)
    forged = message(1, is_immutable=True, text="pay to another account")
    for record in (ours, forged):
        account.refresh_from_db()
        batch = merge(Batch("c", (record,)))
        store.ingest(Lease(account.pk, account.epoch), account.sequence, batch)
    letter = DeadLetter.objects.get()
    with pytest.raises(StillRefused, match="That one stays"):
        services.replay_dead_letter(letter.pk, "ann")
    assert Message.objects.get().text == ours.text
    letter.refresh_from_db()
    assert (letter.state, letter.replays) == ("open", 1)
    services.discard_dead_letter(letter.pk, "ann")
    account.refresh_from_db()
    store.ingest(Lease(account.pk, account.epoch), account.sequence, batch)
    letter.refresh_from_db()
    assert letter.state == "discarded"
