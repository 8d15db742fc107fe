"""Every group, version and kind that a default v1.37 kube-apiserver serves: all that is generally available.

Beta and alpha versions are off by default and are not here. `CATALOGUE` is built once, on import, from the table below;
the rules of the kinds are imported when they are first needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peavine.api.kind import Kind, Scale, Subresource
from peavine.machinery.names import GVK

CONNECT = ("create", "get")
PROXY = ("create", "delete", "get", "patch", "update")
ALL = ("all",)
EXTENSIONS = ("api-extensions",)
NO_DELETE_COLLECTION = ("create", "delete", "get", "list", "patch", "update", "watch")


def _sub(name: str, kind: str, verbs: tuple[str, ...] = ("get", "patch", "update"), at: str = "") -> Subresource:
    group, _, version = at.rpartition("/")
    return Subresource(name, kind, verbs, group, version)


SCALE = _sub("scale", "Scale", at="autoscaling/v1")

# Upstream's order of groups in /apis: by priority, then as the aggregator sorts them.
GROUP_ORDER = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "storagemigration.k8s.io",
)

# Where the type of a group is defined in the schema.
_DEFINITIONS = {
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}

# Storage prefixes that are not simply the plural.
_PREFIXES = {
    ("", "replicationcontrollers"): "controllers",
    ("", "endpoints"): "services/endpoints",
    ("", "nodes"): "minions",
    ("", "services"): "services/specs",
    ("networking.k8s.io", "ingresses"): "ingress",
    ("apiextensions.k8s.io", "customresourcedefinitions"): "apiextensions.k8s.io/customresourcedefinitions",
    ("apiregistration.k8s.io", "apiservices"): "apiregistration.k8s.io/apiservices",
}


def _folder(group: str) -> str:
    return group.split(".")[0] or "core"


class Catalogue:
    """The kinds by name. Custom resources are not here: the server keeps theirs beside it."""

    def __init__(self) -> None:
        self._by_gvk: dict[GVK, Kind] = {}
        self._by_gvr: dict[tuple[str, str, str], Kind] = {}

    def add(self, kind: Kind) -> Kind:
        self._by_gvk[kind.gvk] = kind
        if kind.plural:
            self._by_gvr[(kind.group, kind.version, kind.plural)] = kind
        return kind

    def kinds(self) -> Iterable[Kind]:
        """Every kind that is served as a resource, virtual ones included, in order of group, version and plural."""
        order = {group: i for i, group in enumerate(("", *GROUP_ORDER))}
        return sorted(self._by_gvr.values(), key=lambda k: (order[k.group], _version_order(k.version), k.plural))

    def resource(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_gvr.get((group, version, plural))

    def kind(self, gvk: GVK) -> Kind | None:
        """Also finds kinds that only subresources speak (Scale, Eviction, TokenRequest); their plural is empty."""
        return self._by_gvk.get(gvk)

    def groups(self) -> dict[str, list[str]]:
        """Group -> its versions, preferred first; groups in upstream's order, the core group ("") first."""
        found: dict[str, set[str]] = {}
        for kind in self._by_gvr.values():
            found.setdefault(kind.group, set()).add(kind.version)
        return {g: sorted(found[g], key=_version_order) for g in ("", *GROUP_ORDER) if g in found}

    def in_group_version(self, group: str, version: str) -> list[Kind]:
        """The kinds served under one group and version, by plural, as discovery lists them."""
        found = [k for k in self._by_gvr.values() if k.group == group and k.version == version]
        return sorted(found, key=lambda k: k.plural)

    def stored(self) -> list[Kind]:
        """One kind for each storage prefix: the stored form."""
        return [k for k in self.kinds() if k.hub is k and k.storage_prefix]


def _version_order(version: str) -> tuple[int, int]:
    """GA before beta before alpha, higher numbers first. Built-ins are all GA, so v2 comes before v1."""
    return (0, -int(version.lstrip("v"))) if version.lstrip("v").isdigit() else (1, 0)


CATALOGUE = Catalogue()


def _kind(
    at: str,
    kind: str,
    plural: str,
    *,
    cluster: bool = False,
    short: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    subs: tuple[Subresource | str, ...] = (),
    stored_as: tuple[str, str, str] | None = None,
    module: str = "",
    **more: Any,
) -> Kind:
    """One line of the table below. `subs` names subresources of the parent's own kind by a plain string."""
    group, _, version = at.rpartition("/")
    package = _DEFINITIONS.get(group, "io.k8s.api." + (group.split(".")[0] or "core"))
    subresources = [Subresource(s, kind) if isinstance(s, str) else s for s in subs]
    virtual = bool(more.get("virtual"))
    prefix = "" if virtual or not plural else "/registry/" + _PREFIXES.get((group, plural), plural)
    made = Kind(
        group,
        version,
        kind,
        plural,
        not cluster,
        short_names=short,
        categories=categories,
        subresources={s.name: s for s in sorted(subresources, key=lambda s: s.name)},
        scale=Scale() if SCALE in subresources else None,
        definition=f"{package}.{version}.{kind}",
        storage_prefix=prefix,
        storage=stored_as or (group, version, kind),
        module=module or f"peavine.api.{_folder(group)}.{kind.lower()}",
        **more,
    )
    return CATALOGUE.add(made)


def _review(at: str, kind: str, plural: str, *, cluster: bool = True) -> None:
    _kind(at, kind, plural, cluster=cluster, verbs=("create",), virtual=True)


def _build() -> None:
    _core()
    _apps_and_batch()
    _extension()
    _policy_and_network()
    _storage_and_scheduling()
    _reviews()


def _core() -> None:
    at = "v1"
    _kind(at, "Binding", "bindings", verbs=("create",), virtual=True)
    _kind(at, "ComponentStatus", "componentstatuses", cluster=True, short=("cs",), verbs=("get", "list"), virtual=True)
    _kind(at, "ConfigMap", "configmaps", short=("cm",))
    _kind(at, "Endpoints", "endpoints", short=("ep",), singular="endpoints", allow_create_on_update=True)
    event = _kind(at, "Event", "events", short=("ev",), allow_create_on_update=True)
    _kind(at, "LimitRange", "limitranges", short=("limits",), allow_create_on_update=True)
    _kind(
        at,
        "Namespace",
        "namespaces",
        cluster=True,
        short=("ns",),
        verbs=NO_DELETE_COLLECTION,
        subs=("status", _sub("finalize", "Namespace", ("update",))),
        name_rule="dns1123_label",
    )
    _kind(at, "Node", "nodes", cluster=True, short=("no",), subs=("status", _sub("proxy", "NodeProxyOptions", PROXY)))
    _kind(at, "PersistentVolume", "persistentvolumes", cluster=True, short=("pv",), subs=("status",))
    _kind(at, "PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",), subs=("status",))
    _kind(
        at,
        "Pod",
        "pods",
        short=("po",),
        categories=ALL,
        generation=True,
        graceful=True,
        subs=(
            "status",
            "resize",
            "ephemeralcontainers",
            _sub("attach", "PodAttachOptions", CONNECT),
            _sub("binding", "Binding", ("create",)),
            _sub("eviction", "Eviction", ("create",), "policy/v1"),
            _sub("exec", "PodExecOptions", CONNECT),
            _sub("log", "Pod", ("get",)),
            _sub("portforward", "PodPortForwardOptions", CONNECT),
            _sub("proxy", "PodProxyOptions", PROXY),
        ),
    )
    _kind(at, "PodTemplate", "podtemplates", generation=True)
    _kind(
        at,
        "ReplicationController",
        "replicationcontrollers",
        short=("rc",),
        categories=ALL,
        subs=("status", SCALE),
        generation=True,
    )
    _kind(at, "ResourceQuota", "resourcequotas", short=("quota",), subs=("status",))
    _kind(at, "Secret", "secrets")
    token = _sub("token", "TokenRequest", ("create",), "authentication.k8s.io/v1")
    _kind(at, "ServiceAccount", "serviceaccounts", short=("sa",), subs=(token,))
    _kind(
        at,
        "Service",
        "services",
        short=("svc",),
        categories=ALL,
        subs=("status", _sub("proxy", "ServiceProxyOptions", PROXY)),
        name_rule="dns1123_label",  # relaxed from DNS-1035 in v1.37
        allow_create_on_update=True,
    )
    events = _kind("events.k8s.io/v1", "Event", "events", short=("ev",), stored_as=event.storage)
    events.hub, events.allow_create_on_update = event, True


def _apps_and_batch() -> None:
    at = "apps/v1"
    own: dict[str, Any] = {"categories": ALL, "generation": True}
    _kind(at, "ControllerRevision", "controllerrevisions")
    _kind(at, "DaemonSet", "daemonsets", short=("ds",), subs=("status",), **own)
    _kind(at, "Deployment", "deployments", short=("deploy",), subs=("status", SCALE), **own)
    _kind(at, "ReplicaSet", "replicasets", short=("rs",), subs=("status", SCALE), **own)
    _kind(at, "StatefulSet", "statefulsets", name_rule="dns1123_label", short=("sts",), subs=("status", SCALE), **own)
    _kind("batch/v1", "CronJob", "cronjobs", short=("cj",), subs=("status",), **own)
    _kind("batch/v1", "Job", "jobs", subs=("status",), **own)
    name = "horizontalpodautoscalers"
    hub = _kind("autoscaling/v2", "HorizontalPodAutoscaler", name, short=("hpa",), subs=("status",), **own)
    first = _kind(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        name,
        short=("hpa",),
        subs=("status",),
        stored_as=hub.storage,
        **own,
        module="peavine.api.autoscaling.horizontalpodautoscaler_v1",
    )
    first.hub = hub
    _kind("autoscaling/v1", "Scale", "", virtual=True)


def _extension() -> None:
    at = "admissionregistration.k8s.io/v1"
    for kind, plural in (
        ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
        ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ):
        subs = ("status",) if kind == "ValidatingAdmissionPolicy" else ()
        own: dict[str, Any] = {"categories": EXTENSIONS, "generation": True, "allow_unconditional_update": False}
        _kind(at, kind, plural, cluster=True, subs=subs, **own)
    _kind(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        cluster=True,
        short=("crd", "crds"),
        categories=EXTENSIONS,
        subs=("status",),
        generation=True,
        allow_unconditional_update=False,
    )
    _kind(
        "apiregistration.k8s.io/v1",
        "APIService",
        "apiservices",
        cluster=True,
        categories=EXTENSIONS,
        subs=("status",),
        name_rule="path_segment",
        allow_unconditional_update=False,
    )


def _policy_and_network() -> None:
    at = "networking.k8s.io/v1"
    _kind(at, "Ingress", "ingresses", short=("ing",), subs=("status",), generation=True)
    _kind(at, "IngressClass", "ingressclasses", cluster=True, generation=True)
    _kind(at, "IPAddress", "ipaddresses", cluster=True, short=("ip",))
    _kind(at, "NetworkPolicy", "networkpolicies", short=("netpol",), generation=True)
    _kind(at, "ServiceCIDR", "servicecidrs", cluster=True, subs=("status",))
    _kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", generation=True)
    own: dict[str, Any] = {
        "short": ("pdb",),
        "subs": ("status",),
        "generation": True,
        "allow_unconditional_update": False,
    }
    _kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", **own)
    _kind("policy/v1", "Eviction", "", virtual=True)
    at = "rbac.authorization.k8s.io/v1"
    for kind, cluster in (("ClusterRole", True), ("ClusterRoleBinding", True), ("Role", False), ("RoleBinding", False)):
        _kind(at, kind, kind.lower() + "s", cluster=cluster, name_rule="path_segment", allow_create_on_update=True)
    approval = _sub("approval", "CertificateSigningRequest")
    at = "certificates.k8s.io/v1"
    name = "certificatesigningrequests"
    _kind(at, "CertificateSigningRequest", name, cluster=True, short=("csr",), subs=("status", approval))
    strict: dict[str, Any] = {"allow_unconditional_update": False}
    _kind(at, "ClusterTrustBundle", "clustertrustbundles", cluster=True, **strict)
    _kind(at, "PodCertificateRequest", "podcertificaterequests", subs=("status",), **strict)
    at = "flowcontrol.apiserver.k8s.io/v1"
    own = {"cluster": True, "subs": ("status",), "generation": True}
    _kind(at, "FlowSchema", "flowschemas", **own)
    _kind(at, "PriorityLevelConfiguration", "prioritylevelconfigurations", **own)
    _kind("coordination.k8s.io/v1", "Lease", "leases", allow_create_on_update=True, allow_unconditional_update=False)


def _storage_and_scheduling() -> None:
    at = "storage.k8s.io/v1"
    strict: dict[str, Any] = {"allow_unconditional_update": False}
    _kind(at, "CSIDriver", "csidrivers", cluster=True, generation=True, **strict)
    _kind(at, "CSINode", "csinodes", cluster=True, **strict)
    _kind(at, "CSIStorageCapacity", "csistoragecapacities", **strict)
    _kind(at, "StorageClass", "storageclasses", cluster=True, short=("sc",))
    _kind(at, "VolumeAttachment", "volumeattachments", cluster=True, subs=("status",), **strict)
    _kind(at, "VolumeAttributesClass", "volumeattributesclasses", cluster=True, short=("vac",))
    _kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", cluster=True, short=("pc",), generation=True)
    _kind("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", cluster=True, **strict)
    at = "resource.k8s.io/v1"
    _kind(at, "DeviceClass", "deviceclasses", cluster=True, generation=True)
    _kind(at, "DeviceTaintRule", "devicetaintrules", cluster=True, subs=("status",), generation=True)
    _kind(at, "ResourceClaim", "resourceclaims", subs=("status",))
    _kind(at, "ResourceClaimTemplate", "resourceclaimtemplates")
    _kind(at, "ResourceSlice", "resourceslices", cluster=True, generation=True)
    at = "storagemigration.k8s.io/v1"
    _kind(at, "StorageVersionMigration", "storageversionmigrations", cluster=True, subs=("status",), **strict)


def _reviews() -> None:
    at = "authentication.k8s.io/v1"
    _review(at, "SelfSubjectReview", "selfsubjectreviews")
    _review(at, "TokenReview", "tokenreviews")
    _kind(at, "TokenRequest", "", virtual=True)
    at = "authorization.k8s.io/v1"
    _review(at, "LocalSubjectAccessReview", "localsubjectaccessreviews", cluster=False)
    _review(at, "SelfSubjectAccessReview", "selfsubjectaccessreviews")
    _review(at, "SelfSubjectRulesReview", "selfsubjectrulesreviews")
    _review(at, "SubjectAccessReview", "subjectaccessreviews")


_build()
