"""What the scheduler knows of a pod: the `Template`, shared by all pods that look alike to it, and the small `Pod`.

Pods that a workload's controller makes differ in name and little else. Everything that filters and scores read is in
the template; two pods with one template have the same feasible nodes and scores, so the work on it is shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import orjson

from peavine.api.core.podstate import host_ports, unix_time
from peavine.api.core.resourcenames import is_extended
from peavine.api.core.resources import container_requests, pod_requests
from peavine.machinery.selectors import NOTHING, Requirement, Selector, SelectorError
from peavine.machinery.selectors import selector_of as parse_selector

Object = dict[str, Any]

# What a container without a request counts for in scores (never in filters), so that such pods spread too.
DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY = 200 << 20

CPU, MEMORY, EPHEMERAL, PODS = "cpu", "memory", "ephemeral-storage", "pods"


# In front of a device class, the name of an extended resource that it serves.
CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"


class AffinityTerm(NamedTuple):
    """A term of pod (anti-)affinity: which pods it is about, and the label whose values are the places.

    `namespaces` and `namespace_selector` are joined by or; the selector None names no namespace."""

    namespaces: frozenset[str]
    namespace_selector: Selector | None
    selector: Selector
    topology_key: str

    def covers(self, pod: Object, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether the term is about a pod; `namespaces` are the labels of each."""
        meta = pod["metadata"]
        namespace = meta.get("namespace", "")
        return self.names_namespace(namespace, namespaces.get(namespace, {})) and self.selector.matches(
            meta.get("labels")
        )

    def names_namespace(self, namespace: str, labels: Mapping[str, str]) -> bool:
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(labels)


class SpreadConstraint(NamedTuple):
    max_skew: int
    topology_key: str
    required: bool  # DoNotSchedule
    selector: Selector
    min_domains: int
    honor_affinity: bool
    honor_taints: bool


class Asking(NamedTuple):
    """A container that asks for extended resources; a brief one ends before the next of its kind begins."""

    name: str
    requests: dict[str, Any]
    brief: bool


class Template:
    """Immutable but for the places of its pods, which `Cluster` keeps here: row of a node -> number of pods."""

    __slots__ = (
        "__weakref__",
        "affinity_terms",
        "anti_affinity_terms",
        "carriers",
        "cohorts",
        "containers",
        "extended",
        "features",
        "gated",
        "group",
        "host_ports",
        "images",
        "key",
        "labels",
        "namespace",
        "never_preempts",
        "node_preferences",
        "node_required",
        "node_selector",
        "nonzero",
        "owner",
        "pod_name",
        "preferred_terms",
        "priority",
        "requests",
        "resource_claims",
        "rows",
        "scheduler_name",
        "spread",
        "terminating",
        "tolerations",
        "volumes",
    )

    def __init__(self, key: bytes, pod: Object, node_required: Object | None) -> None:
        spec, meta = pod["spec"], pod["metadata"]
        self.key = key
        self.namespace: str = meta.get("namespace", "")
        self.labels: dict[str, str] = meta.get("labels") or {}
        self.scheduler_name: str = spec.get("schedulerName") or "default-scheduler"
        self.priority: int = spec.get("priority") or 0
        self.never_preempts = spec.get("preemptionPolicy") == "Never"
        self.gated = bool(spec.get("schedulingGates"))
        self.owner = _owner(meta)
        self.group: str = (spec.get("schedulingGroup") or {}).get("podGroupName") or ""
        self.requests: dict[str, int] = {
            name: quantity.milli() if name == CPU else quantity.value()
            for name, quantity in pod_requests(pod, resized=True).items()
        }
        self.requests = {name: amount for name, amount in self.requests.items() if amount > 0}
        self.nonzero: tuple[int, int] = _nonzero(pod)
        self.features = _features(spec)
        # What a device plugin, or a device class, may provide.
        self.extended = frozenset(n for n in self.requests if is_extended(n) or n.startswith(CLASS_PREFIX))
        self.containers = _asking(spec) if self.extended else []
        self.tolerations: list[Object] = spec.get("tolerations") or []
        self.host_ports = host_ports(pod)
        self.images = [_normalized(c.get("image") or "") for c in _image_containers(spec)]
        self.node_selector: dict[str, str] = spec.get("nodeSelector") or {}
        self.node_required = node_required
        affinity = spec.get("affinity") or {}
        self.node_preferences: list[Object] = (affinity.get("nodeAffinity") or {}).get(
            "preferredDuringSchedulingIgnoredDuringExecution"
        ) or []
        own, anti = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        required, preferred = (
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        )
        self.affinity_terms = [_term(t, self) for t in own.get(required) or []]
        self.anti_affinity_terms = [_term(t, self) for t in anti.get(required) or []]
        self.preferred_terms = [
            (sign * (w.get("weight") or 0), _term(w["podAffinityTerm"], self))
            for sign, part in ((1, own), (-1, anti))
            for w in part.get(preferred) or []
        ]
        self.spread = [spread_constraint(c, self.labels) for c in spec.get("topologySpreadConstraints") or []]
        self.volumes: list[Object] = [v for v in spec.get("volumes") or [] if _scheduled_by(v)]
        # Only where the claims of ephemeral volumes are named after it: such pods share no template.
        self.pod_name: str = meta["name"] if any("ephemeral" in v for v in self.volumes) else ""
        self.resource_claims = _resource_claims(pod)
        # Kept by the cluster.
        self.rows: dict[int, int] = {}
        self.terminating: dict[int, int] = {}
        self.cohorts: list[Any] | None = None
        self.carriers: list[Any] | None = None

    def __repr__(self) -> str:
        return f"Template({self.namespace}, {self.labels})"


class Pod:
    """One pod. `template` and `pinned` say all that decides where it may go."""

    __slots__ = (
        "created",
        "deleting",
        "key",
        "name",
        "namespace",
        "node",
        "nominated",
        "object",
        "pinned",
        "template",
        "uid",
    )

    def __init__(self, obj: Object, templates: Templates) -> None:
        meta = obj["metadata"]
        self.namespace: str = meta.get("namespace", "")
        self.name: str = meta["name"]
        self.uid: str = meta.get("uid", "")
        self.key = (self.namespace, self.name)
        self.template, self.pinned = templates.of(obj)
        self.node: str = obj["spec"].get("nodeName") or ""
        self.nominated: str = (obj.get("status") or {}).get("nominatedNodeName") or ""
        self.deleting = bool(meta.get("deletionTimestamp"))
        self.created = unix_time(meta.get("creationTimestamp")) or 0.0
        self.object = obj

    @property
    def priority(self) -> int:
        return self.template.priority

    @property
    def started(self) -> float:
        """When it started to run; a pod that has not, is younger than any that has."""
        return unix_time((self.object.get("status") or {}).get("startTime")) or float("inf")

    def __repr__(self) -> str:
        return f"Pod({self.namespace}/{self.name})"


class Templates:
    """Interns templates; one lives as long as a pod, or an evaluation, holds it."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[bytes, Template] = WeakValueDictionary()

    def of(self, pod: Object) -> tuple[Template, str]:
        """The pod's template, and the one node that its affinity names ("" for none): DaemonSet pods differ in
        nothing else, and keep the name out of the template."""
        node_required, pinned = _pinned(pod["spec"])
        key = _signature(pod, node_required if pinned else None)
        template = self._known.get(key)
        if template is None:
            template = self._known[key] = Template(key, pod, node_required)
        return template, pinned

    def __len__(self) -> int:
        return len(self._known)


_SPEC_FIELDS = (
    "nodeSelector",
    "tolerations",
    "overhead",
    "resources",
    "topologySpreadConstraints",
    "priority",
    "preemptionPolicy",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "resourceClaims",
)


def _signature(pod: Object, pinned_required: Object | None) -> bytes:
    spec, meta = pod["spec"], pod["metadata"]
    affinity = spec.get("affinity")
    if affinity and pinned_required is not None:
        affinity = [pinned_required, affinity.get("podAffinity"), affinity.get("podAntiAffinity")] + [
            affinity["nodeAffinity"].get("preferredDuringSchedulingIgnoredDuringExecution")
        ]
    status = pod.get("status") or {}
    volumes = [v for v in spec.get("volumes") or () if _scheduled_by(v)]
    parts: list[Any] = [
        meta.get("namespace"),
        meta.get("labels"),
        _owner(meta),
        affinity,
        [spec.get(name) for name in _SPEC_FIELDS],
        [_container(c) for c in spec.get("containers") or ()],
        [(_container(c), c.get("restartPolicy")) for c in spec.get("initContainers") or ()],
        volumes,
        meta["name"] if any("ephemeral" in v for v in volumes) else None,
        sorted(_features(spec)),
        _resource_claims(pod),
        [(s.get("allocatedResources"), s.get("resources")) for s in status.get("containerStatuses") or ()],
    ]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


def _container(container: Object) -> list[Any]:
    return [
        container.get("image"),
        (container.get("resources") or {}).get("requests"),
        [p for p in container.get("ports") or () if p.get("hostPort")],
        container.get("name"),
    ]


def _resource_claims(pod: Object) -> list[tuple[str, str]]:
    """(name in the pod, name of the ResourceClaim) of each; the latter empty while it is not made yet."""
    references = pod["spec"].get("resourceClaims")
    if not references:
        return []
    made = {s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    claims = []
    for reference in references:
        name = reference["name"]
        if reference.get("resourceClaimName"):
            claims.append((name, reference["resourceClaimName"]))
        elif name not in made or made[name]:  # a template that needs no claim for this pod says so by an empty name
            claims.append((name, made.get(name) or ""))
    return claims


def _owner(meta: Object) -> tuple[str, str, str] | None:
    """(kind, name, uid) of the controller: what the default spreading and the removal of victims look at."""
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            return owner.get("kind", ""), owner.get("name", ""), owner.get("uid", "")
    return None


def _pinned(spec: Object) -> tuple[Object | None, str]:
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not required:
        return required, ""
    terms = required.get("nodeSelectorTerms") or []
    if len(terms) == 1:
        fields = terms[0].get("matchFields") or []
        if len(fields) == 1 and fields[0].get("operator") == "In" and len(fields[0].get("values") or ()) == 1:
            expressions = terms[0].get("matchExpressions")
            rest = {"nodeSelectorTerms": [{"matchExpressions": expressions}]} if expressions else None
            return rest or {}, fields[0]["values"][0]
    return required, ""


def _scheduled_by(volume: Object) -> bool:
    """Whether a volume has a say in where its pod goes."""
    return any(
        kind in volume
        for kind in (
            "persistentVolumeClaim",
            "ephemeral",
            "gcePersistentDisk",
            "awsElasticBlockStore",
            "rbd",
            "iscsi",
            "csi",
        )
    )


def _features(spec: Object) -> frozenset[str]:
    """What the pod needs of a kubelet that not every kubelet has."""
    needed = set()
    for container in _image_containers(spec):
        if any(rule.get("action") == "RestartAllContainers" for rule in container.get("restartPolicyRules") or ()):
            needed.add("RestartAllContainersOnContainerExits")
    if spec.get("hostNetwork") and spec.get("hostUsers") is False:
        needed.add("UserNamespacesHostNetworkSupport")
    return frozenset(needed)


def _asking(spec: Object) -> list[Asking]:
    asking = []
    for part in ("initContainers", "containers"):
        for c in spec.get(part) or ():
            requests = (c.get("resources") or {}).get("requests") or {}
            brief = part == "initContainers" and c.get("restartPolicy") != "Always"
            asking.append(Asking(c.get("name") or "", requests, brief))
    return asking


def _image_containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _normalized(image: str) -> str:
    """With `:latest` where the image has neither tag nor digest."""
    return image if ":" in image.rpartition("/")[2] else image + ":latest"


def _nonzero(pod: Object) -> tuple[int, int]:
    """(milli-CPU, memory bytes) with the defaults for containers that ask for none."""
    spec = pod["spec"]
    own = (spec.get("resources") or {}).get("requests") or {}

    def filled(container: Object) -> Object:
        requests = {CPU: f"{DEFAULT_MILLI_CPU}m", MEMORY: str(DEFAULT_MEMORY)}
        requests |= {name: str(quantity) for name, quantity in container_requests(container).items()}
        return {**container, "resources": {"requests": requests}}

    shadow = {
        "spec": {
            **spec,
            "containers": [filled(c) for c in spec.get("containers") or ()],
            "initContainers": [filled(c) for c in spec.get("initContainers") or ()],
            "resources": {"requests": own},
        }
    }
    total = pod_requests(shadow)
    return total[CPU].milli() if CPU in total else 0, total[MEMORY].value() if MEMORY in total else 0


def selector_of(selector: Object | None) -> Selector:
    """A LabelSelector object; None matches nothing, an empty one everything. A broken one (the API server lets none
    pass) matches nothing."""
    try:
        return parse_selector(selector)
    except SelectorError:
        return NOTHING


def _with_keys(selector: Selector, labels: Mapping[str, str], match: list[str], mismatch: list[str]) -> Selector:
    more = [Requirement(k, "in", (labels[k],)) for k in match if k in labels]
    more += [Requirement(k, "notin", (labels[k],)) for k in mismatch if k in labels]
    return Selector((*selector.requirements, *more), selector.nothing) if more else selector


def _term(term: Object, template: Template) -> AffinityTerm:
    # The API server merges matchLabelKeys into the selector on creation; doing it again changes nothing.
    selector = selector_of(term.get("labelSelector"))
    selector = _with_keys(
        selector, template.labels, term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or []
    )
    names = term.get("namespaces") or []
    by_label = term.get("namespaceSelector")
    if not names and by_label is None:
        names = [template.namespace]
    return AffinityTerm(
        frozenset(names),
        None if by_label is None else selector_of(by_label),
        selector,
        term.get("topologyKey") or "",
    )


def spread_constraint(constraint: Object, labels: Mapping[str, str]) -> SpreadConstraint:
    selector = selector_of(constraint.get("labelSelector"))
    return SpreadConstraint(
        max_skew=constraint.get("maxSkew") or 1,
        topology_key=constraint.get("topologyKey") or "",
        required=constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        selector=_with_keys(selector, labels, constraint.get("matchLabelKeys") or [], []),
        min_domains=constraint.get("minDomains") or 1,
        honor_affinity=constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
        honor_taints=constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )
