"""What the API server tells: nodes and bound pods into the cluster's picture, pending pods into the queue, and every
change to the pods that wait for one like it."""

from __future__ import annotations

import functools
import time
from typing import Any

from peavine.client import InformerFactory
from peavine.client.informer import Informer
from peavine.scheduler import metrics
from peavine.scheduler.cluster import Cluster
from peavine.scheduler.context import Context, Lister
from peavine.scheduler.evaluation import Profile
from peavine.scheduler.inventory import holds_of
from peavine.scheduler.queue import Queued, SchedulingQueue
from peavine.scheduler.template import Object, Pod, Templates

ACTIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"

# Kinds that plugins list; those of optional features are read only by the plugins that need them.
LISTED = {
    "services": "v1",
    "replicationcontrollers": "v1",
    "replicasets": "apps/v1",
    "statefulsets": "apps/v1",
    "poddisruptionbudgets": "policy/v1",
}
# Kinds whose changes may make a pod with volumes or devices schedulable; the value is (apiVersion, kind).
STORED = {
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "persistentvolumes": ("v1", "PersistentVolume"),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass"),
    "csinodes": ("storage.k8s.io/v1", "CSINode"),
    "csidrivers": ("storage.k8s.io/v1", "CSIDriver"),
    "csistoragecapacities": ("storage.k8s.io/v1", "CSIStorageCapacity"),
    "resourceclaims": ("resource.k8s.io/v1", "ResourceClaim"),
    "resourceslices": ("resource.k8s.io/v1", "ResourceSlice"),
    "deviceclasses": ("resource.k8s.io/v1", "DeviceClass"),
    "devicetaintrules": ("resource.k8s.io/v1", "DeviceTaintRule"),
}
_DEVICES = frozenset(("resourceclaims", "resourceslices", "deviceclasses", "devicetaintrules"))


class Intake:
    def __init__(
        self,
        informers: InformerFactory,
        cluster: Cluster,
        queue: SchedulingQueue,
        templates: Templates,
        profiles: dict[str, Profile],
        *,
        whole_pods: bool = False,
    ) -> None:
        """`whole_pods`: keep all of a pod, for extenders."""
        self._cluster, self._queue, self._templates, self._profiles = cluster, queue, templates, profiles
        self.assumed: set[tuple[str, str]] = set()  # bound by us, not yet seen bound
        self._interested: dict[str, frozenset[str]] = {}  # event -> plugins that wait for it
        self._pods = informers.informer(
            "v1",
            "pods",
            field_selector=ACTIVE_PODS,
            transform=None if whole_pods else trimmed_pod,
            streamed=True,
        )
        self._nodes = informers.informer("v1", "nodes", transform=trimmed_node)
        self._namespaces = informers.informer("v1", "namespaces", transform=trimmed)
        self._listed = {
            plural: informers.informer(api_version, plural, transform=trimmed) for plural, api_version in LISTED.items()
        }
        self.context = Context(cluster, self._lister)
        self._namespaces.add_handler(self._namespace, lambda old, new: self._namespace(new), self._namespace_gone)
        self._nodes.add_handler(self._node_added, self._node_updated, self._node_deleted)
        self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_deleted)
        for informer in self._listed.values():
            informer.add_handler(
                lambda obj: self._listed_changed(None, obj),
                self._listed_changed,
                lambda obj: self._listed_changed(obj, None),
            )
        self._stored = {plural: informers.informer(api_version, plural) for plural, (api_version, _) in STORED.items()}
        for plural, informer in self._stored.items():
            informer.add_handler(*self._stored_handlers(plural))

    async def synced(self) -> None:
        for informer in (self._namespaces, self._nodes, self._pods, *self._listed.values(), *self._stored.values()):
            await informer.synced.wait()

    def _stored_handlers(self, plural: str) -> tuple[Any, Any, Any]:
        kind = STORED[plural][1]

        def changed(old: Object | None, new: Object | None) -> None:
            obj = new or old
            assert obj is not None
            storage = self.context.storage
            self.context.bump("devices" if plural in _DEVICES else "storage")
            if plural == "persistentvolumeclaims":
                storage.claim_changed(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            elif plural == "persistentvolumes":
                storage.volume_changed(obj)
                if obj["spec"].get("claimRef"):
                    storage.promised.pop(obj["metadata"]["name"], None)  # the promise is kept: it is written down
            elif plural == "deviceclasses":
                self.context.bump("classes")
            elif plural == "resourceclaims":
                for hold, _ in holds_of(new) if new is not None else ():
                    self.context.promised_devices.pop(hold, None)
                storage.wake()
            elif plural == "csinodes":
                storage.set_limits(new or {"metadata": obj["metadata"]})
            self.happened(f"{kind}/{'Update' if old and new else 'Add' if new else 'Delete'}", old, new)

        return (
            lambda obj: changed(None, obj),
            changed,
            lambda obj: changed(obj, None),
        )

    def _lister(self, plural: str) -> Lister | None:
        informer: Informer | None = self._listed.get(plural) or self._stored.get(plural)
        return informer

    def pending(self, key: tuple[str, str]) -> Pod | None:
        """A pod as it now is, if it waits to be scheduled by us."""
        obj = self._pods.get(*key)
        return Pod(obj, self._templates) if obj is not None and self._is_ours(obj) else None

    def _is_ours(self, obj: Object) -> bool:
        spec = obj["spec"]
        return (
            not spec.get("nodeName")
            and (spec.get("schedulerName") or "default-scheduler") in self._profiles
            and not obj["metadata"].get("deletionTimestamp")
        )

    # Pods

    def _pod_added(self, obj: Object) -> None:
        if obj["spec"].get("nodeName"):
            self._bound(obj, None)
        elif self._is_ours(obj):
            pod = Pod(obj, self._templates)
            if pod.nominated:  # by a scheduler before this one
                self._cluster.nominate(pod, pod.nominated)
            self._queue.add(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if new["spec"].get("nodeName"):
            self._bound(new, old)
            return
        key = (new["metadata"].get("namespace", ""), new["metadata"]["name"])
        if key in self.assumed:
            return  # on its way to a node: an update from before that
        if not self._is_ours(new):
            self._queue.remove(key)
            self._cluster.denominate(key)
        elif self._queue.get(key) is not None:
            pod = Pod(new, self._templates)
            if promised := self._cluster.nominated.get(key):
                self._cluster.nominate(pod, promised.nominated)
            self._queue.update(pod)

    def _bound(self, obj: Object, old: Object | None) -> None:
        pod = Pod(obj, self._templates)
        self._queue.remove(pod.key)
        self._cluster.denominate(pod.key)
        self.assumed.discard(pod.key)
        known = self._cluster.pods.get(pod.key)
        if known is not None and _same(known, pod):
            known.object = pod.object
            if old is not None and not old["spec"].get("nodeName"):
                self.happened("AssignedPod/Add", None, obj)
            return
        self._cluster.add_pod(pod)
        if known is None or old is None:
            self.happened("AssignedPod/Add", old, obj)
        elif known.template is not pod.template:
            labels = known.template.labels != pod.template.labels
            self.happened("AssignedPod/UpdateLabel" if labels else "AssignedPod/ScaleDown", old, obj)
        else:
            self.happened("AssignedPod/Update", old, obj)

    def _pod_deleted(self, obj: Object) -> None:
        key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        self._queue.remove(key)
        promised = key in self._cluster.nominated
        self._cluster.denominate(key)
        self.assumed.discard(key)
        if self._cluster.remove_pod(key) is not None or promised:
            self.happened("AssignedPod/Delete", obj, None)

    # Nodes and the rest

    def _node_added(self, obj: Object) -> None:
        self._cluster.set_node(obj)
        csi_node = self._stored["csinodes"].get(None, obj["metadata"]["name"])
        if csi_node is not None:
            self.context.storage.set_limits(csi_node)
        self.happened("Node/Add", None, obj)

    def _node_updated(self, old: Object, new: Object) -> None:
        if not self._cluster.set_node(new):
            return
        for event in node_events(old, new):
            self.happened(event, old, new)

    def _node_deleted(self, obj: Object) -> None:
        self._cluster.remove_node(obj["metadata"]["name"])
        self.happened("Node/Delete", obj, None)

    def _namespace(self, obj: Object) -> None:
        self._cluster.set_namespace(obj["metadata"]["name"], obj["metadata"].get("labels") or {})

    def _namespace_gone(self, obj: Object) -> None:
        self._cluster.set_namespace(obj["metadata"]["name"], None)

    def _listed_changed(self, old: Object | None, new: Object | None) -> None:
        # Only their selectors are read (by the default spreading); workloads' statuses change all the time.
        if (
            old is None
            or new is None
            or (old.get("spec") or {}).get("selector") != (new.get("spec") or {}).get("selector")
        ):
            self.context.bump("services")

    def happened(self, event: str, old: Object | None, new: Object | None) -> None:
        """Move pods that were refused by a plugin whose mind this event may change."""
        plugins = self._interested.get(event)
        if plugins is None:
            every = [plugin for profile in self._profiles.values() for plugin, _ in profile.plugins]
            plugins = self._interested[event] = frozenset(p.name for p in every if event in p.wakes_on)
        answers: dict[tuple[Any, ...], bool] = {}

        def may_help(queued: Queued) -> bool:
            question = (queued.pod.template, queued.pod.pinned, queued.rejected_by)
            if question not in answers:
                answers[question] = self._may_help(queued, event, old, new)
            return answers[question]

        if self._queue.sizes()["unschedulable"]:
            started = time.perf_counter()
            self._queue.happened(event, plugins, may_help)
            _event_seconds(event).observe(time.perf_counter() - started)

    def _may_help(self, queued: Queued, event: str, old: Object | None, new: Object | None) -> bool:
        template, pinned = queued.pod.template, queued.pod.pinned
        profile = self._profiles.get(template.scheduler_name)
        if profile is None or not queued.rejected_by:
            return True
        if pinned and event.startswith("Node/") and new is not None and new["metadata"]["name"] != pinned:
            return False
        for plugin, _ in profile.plugins:
            if plugin.name in queued.rejected_by and event in plugin.wakes_on:
                started = time.perf_counter()
                helps = plugin.hint(self.context, template, event, old, new)
                _hint_seconds(plugin.name, event, helps).observe(time.perf_counter() - started)
                if helps:
                    return True
        return False


@functools.cache
def _event_seconds(event: str) -> Any:
    return metrics.EVENT_SECONDS.labels(event.replace("/", ""))


@functools.cache
def _hint_seconds(plugin: str, event: str, helps: bool) -> Any:
    return metrics.HINT_SECONDS.labels(plugin, event.replace("/", ""), "Queue" if helps else "QueueSkip")


def _same(known: Pod, pod: Pod) -> bool:
    """Whether the pod counts just as it did."""
    return (known.uid, known.node, known.deleting) == (pod.uid, pod.node, pod.deleting) and (
        known.template is pod.template
    )


def node_events(old: Object, new: Object) -> list[str]:
    """Which of the node's properties changed, as event names."""
    a, b = old.get("spec") or {}, new.get("spec") or {}
    c, d = old.get("status") or {}, new.get("status") or {}
    events = []
    if c.get("allocatable") != d.get("allocatable"):
        events.append("Node/UpdateAllocatable")
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        events.append("Node/UpdateLabel")
    if (a.get("taints") or []) != (b.get("taints") or []):
        events.append("Node/UpdateTaint")
    if c.get("declaredFeatures") != d.get("declaredFeatures"):
        events.append("Node/UpdateDeclaredFeature")
    if bool(a.get("unschedulable")) != bool(b.get("unschedulable")):
        events.append("Node/Update")
    return events


_POD_SPEC = frozenset(
    (
        "nodeName",
        "schedulerName",
        "nodeSelector",
        "affinity",
        "tolerations",
        "overhead",
        "resources",
        "topologySpreadConstraints",
        "priority",
        "preemptionPolicy",
        "schedulingGates",
        "schedulingGroup",
        "resourceClaims",
        "hostNetwork",
        "volumes",
        "terminationGracePeriodSeconds",
    )
)
_CONTAINER = ("name", "image", "resources", "ports", "restartPolicy", "restartPolicyRules")
_POD_STATUS = ("conditions", "nominatedNodeName", "startTime", "phase", "resourceClaimStatuses")


def trimmed(obj: Object) -> Object:
    """Without what nobody here reads."""
    meta = obj["metadata"]
    meta.pop("managedFields", None)
    meta.pop("annotations", None)
    return obj


def trimmed_pod(obj: Object) -> Object:
    """A pod as far as scheduling reads it: a third of its size in memory."""
    spec, status = obj["spec"], obj.get("status") or {}
    slim: dict[str, Any] = {k: v for k, v in spec.items() if k in _POD_SPEC and v}
    if spec.get("hostUsers") is False:
        slim["hostUsers"] = False
    for part in ("containers", "initContainers"):
        if part in spec:
            slim[part] = [{k: c[k] for k in _CONTAINER if c.get(k)} for c in spec[part]]
    if "volumes" in slim:
        slim["volumes"] = [v for v in slim["volumes"] if not _is_plain(v)]
    obj["spec"] = slim
    kept = {k: status[k] for k in _POD_STATUS if k in status}
    # Only where a container has other than it asks for (a resize under way), or every running pod would differ from its
    # pending siblings.
    asked = {c["name"]: (c.get("resources") or {}).get("requests") for c in slim.get("containers") or ()}
    resized = [
        {k: s[k] for k in ("name", "allocatedResources", "resources") if k in s}
        for s in status.get("containerStatuses") or ()
        if s.get("allocatedResources") and s["allocatedResources"] != asked.get(s.get("name"))
    ]
    if resized:
        kept["containerStatuses"] = resized
    if "conditions" in kept:
        kept["conditions"] = [c for c in kept["conditions"] if c.get("type") == "PodScheduled"]
    obj["status"] = kept
    return trimmed(obj)


def _is_plain(volume: Object) -> bool:
    return any(
        kind in volume for kind in ("projected", "emptyDir", "configMap", "secret", "hostPath", "downwardAPI", "image")
    )


def trimmed_node(obj: Object) -> Object:
    status = obj.get("status") or {}
    obj["status"] = {k: status[k] for k in ("allocatable", "images", "conditions", "declaredFeatures") if k in status}
    return trimmed(obj)
