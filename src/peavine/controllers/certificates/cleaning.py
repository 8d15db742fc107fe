"""Removes requests that nobody needs any more: denied, failed, never approved, or long signed."""

from __future__ import annotations

import math

from peavine.api.core.podstate import unix_time
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

API = "certificates.k8s.io/v1"
HOUR = 3600.0
APPROVED_SECONDS, DENIED_SECONDS, PENDING_SECONDS = HOUR, HOUR, 24 * HOUR


class CSRCleanerController(Controller):
    name = "certificatesigningrequest-cleaner-controller"
    account = "certificate-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = self.watch(API, "certificatesigningrequests")

    async def reconcile(self, key: Key) -> float | None:
        request = self.requests.get(*key)
        if request is None:
            return None
        left = self._left(request)
        if left > 0:
            return left if left != math.inf else None
        try:
            await self.client.resource(API, "certificatesigningrequests").delete(key[1], uid=request["metadata"]["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None

    def _left(self, request: Object) -> float:
        """Seconds that the request may still stay."""
        status, now = request.get("status") or {}, self.clock.time()
        born = unix_time(request["metadata"].get("creationTimestamp")) or now
        moments = {c["type"]: unix_time(c.get("lastUpdateTime")) or born for c in status.get("conditions") or ()}
        for type, seconds in (("Denied", DENIED_SECONDS), ("Failed", DENIED_SECONDS)):
            if type in moments:
                return moments[type] + seconds - now
        if "Approved" in moments and status.get("certificate"):
            return moments["Approved"] + APPROVED_SECONDS - now
        # Approved and not yet signed: its signer decides.
        return math.inf if moments else born + PENDING_SECONDS - now
