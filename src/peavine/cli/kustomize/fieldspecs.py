"""Where in objects the transformers act: paths, and the kinds that have them, as kustomize is configured by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from peavine.cli.kustomize.resource import Id

Object = dict[str, Any]
POD_SPECS = {
    "Pod": "spec",
    "PodTemplate": "template/spec",
    "Deployment": "spec/template/spec",
    "ReplicaSet": "spec/template/spec",
    "ReplicationController": "spec/template/spec",
    "DaemonSet": "spec/template/spec",
    "StatefulSet": "spec/template/spec",
    "Job": "spec/template/spec",
    "CronJob": "spec/jobTemplate/spec/template/spec",
}
_RBAC = "rbac.authorization.k8s.io"


class Spec(NamedTuple):
    """One place: `path` below objects of `kind` (any, if empty). `create` makes it where it is missing."""

    path: str
    kind: str = ""
    group: str = ""
    version: str = ""
    create: bool = False

    def fits(self, id: Id) -> bool:
        return all(not want or want == have for want, have in (
            (self.kind, id.kind), (self.group, id.group), (self.version, id.version)
        ))  # fmt: skip


def spec_of(given: Object) -> Spec:
    """A place from a kustomization (`fields`, `configurations`)."""
    return Spec(
        given.get("path", ""), given.get("kind", ""), given.get("group", ""), given.get("version", ""),
        bool(given.get("create")),
    )  # fmt: skip


def split(path: str) -> list[str]:
    """`a/b\\/c` is two steps."""
    return [step.replace("\0", "/") for step in path.replace("\\/", "\0").split("/") if step]


def visit(obj: Any, path: str, change: Callable[[Any], Any], *, create: Any = None) -> None:
    """Put `change(value)` in the place of each value at `path`; lists on the way are gone through.

    With `create` (an empty value of the right type), what is missing is made.
    """
    _visit(obj, split(path), change, create)


def _visit(obj: Any, steps: list[str], change: Callable[[Any], Any], create: Any) -> None:
    if isinstance(obj, list):
        for item in obj:
            _visit(item, steps, change, create)
        return
    if not isinstance(obj, dict):
        return
    step = steps[0].removesuffix("[]")
    if obj.get(step) is None:
        if create is None or steps[0].endswith("[]"):
            return
        obj[step] = {} if len(steps) > 1 else type(create)()
    if len(steps) == 1:
        obj[step] = change(obj[step])
    else:
        _visit(obj[step], steps[1:], change, create)


def _templates(suffix: str) -> Iterator[Spec]:
    for kind in ("ReplicationController", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job"):
        group = {"StatefulSet": "apps", "Job": "batch"}.get(kind, "")
        yield Spec(f"spec/template/metadata/{suffix}", kind, group, create=True)
    yield Spec(f"spec/jobTemplate/metadata/{suffix}", "CronJob", "batch", create=True)
    yield Spec(f"spec/jobTemplate/spec/template/metadata/{suffix}", "CronJob", "batch", create=True)


def _selectors() -> Iterator[Spec]:
    for kind in ("Service", "ReplicationController"):
        yield Spec("spec/selector", kind, version="v1", create=True)
    for kind in ("Deployment", "ReplicaSet", "DaemonSet"):
        yield Spec("spec/selector/matchLabels", kind, create=True)
    yield Spec("spec/selector/matchLabels", "StatefulSet", "apps", create=True)
    yield Spec("spec/volumeClaimTemplates[]/metadata/labels", "StatefulSet", "apps", create=True)
    for kind in ("Deployment", "StatefulSet"):
        for way in ("podAffinity", "podAntiAffinity"):
            at = f"spec/template/spec/affinity/{way}"
            for rule in ("preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm",
                         "requiredDuringSchedulingIgnoredDuringExecution"):  # fmt: skip
                yield Spec(f"{at}/{rule}/labelSelector/matchLabels", kind, "apps")
        yield Spec("spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels", kind, "apps")
    yield Spec("spec/selector/matchLabels", "Job", "batch")
    yield Spec("spec/jobTemplate/spec/selector/matchLabels", "CronJob", "batch")
    yield Spec("spec/selector/matchLabels", "PodDisruptionBudget", "policy")
    for path in ("spec/podSelector", "spec/ingress/from/podSelector", "spec/egress/to/podSelector"):
        yield Spec(f"{path}/matchLabels", "NetworkPolicy", "networking.k8s.io")


METADATA_LABELS = (Spec("metadata/labels", create=True),)
TEMPLATE_LABELS = tuple(_templates("labels"))
COMMON_LABELS = (*_selectors(), *METADATA_LABELS, *TEMPLATE_LABELS)
COMMON_ANNOTATIONS = (Spec("metadata/annotations", create=True), *_templates("annotations"))
REPLICAS = (
    *(Spec("spec/replicas", kind, create=True) for kind in
      ("Deployment", "ReplicationController", "ReplicaSet", "StatefulSet")),
)  # fmt: skip
NAMESPACES = (
    Spec("spec/service/namespace", "APIService", "apiregistration.k8s.io", create=True),
    Spec("spec/conversion/webhook/clientConfig/service/namespace", "CustomResourceDefinition", "apiextensions.k8s.io"),
)
# No prefix or suffix: other objects know these by the names they have.
NEVER_RENAMED = {("apiextensions.k8s.io", "CustomResourceDefinition"), ("apiregistration.k8s.io", "APIService"),
                 ("", "Namespace")}  # fmt: skip


class Reference(NamedTuple):
    """Objects of `kind` are named at `spec`."""

    kind: str
    group: str
    spec: Spec


def _in_pods(kind: str, *paths: str) -> Iterator[Reference]:
    for owner, at in POD_SPECS.items():
        for path in paths:
            yield Reference(kind, "", Spec(f"{at}/{path}", owner))


def _at(kind: str, group: str, *places: tuple[str, str]) -> Iterator[Reference]:
    for owner, path in places:
        yield Reference(kind, group, Spec(path, owner))


def _from_containers(*paths: str) -> tuple[str, ...]:
    return tuple(f"{part}/{path}" for part in ("containers", "initContainers") for path in paths)


_INGRESS_AUTH = "metadata/annotations/nginx.ingress.kubernetes.io\\/"
REFERENCES: tuple[Reference, ...] = (
    *(r for kind in ("Deployment", "ReplicationController", "ReplicaSet", "StatefulSet")
      for r in _at(kind, "", ("HorizontalPodAutoscaler", "spec/scaleTargetRef/name"))),
    *_in_pods("ConfigMap", "volumes/configMap/name", "volumes/projected/sources/configMap/name",
              *_from_containers("env/valueFrom/configMapKeyRef/name", "envFrom/configMapRef/name")),
    *_at("ConfigMap", "", ("Node", "spec/configSource/configMap"), ("Role", "rules/resourceNames"),
         ("ClusterRole", "rules/resourceNames"), ("Ingress", f"{_INGRESS_AUTH}fastcgi-params-configmap")),
    *_in_pods("Secret", "volumes/secret/secretName", "volumes/projected/sources/secret/name", "imagePullSecrets/name",
              *_from_containers("env/valueFrom/secretKeyRef/name", "envFrom/secretRef/name")),
    *_at("Secret", "", ("Ingress", "spec/tls/secretName"),
         ("Ingress", "metadata/annotations/ingress.kubernetes.io\\/auth-secret"),
         ("Ingress", f"{_INGRESS_AUTH}auth-secret"), ("Ingress", f"{_INGRESS_AUTH}auth-tls-secret"),
         ("ServiceAccount", "imagePullSecrets/name"), ("StorageClass", "parameters/secretName"),
         ("StorageClass", "parameters/adminSecretName"), ("StorageClass", "parameters/userSecretName"),
         ("StorageClass", "parameters/secretRef"), ("Role", "rules/resourceNames"),
         ("ClusterRole", "rules/resourceNames"), ("PersistentVolume", "spec/azureFile/secretName")),
    *_at("Service", "", ("StatefulSet", "spec/serviceName"), ("Ingress", "spec/rules/http/paths/backend/serviceName"),
         ("Ingress", "spec/backend/serviceName"), ("Ingress", "spec/rules/http/paths/backend/service/name"),
         ("Ingress", "spec/defaultBackend/service/name"), ("APIService", "spec/service/name"),
         ("ValidatingWebhookConfiguration", "webhooks/clientConfig/service"),
         ("MutatingWebhookConfiguration", "webhooks/clientConfig/service"),
         ("HTTPRoute", "spec/rules/backendRefs/name")),
    *_at("Role", _RBAC, ("RoleBinding", "roleRef/name")),
    *_at("ClusterRole", _RBAC, ("RoleBinding", "roleRef/name"), ("ClusterRoleBinding", "roleRef/name")),
    *_at("ServiceAccount", "", ("RoleBinding", "subjects"), ("ClusterRoleBinding", "subjects")),
    *_in_pods("ServiceAccount", "serviceAccountName"),
    *_in_pods("PersistentVolumeClaim", "volumes/persistentVolumeClaim/claimName"),
    *_at("PersistentVolume", "", ("PersistentVolumeClaim", "spec/volumeName"), ("ClusterRole", "rules/resourceNames")),
    *_at("StorageClass", "storage.k8s.io", ("PersistentVolume", "spec/storageClassName"),
         ("PersistentVolumeClaim", "spec/storageClassName"),
         ("StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName")),
    *_in_pods("PriorityClass", "priorityClassName"),
    *_at("IngressClass", "networking.k8s.io", ("Ingress", "spec/ingressClassName")),
)  # fmt: skip
