"""DaemonSet: one pod on every node that fits, updated node by node.

Upstream: pkg/controller/daemon; "DaemonSet", "Perform a Rolling Update on a DaemonSet", KEP-1591 (maxSurge).
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from peavine.api.core.nodeselector import pod_fits_node
from peavine.api.core.podstate import is_available, is_ready, is_terminal
from peavine.api.core.taint import untolerated
from peavine.base.backoff import Backoff
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.deployment.arithmetic import scaled
from peavine.controllers.expectations import Expectations
from peavine.controllers.history import History
from peavine.controllers.ownership import claim, controlled, index_by_controller, orphans, owners_of, still_alive
from peavine.controllers.pods import PodControl, slow_start
from peavine.machinery.selectors import selector_of

HASH_LABEL = "controller-revision-hash"
BURST = 250
# What every daemon pod tolerates: it belongs to its node, in good days and bad.
TOLERATIONS = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
]
NETWORK_UNAVAILABLE = ("node.kubernetes.io/network-unavailable", "NoSchedule")


class DaemonSetController(Controller):
    name = "daemonset-controller"
    account = "daemon-set-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = self.watch("apps/v1", "daemonsets")
        owners = owners_of("DaemonSet", "apps", self.sets, lambda s: selector_of(s["spec"].get("selector")))
        self.pods = self.watch("v1", "pods", keys=owners)
        index_by_controller(self.pods)
        self.nodes = self.read("v1", "nodes")
        self.nodes.add_handler(self._node_changed, self._node_updated, self._node_changed)
        self.history = History(self, "DaemonSet", HASH_LABEL)
        self.expectations = Expectations(self.pods, self.clock)
        self.control = PodControl(self.client, self.recorder)
        self.resource = self.client.resource("apps/v1", "daemonsets")
        self.failed = Backoff(first=1.0, most=900.0)
        self._replace_at: dict[tuple[str, int | None, str], float] = {}

    def _node_changed(self, _: Object) -> None:
        for daemon_set in self.sets.list():
            self.queue.add(key_of(daemon_set))

    def _node_updated(self, old: Object, new: Object) -> None:
        def placing(node: Object) -> tuple:
            return node["metadata"].get("labels"), node["spec"].get("taints"), node["spec"].get("unschedulable")

        if placing(old) != placing(new):
            self._node_changed(new)

    async def reconcile(self, key: Key) -> float | None:
        daemon_set = self.sets.get(*key)
        if daemon_set is None:
            self.expectations.forget(key)
            return None
        selector = selector_of(daemon_set["spec"].get("selector"))
        if selector.empty:
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self.recorder.event(daemon_set, "Warning", "SelectingAll", message)
            return None
        if "deletionTimestamp" in daemon_set["metadata"]:
            return None
        alive = partial(still_alive, self.resource, daemon_set)
        candidates = [*controlled(self.pods, daemon_set), *orphans(self.pods, key[0])]
        pods = await claim(daemon_set, candidates, selector.matches, self.control.pods, alive)
        current, old_revisions = await self.history.sync(daemon_set)
        digest = current["metadata"]["labels"][HASH_LABEL]
        if self.expectations.satisfied(key):
            again = await self._manage(key, daemon_set, pods, digest)
            if self.expectations.satisfied(key):
                strategy = (daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
                if strategy == "RollingUpdate":
                    await self._update(key, daemon_set, pods, digest)
        else:
            again = None
        await self.history.truncate(daemon_set, old_revisions, pods)
        await self._sync_status(daemon_set, pods, digest, current)
        min_ready = daemon_set["spec"].get("minReadySeconds") or 0
        if min_ready and any(is_ready(p) and not is_available(p, min_ready, self.clock.time()) for p in pods):
            return float(min_ready)
        return again

    # which nodes
    def _should(self, daemon_set: Object, node: Object) -> tuple[bool, bool]:
        """(should run, should continue to run) on this node."""
        pod = daemon_pod(daemon_set, node["metadata"]["name"])
        if not pod_fits_node(pod, node):
            return False, False
        taints = node["spec"].get("taints") or []
        tolerations = pod["spec"]["tolerations"]
        should_run = untolerated(taints, tolerations, ("NoSchedule", "NoExecute")) is None
        return should_run, untolerated(taints, tolerations, ("NoExecute",)) is None

    def _by_node(self, pods: list[Object]) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = defaultdict(list)
        for pod in pods:
            found[node_of(pod)].append(pod)
        return found

    async def _manage(self, key: Key, daemon_set: Object, pods: list[Object], digest: str) -> float | None:
        by_node = self._by_node(pods)
        create: list[str] = []
        delete: list[Object] = []
        again: float | None = None
        for node in self.nodes.list():
            name = node["metadata"]["name"]
            should_run, should_stay = self._should(daemon_set, node)
            here = [p for p in by_node.get(name, ()) if "deletionTimestamp" not in p["metadata"]]
            failed = [p for p in here if is_terminal(p)]
            if failed and should_stay:
                wait = self._failed_wait(daemon_set, name)
                if wait > 0:
                    again = min(again or wait, wait)
                    continue
                for pod in failed:
                    which = f"{key[0]}/{pod['metadata']['name']} on node {name}"
                    message = f"Found failed daemon pod {which}, will try to kill it"
                    self.recorder.event(daemon_set, "Warning", "FailedDaemonPod", message)
                delete += failed
                continue
            if should_run and not by_node.get(name):
                create.append(name)
            elif not should_stay:
                delete += here
            elif len(here) > 1:
                delete += self._excess(daemon_set, here, digest)
        known = {node["metadata"]["name"] for node in self.nodes.list()}
        delete += [
            p
            for name, there in by_node.items()
            if name and name not in known
            for p in there
            if "deletionTimestamp" not in p["metadata"]
        ]
        await self._write(key, daemon_set, create[:BURST], delete[:BURST], digest)
        return again

    def _failed_wait(self, daemon_set: Object, node: str) -> float:
        """Seconds until a failed pod of this node may be replaced; 0 starts the next, longer wait."""
        backoff_key = (daemon_set["metadata"]["uid"], daemon_set["metadata"].get("generation"), node)
        now = self.clock.monotonic()
        until = self._replace_at.get(backoff_key, 0.0)
        if now < until:
            return until - now
        self._replace_at[backoff_key] = now + self.failed.next(backoff_key)
        return 0.0

    def _excess(self, daemon_set: Object, here: list[Object], digest: str) -> list[Object]:
        """Of several pods on one node: during a surge one old and one new may be; else the oldest stays."""
        surge = max_surge(daemon_set, 1)
        oldest_first = sorted(here, key=lambda p: p["metadata"].get("creationTimestamp", ""))
        if surge == 0:
            return oldest_first[1:]
        new = [p for p in oldest_first if of_revision(p, digest)]
        old = [p for p in oldest_first if not of_revision(p, digest)]
        min_ready = daemon_set["spec"].get("minReadySeconds") or 0
        doomed = new[1:] + old[1:]
        if new and old and is_available(new[0], min_ready, self.clock.time()):
            doomed.append(old[0])
        return doomed

    async def _write(self, key: Key, daemon_set: Object, create: list[str], delete: list[Object], digest: str) -> None:
        template = daemon_set["spec"]["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
        generation = (daemon_set["metadata"].get("annotations") or {}).get("deprecated.daemonset.template.generation")
        if generation:
            labels["pod-template-generation"] = generation

        async def make(i: int) -> None:
            spec = daemon_pod(daemon_set, create[i])["spec"]
            pod = await self.control.create(daemon_set, {**template, "spec": spec}, labels=labels)
            self.expectations.created(key, pod)

        await slow_start(len(create), make)
        for pod in delete:
            if await self.control.delete(daemon_set, pod):
                self.expectations.deleted(key, pod)

    # rolling update
    async def _update(self, key: Key, daemon_set: Object, pods: list[Object], digest: str) -> None:
        by_node = self._by_node(pods)
        wanted = [n["metadata"]["name"] for n in self.nodes.list() if self._should(daemon_set, n)[0]]
        min_ready, now = daemon_set["spec"].get("minReadySeconds") or 0, self.clock.time()
        surge = max_surge(daemon_set, len(wanted))
        unavailable_max = max_unavailable(daemon_set, len(wanted))
        unavailable = 0
        replaceable: list[Object] = []
        broken: list[Object] = []
        create: list[str] = []
        for name in wanted:
            here = by_node.get(name, [])
            available = [
                p for p in here if is_available(p, min_ready, now) and "deletionTimestamp" not in p["metadata"]
            ]
            old = [p for p in here if not of_revision(p, digest) and "deletionTimestamp" not in p["metadata"]]
            new = [p for p in here if of_revision(p, digest) and "deletionTimestamp" not in p["metadata"]]
            if not available:
                unavailable += 1
            if surge:
                if old and new and is_available(new[0], min_ready, now):
                    replaceable += old
                elif old and not new:
                    create.append(name)
            elif old:
                (replaceable if available else broken).extend(old)
        if surge:
            busy = sum(
                1
                for name in wanted
                if any(of_revision(p, digest) for p in by_node.get(name, ()))
                and any(not of_revision(p, digest) for p in by_node.get(name, ()))
            )
            await self._write(key, daemon_set, create[: max(0, surge - busy)], replaceable, digest)
            return
        room = max(0, unavailable_max - unavailable)
        # Broken old pods cost no availability: they go first, and do not count.
        await self._write(key, daemon_set, [], broken + replaceable[:room], digest)

    async def _sync_status(self, daemon_set: Object, pods: list[Object], digest: str, current: Object) -> None:
        by_node = self._by_node(pods)
        min_ready, now = daemon_set["spec"].get("minReadySeconds") or 0, self.clock.time()
        counts = dict.fromkeys(
            (
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "updatedNumberScheduled",
                "numberAvailable",
            ),
            0,
        )
        for node in self.nodes.list():
            here = by_node.get(node["metadata"]["name"], [])
            if not self._should(daemon_set, node)[0]:
                counts["numberMisscheduled"] += bool(here)
                continue
            counts["desiredNumberScheduled"] += 1
            if not here:
                continue
            counts["currentNumberScheduled"] += 1
            first = sorted(here, key=lambda p: (not of_revision(p, digest), p["metadata"].get("creationTimestamp", "")))
            live = [p for p in first if "deletionTimestamp" not in p["metadata"]]
            counts["numberReady"] += any(is_ready(p) for p in live)
            counts["numberAvailable"] += any(is_available(p, min_ready, now) for p in live)
            counts["updatedNumberScheduled"] += any(of_revision(p, digest) for p in live)
        required = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        status: Object = {k: v for k, v in counts.items() if v or k in required}
        unavailable = counts["desiredNumberScheduled"] - counts["numberAvailable"]
        if unavailable:
            status["numberUnavailable"] = unavailable
        status["observedGeneration"] = daemon_set["metadata"].get("generation", 0)
        old = daemon_set.get("status") or {}
        for kept in ("collisionCount", "conditions"):
            if old.get(kept):
                status[kept] = old[kept]
        if status != old:
            await self.resource.update({**daemon_set, "status": status}, "status")


def daemon_pod(daemon_set: Object, node: str) -> Object:
    """The pod of this set for one node: bound to it by affinity on its name, tolerating what daemons tolerate."""
    template = daemon_set["spec"]["template"]
    spec = dict(template.get("spec") or {})
    by_name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = dict(spec.get("affinity") or {})
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [{**term, "matchFields": by_name["matchFields"]} for term in required.get("nodeSelectorTerms") or ()] or [
        by_name
    ]
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    spec["affinity"] = {**affinity, "nodeAffinity": node_affinity}
    own = list(spec.get("tolerations") or ())
    for taint, effect in TOLERATIONS + ([NETWORK_UNAVAILABLE] if spec.get("hostNetwork") else []):
        toleration = {"key": taint, "operator": "Exists", "effect": effect}
        if toleration not in own:
            own.append(toleration)
    spec["tolerations"] = own
    return {"metadata": template.get("metadata") or {}, "spec": spec}


def node_of(pod: Object) -> str:
    """The pod's node; before it is bound, the one that its affinity names."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return spec["nodeName"]
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    for term in (required or {}).get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field["operator"] == "In" and len(field["values"]) == 1:
                return field["values"][0]
    return ""


def of_revision(pod: Object, digest: str) -> bool:
    return (pod["metadata"].get("labels") or {}).get(HASH_LABEL) == digest


def _rolling(daemon_set: Object) -> Object:
    return (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}


def max_surge(daemon_set: Object, nodes: int) -> int:
    return scaled(_rolling(daemon_set).get("maxSurge", 0), nodes, up=True)


def max_unavailable(daemon_set: Object, nodes: int) -> int:
    surge = max_surge(daemon_set, nodes)
    wanted = scaled(_rolling(daemon_set).get("maxUnavailable", 1), nodes, up=True)
    return wanted if wanted or surge else 1
