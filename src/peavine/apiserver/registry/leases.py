"""Leases of the store for kinds whose objects end by themselves (events)."""

from __future__ import annotations

from peavine.api.kind import Kind
from peavine.apiserver.registry.registry import Registry

# Events of one minute share a lease, which lives that much longer: an hour of events is sixty leases, not thousands.
SHARED_SECONDS = 60


async def lease_for(registry: Registry, hub: Kind) -> int:
    """The lease for a new object of a kind; 0 for objects that stay."""
    if hub.plural != "events" or hub.group:
        return 0
    lease, until = registry.event_lease
    now = registry.clock.monotonic()
    if lease and now < until:
        return lease
    lease = await registry.store.grant(int(registry.event_ttl_seconds + SHARED_SECONDS))
    registry.event_lease = (lease, now + SHARED_SECONDS)
    return lease
