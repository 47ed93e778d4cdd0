"""What every platform adapter must do: one suite, run against each one's real server.

A platform's test module makes a class of `PlatformContract`, names its `Stage` and gives it a
`stage` fixture; tests for what the platform can't do by its nature are then not collected:

    class TestMatrixKeepsTheContract(PlatformContract, stage=MatrixStage):
        pass
"""

from __future__ import annotations

from tests.contract.suite.backlog import Backlog, Proof
from tests.contract.suite.bodies import Bodies
from tests.contract.suite.changes import Changes, Order
from tests.contract.suite.first_read import FirstRead, Increments, Paging
from tests.contract.suite.lost_cursors import LostCursors
from tests.contract.suite.sending import Sending
from tests.contract.suite.sessions import Sessions
from tests.contract.suite.trouble import Trouble
from tests.contract.suite.waiting import Waiting


class PlatformContract(
    FirstRead,
    Increments,
    Paging,
    Waiting,
    Changes,
    Order,
    Bodies,
    Sending,
    Sessions,
    LostCursors,
    Trouble,
    Backlog,
    Proof,
):
    """The whole suite."""
