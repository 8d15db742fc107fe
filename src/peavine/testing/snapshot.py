"""A cluster's whole state at one moment, and the way back to it.

Going back writes what differs as new revisions: no revision is ever lowered, so every watch and informer follows, the
controllers' own among them.
"""

from __future__ import annotations

from peavine.store.interface import Store

ROOT = "/registry/"
# Not state of the cluster: heartbeats, and addresses given out follow from the Services.
LEFT_ALONE = ("/registry/leases/",)


class Snapshot:
    """Keys and values of the store."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    @classmethod
    async def take(cls, store: Store) -> Snapshot:
        return cls({kv.key: kv.value for kv in (await store.range(ROOT)).items})

    async def restore(self, store: Store) -> int:
        """Bring the store back to this state; returns how many keys were written or deleted."""
        now = {kv.key: kv.value for kv in (await store.range(ROOT)).items}
        changed = 0
        for key in now.keys() - self._values.keys():
            if not key.startswith(LEFT_ALONE):
                await store.delete(key)
                changed += 1
        for key, value in self._values.items():
            if now.get(key) != value and not key.startswith(LEFT_ALONE):
                await store.put(key, value)
                changed += 1
        return changed
