"""The ResourceClaims of pods: made from templates, reserved for their pods while these live, freed when they end.

Upstream: pkg/controller/resourceclaim.
"""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import is_deleting, is_terminal
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Object
from peavine.controllers.ownership import controlled_by, owner_reference
from peavine.controllers.pods import ignoring_gone
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of

API = "resource.k8s.io/v1"
POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
# Put on by the scheduler with the allocation: no claim goes while its devices are in use.
FINALIZER = "resource.kubernetes.io/delete-protection"


class ResourceClaimController(Controller):
    name = "resourceclaim-controller"
    account = "resource-claim-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch("v1", "pods", keys=_of_pod)
        self.claims = self.watch(API, "resourceclaims", keys=_of_claim)
        self.templates = self.watch(API, "resourceclaimtemplates", keys=self._of_template)
        self.resource = self.client.resource(API, "resourceclaims")

    def _of_template(self, template: Object) -> list[Any]:
        """The pods that wait for it."""
        namespace, name = key_of(template)
        return [
            ("pod", *key_of(pod))
            for pod in self.pods.list(namespace)
            if any(c.get("resourceClaimTemplateName") == name for c in pod["spec"].get("resourceClaims") or ())
        ]

    async def reconcile(self, key: Any) -> float | None:
        if key[0] == "pod":
            pod = self.pods.get(key[1], key[2])
            return await self._pod(pod) if pod is not None else None
        claim = self.claims.get(key[1], key[2])
        return await self._claim(claim) if claim is not None else None

    # A pod's claims

    async def _pod(self, pod: Object) -> float | None:
        if is_deleting(pod) or is_terminal(pod):
            return None
        if pod["spec"].get("nodeName"):
            await self._reserve(pod)
        made = {
            s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
        }
        changed = False
        for wanted in pod["spec"].get("resourceClaims") or ():
            template_name = wanted.get("resourceClaimTemplateName")
            if template_name is None or wanted["name"] in made:
                continue
            claim = self._own_claim(pod, wanted["name"]) or await self._create(pod, wanted["name"], template_name)
            if claim is None:
                return 10.0
            made[wanted["name"]] = claim["metadata"]["name"]
            changed = True
        if changed:
            statuses = [{"name": name, "resourceClaimName": claim} for name, claim in sorted(made.items())]
            meta = pod["metadata"]
            body = {"metadata": {"uid": meta["uid"]}, "status": {"resourceClaimStatuses": statuses}}
            pods = self.client.resource("v1", "pods")
            await pods.patch(meta["name"], body, meta["namespace"], subresource="status")
        return None

    def _own_claim(self, pod: Object, name: str) -> Object | None:
        for claim in self.claims.list(pod["metadata"]["namespace"]):
            annotations = claim["metadata"].get("annotations") or {}
            if annotations.get(POD_CLAIM) == name and controlled_by(claim, pod):
                return claim
        return None

    async def _create(self, pod: Object, name: str, template_name: str) -> Object | None:
        namespace = pod["metadata"]["namespace"]
        template = self.templates.get(namespace, template_name)
        typed = {**pod, "apiVersion": "v1", "kind": "Pod"}
        if template is None:
            message = f'PodResourceClaim {name}: resource claim template "{template_name}": not found'
            self.recorder.event(typed, "Warning", "FailedResourceClaimCreation", message)
            return None
        of_template = template["spec"].get("metadata") or {}
        meta = {
            "generateName": f"{pod['metadata']['name']}-{name}-",
            "namespace": namespace,
            "annotations": {**(of_template.get("annotations") or {}), POD_CLAIM: name},
            "ownerReferences": [owner_reference(typed)],
        }
        if of_template.get("labels"):
            meta["labels"] = of_template["labels"]
        body = {"apiVersion": API, "kind": "ResourceClaim", "metadata": meta, "spec": template["spec"]["spec"]}
        return await self.resource.create(body)

    async def _reserve(self, pod: Object) -> None:
        """For a pod that came to its node past the scheduler: its claims are its own if they are allocated."""
        statuses = {
            s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
        }
        for wanted in pod["spec"].get("resourceClaims") or ():
            name = wanted.get("resourceClaimName") or statuses.get(wanted["name"])
            claim = self.claims.get(pod["metadata"]["namespace"], name) if name else None
            status = (claim or {}).get("status") or {}
            reserved = status.get("reservedFor") or []
            uid = pod["metadata"]["uid"]
            if claim is None or not status.get("allocation") or any(r["uid"] == uid for r in reserved):
                continue
            consumer = {"resource": "pods", "name": pod["metadata"]["name"], "uid": uid}
            await self._write_status(claim, {**status, "reservedFor": [*reserved, consumer]})

    # A claim's reservations

    async def _claim(self, claim: Object) -> float | None:
        before, status = claim, claim.get("status") or {}
        reserved = status.get("reservedFor") or []
        valid = [consumer for consumer in reserved if await self._alive(claim, consumer)]
        if len(valid) != len(reserved) or (is_deleting(claim) and status.get("allocation") and not valid):
            status = {**status, "reservedFor": valid}
            if not valid:
                # A claim that nobody uses gives its devices back.
                for field in ("reservedFor", "allocation", "devices"):
                    status.pop(field, None)
            if status != (claim.get("status") or {}):
                claim = await self._write_status(claim, status)
        finalizers = claim["metadata"].get("finalizers") or []
        freed = bool((before.get("status") or {}).get("allocation")) or is_deleting(claim)
        # Not of a claim that never was allocated: the scheduler puts it on first.
        if FINALIZER in finalizers and not status.get("allocation") and freed:
            meta = {**claim["metadata"], "finalizers": [f for f in finalizers if f != FINALIZER]}
            claim = await self.resource.update({**_typed(claim), "metadata": meta})
        if not valid and not is_deleting(claim) and await self._served_its_pod(claim):
            meta = claim["metadata"]
            await ignoring_gone(self.resource.delete(meta["name"], meta["namespace"], uid=meta["uid"]))
        return None

    async def _write_status(self, claim: Object, status: Object) -> Object:
        return await self.resource.update({**_typed(claim), "status": status}, subresource="status")

    async def _served_its_pod(self, claim: Object) -> bool:
        """Whether the claim was made for one pod, and that has ended: nobody will use it again."""
        owner = controller_of(claim)
        if owner is None or owner["kind"] != "Pod" or POD_CLAIM not in (claim["metadata"].get("annotations") or {}):
            return False
        pod = self.pods.get(claim["metadata"]["namespace"], owner["name"])
        return pod is not None and pod["metadata"]["uid"] == owner["uid"] and is_terminal(pod)

    async def _alive(self, claim: Object, consumer: Object) -> bool:
        if consumer.get("resource") != "pods" or consumer.get("apiGroup"):
            return True  # not ours to judge
        namespace = claim["metadata"]["namespace"]
        pod = self.pods.get(namespace, consumer["name"])
        if pod is None or pod["metadata"]["uid"] != consumer["uid"]:
            # The cache may be behind the scheduler, who has just reserved the claim: the server decides.
            try:
                pod = await self.client.resource("v1", "pods").get(consumer["name"], namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                return False
        if pod["metadata"]["uid"] != consumer["uid"] or is_terminal(pod):
            return False
        return bool(pod["spec"].get("nodeName")) or not is_deleting(pod)


def _typed(claim: Object) -> Object:
    return {**claim, "apiVersion": API, "kind": "ResourceClaim"}


def _of_pod(pod: Object) -> list[Any]:
    if not pod["spec"].get("resourceClaims"):
        return []
    namespace, name = key_of(pod)
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    claims = [s.get("resourceClaimName") for s in statuses]
    claims += [c.get("resourceClaimName") for c in pod["spec"]["resourceClaims"]]
    return [("pod", namespace, name), *(("claim", namespace, claim) for claim in claims if claim)]


def _of_claim(claim: Object) -> list[Any]:
    """Itself, and the pods that use it."""
    pods = [r for r in (claim.get("status") or {}).get("reservedFor") or () if r.get("resource") == "pods"]
    namespace = claim["metadata"]["namespace"]
    return [("claim", *key_of(claim)), *(("pod", namespace, r["name"]) for r in pods)]
