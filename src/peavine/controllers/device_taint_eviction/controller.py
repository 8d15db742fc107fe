"""Evicts pods from tainted devices, and says in each DeviceTaintRule's status how far that is."""

from __future__ import annotations

from collections import Counter
from typing import Any

from peavine.api.conditions import condition
from peavine.api.core.podstate import is_deleting, is_terminal
from peavine.api.core.taint import NO_EXECUTE
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Object
from peavine.controllers.device_taint_eviction.taints import (
    Eviction,
    current,
    devices_of,
    eviction_of,
    selects,
)
from peavine.controllers.pods import disrupt, remove
from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time

API = "resource.k8s.io/v1"
IN_PROGRESS = "EvictionInProgress"
# A rule's status follows the evictions at most this often.
STATUS_SECONDS = 10.0
Key = tuple[str, str, str]


class DeviceTaintEvictionController(Controller):
    """Keys are ("pod", namespace, name) and ("rule", "", name)."""

    name = "device-taint-eviction-controller"
    account = "device-taint-eviction-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch("v1", "pods", keys=_of_pod)
        self.slices = self.watch(API, "resourceslices", keys=self._of_slice)
        self.rules = self.watch(API, "devicetaintrules", keys=self._of_rule)
        self.claims = self.watch(API, "resourceclaims", keys=self._of_claim)
        self.resource = self.client.resource(API, "devicetaintrules")
        self.pod_resource = self.client.resource("v1", "pods")
        self._due: set[Key] = set()  # pods that are to be evicted later
        self._evicted: Counter[str] = Counter()  # by rule, since this process began

    def _of_claim(self, claim: Object) -> list[Key]:
        rules = [("rule", "", rule["metadata"]["name"]) for rule in self.rules.list()] if devices_of(claim) else []
        return [*_users(claim), *rules]

    def _of_slice(self, piece: Object) -> list[Key]:
        pool = (piece["spec"]["driver"], piece["spec"]["pool"]["name"])
        claims = [c for c in self.claims.list() if any((d["driver"], d["pool"]) == pool for d in devices_of(c))]
        return [key for claim in claims for key in _users(claim)]

    def _of_rule(self, rule: Object) -> list[Key]:
        about = [
            key
            for claim in self.claims.list()
            if any(selects(rule, d["driver"], d["pool"], d["device"]) for d in devices_of(claim))
            for key in _users(claim)
        ]
        return [("rule", "", rule["metadata"]["name"]), *about]

    async def reconcile(self, key: Key) -> float | None:
        if key[0] == "rule":
            rule = self.rules.get("", key[2])
            return await self._report(rule) if rule is not None else None
        pod = self.pods.get(key[1], key[2])
        if pod is None or is_deleting(pod):
            self._due.discard(key)
            return None
        eviction = self._eviction(pod, self.rules.list())
        if eviction is None:
            if key in self._due:
                self._due.discard(key)
                self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Cancelling deletion")
            return None
        wait = eviction.when - self.clock.time()
        if wait > 0:
            self._due.add(key)
            return wait
        await self._evict(pod)
        self._due.discard(key)
        for rule in self.rules.list():
            if rule["metadata"]["uid"] in eviction.rules:
                self._evicted[rule["metadata"]["uid"]] += 1
                self.queue.add_after(("rule", "", rule["metadata"]["name"]), STATUS_SECONDS)
        return None

    def _eviction(self, pod: Object, rules: list[Object]) -> Eviction | None:
        """The earliest of what its claims say, with the rules of all."""
        if is_terminal(pod) or is_deleting(pod):
            return None
        slices, now = current(self.slices.list()), self.clock.time()
        found = [e for claim in self._claims_of(pod) if (e := eviction_of(claim, slices, rules, now)) is not None]
        if not found:
            return None
        return Eviction(min(e.when for e in found), frozenset().union(*(e.rules for e in found)))

    def _claims_of(self, pod: Object) -> list[Object]:
        """The claims that are reserved for the pod."""
        meta = pod["metadata"]
        names = {c.get("resourceClaimName") for c in pod["spec"].get("resourceClaims") or ()}
        names |= {s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
        extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
        names.add(extended.get("resourceClaimName"))
        claims = (self.claims.get(meta["namespace"], name) for name in names if name)
        return [
            claim
            for claim in claims
            if claim is not None
            and any(r.get("uid") == meta["uid"] for r in (claim.get("status") or {}).get("reservedFor") or ())
        ]

    async def _evict(self, pod: Object) -> None:
        self.recorder.event(pod, "Normal", "DeviceTaintManagerEviction", "Marking for deletion")
        if condition(pod, "DisruptionTarget") is None:
            message = "Device Taint manager: deleting due to NoExecute taint"
            await disrupt(self.pod_resource, pod, "DeletionByDeviceTaintManager", message, self.clock.time())
        await remove(self.pod_resource, pod)

    # A rule's status

    async def _report(self, rule: Object) -> float | None:
        before = condition(rule, IN_PROGRESS)
        generation, now = rule["metadata"].get("generation", 0), self.clock.time()
        if before is not None and before.get("observedGeneration") == generation:
            wait = parse_time(before["lastTransitionTime"]) + STATUS_SECONDS - now
            if wait > 0:
                return wait
        value, reason, message = self._progress(rule)
        wanted = {"type": IN_PROGRESS, "status": value, "reason": reason, "message": message}
        wanted["observedGeneration"] = generation
        if before is None or any(before.get(k, "") != v for k, v in wanted.items()):
            others = [c for c in (rule.get("status") or {}).get("conditions") or () if c["type"] != IN_PROGRESS]
            conditions = [*others, {**wanted, "lastTransitionTime": stamp(now)}]
            patch = {"metadata": {"uid": rule["metadata"]["uid"]}, "status": {"conditions": conditions}}
            await self.resource.patch(rule["metadata"]["name"], patch, subresource="status")
        return None

    def _progress(self, rule: Object) -> tuple[str, str, str]:
        """(status, reason, message) of the condition."""
        effect, evicted = rule["spec"]["taint"].get("effect"), self._evicted[rule["metadata"]["uid"]]
        value, reason, words = "False", "OtherEffect", ["Eviction only happens for the NoExecute effect."]
        if effect == NO_EXECUTE:
            pods, namespaces = self._pending(rule)
            words = []
            if pods:
                value, reason = "True", "PodsPendingEviction"
                words = [f"{_count(pods, 'pod needs', 'pods need')} to be evicted in {_namespaces(namespaces)}."]
            else:
                reason = "Completed" if evicted else "NotStarted"
        elif effect == "None":
            reason, words = "NoEffect", [self._preview(rule)]
        if evicted:
            words.append(f"{_count(evicted, 'pod', 'pods')} evicted since starting the controller.")
        return value, reason, " ".join(words)

    def _pending(self, rule: Object) -> tuple[int, int]:
        """(pods that have to go because of this rule, in how many namespaces)."""
        uid = rule["metadata"]["uid"]
        rules = [rule if r["metadata"]["uid"] == uid else r for r in self.rules.list()]
        users = {key for claim in self.claims.list() for key in _users(claim)}
        found = [pod for key in users if (pod := self.pods.get(key[1], key[2])) is not None]
        pods = [p for p in found if (e := self._eviction(p, rules)) is not None and uid in e.rules]
        return len(pods), len({p["metadata"]["namespace"] for p in pods})

    def _preview(self, rule: Object) -> str:
        """What the rule would do if its effect was NoExecute."""
        taint = {**rule["spec"]["taint"], "effect": NO_EXECUTE}
        pods, namespaces = self._pending({**rule, "spec": {**rule["spec"], "taint": taint}})
        published = sum(
            selects(rule, s["spec"]["driver"], s["spec"]["pool"]["name"], device["name"])
            for s in current(self.slices.list())
            for device in s["spec"].get("devices") or ()
        )
        allocated = sum(
            selects(rule, d["driver"], d["pool"], d["device"]) for c in self.claims.list() for d in devices_of(c)
        )
        return (
            f"{_count(published, 'published device', 'published devices')} selected. "
            f"{_count(allocated, 'allocated device', 'allocated devices')} selected. "
            f"{_count(pods, 'pod', 'pods')} would be evicted in {_namespaces(namespaces)} if the effect was NoExecute. "
            "This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
        )


def _of_pod(pod: Object) -> list[Any]:
    claims = pod["spec"].get("resourceClaims") or (pod.get("status") or {}).get("extendedResourceClaimStatus")
    return [("pod", *key_of(pod))] if claims else []


def _users(claim: Object) -> list[Key]:
    """The pods that a claim is reserved for."""
    namespace = claim["metadata"]["namespace"]
    reserved = (claim.get("status") or {}).get("reservedFor") or ()
    return [("pod", namespace, r["name"]) for r in reserved if r.get("resource") == "pods" and not r.get("apiGroup")]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _namespaces(number: int) -> str:
    return "1 namespace" if number == 1 else f"{number} different namespaces"
