"""Leader election on a Lease, with client-go's semantics: who cannot renew in time stops.

Clocks of different hosts are never compared: a lease is old once *we* have seen it unchanged for its duration.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.rest import Client, Object
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """The lease could not be renewed before the deadline; the process must stop leading at once."""


class LeaderElector:
    """Durations in seconds; upstream's defaults."""

    def __init__(
        self,
        client: Client,
        name: str,
        identity: str,
        *,
        namespace: str = "kube-system",
        lease_duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        clock: Clock = REAL,
    ) -> None:
        if not lease_duration > renew_deadline > retry_period * 1.2:
            raise ValueError("leaseDuration must be greater than renewDeadline, and that than retryPeriod*1.2")
        self._leases = client.resource("coordination.k8s.io/v1", "leases")
        self.name, self.namespace, self.identity = name, namespace, identity
        self._duration, self._deadline, self._period = lease_duration, renew_deadline, retry_period
        self._clock = clock
        self._seen: tuple[Any, float] = (None, 0.0)
        self.leading = False

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for leadership, then run `lead()` for as long as it lasts.

        Raises LeadershipLost. A cancelled leader gives the lease back, so the next one need not wait.
        """
        while not await self._try():
            await self._clock.sleep(self._period * (1 + 0.2 * random.random()))
        self.leading = True
        log.info("successfully acquired lease %s/%s", self.namespace, self.name)
        try:
            async with scope() as tasks:
                work = tasks.start(lead(), name=f"leader {self.name}")
                renewing = tasks.start(self._renew(), name=f"renew {self.name}")
                work.add_done_callback(lambda _: renewing.cancel())
                await renewing
        except ExceptionGroup as group:
            lost = group.subgroup(LeadershipLost)
            raise (lost.exceptions[0] if lost else group) from None
        finally:
            was_leading, self.leading = self.leading, False
            if was_leading:
                await self._release()

    async def _renew(self) -> None:
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._period)
            if await self._try():
                renewed = self._clock.monotonic()
            elif self._clock.monotonic() - renewed > self._deadline:
                self.leading = False
                raise LeadershipLost(f"failed to renew lease {self.namespace}/{self.name}: timed out")

    async def _try(self) -> bool:
        """Take or renew the lease; False if somebody else holds it or the server does not answer."""
        try:
            return await self._take()
        except (ApiError, Unreachable, ConnectionError, TimeoutError) as error:
            log.debug("lease %s: %s", self.name, error)
            return False

    async def _take(self) -> bool:
        now = _micro_time(self._clock.time())
        mine: Object = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        try:
            lease = await self._leases.get(self.name, self.namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            meta = {"name": self.name, "namespace": self.namespace}
            await self._leases.create(
                {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": mine}
            )
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self.identity and not self._old(spec):
            return False
        mine["leaseTransitions"] = spec.get("leaseTransitions") or 0
        if holder == self.identity:
            mine["acquireTime"] = spec.get("acquireTime") or now
        else:
            mine["leaseTransitions"] += 1
        await self._leases.update({**lease, "spec": mine})
        return True

    def _old(self, spec: Object) -> bool:
        record, since = self._seen
        if record != spec:
            self._seen = (spec, self._clock.monotonic())
            return False
        return self._clock.monotonic() - since > float(spec.get("leaseDurationSeconds") or self._duration)

    async def _release(self) -> None:
        try:
            lease = await self._leases.get(self.name, self.namespace)
            if lease.get("spec", {}).get("holderIdentity") == self.identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._leases.update({**lease, "spec": spec})
        except (ApiError, Unreachable, ConnectionError) as error:
            log.debug("lease %s not released: %s", self.name, error)


def _micro_time(seconds: float) -> str:
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1e6):06d}Z"
