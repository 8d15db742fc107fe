"""What every ResourceQuota has in use: `status.hard` follows the spec, `status.used` what there is in the namespace.

Admission raises `used` as objects come; this controller lowers it as they go, and puts right what drifted. Upstream:
pkg/controller/resourcequota.
"""

from __future__ import annotations

from peavine.api.core.podstate import is_terminal
from peavine.api.core.quota_usage import Usage, counted, matches, usage_of
from peavine.client.discovery import served_resources
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVR
from peavine.machinery.quantity import ZERO

RESYNC_SECONDS = 300.0
COUNT_SECONDS = 10.0  # for what is only counted, and not watched
COMPUTE = ("cpu", "memory", "ephemeral-storage", "requests.", "limits.", "hugepages-")


class ResourceQuotaController(Controller):
    name = "resourcequota-controller"
    account = "resourcequota-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.quotas = self.read("v1", "resourcequotas")
        self.quotas.add_handler(self._enqueue, self._limits_changed)
        self.watched = {
            GVR("", "v1", "pods"): self.read("v1", "pods"),
            GVR("", "v1", "services"): self.read("v1", "services"),
            GVR("", "v1", "persistentvolumeclaims"): self.read("v1", "persistentvolumeclaims"),
        }
        self.watched[GVR("", "v1", "pods")].add_handler(None, self._pod_changed, self._gone)
        for gvr, informer in self.watched.items():
            if gvr.resource != "pods":
                informer.add_handler(None, self._changed, self._gone)
        self.resource = self.client.resource("v1", "resourcequotas")

    def _enqueue(self, quota: Object) -> None:
        self.queue.add(key_of(quota))

    def _limits_changed(self, old: Object, new: Object) -> None:
        """Not every change of the status: what admission has just added is there before the object that it is for, and
        would be taken back."""
        if old["spec"] != new["spec"]:
            self._enqueue(new)

    def _pod_changed(self, old: Object, new: Object) -> None:
        if is_terminal(new) != is_terminal(old) or old.get("spec") != new.get("spec"):
            self._gone(new)

    def _changed(self, old: Object, new: Object) -> None:
        if old.get("spec") != new.get("spec"):
            self._gone(new)

    def _gone(self, obj: Object) -> None:
        for quota in self.quotas.list(obj["metadata"].get("namespace")):
            self.queue.add(key_of(quota))

    async def reconcile(self, key: Key) -> float | None:
        quota = self.quotas.get(*key)
        if quota is None:
            return None
        hard = quota["spec"].get("hard") or {}
        used, all_watched = await self._used(quota, hard)
        wanted = {"hard": hard, "used": {name: str(used.get(name, ZERO)) for name in hard}}
        status = quota.get("status") or {}
        if {part: status.get(part) or {} for part in ("hard", "used")} != wanted:
            meta = {k: quota["metadata"][k] for k in ("name", "namespace", "resourceVersion", "uid")}
            body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": quota["spec"]}
            body["status"] = {part: value for part, value in wanted.items() if value}
            await self.resource.update(body, subresource="status")
        return RESYNC_SECONDS if all_watched else COUNT_SECONDS

    async def _used(self, quota: Object, hard: Object) -> tuple[Usage, bool]:
        """The sum over everything that this quota counts; and whether all of it is watched."""
        total: Usage = {}
        all_watched = True
        namespace = quota["metadata"]["namespace"]
        for gvr in await self._counted(hard):
            informer = self.watched.get(gvr)
            if informer is not None:
                objects = informer.list(namespace)
            else:
                all_watched = False
                objects = await self._listed(gvr, namespace)
            for obj in objects:
                if not matches(quota, gvr.group, gvr.resource, obj):
                    continue
                for name, quantity in counted(hard, usage_of(gvr.group, gvr.resource, obj)).items():
                    total[name] = total[name] + quantity if name in total else quantity
        return total, all_watched

    async def _counted(self, hard: Object) -> list[GVR]:
        """The resources that these limits are about."""
        found: set[GVR] = set()
        for name in hard:
            if name.startswith("count/"):
                resource, _, group = name.removeprefix("count/").partition(".")
                gvr = await self._served(group, resource)
                if gvr is not None:
                    found.add(gvr)
            elif "storageclass.storage.k8s.io/" in name or name in ("persistentvolumeclaims", "requests.storage"):
                found.add(GVR("", "v1", "persistentvolumeclaims"))
            elif name.startswith("services"):
                found.add(GVR("", "v1", "services"))
            elif ".deviceclass.resource.k8s.io/" in name:
                found.add(GVR("resource.k8s.io", "v1", "resourceclaims"))
            elif name in ("secrets", "configmaps", "replicationcontrollers", "resourcequotas"):
                found.add(GVR("", "v1", name))
            elif name == "pods" or name.startswith(COMPUTE):
                found.add(GVR("", "v1", "pods"))
        return sorted(found)

    async def _served(self, group: str, resource: str) -> GVR | None:
        if group == "":
            return GVR("", "v1", resource)
        if group == "apps":
            return GVR("apps", "v1", resource)
        for served in await served_resources(self.client):
            if (served.gvr.group, served.gvr.resource) == (group, resource):
                return served.gvr
        return None

    async def _listed(self, gvr: GVR, namespace: str) -> list[Object]:
        try:
            found = await self.client.resource(gvr.api_version, gvr.resource).list(namespace)
        except ApiError as error:
            if error.code in (403, 404, 405):
                return []
            raise
        return found["items"]  # type: ignore[no-any-return]
