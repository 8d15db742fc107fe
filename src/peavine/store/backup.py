"""Copies of a SQLite store's file: taken while a server writes to it, and made fit to be served again.

Follows what `etcdctl snapshot save` and `etcdutl snapshot restore --bump-revision --mark-compacted` do for etcd.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import apsw

# Far above what was written between the copy and its return: revisions that clients may have seen are not used again.
BUMP_REVISIONS = 1_000_000_000
PAGES_A_STEP = 1024


class Copied(NamedTuple):
    """What a copy holds."""

    revision: int
    objects: int


def copy(source: Path, target: Path) -> Copied:
    """The state at one moment, in a new file. Other processes may write to `source`. Raises OSError, apsw.Error."""
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no store")
    target.touch(mode=0o600, exist_ok=False)
    reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    writing = apsw.Connection(str(target))
    try:
        reading.set_busy_timeout(5000)
        with writing.backup("main", reading, "main") as backup:
            while not backup.done:
                backup.step(PAGES_A_STEP)
        return _counted(writing)
    finally:
        reading.close()
        writing.close()


def _counted(connection: apsw.Connection) -> Copied:
    ((revision, objects),) = connection.execute(
        "SELECT max(1, compacted, (SELECT ifnull(max(rev), 0) FROM history)), (SELECT count(*) FROM live) FROM state"
    )
    return Copied(revision, objects)


def revive(path: Path, bump: int = BUMP_REVISIONS) -> Copied:
    """Make a copy a store whose next revision is above all that the original gave out after it.

    History goes: whoever watches from before is told 410 Gone and lists again. Raises apsw.Error for a file that is not
    a store.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with connection:
            revision = _counted(connection).revision + bump
            connection.execute("DELETE FROM history WHERE rev NOT IN (SELECT rev FROM live)")
            connection.execute("UPDATE history SET prev = 0")
            connection.execute("UPDATE state SET compacted = ?, swept = ?", (revision, revision))
        return _counted(connection)
    finally:
        connection.close()
