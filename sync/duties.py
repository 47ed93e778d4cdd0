"""The master's duties for accounts: give each a worker, send what is due to that worker's queue.

Each run costs a handful of statements whatever the number of accounts, and no heartbeat wakes it.
The row is the truth: a message is a hint that names a claim, and the claim's lease brings back what
the broker lost.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from lifecycle.balance import Absences, Move, Place, Slot, Strategy, balance
from lifecycle.services import CHANNEL as LIFECYCLE
from lifecycle.services import set_assigned_accounts
from sync import breaker, platforms, schedule, services, sql
from sync.chance import random
from sync.sending import BROKER_ERRORS, Claim, Sender
from sync.services import ACCOUNTS, give_back, notify
from sync.types import Lease

log = logging.getLogger(__name__)

POLL_S = 5.0  # behind the notifications, which are hints
TICK_S = 0.25
CLAIM_LEASE_S = 60.0  # how long a sent check may wait in the worker's queue
MOST_AT_ONCE = 500
# A worker that is about to be back keeps its accounts for this long; they have moved, and their new
# worker is told, within 5 s of its death [L15].
RETURNING_S = 4.0
LONGEST_BROKER_RETRY_S = 4.0
FRESHNESS_S = 15.0
MOST_NAMED = 20  # in the log, of accounts that stall together


class AssignmentDuty:
    """Gives accounts their workers; one instance, in a thread of the leading master."""

    name = "assignment"
    channels: tuple[str, ...] = (ACCOUNTS, LIFECYCLE)

    def __init__(self) -> None:
        self.assignment = Assignment()

    def run(self, now: datetime) -> datetime:
        """Assign; returns when the next account has to move: at most 5 s from now."""
        self.assignment.run(now)
        latest = now + timedelta(seconds=POLL_S)
        return min(latest, self.assignment.patience_ends or latest)


class ChecksDuty:
    """Claims what is due and sends it; one instance, in a thread of the leading master."""

    name = "checks"
    channels: tuple[str, ...] = (ACCOUNTS, LIFECYCLE)

    def __init__(self) -> None:
        self._sender = Sender()
        self._failures = 0
        self._broker_back_at: datetime | None = None
        self._refused: Claim | None = None  # by a broker that was away

    def run(self, now: datetime) -> datetime:
        """Claim, send; returns when the next account is due: at most 5 s from now."""
        if self._broker_back_at is not None and now < self._broker_back_at:
            return self._broker_back_at
        # A claim ends the check that runs, also one that nobody hears of: while the broker is away
        # none is made, and a claim that was given back shows whether it is. At worst it is stale.
        # That it has gone away one claim shows, before all the others are made.
        if self._refused is not None and (back_at := self._send([self._refused], now)):
            return back_at
        for most in (1, MOST_AT_ONCE):
            claims = claim(now, most)
            if claims and (back_at := self._send(claims, now)):
                return back_at
            if not claims:
                break
        return next_run(now, full=len(claims) >= MOST_AT_ONCE)

    def _send(self, claims: list[Claim], now: datetime) -> datetime | None:
        """Send the claims; None when all are out. What could not be sent is due again when the
        broker may be back, which is returned."""
        sent = 0
        try:
            expires = now + timedelta(seconds=CLAIM_LEASE_S)
            for sent in self._sender.send(claims, expires):  # noqa: B007 - needed if it raises
                pass
        except BROKER_ERRORS as error:
            self._failures += 1
            wait = schedule.backoff_s(self._failures, random(), LONGEST_BROKER_RETRY_S)
            self._broker_back_at = now + timedelta(seconds=wait)
            self._refused = claims[sent]
            leases = [Lease(one.account_id, one.epoch) for one in claims[sent:]]
            give_back(leases, self._broker_back_at)
            if self._failures == 1:  # once for each outage
                log.warning("the broker takes no checks, they wait: %s", error)
            return self._broker_back_at
        if self._failures:
            log.info("the broker takes checks again")
        self._failures, self._broker_back_at, self._refused = 0, None, None
        return None


class FreshnessDuty:
    """Finds accounts that have stalled, and those that no longer are [S7]; and forgets the servers
    that nobody asks any more."""

    name = "freshness"
    channels: tuple[str, ...] = ()

    def run(self, now: datetime) -> datetime:
        judged = services.judge_freshness(now)
        for one in judged[:MOST_NAMED]:
            about = {"account_id": one.account_id}
            if one.is_stalled:
                last = one.last_sync_at or "its beginning"
                log.warning("sync_stalled: %s has not synced since %s", one.name, last, extra=about)
            else:
                log.info("%s is stalled no more", one.name, extra=about)
        if len(judged) > MOST_NAMED:
            log.warning("sync_stalled changed for %s accounts in all", len(judged))
        if forgotten := services.forget_servers():
            log.info("%s servers that failed have no account any more", forgotten)
        return now + timedelta(seconds=FRESHNESS_S)


class Assignment:
    """Gives every account that needs one a worker; what it remembers may be lost at any time."""

    def __init__(self) -> None:
        self._absences = Absences(timedelta(seconds=RETURNING_S))
        self._last: int | None = None  # the worker that was given an account last
        self.patience_ends: datetime | None = None  # with the first worker that is expected back

    def run(self, now: datetime) -> list[Move]:
        """Assign, and tell the workers how many accounts they hold."""
        with transaction.atomic(), connection.cursor() as cursor:
            soon = {"soon": now + timedelta(seconds=RETURNING_S)}
            cursor.execute(sql.claims.WORKERS, soon)
            rows = cursor.fetchall()
            names = {row[0]: row[1] for row in rows}
            slots = self._slots(rows, now)
            strategy = Strategy((rows and rows[0][7]) or Strategy.LEAST_LOADED)
            moves = balance(_places(cursor, slots), slots, strategy, self._last)
            loads = {slot.worker: slot.load for slot in slots}
            if moves:
                notify(0)  # what moved is due for its new worker
                self._last = next((m.worker for m in moves[::-1] if m.worker), self._last)
                _apply(cursor, moves, now)
                cursor.execute(sql.claims.WORKERS, soon)
                loads = {row[0]: row[5] for row in cursor.fetchall()}
                log.info("gave %s accounts another worker", len(moves))
        set_assigned_accounts({names[worker]: load for worker, load in loads.items() if load})
        self.patience_ends = min(
            (
                ends
                for slot in slots
                if slot.returning and slot.load and (ends := self._absences.ends_at(slot.worker))
            ),
            default=None,
        )
        return moves

    def _slots(self, rows: list[Any], now: datetime) -> list[Slot]:
        self._absences.see({row[0]: row[2] for row in rows}, now)
        return [
            Slot(
                worker=row[0],
                ready=row[2],
                returning=bool(row[3]) and now < (self._absences.ends_at(row[0]) or now),
                max_accounts=row[4],
                load=row[5],
                platforms=json.loads(row[6]),
            )
            for row in rows
        ]


def _places(cursor: Any, slots: list[Slot]) -> list[Place]:
    """The accounts that `balance` has to look at: none, as a rule."""
    crowded = [slot for slot in slots if slot.ready and slot.load > slot.max_accounts]
    cursor.execute(
        sql.claims.HOMELESS,
        {
            "gone": [slot.worker for slot in slots if not slot.ready and not slot.returning],
            "room": sum(max(slot.max_accounts - slot.load, 0) for slot in slots if slot.ready),
            "crowded": [slot.worker for slot in crowded],
            "limits": [slot.max_accounts for slot in crowded],
        },
    )
    return [Place(*row) for row in cursor.fetchall()]


def _apply(cursor: Any, moves: list[Move], now: datetime) -> None:
    cursor.execute(
        sql.claims.ASSIGN,
        {
            "now": now,
            "ids": [move.account_id for move in moves],
            "epochs": [move.epoch for move in moves],
            "workers": [move.worker for move in moves],
        },
    )


def claim(now: datetime, most: int) -> list[Claim]:
    """Take what is due for workers that run; each is due again when its lease is over. Of a server
    that failed too often one account, when it is time to try; and those that may not ask, but have
    deliveries waiting."""
    values: dict[str, Any] = {
        "now": now,
        "lease_until": now + timedelta(seconds=CLAIM_LEASE_S),
        "trial_until": now + timedelta(seconds=breaker.TRIAL_S),
        "most": most,
        "pushing": _pushing(),
    }
    claims: list[Claim] = []
    with connection.cursor() as cursor:
        for statement in (sql.claims.TRY_SERVERS, sql.claims.CLAIM_PUSHED, sql.claims.CLAIM):
            cursor.execute(statement, values)
            claims += [Claim(*row) for row in cursor.fetchall()]
    return claims


def next_run(now: datetime, *, full: bool) -> datetime:
    """When the next account is due; at once when there was more than one run may claim.

    Many are due at any time in a large fleet: they are taken together, a few times a second. And
    what is due already was locked just now, by somebody who writes for it.
    """
    if full:
        return now
    with connection.cursor() as cursor:
        cursor.execute(sql.claims.NEXT_DUE, {"pushing": _pushing()})
        due = [one for one in cursor.fetchone() if one is not None]
    latest = now + timedelta(seconds=POLL_S)
    return min(max(min(due), now + timedelta(seconds=TICK_S)), latest) if due else latest


def _pushing() -> list[str]:
    """The platforms whose deliveries somebody can read."""
    return [name for name, platform in platforms.registry().items() if platform.hooks]
