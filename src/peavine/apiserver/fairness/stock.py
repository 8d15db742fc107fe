"""What the watch cache knows of its objects and watchers, for the estimates of work."""

from __future__ import annotations

from peavine.apiserver.cache.cache import Cache


class CacheStock:
    """Sizes are of the stored bytes; what a cache does not hold (other servers' kinds) is nothing."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def size(self, group: str, resource: str, namespace: str) -> tuple[int, int]:
        known = self._cache.resources.get((group, resource))
        if known is None or not known.count:
            return 0, 0
        if not namespace:
            return known.count, known.bytes
        count = len(known.objects.get(namespace, ()))
        return count, count * known.bytes // known.count

    def watchers(self, group: str, resource: str, namespace: str) -> int:
        known = self._cache.resources.get((group, resource))
        if known is None:
            return 0
        return len(known.watchers.all) + len(known.watchers.by_namespace.get(namespace, ()))
