"""Removes PodCertificateRequests that are older than anybody could still wait for. Upstream: certificates/cleaner."""

from __future__ import annotations

from peavine.api.core.podstate import unix_time
from peavine.controllers.controller import Context, Controller, Key
from peavine.machinery.errors import ApiError

API = "certificates.k8s.io/v1"
SECONDS_MAX = 15 * 60.0


class PodCertificateRequestCleaner(Controller):
    name = "podcertificaterequest-cleaner-controller"
    account = "podcertificaterequestcleaner"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = self.watch(API, "podcertificaterequests")

    async def reconcile(self, key: Key) -> float | None:
        request = self.requests.get(*key)
        if request is None:
            return None
        born = unix_time(request["metadata"].get("creationTimestamp")) or self.clock.time()
        left = born + SECONDS_MAX - self.clock.time()
        if left > 0:
            return left
        try:
            uid = request["metadata"]["uid"]
            await self.client.resource(API, "podcertificaterequests").delete(key[1], key[0], uid=uid)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None
