"""NodeRestriction: what a kubelet writes is about its own node and the pods on it, and says nothing it may not say."""

from __future__ import annotations

import base64
from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authorization.attributes import Attributes, decide
from peavine.apiserver.authorization.node import LEASE_NAMESPACE, MIRROR_ANNOTATION, node_name, pod_references
from peavine.machinery.x509 import COMMON_NAME, pem_blocks, read_request_subject

_ALLOWED_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
    )
)
_ALLOWED_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESTRICTED_DOMAIN = "node-restriction.kubernetes.io"
_NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_CLAIM_STATUS_FIELDS = (
    "capacity",
    "conditions",
    "allocatedResources",
    "allocatedResourceStatuses",
    "currentVolumeAttributesClassName",
    "modifyVolumeStatus",
)


class NodeRestriction(Plugin):
    name = "NodeRestriction"
    operations = frozenset((CREATE, UPDATE, DELETE))

    def __init__(self, context: PluginContext) -> None:
        self.lister, self.authorizer = context.lister, context.authorizer

    resources = frozenset(
        (
            ("", "pods"),
            ("", "nodes"),
            ("", "persistentvolumeclaims"),
            ("", "serviceaccounts"),
            ("coordination.k8s.io", "leases"),
            ("storage.k8s.io", "csinodes"),
            ("resource.k8s.io", "resourceslices"),
            ("certificates.k8s.io", "certificatesigningrequests"),
            ("certificates.k8s.io", "podcertificaterequests"),
        )
    )

    async def admit(self, req: AdmissionRequest) -> None:
        node = node_name(req.user)
        if node is None:
            return
        if not node:
            raise forbidden(req, "could not determine node from user " + repr(req.user.name).replace("'", '"'))
        await _CHECKS[req.gvr.resource](self, node, req)

    async def _pod(self, node: str, req: AdmissionRequest) -> None:
        if not req.subresource and req.operation == CREATE:
            self._mirror_pod(node, req)
        elif not req.subresource and req.operation == DELETE:
            if ((req.old or {}).get("spec") or {}).get("nodeName") != node:
                raise forbidden(req, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        elif req.subresource == "status" and req.operation == UPDATE:
            self._pod_status(node, req)
        elif req.subresource == "eviction" and req.operation == CREATE:
            pod = self.lister.get("", "pods", req.namespace, req.name)
            if pod is not None and pod["spec"].get("nodeName") != node:
                raise forbidden(req, f"node {node} can only evict pods with spec.nodeName set to itself")
        else:
            what = f"/{req.subresource}" if req.subresource else ""
            raise forbidden(req, f'unexpected operation "{req.operation}", node "{node}" on pods{what}')

    def _mirror_pod(self, node: str, req: AdmissionRequest) -> None:
        assert req.obj is not None
        metadata, spec = req.obj["metadata"], req.obj["spec"]
        if MIRROR_ANNOTATION not in (metadata.get("annotations") or {}):
            why = f'pod does not have "{MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods'
            raise forbidden(req, why)
        if spec.get("nodeName") != node:
            raise forbidden(req, f'node "{node}" can only create pods with spec.nodeName set to itself')
        owners = metadata.get("ownerReferences") or []
        if len(owners) > 1:
            raise forbidden(req, f'node "{node}" can only create pods with a single owner reference set to itself')
        if (
            not owners
            or owners[0].get("apiVersion") != "v1"
            or owners[0].get("kind") != "Node"
            or owners[0].get("name") != node
        ):
            raise forbidden(req, f'node "{node}" can only create pods with an owner reference set to itself')
        owner = owners[0]
        if not owner.get("controller"):
            raise forbidden(req, f'node "{node}" can only create pods with a controller owner reference set to itself')
        if owner.get("blockOwnerDeletion"):
            raise forbidden(req, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        live = self.lister.get("", "nodes", None, node)
        if live is None or live["metadata"]["uid"] != owner.get("uid"):
            expected = live["metadata"]["uid"] if live else ""
            raise forbidden(req, f"node {node} UID mismatch: expected {expected} got {owner.get('uid')}")
        words = {"serviceaccounts": "a service account", "persistentvolumeclaims": "persistentvolumeclaims"}
        for resource, _, _ in pod_references(req.obj):
            if resource != "pods":
                what = words.get(resource, resource)
                raise forbidden(req, f'node "{node}" can not create pods that reference {what}')

    def _pod_status(self, node: str, req: AdmissionRequest) -> None:
        old, new = req.old or {}, req.obj or {}
        if (old.get("spec") or {}).get("nodeName") != node:
            why = f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
            raise forbidden(req, why)
        if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
            raise forbidden(req, f'node "{node}" cannot update labels through pod status')
        for field, words in (
            ("resourceClaimStatuses", "resource claim statuses"),
            ("extendedResourceClaimStatus", "extended resource claim status"),
        ):
            if ((old.get("status") or {}).get(field) or None) != ((new.get("status") or {}).get(field) or None):
                raise forbidden(req, f'node "{node}" cannot update {words}')

    async def _node(self, node: str, req: AdmissionRequest) -> None:
        name = req.object_name
        if name != node:
            raise forbidden(req, f'node "{node}" is not allowed to modify node "{name}"')
        if req.obj is None:
            return
        labels = req.obj["metadata"].get("labels") or {}
        if req.operation == CREATE:
            wrong = sorted(key for key in labels if not _label_allowed(key))
            if wrong:
                raise forbidden(req, f'node "{node}" is not allowed to set the following labels: {", ".join(wrong)}')
            if (req.obj.get("spec") or {}).get("configSource") is not None:
                raise forbidden(req, f'node "{node}" is not allowed to create pods with a non-nil configSource')
        else:
            old = req.old or {"metadata": {}}
            before = old["metadata"].get("labels") or {}
            changed = {key for key in labels.keys() | before.keys() if labels.get(key) != before.get(key)}
            if (req.obj.get("spec") or {}).get("taints", []) != (old.get("spec") or {}).get("taints", []):
                raise forbidden(req, f'node "{node}" is not allowed to modify taints')
            wrong = sorted(key for key in changed if not _label_allowed(key))
            if wrong:
                raise forbidden(req, f"is not allowed to modify labels: {', '.join(wrong)}")
            owners, owned = (o["metadata"].get("ownerReferences") or [] for o in (req.obj, old))
            if owners != owned:
                # CVE-2025-5187: an owner that does not exist lets the garbage collector delete the node.
                raise forbidden(req, f'node "{node}" is not allowed to modify ownerReferences')
            return
        if req.obj["metadata"].get("ownerReferences"):
            raise forbidden(req, f'node "{node}" is not allowed to set ownerReferences')

    async def _claim(self, node: str, req: AdmissionRequest) -> None:
        if req.subresource != "status" or req.operation != UPDATE:
            raise forbidden(req, f'node "{node}" may only update PVC status')
        old, new = (_without_claim_status(obj or {}) for obj in (req.old, req.obj))
        if old != new:
            why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
            raise forbidden(req, why)

    async def _service_account(self, node: str, req: AdmissionRequest) -> None:
        if req.operation != CREATE or req.subresource != "token":
            return
        spec = (req.obj or {}).get("spec") or {}
        ref = spec.get("boundObjectRef") or {}
        if ref.get("apiVersion") != "v1" or ref.get("kind") != "Pod" or not ref.get("name"):
            raise forbidden(req, "node requested token not bound to a pod")
        if not ref.get("uid"):
            raise forbidden(req, "node requested token with a pod binding without a uid")
        pod = self.lister.get("", "pods", req.namespace, ref["name"])
        if pod is None:
            raise forbidden(req, f'pod "{ref["name"]}" not found')
        if pod["metadata"]["uid"] != ref["uid"]:
            why = (
                f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise forbidden(req, why)
        if pod["spec"].get("nodeName") != node:
            raise forbidden(req, "node requested token bound to a pod scheduled on a different node")
        for audience in spec.get("audiences") or [""]:
            if audience and audience not in self._audiences(pod) and not await self._may_request(req, audience):
                why = (
                    f'audience "{audience}" not found in pod spec volume, system:node:{node} is not authorized to '
                    "request tokens for this audience"
                )
                raise forbidden(req, why)

    def _audiences(self, pod: dict[str, Any]) -> set[str]:
        """What the pod's own volumes ask for: projected tokens, and the drivers of its CSI volumes."""
        found: set[str] = set()
        drivers: set[str] = set()
        for volume in pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if "serviceAccountToken" in source:
                    found.add((source["serviceAccountToken"] or {}).get("audience", ""))
            drivers.add((volume.get("csi") or {}).get("driver", ""))
            claim_name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if "ephemeral" in volume:
                claim_name = f"{pod['metadata']['name']}-{volume['name']}"
            if claim_name:
                claim = self.lister.get("", "persistentvolumeclaims", pod["metadata"]["namespace"], claim_name)
                name = ((claim or {}).get("spec") or {}).get("volumeName")
                bound = self.lister.get("", "persistentvolumes", None, name) if name else None
                drivers.add((((bound or {}).get("spec") or {}).get("csi") or {}).get("driver", ""))
        for driver in filter(None, drivers):
            known = self.lister.get("storage.k8s.io", "csidrivers", None, driver)
            for request in ((known or {}).get("spec") or {}).get("tokenRequests") or ():
                found.add(request.get("audience", ""))
        return found

    async def _may_request(self, req: AdmissionRequest, audience: str) -> bool:
        if self.authorizer is None:
            return False
        verb = "request-serviceaccounts-token-audience"
        attributes = Attributes(req.user, verb, req.namespace, "", "*", audience, "", req.name)
        return (await decide(self.authorizer, attributes)).allowed

    async def _lease(self, node: str, req: AdmissionRequest) -> None:
        if req.namespace != LEASE_NAMESPACE:
            raise forbidden(req, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        if req.object_name != node:
            raise forbidden(req, "can only access node lease with the same name as the requesting node")

    async def _csi_node(self, node: str, req: AdmissionRequest) -> None:
        if req.object_name != node:
            raise forbidden(req, "can only access CSINode with the same name as the requesting node")

    async def _slice(self, node: str, req: AdmissionRequest) -> None:
        obj = req.obj if req.operation == CREATE else req.old
        if obj is not None and (obj.get("spec") or {}).get("nodeName") != node:
            verb = "create" if req.operation == CREATE else "access"
            raise forbidden(req, f"can only {verb} ResourceSlice with the same NodeName as the requesting node")

    async def _pod_certificate(self, node: str, req: AdmissionRequest) -> None:
        """A certificate for a pod: asked for by the pod's node, in the names that the pod really has."""
        if req.operation != CREATE or req.subresource:
            raise forbidden(req, f'unexpected operation "{req.operation}" on podcertificaterequests')
        spec = (req.obj or {}).get("spec") or {}
        if spec.get("nodeName") != node:
            named = f'PodCertificateRequest.Spec.NodeName="{spec.get("nodeName")}"'
            raise forbidden(req, f'{named}, which is not the requesting node "{node}"')
        pod = self.lister.get("", "pods", req.namespace, spec.get("podName", ""))
        if pod is None:
            raise forbidden(req, f'pod "{spec.get("podName", "")}" not found')
        if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            raise forbidden(req, "pod is a mirror pod")
        account = self.lister.get("", "serviceaccounts", req.namespace, spec.get("serviceAccountName", ""))
        live = self.lister.get("", "nodes", None, node)
        for what, asked, actual in (
            ("PodUID", spec.get("podUID"), pod["metadata"]["uid"]),
            ("NodeName", node, pod["spec"].get("nodeName")),
            ("ServiceAccountName", spec.get("serviceAccountName"), pod["spec"].get("serviceAccountName")),
            ("ServiceAccountUID", spec.get("serviceAccountUID"), ((account or {}).get("metadata") or {}).get("uid")),
            ("NodeUID", spec.get("nodeUID"), ((live or {}).get("metadata") or {}).get("uid")),
        ):
            if asked != actual:
                raise forbidden(
                    req, f'PodCertificateRequest.Spec.{what}="{asked}" does not match the pod\'s "{actual}"'
                )

    async def _signing_request(self, node: str, req: AdmissionRequest) -> None:
        spec = (req.obj or {}).get("spec") or {}
        if req.operation != CREATE or req.subresource or spec.get("signerName") not in _NODE_SIGNERS:
            return
        try:
            (request,) = pem_blocks(base64.b64decode(spec.get("request") or ""), "CERTIFICATE REQUEST")
            names = [value for oid, value in read_request_subject(request) if oid == COMMON_NAME]
        except ValueError as error:
            raise forbidden(req, f"unable to parse csr: {error}") from None
        if names != [req.user.name]:
            raise forbidden(req, f"can only create a node CSR with CN={req.user.name}")


def _label_allowed(key: str) -> bool:
    domain, slash, _ = key.partition("/")
    if not slash:
        return True
    if domain == _RESTRICTED_DOMAIN or domain.endswith("." + _RESTRICTED_DOMAIN):
        return False
    if not (domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io"))):
        return True
    return key in _ALLOWED_LABELS or any(
        domain == allowed or domain.endswith("." + allowed) for allowed in _ALLOWED_LABEL_DOMAINS
    )


def _without_claim_status(claim: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in (claim.get("metadata") or {}).items() if k not in ("managedFields", "resourceVersion")}
    status = {k: v for k, v in (claim.get("status") or {}).items() if k not in _CLAIM_STATUS_FIELDS}
    return {"metadata": metadata, "spec": claim.get("spec"), "status": status}


_CHECKS = {
    "pods": NodeRestriction._pod,
    "nodes": NodeRestriction._node,
    "persistentvolumeclaims": NodeRestriction._claim,
    "serviceaccounts": NodeRestriction._service_account,
    "leases": NodeRestriction._lease,
    "csinodes": NodeRestriction._csi_node,
    "resourceslices": NodeRestriction._slice,
    "certificatesigningrequests": NodeRestriction._signing_request,
    "podcertificaterequests": NodeRestriction._pod_certificate,
}
