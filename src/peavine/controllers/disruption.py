"""How many pods of each PodDisruptionBudget may go now. Upstream: pkg/controller/disruption."""

from __future__ import annotations

import math

from peavine.api.conditions import set_condition
from peavine.api.core.podstate import is_deleting, is_ready
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of, now, parse_time
from peavine.machinery.selectors import SelectorError, selector_of

API = "policy/v1"
DELETION_SECONDS_MAX = 120.0  # an eviction that has not begun to delete its pod by then is forgotten


class DisruptionController(Controller):
    name = "disruption-controller"
    account = "disruption-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.budgets = self.watch(API, "poddisruptionbudgets")
        self.pods = self.watch("v1", "pods", keys=self._of_pod)
        self.owners = {
            ("apps", "ReplicaSet"): self.watch("apps/v1", "replicasets", keys=self._of_namespace),
            ("apps", "Deployment"): self.read("apps/v1", "deployments"),
            ("apps", "StatefulSet"): self.watch("apps/v1", "statefulsets", keys=self._of_namespace),
            ("", "ReplicationController"): self.read("v1", "replicationcontrollers"),
        }
        self.resource = self.client.resource(API, "poddisruptionbudgets")

    def _of_pod(self, pod: Object) -> list[Key]:
        meta = pod["metadata"]
        return [
            key_of(budget)
            for budget in self.budgets.list(meta.get("namespace"))
            if _selects(budget, meta.get("labels") or {})
        ]

    def _of_namespace(self, owner: Object) -> list[Key]:
        return [key_of(budget) for budget in self.budgets.list(owner["metadata"].get("namespace"))]

    async def reconcile(self, key: Key) -> float | None:
        budget = self.budgets.get(*key)
        if budget is None or budget["metadata"].get("deletionTimestamp"):
            return None
        try:
            return await self._update(budget)
        except ValueError as error:
            self.recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", str(error))
            await self._write(budget, {}, "SyncFailed", str(error))
            return None

    async def _update(self, budget: Object) -> float | None:
        pods = [
            pod
            for pod in self.pods.list(budget["metadata"]["namespace"])
            if _selects(budget, pod["metadata"].get("labels") or {})
        ]
        if not pods:
            self.recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        expected, desired = await self._expected(budget, pods)
        disrupted, again = self._disrupted(budget, pods)
        healthy = sum(
            not is_deleting(pod) and pod["metadata"]["name"] not in disrupted and is_ready(pod) for pod in pods
        )
        allowed = max(0, healthy - desired) if expected > 0 else 0
        status = {
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "disruptionsAllowed": allowed,
            "disruptedPods": disrupted,
        }
        await self._write(budget, status, "SufficientPods" if allowed else "InsufficientPods", "")
        return again

    async def _expected(self, budget: Object, pods: list[Object]) -> tuple[int, int]:
        """(pods that should be, pods that must stay healthy)."""
        spec = budget["spec"]
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if most is not None:
            total = await self._scale(pods)
            return total, max(0, total - _part(most, total))
        if least is None:
            return len(pods), 1
        if isinstance(least, int):
            return len(pods), least
        total = await self._scale(pods)
        return total, _part(least, total)

    async def _scale(self, pods: list[Object]) -> int:
        """The replicas that the controllers of these pods want together. Raises ValueError for pods without one."""
        wanted: dict[str, int] = {}
        for pod in pods:
            owner = controller_of(pod)
            if owner is None:
                name = pod["metadata"]["name"]
                raise ValueError(f'found no controller ref for pod "{name}"')
            if owner["uid"] not in wanted:
                uid, replicas = await self._replicas(pod["metadata"]["namespace"], owner)
                wanted[owner["uid"]] = 0
                wanted[uid] = replicas
        return sum(wanted.values())

    async def _replicas(self, namespace: str, owner: Object) -> tuple[str, int]:
        """(uid, replicas) of the owner that decides: for a ReplicaSet its Deployment."""
        group = owner["apiVersion"].rpartition("/")[0]
        informer = self.owners.get((group, owner["kind"]))
        if informer is None:
            return await self._scale_of(namespace, owner)
        found = informer.get(namespace, owner["name"])
        if found is None or found["metadata"]["uid"] != owner["uid"]:
            return owner["uid"], 0
        above = controller_of(found)
        if owner["kind"] == "ReplicaSet" and above is not None and above["kind"] == "Deployment":
            return await self._replicas(namespace, above)
        return owner["uid"], found["spec"].get("replicas", 1)

    async def _scale_of(self, namespace: str, owner: Object) -> tuple[str, int]:
        """Any other kind tells by its scale subresource."""
        from peavine.client.discovery import served_resources

        group = owner["apiVersion"].rpartition("/")[0]
        for served in await served_resources(self.client):
            if (served.gvr.group, served.kind) == (group, owner["kind"]):
                resource = self.client.resource(served.gvr.api_version, served.gvr.resource)
                try:
                    scale = await resource.get(owner["name"], namespace, subresource="scale")
                except ApiError as error:
                    raise ValueError(f"{owner['kind']} {owner['name']} has no scale: {error.message}") from error
                return owner["uid"], (scale.get("spec") or {}).get("replicas", 0)
        raise ValueError(f"{owner['kind']}.{group} is not served")

    def _disrupted(self, budget: Object, pods: list[Object]) -> tuple[Object, float | None]:
        """Pods whose eviction was granted and has not yet begun; and when to look at them again."""
        present = {pod["metadata"]["name"] for pod in pods if not is_deleting(pod)}
        kept: Object = {}
        again: float | None = None
        for name, since in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
            left = parse_time(since) + DELETION_SECONDS_MAX - self.clock.time()
            if name in present and left > 0:
                kept[name] = since
                again = left if again is None else min(again, left)
        return kept, again

    async def _write(self, budget: Object, status: Object, reason: str, message: str) -> None:
        meta = budget["metadata"]
        before = budget.get("status") or {}
        wanted = {**before, **status, "observedGeneration": meta.get("generation", 0)}
        wanted["conditions"] = [dict(c) for c in before.get("conditions") or []]
        value = "True" if reason == "SufficientPods" else "False"
        moment = now(self.clock.time())
        set_condition(wanted, "DisruptionAllowed", value, reason, message, moment)
        for entry in wanted["conditions"]:
            entry["observedGeneration"] = meta.get("generation", 0)
            entry.setdefault("message", "")
        if not wanted.get("disruptedPods"):
            wanted.pop("disruptedPods", None)
        for count in ("currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"):
            wanted.setdefault(count, 0)
        if wanted != before:
            body = {**budget, "apiVersion": API, "kind": "PodDisruptionBudget", "status": wanted}
            await self.resource.update(body, subresource="status")


def _selects(budget: Object, labels: dict[str, str]) -> bool:
    try:
        return selector_of(budget["spec"].get("selector")).matches(labels)
    except SelectorError:
        return False


def _part(value: int | str, total: int) -> int:
    """A count, or a percentage of `total` rounded up."""
    return value if isinstance(value, int) else math.ceil(int(value.removesuffix("%")) * total / 100)
