"""Two homes, one database: what runs in one is never started by a master of the other [L11]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command

from lifecycle import leadership, queries, services
from lifecycle.leadership import Leadership
from lifecycle.management.commands.master import _lead
from lifecycle.models import FleetHome, WorkerConfig, WorkerRuntime
from lifecycle.types import HomeRef, Instance
from tests.db.test_master import database_url
from tests.db.test_services import VERSIONS, bring_up, crashed_after, succeed
from tests.threads import alongside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

HERE = HomeRef("a" * 32, "alpha", "/srv/muster")
THERE = HomeRef("b" * 32, "beta", "/srv/muster")
MakeConfig = Callable[..., WorkerConfig]


@contextmanager
def leading() -> Iterator[Leadership]:
    lead = leadership.acquire(database_url(), [services.CHANNEL])
    try:
        yield lead
    finally:
        lead.give_up()


@pytest.fixture
def running(make_config: MakeConfig) -> Instance:
    """A worker that is up; a master leads `HERE`."""
    with leading() as lead:
        assert lead.claim_fleet(HERE)
    return bring_up(make_config(worker_id="w", auto_restart=False))


def test_the_fleet_changes_homes_only_while_nothing_is_up(running: Instance) -> None:
    with leading() as lead:
        assert not lead.claim_fleet(THERE)
        assert lead.claim_fleet(HERE)
        assert queries.fleet_elsewhere(THERE) == HERE
        assert queries.fleet_elsewhere(HERE) is None
        crashed_after(running, 1)
        assert queries.fleet_elsewhere(THERE) is None
        assert lead.claim_fleet(THERE)
        assert lead.claim_fleet(HERE)


def test_an_old_instance_that_retires_is_also_up(running: Instance) -> None:
    services.ready(succeed(running), VERSIONS)
    crashed_after(Instance("w", 2), 1)
    assert WorkerRuntime.objects.get().state == "crashed"
    with leading() as lead:
        assert not lead.claim_fleet(THERE)
        crashed_after(running, 1)
        assert lead.claim_fleet(THERE)


def test_a_master_elsewhere_does_not_lead_and_leaves_the_lead_alone(
    running: Instance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acquire, led, leaving = leadership.acquire, threading.Event(), threading.Event()
    monkeypatch.setattr(leadership, "acquire", lambda _url, names: acquire(database_url(), names))

    def lead_there() -> None:
        lead = _lead([services.CHANNEL], THERE)
        led.set()
        leaving.wait(30)
        lead.give_up()

    with alongside(lead_there, end=leaving.set):
        eventually(lambda: "the workers of this database run in alpha:/srv/muster" in caplog.text)
        with leading() as lead:
            assert lead.claim_fleet(HERE)
            assert not led.is_set()
        crashed_after(running, 1)
        assert led.wait(30)
    assert FleetHome.objects.get().ref == THERE
    assert caplog.text.count("no master leads here") == 1


def test_a_lost_home_is_given_up_by_its_name_while_nobody_leads(running: Instance) -> None:
    with pytest.raises(CommandError, match="run in alpha:/srv/muster, not in beta:/srv/muster"):
        call_command("forget_home", "beta:/srv/muster")
    with leading(), pytest.raises(CommandError, match="a master leads"):
        call_command("forget_home", "alpha:/srv/muster")
    call_command("forget_home", "alpha:/srv/muster")
    with leading() as lead:
        assert lead.claim_fleet(THERE)
        assert not lead.claim_fleet(HERE)  # it was not lost after all
    assert queries.runtime("w").state == "running"
