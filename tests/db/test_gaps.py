"""Gaps that nothing closes: accepted as lost by a person, and not any more [S9]."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from sync import platforms, services, store
from sync.errors import Rejected
from sync.models import OPEN_GAP, Account, FeedEntry, Gap
from sync.types import Batch, OpenGap
from tests.db.api_helpers import V1, detail_of, errors_of
from tests.db.errand_stage import OutboxPlatform
from tests.db.sync_stage import conversation, lease, make_account, message

pytestmark = pytest.mark.django_db

DROPPED = OpenGap("updates:4-5", "", "6", "3", "updates 4 to 5 were not read within 24 hours")


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": made})
    return make_account()


@pytest.fixture
def gap(account: Account) -> Gap:
    stored(account, Batch("c", (message(1),), gaps=(DROPPED,)))
    return Gap.objects.get()


def stored(account: Account, batch: Batch) -> None:
    account.refresh_from_db()
    store.ingest_batch(lease(account), account.sequence, batch)


def accept(gap: Gap) -> bool:
    return services.accept_gap(gap.pk, "ann", timezone.now())


def test_it_is_told_once_and_undone(gap: Gap) -> None:
    told = FeedEntry.objects.count()
    assert accept(gap)
    assert not accept(gap)
    gap.refresh_from_db()
    assert (gap.accepted_by, gap.closed_at) == ("ann", None)
    assert gap.accepted_at
    assert services.reopen_gap(gap.pk)
    assert not services.reopen_gap(gap.pk)
    assert Gap.objects.filter(OPEN_GAP, accepted_by="").exists()
    assert FeedEntry.objects.count() == told + 2


def test_it_stays_accepted_while_the_adapter_names_it(account: Account, gap: Gap) -> None:
    accept(gap)
    stored(account, Batch("d", (message(2),), gaps=(DROPPED,)))
    assert Gap.objects.get().accepted_by == "ann"


def test_what_comes_after_all_closes_it(account: Account, gap: Gap) -> None:
    accept(gap)
    stored(account, Batch("d", (message(2),), gaps=()))
    gap.refresh_from_db()
    assert gap.closed_at
    with pytest.raises(Rejected, match="is stored"):
        accept(gap)
    with pytest.raises(Rejected, match="is stored"):
        services.reopen_gap(gap.pk)


# --- over the API -----------------------------------------------------------------------------


def test_over_http(api_client: APIClient, account: Account, gap: Gap) -> None:
    gaps = f"{V1}/accounts/{account.pk}/gaps"

    def open_ones() -> list[int]:
        return [one["id"] for one in api_client.get(f"{gaps}?open=true").json()["results"]]

    assert open_ones() == [gap.pk]
    for _ in range(2):
        accepted = api_client.post(f"{gaps}/{gap.pk}/accept")
        assert accepted.status_code == 200, accepted.content
        assert accepted.json()["accepted_at"]
    assert open_ones() == []
    assert [one["id"] for one in api_client.get(gaps).json()["results"]] == [gap.pk]
    reopened = api_client.post(f"{gaps}/{gap.pk}/reopen").json()
    assert (reopened["accepted_at"], reopened["accepted_by"]) == (None, "")
    assert open_ones() == [gap.pk]
    trail = LogEntry.objects.filter(object_id=str(gap.pk)).order_by("pk")
    assert [one.change_message for one in trail] == ["Accepted as lost.", "Reopened."]


def test_what_is_asked_wrongly(api_client: APIClient, account: Account, gap: Gap) -> None:
    gaps = f"{V1}/accounts/{account.pk}/gaps"
    assert errors_of(api_client.post(f"{gaps}/{gap.pk}/accept", {"by": "x"}, format="json"), 400)
    assert errors_of(api_client.post(f"{gaps}/{gap.pk + 1}/accept"), 404)
    other = make_account(identifier="@other")
    assert errors_of(api_client.post(f"{V1}/accounts/{other.pk}/gaps/{gap.pk}/accept"), 404)
    assert api_client.get(f"{gaps}/{gap.pk}/accept").status_code == 405
    Gap.objects.update(closed_at=timezone.now())
    for verb in ("accept", "reopen"):
        refused = api_client.post(f"{gaps}/{gap.pk}/{verb}")
        assert errors_of(refused, 409) == {None: "rejected"}
        assert "is stored" in detail_of(refused)


# --- in the admin -----------------------------------------------------------------------------


def act(client: Client, action: str, *gaps: Gap) -> str:
    ids = [gap.pk for gap in gaps]
    page = reverse("admin:sync_gap_changelist")
    done = client.post(page, {"action": action, "_selected_action": ids}, follow=True)
    return done.content.decode()


def test_in_the_list(client: Client, operator: User, account: Account, gap: Gap) -> None:
    client.force_login(operator)
    closed = Gap.objects.create(account=account, key="old", closed_at=timezone.now())
    said = act(client, "accept_selected", gap, closed)
    assert "1 gap: done." in said
    assert "The gap is closed" in said
    page = reverse("admin:sync_gap_changelist")
    for state, expected in (("open", 0), ("accepted", 1), ("closed", 1), ("", 2)):
        found = client.get(page, {"state": state} if state else {})
        assert found.context["cl"].result_count == expected, state
    assert "accepted as lost" in client.get(page).content.decode()
    assert "1 gap: done." in act(client, "reopen_selected", gap)
    gap.refresh_from_db()
    assert gap.accepted_at is None


def test_on_the_page_of_the_account(
    client: Client, operator: User, account: Account, gap: Gap
) -> None:
    client.force_login(operator)
    page = reverse("admin:sync_account_proof", args=[account.pk])
    address = reverse("admin:sync_account_accept_gap", args=[account.pk, gap.pk])
    assert address in client.get(page).content.decode()
    assert client.get(address).status_code == 405
    client.post(address)
    gap.refresh_from_db()
    assert gap.accepted_by == operator.username
    shown = client.get(page).content.decode()
    assert address not in shown
    assert "gaps accepted as lost" in shown
    elsewhere = reverse("admin:sync_account_accept_gap", args=[account.pk, gap.pk + 1])
    assert client.post(elsewhere).status_code == 404


def test_it_stands_below_the_title_of_its_conversation(
    client: Client, operator: User, account: Account
) -> None:
    """An id where it is of something else, a folder for example, or of a talk without a title."""
    client.force_login(operator)
    stored(account, Batch("c", (conversation("!room", "Late orders"), conversation("!bare", ""))))
    for scope in ("!room", "!bare", "INBOX"):
        Gap.objects.create(account=account, key=scope, scope=scope, reason="cut")
    for page in (
        reverse("admin:sync_account_proof", args=[account.pk]),
        reverse("admin:sync_gap_changelist"),
    ):
        shown = client.get(page).content.decode()
        assert "Late orders" in shown
        assert "!room" not in shown
        assert "!bare" in shown
        assert "INBOX" in shown


def test_viewers_accept_nothing(client: Client, viewer: User, account: Account, gap: Gap) -> None:
    client.force_login(viewer)
    page = reverse("admin:sync_account_proof", args=[account.pk])
    address = reverse("admin:sync_account_accept_gap", args=[account.pk, gap.pk])
    assert address not in client.get(page).content.decode()
    assert client.post(address).status_code == 403
    act(client, "accept_selected", gap)
    gap.refresh_from_db()
    assert gap.accepted_at is None
