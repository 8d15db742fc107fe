"""Rewrites every object of a resource, so that all are stored in its present form.

Upstream: pkg/controller/storageversionmigrator. An empty patch is written to each object; one that changes or goes
meanwhile needs none.
"""

from __future__ import annotations

from peavine.api.catalogue import CATALOGUE
from peavine.api.conditions import condition, set_condition
from peavine.client.discovery import served_resources
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now
from peavine.machinery.names import GVR

API = "storagemigration.k8s.io/v1"
PAGE = 500


class StorageVersionMigratorController(Controller):
    name = "storage-version-migrator-controller"
    account = "storage-version-migrator-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.migrations = self.watch(API, "storageversionmigrations")
        self.resource = self.client.resource(API, "storageversionmigrations")

    async def reconcile(self, key: Key) -> float | None:
        migration = self.migrations.get(*key)
        if migration is None or any(condition(migration, type) for type in ("Succeeded", "Failed")):
            return None
        wanted = migration["spec"]["resource"]
        gvr = await self._served(wanted.get("group") or "", wanted["resource"])
        if gvr is None:
            await self._say(migration, "Failed", "ResourceNotFound", "resource does not exist in the API server")
            return None
        migration = await self._say(migration, "Running", "StorageVersionMigrationInProgress", "")
        await self._rewrite(gvr)
        await self._say(migration, "Succeeded", "StorageVersionMigrationSucceeded", "")
        return None

    async def _served(self, group: str, resource: str) -> GVR | None:
        for kind in CATALOGUE.kinds():
            if (kind.group, kind.plural) == (group, resource):
                return kind.gvr
        for served in await served_resources(self.client):
            if (served.gvr.group, served.gvr.resource) == (group, resource):
                return served.gvr
        return None

    async def _rewrite(self, gvr: GVR) -> None:
        resource = self.client.resource(gvr.api_version, gvr.resource)
        token = ""
        while True:
            page = await resource.list(limit=PAGE, continue_token=token)
            for obj in page.get("items") or ():
                meta = obj["metadata"]
                same = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
                try:
                    await resource.patch(meta["name"], same, meta.get("namespace"))
                except ApiError as error:
                    if error.code not in (404, 409):
                        raise
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def _say(self, migration: Object, type: str, reason: str, message: str) -> Object:
        status = dict(migration.get("status") or {})
        status["conditions"] = [dict(c) for c in status.get("conditions") or ()]
        moment = now(self.clock.time())
        for entry in status["conditions"]:
            if entry["type"] == "Running" and type != "Running":
                entry.update(status="False", lastTransitionTime=moment)
        set_condition(status, type, "True", reason, message, moment)
        for entry in status["conditions"]:
            entry.setdefault("message", "")
        body = {**migration, "apiVersion": API, "kind": "StorageVersionMigration", "status": status}
        return await self.resource.update(body, subresource="status")
