"""Own writes that the cache has not shown yet: while some are open, counting objects would count wrong.

Instead of counting events, each write leaves what would prove that the cache has caught up: the revision of a creation,
the absence (or the deletion timestamp) of what was deleted.
"""

from __future__ import annotations

from typing import Any

from peavine.base.clock import Clock
from peavine.client.informer import Informer

EXPECTATION_SECONDS_MAX = 300.0


class Expectations:
    """Per key of the owner: writes of the owned resource that `informer` has yet to show."""

    def __init__(self, informer: Informer, clock: Clock) -> None:
        self._informer, self._clock = informer, clock
        self._created: dict[Any, tuple[int, float]] = {}
        self._deleted: dict[Any, dict[tuple[str, str], tuple[str, float]]] = {}

    def created(self, key: Any, obj: dict[str, Any]) -> None:
        revision = int(obj["metadata"]["resourceVersion"])
        before, _ = self._created.get(key, (0, 0.0))
        self._created[key] = (max(revision, before), self._clock.monotonic())

    def deleted(self, key: Any, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        where = (meta.get("namespace", ""), meta["name"])
        self._deleted.setdefault(key, {})[where] = (meta["uid"], self._clock.monotonic())

    def satisfied(self, key: Any) -> bool:
        """True once the cache shows every write made for `key` (or it has been silent for five minutes)."""
        late = self._clock.monotonic() - EXPECTATION_SECONDS_MAX
        revision, since = self._created.get(key, (0, 0.0))
        if revision:
            if int(self._informer.resource_version or 0) < revision and since > late:
                return False
            del self._created[key]
        for (namespace, name), (uid, since) in list(self._deleted.get(key, {}).items()):
            seen = self._informer.get(namespace, name)
            gone = seen is None or seen["metadata"]["uid"] != uid or "deletionTimestamp" in seen["metadata"]
            if not gone and since > late:
                return False
            del self._deleted[key][(namespace, name)]
        self._deleted.pop(key, None)
        return True

    def forget(self, key: Any) -> None:
        self._created.pop(key, None)
        self._deleted.pop(key, None)
