"""Namespace deletion: empties a terminating namespace, pods first, then lets it go.

Upstream: pkg/controller/namespace, KEP-5080 (ordered namespace deletion); conditions of NamespaceStatus.
"""

from __future__ import annotations

from typing import Any

from peavine.client.discovery import ServedResource, served_resources
from peavine.client.transport import Unreachable
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp
from peavine.machinery.names import GVR

FINALIZER = "kubernetes"
# (condition, reason and message while nothing is wrong)
CONDITIONS = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}
PODS = GVR("", "v1", "pods")
LOOK_AGAIN_SECONDS = 0.25
LOOK_AGAIN_SECONDS_MAX = 5.0


class NamespaceController(Controller):
    name = "namespace-controller"
    account = "namespace-controller"
    workers = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.watch("v1", "namespaces")
        self.resource = self.client.resource("v1", "namespaces")
        self._looks: dict[str, int] = {}

    async def reconcile(self, key: Key) -> float | None:
        name = key[1]
        namespace = self.namespaces.get("", name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            self._looks.pop(name, None)
            return None
        if (namespace.get("status") or {}).get("phase") != "Terminating":
            status = {**(namespace.get("status") or {}), "phase": "Terminating"}
            namespace = await self.resource.update({**namespace, "status": status}, "status")
        if FINALIZER not in (namespace["spec"].get("finalizers") or ()):
            return None
        emptied = await _Emptying(self, name).run()
        if emptied.failures or emptied.remaining:
            await self._tell(namespace, emptied)
            look = self._looks[name] = self._looks.get(name, 0) + 1
            return min(LOOK_AGAIN_SECONDS * 2 ** min(look, 10), LOOK_AGAIN_SECONDS_MAX)
        await self._finalize(namespace)
        return None

    async def _tell(self, namespace: Object, emptied: _Emptying) -> None:
        conditions = emptied.conditions(namespace, self.clock.time())
        status = namespace.get("status") or {}
        if conditions != (status.get("conditions") or []):
            await self.resource.update({**namespace, "status": {**status, "conditions": conditions}}, "status")

    async def _finalize(self, namespace: Object) -> None:
        finalizers = [f for f in namespace["spec"].get("finalizers") or () if f != FINALIZER]
        body = {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}
        try:
            await self.resource.update(body, "finalize")
        except ApiError as error:
            if error.code != 404:
                raise


class _Emptying:
    """One look at a namespace: deletes what is there and counts what is left."""

    def __init__(self, controller: NamespaceController, namespace: str) -> None:
        self.client, self.namespace = controller.client, namespace
        self.remaining: dict[str, int] = {}
        self.finalizers: dict[str, int] = {}
        self.failures: dict[str, list[str]] = {}

    async def run(self) -> _Emptying:
        resources = []
        try:
            resources = [r for r in await served_resources(self.client) if r.namespaced and "delete" in r.verbs]
        except (ApiError, Unreachable) as error:
            self._fail("NamespaceDeletionDiscoveryFailure", f"Discovery failed for some groups: {error}")
        pods = [r for r in resources if r.gvr == PODS]
        for resource in pods:
            await self._delete_all(resource)
        if not self.remaining and not self.failures:
            # Only once the pods are gone: until then their NetworkPolicies, Secrets and the like must hold.
            for resource in resources:
                if resource.gvr != PODS and "list" in resource.verbs:
                    await self._delete_all(resource)
        return self

    async def _delete_all(self, resource: ServedResource) -> None:
        endpoint = self.client.resource(resource.gvr.api_version, resource.gvr.resource)
        try:
            found = (await endpoint.list(self.namespace)).get("items") or []
            if not found:
                return
            if "deletecollection" in resource.verbs:
                await endpoint.delete_collection(self.namespace, propagationPolicy="Background")
            else:
                for obj in found:
                    await endpoint.delete(obj["metadata"]["name"], self.namespace, propagation_policy="Background")
            left = (await endpoint.list(self.namespace)).get("items") or []
        except ApiError as error:
            if error.code not in (404, 405):
                self._fail(
                    "NamespaceDeletionContentFailure", f"Failed to delete all resource types, 1 remaining: {error}"
                )
            return
        if left:
            self.remaining[resource.gvr.group_resource] = len(left)
            for obj in left:
                for finalizer in obj["metadata"].get("finalizers") or ():
                    self.finalizers[finalizer] = self.finalizers.get(finalizer, 0) + 1

    def _fail(self, condition: str, message: str) -> None:
        self.failures.setdefault(condition, []).append(message)

    def conditions(self, namespace: Object, now: float) -> list[dict[str, Any]]:
        before = {c["type"]: c for c in (namespace.get("status") or {}).get("conditions") or ()}
        found: dict[str, tuple[str, str]] = {}
        for type_, messages in self.failures.items():
            reason = "DiscoveryFailed" if "Discovery" in type_ else "ContentDeletionFailed"
            found[type_] = (reason, ", ".join(sorted(messages)))
        if self.remaining:
            listed = ", ".join(f"{gvr}. has {n} resource instances" for gvr, n in sorted(self.remaining.items()))
            found["NamespaceContentRemaining"] = ("SomeResourcesRemain", f"Some resources are remaining: {listed}")
        if self.finalizers:
            listed = ", ".join(f"{name} in {n} resource instances" for name, n in sorted(self.finalizers.items()))
            message = f"Some content in the namespace has finalizers remaining: {listed}"
            found["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
        conditions = []
        for type_, (reason, message) in CONDITIONS.items():
            status = "False"
            if type_ in found:
                status, (reason, message) = "True", found[type_]
            old = before.get(type_)
            since = old["lastTransitionTime"] if old and old["status"] == status else stamp(now)
            conditions.append(
                {"type": type_, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
            )
        return conditions
