"""The one write path of what platforms send: conversations, messages, posts, comments, cursors.

Everything of a batch is in one transaction behind the lock on its account's row: epoch and sequence
are compared, rows, roll-ups, totals, cursor and receipt written, or nothing is [S4, S5].

A message whose conversation nobody told us of, and a comment whose post is not there, make a bare
conversation or post, so that no record waits for another; the real one fills it in when it comes.
"""

from sync.store.ingest import REFUSALS, ingest, ingest_batch
from sync.store.known import split_known
from sync.store.marks import Untold, mark_all_read, mark_read, not_told, told, untold

__all__ = [
    "REFUSALS",
    "Untold",
    "ingest",
    "ingest_batch",
    "mark_all_read",
    "mark_read",
    "not_told",
    "split_known",
    "told",
    "untold",
]
