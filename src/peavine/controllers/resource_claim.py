"""The ResourceClaims of pods: made from templates, reserved for their pods while these live, freed when they end.

Upstream: pkg/controller/resourceclaim.
"""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import is_deleting, is_terminal
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Object
from peavine.controllers.ownership import controlled_by, owner_reference

API = "resource.k8s.io/v1"
POD_CLAIM = "resource.kubernetes.io/pod-claim-name"


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

    # A claim's reservations

    async def _claim(self, claim: Object) -> float | None:
        status = claim.get("status") or {}
        reserved = status.get("reservedFor") or []
        valid = [consumer for consumer in reserved if self._alive(claim, consumer)]
        if len(valid) == len(reserved):
            return None
        status = {**status, "reservedFor": valid}
        if not valid:
            status.pop("reservedFor")
            status.pop("allocation", None)  # a claim that nobody uses gives its devices back
        body = {**claim, "apiVersion": API, "kind": "ResourceClaim", "status": status}
        await self.resource.update(body, subresource="status")
        return None

    def _alive(self, claim: Object, consumer: Object) -> bool:
        if consumer.get("resource") != "pods" or consumer.get("apiGroup"):
            return True  # not ours to judge
        pod = self.pods.get(claim["metadata"]["namespace"], consumer["name"])
        return pod is not None and pod["metadata"]["uid"] == consumer["uid"] and not is_terminal(pod)


def _of_pod(pod: Object) -> list[Any]:
    if not pod["spec"].get("resourceClaims"):
        return []
    namespace, name = key_of(pod)
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    claims = [s.get("resourceClaimName") for s in statuses]
    claims += [c.get("resourceClaimName") for c in pod["spec"]["resourceClaims"]]
    return [("pod", namespace, name), *(("claim", namespace, claim) for claim in claims if claim)]


def _of_claim(claim: Object) -> list[Any]:
    return [("claim", *key_of(claim))]
