"""The master: observe → plan → apply, for the workers that something happened to.

`loop` takes what happens off one queue and decides; `sight` is what backends showed; `steps`
carries out what `lifecycle.reconcile` plans; `agenda` knows who must be looked at, and when.

The master never spawns a process itself, keeps no state that is not in the database or in a
backend, and so may die at any instruction.
"""

from lifecycle.master.items import BrokerAnswers, Leave, Lost, Notified, Observed, ShutDown
from lifecycle.master.loop import Master

__all__ = ["BrokerAnswers", "Leave", "Lost", "Master", "Notified", "Observed", "ShutDown"]
