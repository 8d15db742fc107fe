"""What a kubelet may do: read its own node, its pods, and what these refer to; nothing of another node's.

Follows upstream's Node authorizer. Which secret, configmap, claim, volume or account a node has to do with is kept
per node, from the pods bound to it; NodeRestriction (admission) then looks at what it writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from peavine.apiserver.authentication.user import NODE_PREFIX, NODES, User
from peavine.apiserver.authorization.attributes import ALLOWED, NO_OPINION, Attributes, Decision
from peavine.apiserver.authorization.rbac import Role
from peavine.apiserver.lister import Lister

Reference = tuple[str, str, str]  # resource, namespace, name
LEASE_NAMESPACE = "kube-node-lease"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


def node_name(user: User) -> str | None:
    """The node a user is: "" for a member of system:nodes without a node's name, None for others."""
    if NODES not in user.groups:
        return None
    return user.name[len(NODE_PREFIX) :] if user.name.startswith(NODE_PREFIX) else ""


class NodeGraph:
    """For each node, how often its pods refer to what."""

    def __init__(self, lister: Lister) -> None:
        self._by_node: dict[str, Counter[Reference]] = {}
        self._pods: dict[tuple[str, str], tuple[str, frozenset[Reference]]] = {}
        self._volumes: dict[str, tuple[Reference, frozenset[Reference]]] = {}  # PV -> its claim, its secrets
        self._volumes_of_secret: dict[Reference, set[str]] = {}
        self._attachments: dict[str, str] = {}
        self._requests: dict[tuple[str, str], str] = {}  # PodCertificateRequest -> its node
        lister.on_change("", "pods", self._pod_changed)
        lister.on_change("", "persistentvolumes", self._volume_changed)
        lister.on_change("storage.k8s.io", "volumeattachments", self._attachment_changed)
        lister.on_change("certificates.k8s.io", "podcertificaterequests", self._request_changed)

    def related(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether a pod on `node` refers to this, perhaps through a claim and its volume."""
        held = self._by_node.get(node)
        if resource == "volumeattachments":
            return self._attachments.get(name) == node
        if resource == "podcertificaterequests":
            return self._requests.get((namespace, name)) == node
        if not held:
            return False
        if resource == "persistentvolumes":
            return name in self._volumes and self._volumes[name][0] in held
        reference = (resource, namespace, name)
        if reference in held:
            return True
        return resource == "secrets" and any(
            self._volumes[volume][0] in held for volume in self._volumes_of_secret.get(reference, ())
        )

    def _pod_changed(self, event: str, pod: dict[str, Any], old: dict[str, Any] | None) -> None:
        metadata = pod["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        node = pod["spec"].get("nodeName", "")
        references: frozenset[Reference] = frozenset()
        if node and event != "DELETED":
            mirror = MIRROR_ANNOTATION in (metadata.get("annotations") or {})
            # A mirror pod is the node's own word: it may be read, and opens nothing.
            references = frozenset([("pods", *key)] if mirror else pod_references(pod))
        if self._pods.get(key) == (node, references):
            return
        before_node, before = self._pods.pop(key, ("", frozenset()))
        if before:
            held = self._by_node[before_node]
            for reference in before:
                held[reference] -= 1
                if held[reference] <= 0:
                    del held[reference]
            if not held:
                del self._by_node[before_node]
        if references:
            self._pods[key] = (node, references)
            self._by_node.setdefault(node, Counter()).update(references)

    def _volume_changed(self, event: str, volume: dict[str, Any], old: dict[str, Any] | None) -> None:
        name = volume["metadata"]["name"]
        _, secrets = self._volumes.pop(name, (None, frozenset()))
        for secret in secrets:
            self._volumes_of_secret[secret].discard(name)
            if not self._volumes_of_secret[secret]:
                del self._volumes_of_secret[secret]
        claim = volume["spec"].get("claimRef")
        if event == "DELETED" or not claim:
            return
        reference = ("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
        found = frozenset(_volume_secrets(volume["spec"], claim.get("namespace", "")))
        self._volumes[name] = (reference, found)
        for secret in found:
            self._volumes_of_secret.setdefault(secret, set()).add(name)

    def _attachment_changed(self, event: str, attachment: dict[str, Any], old: dict[str, Any] | None) -> None:
        name = attachment["metadata"]["name"]
        if event == "DELETED":
            self._attachments.pop(name, None)
        else:
            self._attachments[name] = attachment["spec"].get("nodeName", "")

    def _request_changed(self, event: str, request: dict[str, Any], old: dict[str, Any] | None) -> None:
        key = (request["metadata"].get("namespace", ""), request["metadata"]["name"])
        if event == "DELETED":
            self._requests.pop(key, None)
        else:
            self._requests[key] = request["spec"].get("nodeName", "")


def pod_references(pod: dict[str, Any]) -> Iterator[Reference]:
    """The pod itself and everything a kubelet must read to run it."""
    spec, metadata = pod["spec"], pod["metadata"]
    namespace = metadata.get("namespace", "")
    yield "pods", namespace, metadata["name"]
    if account := spec.get("serviceAccountName"):
        yield "serviceaccounts", namespace, account
    for secret in spec.get("imagePullSecrets") or ():
        if secret.get("name"):
            yield "secrets", namespace, secret["name"]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            yield from _container_references(container, namespace)
    for volume in spec.get("volumes") or ():
        yield from _pod_volume_references(volume, namespace, metadata["name"])
    for claim in spec.get("resourceClaims") or ():
        if claim.get("resourceClaimName"):
            yield "resourceclaims", namespace, claim["resourceClaimName"]
    status = pod.get("status") or {}
    claims = list(status.get("resourceClaimStatuses") or ())
    if extended := status.get("extendedResourceClaimStatus"):
        claims.append(extended)
    for claim in claims:
        if claim.get("resourceClaimName"):
            yield "resourceclaims", namespace, claim["resourceClaimName"]


def _container_references(container: dict[str, Any], namespace: str) -> Iterator[Reference]:
    for source in container.get("envFrom") or ():
        for field, resource in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if name := (source.get(field) or {}).get("name"):
                yield resource, namespace, name
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for field, resource in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if name := (source.get(field) or {}).get("name"):
                yield resource, namespace, name


def _pod_volume_references(volume: dict[str, Any], namespace: str, pod_name: str) -> Iterator[Reference]:
    if name := (volume.get("secret") or {}).get("secretName"):
        yield "secrets", namespace, name
    if name := (volume.get("configMap") or {}).get("name"):
        yield "configmaps", namespace, name
    if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
        yield "persistentvolumeclaims", namespace, name
    if "ephemeral" in volume:
        yield "persistentvolumeclaims", namespace, f"{pod_name}-{volume['name']}"
    for source in (volume.get("projected") or {}).get("sources") or ():
        for field, resource in (("secret", "secrets"), ("configMap", "configmaps")):
            if name := (source.get(field) or {}).get("name"):
                yield resource, namespace, name
    yield from _volume_secrets(volume, namespace)


_SECRET_FIELDS = {
    "azureFile": ("secretName",),
    "cephfs": ("secretRef",),
    "flexVolume": ("secretRef",),
    "iscsi": ("secretRef",),
    "rbd": ("secretRef",),
    "scaleIO": ("secretRef",),
    "storageos": ("secretRef",),
    # What a controller, not the node, uses (controllerExpandSecretRef, ...) is not the node's to read.
    "csi": ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"),
}


def _volume_secrets(source: dict[str, Any], namespace: str) -> Iterator[Reference]:
    """Secrets that a volume source (of a pod, or a PV's spec bound to a claim of `namespace`) refers to."""
    for kind, fields in _SECRET_FIELDS.items():
        for field in fields:
            value = (source.get(kind) or {}).get(field)
            if isinstance(value, str) and value:
                yield "secrets", (source[kind].get("secretNamespace") or namespace), value
            elif isinstance(value, dict) and value.get("name"):
                yield "secrets", value.get("namespace") or namespace, value["name"]


class NodeAuthorizer:
    def __init__(self, graph: NodeGraph, rules: list[dict[str, Any]]) -> None:
        """`rules`: what every node may do besides, as the role system:node has it."""
        self.graph, self._rest = graph, Role(rules)

    def authorize(self, attributes: Attributes) -> Decision:
        node = node_name(attributes.user)
        if node is None:
            return NO_OPINION
        if not node:
            return Decision(reason=f'unknown node for user "{attributes.user.name}"')
        if attributes.is_resource:
            check = _CHECKS.get((attributes.group, attributes.resource))
            if check is not None:
                return check(self, node, attributes)
            keys = (attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else ""), "*")
            for key in keys:
                if any(rule.allows(attributes) for rule in self._rest.by_resource.get(key, ())):
                    return ALLOWED
        return NO_OPINION

    def rules_for(self, user: User, namespace: str) -> list[dict[str, Any]]:
        if node_name(user) is not None:
            raise NotImplementedError("node authorizer does not support user rule resolution")
        return []

    def _own(self, node: str, a: Attributes, verbs: tuple[str, ...], why: str) -> Decision:
        if a.verb not in verbs:
            return Decision(reason=why)
        if not a.name:
            return Decision(reason="No Object name found")
        if self.graph.related(node, a.resource, a.namespace, a.name):
            return ALLOWED
        return Decision(reason=f"no relationship found between node '{node}' and this object")

    def _read(self, node: str, a: Attributes) -> Decision:
        """Secrets and configmaps: a named one that a pod of the node refers to."""
        if a.subresource:
            return Decision(reason="cannot get subresource")
        if not a.namespace:
            return Decision(reason="can only read namespaced object of this type")
        return self._own(node, a, ("get", "list", "watch"), "can only read resources of this type")

    def _get(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return Decision(reason="cannot get subresource")
        return self._own(node, a, ("get",), "can only get individual resources of this type")

    def _claim(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "status":
            return self._own(node, a, ("get", "update", "patch"), "can only get/update/patch this type")
        return self._get(node, a)

    def _account(self, node: str, a: Attributes) -> Decision:
        if not a.subresource:
            return self._own(node, a, ("get",), "can only get individual service accounts")
        if a.subresource != "token" or a.verb != "create":
            return Decision(reason="can only create tokens for individual service accounts")
        return self._own(node, a, ("create",), "")

    def _lease(self, node: str, a: Attributes) -> Decision:
        if a.verb not in ("get", "create", "update", "patch", "delete"):
            return Decision(reason="can only get, create, update, patch, or delete a node lease")
        if a.namespace != LEASE_NAMESPACE:
            return Decision(reason=f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        if a.verb != "create" and a.name != node:
            return Decision(reason="can only access node lease with the same name as the requesting node")
        return ALLOWED

    def _csi_node(self, node: str, a: Attributes) -> Decision:
        if a.verb not in ("get", "create", "update", "patch", "delete"):
            return Decision(reason="can only get, create, update, patch, or delete a CSINode")
        if a.subresource:
            return Decision(reason="cannot authorize CSINode subresources")
        if a.verb != "create" and a.name != node:
            return Decision(reason="can only access CSINode with the same name as the requesting node")
        return ALLOWED

    def _slice(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return Decision(reason="cannot authorize ResourceSlice subresources")
        if a.verb in ("create", "get", "update", "patch", "delete"):
            return ALLOWED  # NodeRestriction looks at whose the slice is
        if a.verb in ("list", "watch", "deletecollection"):
            if _selects(a.field_selector, "spec.nodeName", node):
                return ALLOWED
            return Decision(reason="can only list/watch/deletecollection resourceslices with nodeName field selector")
        return Decision(
            reason="only the following verbs are allowed for a ResourceSlice: get, watch, list, create, "
            "update, patch, delete, deletecollection"
        )

    def _certificate_request(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return Decision(reason="cannot access PodCertificateRequest subresources")
        if a.verb == "create":
            return ALLOWED  # for which pod: NodeRestriction
        if a.verb == "get":
            return self._own(node, a, ("get",), "")
        if a.verb in ("list", "watch") and _selects(a.field_selector, "spec.nodeName", node):
            return ALLOWED
        return Decision(reason="can only list/watch podcertificaterequests with spec.nodeName field selector")

    def _node(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "status":
            return ALLOWED if a.verb in ("update", "patch") else NO_OPINION  # whose: NodeRestriction
        if a.subresource:
            return NO_OPINION
        if a.verb in ("create", "update", "patch"):
            return ALLOWED
        if a.verb in ("get", "list", "watch"):
            if a.name == node:
                return ALLOWED
            what = f"'{a.name}'" if a.name else "all nodes"
            return Decision(reason=f"node '{node}' cannot read {what}, only its own Node object")
        return NO_OPINION

    def _pod(self, node: str, a: Attributes) -> Decision:
        if a.subresource == "status":
            return ALLOWED if a.verb in ("update", "patch") else NO_OPINION
        if a.subresource == "eviction":
            return ALLOWED if a.verb == "create" else NO_OPINION
        if a.subresource:
            return NO_OPINION
        if a.verb in ("create", "delete"):
            return ALLOWED
        if a.verb == "get":
            return self._own(node, a, ("get",), "")
        if a.verb in ("list", "watch"):
            if _selects(a.field_selector, "spec.nodeName", node):
                return ALLOWED
            if a.name:
                return self._own(node, a, ("list", "watch"), "")
            return Decision(reason="can only list/watch pods with spec.nodeName field selector")
        return NO_OPINION


def _selects(selector: str, field: str, value: str) -> bool:
    """Whether a field selector demands `field` = `value`."""
    for term in selector.split(","):
        key, _, wanted = term.partition("=")
        if key.strip() == field and wanted.removeprefix("=").strip() == value:
            return True
    return False


_CHECKS = {
    ("", "secrets"): NodeAuthorizer._read,
    ("", "configmaps"): NodeAuthorizer._read,
    ("", "persistentvolumeclaims"): NodeAuthorizer._claim,
    ("", "persistentvolumes"): NodeAuthorizer._get,
    ("storage.k8s.io", "volumeattachments"): NodeAuthorizer._get,
    ("resource.k8s.io", "resourceclaims"): NodeAuthorizer._get,
    ("", "serviceaccounts"): NodeAuthorizer._account,
    ("coordination.k8s.io", "leases"): NodeAuthorizer._lease,
    ("storage.k8s.io", "csinodes"): NodeAuthorizer._csi_node,
    ("resource.k8s.io", "resourceslices"): NodeAuthorizer._slice,
    ("certificates.k8s.io", "podcertificaterequests"): NodeAuthorizer._certificate_request,
    ("", "nodes"): NodeAuthorizer._node,
    ("", "pods"): NodeAuthorizer._pod,
}
