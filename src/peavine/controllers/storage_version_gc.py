"""API servers that are gone no longer say how they store things: their entries leave the StorageVersions.

Upstream: pkg/controller/storageversiongc. StorageVersions are an alpha API that is off by default: while the group is
not served, there is nothing to do, and this controller does nothing.
"""

from __future__ import annotations

from peavine.client.discovery import served_resources
from peavine.client.informer import Informer
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

GROUP, VERSION, RESOURCE = "internal.apiserver.k8s.io", "v1alpha1", "storageversions"
API = f"{GROUP}/{VERSION}"
IDENTITY_NAMESPACE = "kube-system"
IDENTITY_LABEL = "apiserver.kubernetes.io/identity"
LOOK_SECONDS = 300.0
ALL: Key = ("", "")


class StorageVersionGarbageCollector(Controller):
    name = "storageversion-garbage-collector-controller"
    account = "storage-version-garbage-collector"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.leases: Informer = self.read(
            "coordination.k8s.io/v1", "leases", namespace=IDENTITY_NAMESPACE, label_selector=IDENTITY_LABEL
        )
        self.leases.add_handler(None, None, lambda lease: self.queue.add(ALL))
        self.resource = self.client.resource(API, RESOURCE)

    async def start(self) -> None:
        self.queue.add(ALL)

    async def reconcile(self, key: Key) -> float | None:
        """Look at all of them: there is one for each resource, and servers come and go seldom."""
        if not any((s.gvr.group, s.gvr.version) == (GROUP, VERSION) for s in await served_resources(self.client)):
            return LOOK_SECONDS
        for version in (await self.resource.list())["items"]:
            await self._clean(version)
        return LOOK_SECONDS

    async def _clean(self, version: Object) -> None:
        status = version.get("status") or {}
        entries = status.get("storageVersions") or []
        alive = [e for e in entries if self.leases.get(IDENTITY_NAMESPACE, e["apiServerID"]) is not None]
        if len(alive) == len(entries):
            return
        meta = version["metadata"]
        try:
            if not alive:
                await self.resource.delete(meta["name"], uid=meta["uid"], resource_version=meta["resourceVersion"])
                return
            encodings = {e["encodingVersion"] for e in alive}
            status = {**status, "storageVersions": alive}
            status.pop("commonEncodingVersion", None)
            if len(encodings) == 1:
                status["commonEncodingVersion"] = encodings.pop()
            body = {**version, "apiVersion": API, "kind": "StorageVersion", "status": status}
            await self.resource.update(body, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
