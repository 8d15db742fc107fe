"""StatefulSet: pods with a name, a place in the order and claims of their own.

Upstream: pkg/controller/statefulset; "StatefulSets", KEP-961 (maxUnavailable), KEP-1847 (claim retention), KEP-3335
(start ordinal).
"""

from __future__ import annotations

import re
from functools import partial

from peavine.api.core.podstate import is_available, is_ready, is_terminal, phase
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.deployment.arithmetic import scaled
from peavine.controllers.history import History
from peavine.controllers.ownership import (
    claim,
    controlled,
    controlled_by,
    index_by_controller,
    orphans,
    owner_reference,
    owners_of,
    still_alive,
)
from peavine.controllers.pods import PodControl, pod_from_template
from peavine.machinery.errors import ApiError
from peavine.machinery.selectors import selector_of

HASH_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"(.*)-([0-9]+)$")


def ordinal_of(pod: Object) -> int:
    """The number at the end of the pod's name; -1 where there is none."""
    match = _ORDINAL.match(pod["metadata"]["name"])
    return int(match[2]) if match else -1


class StatefulSetController(Controller):
    name = "statefulset-controller"
    account = "statefulset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = self.watch("apps/v1", "statefulsets")
        owners = owners_of("StatefulSet", "apps", self.sets, lambda s: selector_of(s["spec"].get("selector")))
        self.pods = self.watch("v1", "pods", keys=owners)
        index_by_controller(self.pods)
        self.claims = self.read("v1", "persistentvolumeclaims")
        self.history = History(self, "StatefulSet", HASH_LABEL)
        self.control = PodControl(self.client, self.recorder)
        self.resource = self.client.resource("apps/v1", "statefulsets")

    async def reconcile(self, key: Key) -> float | None:
        stateful_set = self.sets.get(*key)
        if stateful_set is None:
            return None
        selector = selector_of(stateful_set["spec"].get("selector"))
        if selector.empty or "deletionTimestamp" in stateful_set["metadata"]:
            return None
        name = stateful_set["metadata"]["name"]
        candidates = [*controlled(self.pods, stateful_set), *orphans(self.pods, key[0])]
        named = [p for p in candidates if (m := _ORDINAL.match(p["metadata"]["name"])) and m[1] == name]
        alive = partial(still_alive, self.resource, stateful_set)
        pods = await claim(stateful_set, named, selector.matches, self.control.pods, alive)
        update, old = await self.history.sync(stateful_set)
        step = _Step(self, stateful_set, pods, update, old)
        failure: Exception | None = None
        try:
            await step.run()
        except ApiError as error:
            failure = error
        await step.write_status()
        if failure is not None:
            raise failure
        await self.history.truncate(stateful_set, step.old_revisions(), pods)
        min_ready = stateful_set["spec"].get("minReadySeconds") or 0
        if min_ready and any(is_ready(p) and not is_available(p, min_ready, self.clock.time()) for p in pods):
            return float(min_ready)
        return None


class _Step:
    """One reconcile of one StatefulSet: at most one step for OrderedReady, all at once for Parallel."""

    def __init__(
        self, controller: StatefulSetController, stateful_set: Object, pods: list[Object], update: Object, old: list
    ) -> None:
        self.controller, self.set, self.update = controller, stateful_set, update
        self.spec = stateful_set["spec"]
        self.now = controller.clock.time()
        self.min_ready = self.spec.get("minReadySeconds") or 0
        status = stateful_set.get("status") or {}
        by_name = {r["metadata"]["name"]: r for r in [*old, update]}
        self.revisions = by_name
        # Until a rollout is over, pods below the partition are made from the revision that was current.
        self.current = by_name.get(status.get("currentRevision", ""), update)
        self.start = (self.spec.get("ordinals") or {}).get("start") or 0
        self.count = 1 if self.spec.get("replicas") is None else self.spec["replicas"]
        self.parallel = self.spec.get("podManagementPolicy") == "Parallel"
        self.by_ordinal = {ordinal_of(p): p for p in pods}
        self.pods = pods

    @property
    def wanted(self) -> range:
        return range(self.start, self.start + self.count)

    def old_revisions(self) -> list[Object]:
        keep = {self.update["metadata"]["name"], self.current["metadata"]["name"]}
        return [r for name, r in self.revisions.items() if name not in keep]

    async def run(self) -> None:
        await self._keep_claims()
        for ordinal in self.wanted:
            if not await self._ensure(ordinal) and not self.parallel:
                return
        condemned = sorted((o for o in self.by_ordinal if o not in self.wanted), reverse=True)
        for position, ordinal in enumerate(condemned):
            pod = self.by_ordinal[ordinal]
            if "deletionTimestamp" in pod["metadata"]:
                if not self.parallel:
                    return
                continue
            unhealthy = [o for o in self.wanted if (p := self.by_ordinal.get(o)) is None or not self._available(p)]
            if not self.parallel and not is_ready(pod) and unhealthy and position == 0 and unhealthy != [ordinal]:
                # Another pod is not well: scaling down waits for it.
                return
            await self.controller.control.delete(self.set, pod)
            if not self.parallel:
                return
        await self._roll()

    def _available(self, pod: Object) -> bool:
        return "deletionTimestamp" not in pod["metadata"] and is_available(pod, self.min_ready, self.now)

    async def _ensure(self, ordinal: int) -> bool:
        """The pod of one ordinal: made, remade if it has ended; True once it is there and available."""
        pod = self.by_ordinal.get(ordinal)
        control = self.controller.control
        if pod is not None and is_terminal(pod):
            if "deletionTimestamp" not in pod["metadata"]:
                reason, word = ("RecreatingFailedPod", "failed") if phase(pod) == "Failed" else ("", "terminated")
                if reason:
                    name = f"{pod['metadata']['namespace']}/{self.set['metadata']['name']}"
                    message = f"StatefulSet {name} is recreating {word} Pod {pod['metadata']['name']}"
                    self.controller.recorder.event(self.set, "Warning", reason, message)
                await control.delete(self.set, pod)
            return False
        if pod is None:
            await self._make_claims(ordinal)
            self.by_ordinal[ordinal] = await self._create(ordinal)
            return False
        if "deletionTimestamp" in pod["metadata"]:
            return False
        await self._make_claims(ordinal)
        await self._keep_identity(pod, ordinal)
        return self._available(pod)

    async def _keep_identity(self, pod: Object, ordinal: int) -> None:
        """The labels by which Services and people find one pod of the set are put back."""
        meta = pod["metadata"]
        wanted = {NAME_LABEL: meta["name"], INDEX_LABEL: str(ordinal)}
        if not wanted.items() <= (meta.get("labels") or {}).items():
            patch = {"metadata": {"uid": meta["uid"], "labels": wanted}}
            await self.controller.control.pods.patch(meta["name"], patch, meta["namespace"])

    async def _create(self, ordinal: int) -> Object:
        revision = self._revision_for(ordinal)
        template = (revision.get("data") or {}).get("spec", {}).get("template") or self.spec["template"]
        template = {k: v for k, v in template.items() if k != "$patch"}
        set_name = self.set["metadata"]["name"]
        name = f"{set_name}-{ordinal}"
        labels = {
            **((template.get("metadata") or {}).get("labels") or {}),
            NAME_LABEL: name,
            INDEX_LABEL: str(ordinal),
            HASH_LABEL: revision["metadata"]["name"],
        }
        spec = dict(template.get("spec") or {})
        spec["hostname"] = name
        if self.spec.get("serviceName"):
            spec["subdomain"] = self.spec["serviceName"]
        claims = {t["metadata"]["name"] for t in self.spec.get("volumeClaimTemplates") or ()}
        volumes = [v for v in spec.get("volumes") or () if v["name"] not in claims]
        volumes += [
            {"name": c, "persistentVolumeClaim": {"claimName": f"{c}-{name}", "readOnly": False}}
            for c in sorted(claims)
        ]
        if volumes:
            spec["volumes"] = volumes
        pod = pod_from_template(self.set, {**template, "spec": spec}, name=name, labels=labels)
        recorder = self.controller.recorder
        try:
            created = await self.controller.control.pods.create(pod)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                existing = await self.controller.control.pods.get(name, self.set["metadata"]["namespace"])
                if not controlled_by(existing, self.set):
                    raise  # somebody else has the name: wait for its end
                return existing
            message = f"create Pod {name} in StatefulSet {set_name} failed error: {error.message}"
            recorder.event(self.set, "Warning", "FailedCreate", message)
            raise
        recorder.event(
            self.set, "Normal", "SuccessfulCreate", f"create Pod {name} in StatefulSet {set_name} successful"
        )
        return created

    def _revision_for(self, ordinal: int) -> Object:
        if (self.spec.get("updateStrategy") or {}).get("type") == "OnDelete":
            return self.update
        if self.current is self.update:
            return self.update
        if self._rolling().get("partition") is not None:
            return self.current if ordinal < self.start + self._partition() else self.update
        # The rollout goes downwards: below those that it has reached, pods are still of the current revision.
        name = self.current["metadata"]["name"]
        untouched = sum(
            "deletionTimestamp" not in p["metadata"] and (p["metadata"].get("labels") or {}).get(HASH_LABEL) == name
            for p in self.pods
        )
        return self.current if ordinal < self.start + untouched else self.update

    def _rolling(self) -> Object:
        return (self.spec.get("updateStrategy") or {}).get("rollingUpdate") or {}

    def _partition(self) -> int:
        return self._rolling().get("partition") or 0

    async def _roll(self) -> None:
        """Replace pods of older revisions, from the highest ordinal down to the partition."""
        if (self.spec.get("updateStrategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
            return
        wanted = self._rolling().get("maxUnavailable")
        budget = max(1, scaled(wanted, self.count, up=False)) if wanted is not None else 1
        update = self.update["metadata"]["name"]
        unavailable = sum(1 for o in self.wanted if (p := self.by_ordinal.get(o)) is None or not self._available(p))
        for ordinal in reversed(self.wanted):
            if ordinal < self.start + self._partition():
                return
            pod = self.by_ordinal.get(ordinal)
            if pod is None:
                return
            outdated = (pod["metadata"].get("labels") or {}).get(HASH_LABEL) != update
            if outdated and "deletionTimestamp" not in pod["metadata"]:
                if self._available(pod):
                    if unavailable >= budget:
                        return
                    unavailable += 1
                await self._delete_outdated(pod)
                if budget == 1:
                    return
            elif not self._available(pod) and budget == 1:
                return

    async def _delete_outdated(self, pod: Object) -> None:
        name, set_name = pod["metadata"]["name"], self.set["metadata"]["name"]
        meta = pod["metadata"]
        try:
            await self.controller.control.pods.delete(name, meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return
        message = f"delete Pod {name} in StatefulSet {set_name} successful"
        self.controller.recorder.event(self.set, "Normal", "SuccessfulDelete", message)

    # claims
    async def _make_claims(self, ordinal: int) -> None:
        meta = self.set["metadata"]
        match_labels = (self.spec.get("selector") or {}).get("matchLabels") or {}
        for template in self.spec.get("volumeClaimTemplates") or ():
            name = self._claim_name(template, ordinal)
            if self.controller.claims.get(meta["namespace"], name) is not None:
                continue
            of_template = template["metadata"]
            claim_meta: Object = {
                "name": name,
                "namespace": meta["namespace"],
                "labels": {**(of_template.get("labels") or {}), **match_labels},
            }
            if of_template.get("annotations"):
                claim_meta["annotations"] = of_template["annotations"]
            body = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": claim_meta,
                "spec": template["spec"],
            }
            pod = f"Pod {meta['name']}-{ordinal} in StatefulSet {meta['name']}"
            try:
                await self.controller.client.resource("v1", "persistentvolumeclaims").create(body)
            except ApiError as error:
                if error.reason == "AlreadyExists":
                    continue
                message = f"create Claim {name} {pod} failed error: {error.message}"
                self.controller.recorder.event(self.set, "Warning", "FailedCreate", message)
                raise
            message = f"create Claim {name} {pod} success"
            self.controller.recorder.event(self.set, "Normal", "SuccessfulCreate", message)

    async def _keep_claims(self) -> None:
        """persistentVolumeClaimRetentionPolicy: claims owned by the set, or by a pod that is being scaled away."""
        policy = self.spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for template in self.spec.get("volumeClaimTemplates") or ():
            for ordinal in dict.fromkeys((*self.wanted, *self.by_ordinal)):
                name = self._claim_name(template, ordinal)
                claim_ = self.controller.claims.get(self.set["metadata"]["namespace"], name)
                if claim_ is not None:
                    await self._own(claim_, self._claim_owner(policy, ordinal), ordinal)

    def _claim_name(self, template: Object, ordinal: int) -> str:
        return f"{template['metadata']['name']}-{self.set['metadata']['name']}-{ordinal}"

    def _claim_owner(self, policy: Object, ordinal: int) -> Object | None:
        """With whom the claim goes: a surplus pod, the set, or nobody."""
        if policy.get("whenScaled") == "Delete" and ordinal not in self.wanted:
            return {**self.by_ordinal[ordinal], "apiVersion": "v1", "kind": "Pod"}
        return self.set if policy.get("whenDeleted") == "Delete" else None

    async def _own(self, claim_: Object, owner: Object | None, ordinal: int) -> None:
        """Owners beside the set and its pod stay; a claim that somebody else controls is left alone."""
        meta, pod = claim_["metadata"], f"{self.set['metadata']['name']}-{ordinal}"
        before = meta.get("ownerReferences") or []
        kept = [
            o
            for o in before
            if o["uid"] != self.set["metadata"]["uid"] and not (o["kind"] == "Pod" and o["name"] == pod)
        ]
        if any(o.get("controller") for o in kept):
            return
        wanted = kept + ([owner_reference(owner)] if owner is not None else [])
        if wanted != before:
            changed = {**claim_, "metadata": {**meta, "ownerReferences": wanted}}
            await self.controller.client.resource("v1", "persistentvolumeclaims").update(changed)

    # status
    async def write_status(self) -> None:
        old = self.set.get("status") or {}
        update, current = self.update["metadata"]["name"], self.current["metadata"]["name"]
        mine = [p for p in self.by_ordinal.values() if controlled_by(p, self.set) and not is_terminal(p)]
        revision = {p["metadata"]["name"]: (p["metadata"].get("labels") or {}).get(HASH_LABEL) for p in mine}
        live = [p for p in mine if "deletionTimestamp" not in p["metadata"]]
        status: Object = {
            "observedGeneration": self.set["metadata"].get("generation", 0),
            "replicas": len(mine),
            "availableReplicas": sum(self._available(p) for p in mine),
            "currentRevision": current,
            "updateRevision": update,
            "collisionCount": old.get("collisionCount", 0),
        }
        counts = {
            "readyReplicas": sum(is_ready(p) for p in live),
            "currentReplicas": sum(revision[p["metadata"]["name"]] == current for p in live),
            "updatedReplicas": sum(revision[p["metadata"]["name"]] == update for p in live),
        }
        status |= {k: v for k, v in counts.items() if v}
        if old.get("conditions"):
            status["conditions"] = old["conditions"]
        rolling = (self.spec.get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        if (
            rolling
            and not self._partition()
            and status.get("updatedReplicas", 0) == status["replicas"] == self.count
            and status.get("readyReplicas", 0) == self.count
        ):
            status["currentRevision"] = update
            if status.get("updatedReplicas"):
                status["currentReplicas"] = status["updatedReplicas"]
        if status != old:
            await self.controller.resource.update({**self.set, "status": status}, "status")
