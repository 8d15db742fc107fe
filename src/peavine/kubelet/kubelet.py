"""The kubelet: joins pods of the API with the runtime of this node (or of many simulated nodes).

Everything a pod worker may ask for is here; the parts do the work: workers, volumes, images, probes, the node's
registration, the server. One event loop, no threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peavine.api.core.podstate import unix_time
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope, scope
from peavine.client.events import EventRecorder
from peavine.client.informer import Informer
from peavine.client.rest import Client
from peavine.kubelet.cri.features import Features
from peavine.kubelet.cri.runtime import Message, RpcError, Runtime
from peavine.kubelet.images.puller import Puller
from peavine.kubelet.node import admission
from peavine.kubelet.node.admission import Held
from peavine.kubelet.node.node import Node, extended
from peavine.kubelet.node.registrar import Registrar
from peavine.kubelet.objects import ObjectCache
from peavine.kubelet.options import Options
from peavine.kubelet.paths import Paths
from peavine.kubelet.pods import downward, environment, resources
from peavine.kubelet.pods.crashes import Crashes
from peavine.kubelet.pods.packing import Packed, pack
from peavine.kubelet.pods.records import Container, PodRecord, pod_record
from peavine.kubelet.pods.worker import PodWorker
from peavine.kubelet.podsource import PodSource
from peavine.kubelet.probes.worker import Probes, Target
from peavine.kubelet.runtimewatch import RuntimeWatch
from peavine.kubelet.server.stats import Rates
from peavine.kubelet.static import StaticPods
from peavine.kubelet.volumes.manager import VolumeManager
from peavine.kubelet.volumes.simulated import SimulatedVolumes
from peavine.kubelet.volumes.source import VolumeError, VolumeHost
from peavine.machinery.errors import ApiError
from peavine.machinery.quantity import parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.allocation.managers import Managers
    from peavine.kubelet.node.groups import PodGroups
    from peavine.kubelet.plugins.devices import Devices
    from peavine.kubelet.plugins.dra import DynamicResources
    from peavine.kubelet.usernamespaces import UserNamespaces

log = logging.getLogger(__name__)
Object = dict[str, Any]

REPORTS_AT_ONCE_MAX = 8
PREEMPTION_SECONDS_MAX = 120.0
# A duty of the kubelet that failed for reasons nobody thought of is begun again after this.
BROKEN_SECONDS = 5.0


@dataclass
class Allocation:
    """What devices add to a container."""

    environment: dict[str, str] = field(default_factory=dict)
    mounts: list[Message] = field(default_factory=list)
    devices: list[Message] = field(default_factory=list)
    cdi_devices: list[str] = field(default_factory=list)


class Kubelet:
    """`nodes`: this node, or, with the simulated runtime, as many as you like. `run()` ends by cancellation."""

    scope: Scope
    objects: ObjectCache
    probes: Probes

    def __init__(
        self,
        options: Options,
        client: Client,
        runtime: Runtime,
        nodes: Iterable[Node],
        *,
        clock: Clock = REAL,
        runtime_name: str = "containerd",
    ) -> None:
        self.options, self.client, self.runtime, self.clock = options, client, runtime, clock
        self.runtime_name = runtime_name
        self.nodes = {node.name: node for node in nodes}
        self.many = len(self.nodes) > 1
        self.paths = Paths(options.root_dir, options.pod_logs_dir)
        self.recorder = EventRecorder(client, "kubelet", "" if self.many else options.node_name, clock=clock)
        self.pods_api = client.resource("v1", "pods")
        self.puller = Puller(runtime, parallel_max=options.max_parallel_image_pulls, clock=clock)
        if options.serialize_image_pulls:
            self.puller = Puller(runtime, parallel_max=1, clock=clock)
        self.crashes = Crashes(options.crash_backoff_seconds, options.crash_backoff_seconds_max)
        selector = "" if self.many else f"spec.nodeName={options.node_name}"
        # Pods without containers do nothing most of the time, and there may be very many.
        self.packs = hasattr(runtime, "recall")
        transform = pack if self.packs else None
        self.pods = Informer(self.pods_api, field_selector=selector, transform=transform, clock=clock)
        self.services = Informer(client.resource("v1", "services"), transform=_slim_service, clock=clock)
        self.node_objects = Informer(
            client.resource("v1", "nodes"),
            field_selector="" if self.many else f"metadata.name={options.node_name}",
            transform=_slim_node,
            clock=clock,
        )
        self.workers: dict[str, PodWorker] = {}
        self._by_node: dict[str, set[PodWorker]] = {}
        self._held: dict[Any, Held] = {}
        self.source, self.watch = PodSource(self), RuntimeWatch(self)
        self.network_ready, self.network_message = False, "starting"
        self.features = Features()
        self.stopping = False
        self.started_at = clock.time()
        self._ips: dict[str, list[str]] = {}
        self.volumes: VolumeManager | SimulatedVolumes = (
            self._volume_manager() if options.cgroups else SimulatedVolumes()
        )
        places = asyncio.Semaphore(REPORTS_AT_ONCE_MAX)
        self.registrars = {
            node.name: Registrar(
                client,
                node,
                options,
                prepare=None if self.many else self._refresh_node,
                clock=clock,
                places=places,
                # Thousands of nodes in one process have better to do than to tell how they are.
                record=None if self.many else self._about_node,
            )
            for node in self.nodes.values()
        }
        self.rates = Rates()
        # Many pods change at once: their reports share this many connections.
        self.reports = asyncio.Semaphore(REPORTS_AT_ONCE_MAX)
        self.static: StaticPods | None = None
        self.devices: Devices | None = None
        # Only a node with real containers has these.
        self.groups: PodGroups | None = None
        self.managers: Managers | None = None
        self.dynamic: DynamicResources | None = None
        self.user_namespaces: UserNamespaces | None = None
        self._admitting = asyncio.Lock()
        # Container id -> bytes of its writable layer, as the runtime said last.
        self.writable_layers: dict[str, int] = {}
        self.sandbox_image = ""

    def _volume_manager(self) -> VolumeManager:
        client = self.client
        return VolumeManager(
            VolumeHost(
                paths=self.paths,
                lookup=self._lookup,
                token=self._token,
                facts=lambda pod: self.facts(pod, self._ips.get(pod["metadata"]["uid"], [])),
                node_name=self.options.node_name,
                clock=self.clock,
                get=lambda version, plural, ns, name: client.resource(version, plural).get(name, ns),
                create=lambda version, plural, ns, body: client.resource(version, plural).create(body, ns),
                list=self._list,
                ensure_image=self._ensure_volume_image,
            )
        )

    # ---- life
    async def run(self) -> None:
        if self.options.cgroups:
            self.paths.prepare()
            self._make_managers()
            self._about_node("Normal", "Starting", "Starting kubelet.")
            if "pods" in self.options.enforce_allocatable:
                message = "Updated Node Allocatable limit across pods"
                self._about_node("Normal", "NodeAllocatableEnforced", message)
        async with scope() as tasks:
            self.scope = tasks
            self.objects = ObjectCache(self.client, tasks, changed=self._content_changed, clock=self.clock)
            self.probes = Probes(
                self.runtime, tasks, changed=self._probe_changed, unhealthy=self._unhealthy, clock=self.clock
            )
            try:
                tasks.start(self.recorder.run(), name="events")
                tasks.start(self._keep(self.watch.watch_status, "runtime status"), name="runtime status")
                for registrar in self.registrars.values():
                    tasks.start(self._keep(registrar.run, "node"), name=f"node {registrar.node.name}")
                tasks.start(self.services.run(), name="services")
                self.node_objects.add_handler(updated=self._node_seen)
                tasks.start(self.node_objects.run(), name="nodes")
                await self.services.synced.wait()
                await self.node_objects.synced.wait()
                source = self.source
                self.pods.add_handler(added=source.added, updated=source.updated, deleted=source.deleted)
                tasks.start(self.pods.run(), name="pods")
                await self.pods.synced.wait()
                tasks.start(self._keep(self.watch.follow_events, "runtime events"), name="runtime events")
                tasks.start(self._keep(self._housekeeping, "housekeeping"), name="housekeeping")
                if self.options.cgroups:
                    self._start_node_duties(tasks)
                await self._keep(self.watch.relist, "relist")
            finally:
                # Workers that are cut off now are not to begin anew.
                self.stopping = True

    async def _keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Do it, and begin again after a mistake of ours: one duty that breaks must not end the others."""
        while True:
            try:
                await work()
                return
            except Exception:
                log.exception("%s", name)
            await self.clock.sleep(BROKEN_SECONDS)

    def _make_managers(self) -> None:
        """Before the first pod comes: it is these that admit it."""
        from peavine.kubelet.allocation.managers import Managers
        from peavine.kubelet.node.groups import PodGroups
        from peavine.kubelet.plugins.devices import Devices
        from peavine.kubelet.plugins.dra import DynamicResources
        from peavine.kubelet.usernamespaces import UserNamespaces

        options = self.options
        self.groups = PodGroups(self)
        self.groups.prepare()
        self.devices, self.dynamic = Devices(self), DynamicResources(self)
        self.user_namespaces = UserNamespaces(self.paths, max_pods=options.max_pods, per_pod=options.user_ids_per_pod)
        self.managers = Managers(self, [self.devices])

    def _start_node_duties(self, tasks: Scope) -> None:
        """What only a node with real containers needs."""
        from peavine.kubelet.containerd import PAUSE_IMAGE
        from peavine.kubelet.images.collector import ImageCollector
        from peavine.kubelet.node.eviction import Evictor
        from peavine.kubelet.node.shutdown import ShutdownManager
        from peavine.kubelet.plugins.podresources import PodResources
        from peavine.kubelet.plugins.registry import PluginRegistry

        self.sandbox_image = PAUSE_IMAGE
        tasks.start(self._keep(Evictor(self).run, "eviction"), name="eviction")
        tasks.start(self._keep(ImageCollector(self).run, "image collection"), name="image collection")
        if self.options.shutdown_grace_seconds > 0 or self.options.shutdown_by_priority:
            tasks.start(self._keep(ShutdownManager(self).run, "shutdown"), name="shutdown")
        assert self.devices is not None
        tasks.start(self._keep(self.devices.run, "device plugins"), name="device plugins")
        tasks.start(self._keep(PodResources(self).run, "pod resources"), name="pod resources")
        registry = PluginRegistry(self.paths.plugins_registry, self._plugin_kinds())
        tasks.start(self._keep(registry.run, "plugins"), name="plugins")
        if self.options.static_pod_path:
            self.static = StaticPods(self, self.options.static_pod_path)
            tasks.start(self._keep(self.static.run, "static pods"), name="static pods")

    def _plugin_kinds(self) -> dict[str, tuple[Any, Any]]:
        from peavine.kubelet.plugins.csi import CsiDrivers, CsiSource

        drivers, devices, dynamic = CsiDrivers(self), self.devices, self.dynamic
        assert isinstance(self.volumes, VolumeManager) and devices is not None and dynamic is not None
        self.volumes.add_source("csi", CsiSource(self, drivers))
        return {
            "CSIPlugin": (drivers.register, drivers.unregister),
            "DevicePlugin": (devices.register_found, devices.unregister),
            "DRAPlugin": (dynamic.register, dynamic.unregister),
        }

    def call_later(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle | asyncio.Task[None]:
        """Something to cancel. A timer of the loop, unless tests have a clock of their own."""
        if self.clock is REAL:
            return asyncio.get_running_loop().call_later(seconds, act)

        async def wait() -> None:
            await self.clock.sleep(seconds)
            act()

        return self.scope.start(wait(), name="timer")

    def _node_seen(self, old: Object, new: Object) -> None:
        registrar = self.registrars.get(new["metadata"]["name"])
        if registrar is not None:
            registrar.seen(new["conditions"], new["extended"])

    def _about_node(self, type_: str, reason: str, message: str) -> None:
        name = self.options.node_name
        self.recorder.event({"kind": "Node", "name": name, "uid": name}, type_, reason, message)

    # ---- its pods
    def take_in(self, worker: PodWorker) -> None:
        self.workers[worker.uid] = worker
        self._by_node.setdefault(worker.node_name, set()).add(worker)

    def neighbours(self, worker: PodWorker) -> list[PodWorker]:
        """The other pods of its node that hold resources."""
        found = self._by_node.get(worker.node_name, set())
        return [w for w in found if w is not worker and not w.finished and (w.admitted or _has_run(w))]

    def shared(self, pod: Object) -> Held:
        """What the pod holds of its node; pods that hold the same share one answer."""
        found = admission.held(pod)
        key = (
            tuple(sorted((name, str(amount)) for name, amount in found.requests.items())),
            found.ports,
            found.quality,
        )
        return self._held.setdefault(key, found)

    def packed(self, pod: Object, *, newest: Object) -> Packed | None:
        """The informer's copy of the pod, if it is packed and as new as what the API has told us otherwise."""
        meta = pod["metadata"]
        held = self.pods.get(meta.get("namespace", "default"), meta["name"])
        if not isinstance(held, Packed):
            return None
        version = newest["metadata"].get("resourceVersion")
        told = held["metadata"]
        return held if (told.get("uid"), told.get("resourceVersion")) == (meta["uid"], version) else None

    def recall(self, uid: str) -> PodRecord:
        """What the runtime knows of a resting pod, at once."""
        sandboxes, containers = self.runtime.recall(uid)  # type: ignore[attr-defined]
        return pod_record(uid, sandboxes, containers)

    def forget(self, worker: PodWorker) -> None:
        """The pod is gone for good, here and in the API."""
        self.workers.pop(worker.uid, None)
        self._by_node.get(worker.node_name, set()).discard(worker)
        self.watch.forget(worker)
        if self.user_namespaces is not None:
            self.user_namespaces.release(worker.uid)
        self._ips.pop(worker.uid, None)
        self.crashes.forget(worker.uid)
        self.puller.forget_owner(worker.uid)
        self.objects.unregister(worker.uid)

    def release(self, worker: PodWorker) -> None:
        """Its containers have ended: what it had reserved is free."""
        self.objects.unregister(worker.uid)
        if self.groups is not None:
            self.groups.share_out()
        for other in self._by_node.get(worker.node_name, ()):
            if any(c["type"] == "PodResizePending" for c in other.more_conditions):
                # There may be room now for what was put off.
                other.wake()
        if self.managers is not None:
            self.managers.release(worker.uid)

    async def _refresh_node(self) -> None:
        node = next(iter(self.nodes.values()))
        with contextlib.suppress(RpcError):
            images = await self.runtime.list_images()
            images.sort(key=lambda image: -image.get("size", 0))
            node.images = [
                {
                    "names": [*image.get("repo_digests", []), *image.get("repo_tags", [])],
                    "sizeBytes": image.get("size", 0),
                }
                for image in images
                if image.get("repo_tags") or image.get("repo_digests")
            ]
            if self.options.node_status_images_max >= 0:
                del node.images[self.options.node_status_images_max :]

    def pod_of(self, uid: str) -> Object | None:
        worker = self.workers.get(uid)
        return worker.pod if worker is not None else None

    # ---- what workers ask for
    async def admit(self, worker: PodWorker) -> tuple[str, str] | None:
        """None, or (reason, message) of the refusal."""
        # One after the other: what one takes the next does not find.
        async with self._admitting:
            refusal = self._refusal(worker)
            if refusal is not None and refusal[0].startswith("OutOf") and admission.is_critical(worker.pod):
                await self._make_room(worker)
                refusal = self._refusal(worker)
            if refusal is None and self.managers is not None and self.devices is not None:
                from peavine.kubelet.allocation.topology import Refused

                await self.devices.prefer(worker.pod)
                try:
                    self.managers.admit(worker.pod)
                except Refused as refused:
                    if not worker.record.running():
                        return refused.reason, refused.message
                    # It ran before the policy was as it is now.
                    log.warning("pod %s: %s", worker.key, refused.message)
            return refusal

    async def _make_room(self, worker: PodWorker) -> None:
        """Critical pods run, if others have to end for it."""
        node = self.nodes[worker.node_name]
        others = {other.uid: (other.pod, other.held) for other in self.neighbours(worker)}
        chosen = [self.workers[uid] for uid in admission.victims(worker.pod, node, others)]
        for victim in chosen:
            message = "Preempted in order to admit critical pod"
            self.recorder.event(victim.pod, "Warning", "Preempting", message)
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
            shown = "Pod was preempted by Kubelet to accommodate a critical pod."
            victim.more_conditions.append({**condition, "message": shown})
            own = (victim.pod.get("spec") or {}).get("terminationGracePeriodSeconds")
            victim.end(float(30 if own is None else own), forced=("Failed", "Preempting", message))
        until = self.clock.monotonic() + PREEMPTION_SECONDS_MAX
        while any(not victim.finished and not victim.removed for victim in chosen):
            if self.clock.monotonic() > until:
                # Others wait to be admitted: one victim that will not end must not hold them all up.
                return
            await self.clock.sleep(0.1)

    def _refusal(self, worker: PodWorker) -> tuple[str, str] | None:
        node = self.nodes.get(self.node_name_of(worker))
        if node is None or ((worker.pod.get("status") or {}).get("startTime") and worker.record.containers):
            return None
        others = [other.held for other in self.neighbours(worker)]
        if not self.features.supplemental_groups_policy and self.options.cgroups:
            context = (worker.pod.get("spec") or {}).get("securityContext") or {}
            if context.get("supplementalGroupsPolicy") == "Strict":
                return (
                    "SupplementalGroupsPolicyNotSupported",
                    "SupplementalGroupsPolicy=Strict is not supported in this node",
                )
        known = self.node_objects.get(None, node.name)
        return admission.refusal(worker.pod, node, known, others, self.options, static=bool(worker.static_source))

    def node_name_of(self, worker: PodWorker) -> str:
        return worker.node_name

    def host_ips(self, worker: PodWorker) -> list[str]:
        node = self.nodes.get(self.node_name_of(worker))
        return node.ips if node is not None else []

    def facts(self, pod: Object, ips: list[str]) -> downward.Facts:
        name = (pod.get("spec") or {}).get("nodeName", "")
        node = self.nodes.get(name)
        host = node.ips if node is not None else []
        if (pod.get("spec") or {}).get("hostNetwork"):
            ips = host
        return downward.Facts(ips, host, name, node.allocatable if node is not None else {})

    def note_ips(self, worker: PodWorker, ips: list[str]) -> None:
        if self.options.cgroups:
            self._ips[worker.uid] = ips

    def service_variables(self, pod: Object) -> dict[str, str]:
        links = (pod.get("spec") or {}).get("enableServiceLinks")
        namespace = pod["metadata"].get("namespace", "default")
        services = self.services.list(namespace)
        if namespace != "default":
            master = self.services.get("default", "kubernetes")
            services = [*services, *([master] if master else [])]
        return environment.service_variables(services, namespace, links is not False)

    def pod_group(self, pod: Object) -> str:
        return resources.pod_group(self.options.cgroup_root, pod)

    def prepare_pod(self, pod: Object) -> None:
        """Its control group and directories."""
        if self.groups is not None:
            self.groups.prepare_pod(pod)
            self.paths.pod(pod["metadata"]["uid"]).mkdir(parents=True, exist_ok=True, mode=0o750)
            self.paths.logs(pod).mkdir(parents=True, exist_ok=True, mode=0o755)

    def container_resources(self, pod: Object, container: Object) -> Message:
        node = next(iter(self.nodes.values()))
        capacity = parse_quantity(node.capacity["memory"]).value()
        found = resources.linux_resources(pod, container, memory_capacity=capacity, quota=self.options.cpu_cfs_quota)
        if self.managers is not None and self.groups is not None:
            self.managers.fill(pod["metadata"]["uid"], container["name"], found)
            self.groups.limit_swap(pod, container, found, memory_capacity=capacity)
        return found

    def user_namespace(self, pod: Object) -> Message | None:
        """CRI's UserNamespace of the pod. Raises ValueError if no range is free."""
        return self.user_namespaces.options(pod) if self.user_namespaces is not None else None

    async def runtime_handler(self, pod: Object) -> str:
        name = (pod.get("spec") or {}).get("runtimeClassName")
        if not name:
            return ""
        try:
            found = await self.client.resource("node.k8s.io/v1", "runtimeclasses").get(name)
        except ApiError as error:
            if error.code == 404:
                raise ValueError(f'RuntimeClass "{name}" not found') from error
            raise
        return str(found.get("handler", ""))

    async def credentials(self, pod: Object, image: str) -> list[Message]:
        from peavine.kubelet.images.credentials import for_pod

        return await for_pod(pod, image, self.objects.lookup, self.options)

    async def devices_of(self, worker: PodWorker, container: Object) -> Allocation:
        """What device plugins and claims add to a container. Raises ConfigError, ValueError."""
        allocation = Allocation()
        if self.devices is not None and self.dynamic is not None:
            await self.devices.hand_out(worker, container, allocation)
            allocation.cdi_devices += self.dynamic.cdi_devices(worker.pod, container)
        if allocation.cdi_devices and not self.features.cdi:
            from peavine.kubelet.plugins import cdi

            edits = cdi.resolve(allocation.cdi_devices)
            allocation.environment |= edits.environment
            allocation.devices += edits.devices
            allocation.mounts += edits.mounts
            allocation.cdi_devices = []
        return allocation

    async def _lookup(self, kind: str, namespace: str, name: str) -> Object:
        return await self.objects.lookup(kind, namespace, name)

    async def _list(self, version: str, plural: str) -> list[Object]:
        return (await self.client.resource(version, plural).list()).get("items") or []

    async def _token(self, namespace: str, account: str, pod: Object, audience: str, seconds: int) -> tuple[str, float]:
        meta = pod["metadata"]
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
            },
        }
        accounts = self.client.resource("v1", "serviceaccounts")
        answer = await accounts.create_subresource(account, "token", request, namespace)
        status = answer["status"]
        return status["token"], unix_time(status.get("expirationTimestamp")) or self.clock.time() + seconds

    async def _ensure_volume_image(self, pod: Object, image: str, policy: str) -> str:
        def record(type_: str, reason: str, message: str) -> None:
            self.recorder.event(pod, type_, reason, message)

        if not self.features.image_volumes:
            raise VolumeError("image volumes need a runtime that mounts images (containerd 2.1, CRI-O 1.31)")
        found = await self.puller.ensure(
            image,
            policy,
            owner=pod["metadata"]["uid"],
            record=record,
            credentials=lambda name: self.credentials(pod, name),
        )
        return str(found["id"])

    # ---- probes
    def watch_probes(self, worker: PodWorker, spec: Object, container: Container) -> None:
        if not any(field in spec for field in ("livenessProbe", "readinessProbe", "startupProbe")):
            return
        ips = self.host_ips(worker) if (worker.pod["spec"].get("hostNetwork")) else worker.record.ips
        ip = ips[0] if ips else ""
        self.probes.watch(Target(worker.pod, spec, container.id, ip, container.started_at / 1e9))

    def adopt_probe_results(self, worker: PodWorker) -> None:
        """After a restart, containers keep what was reported of them until their probes speak."""
        status = worker.pod.get("status") or {}
        for name in ("containerStatuses", "initContainerStatuses"):
            for entry in status.get(name) or []:
                identity = (entry.get("containerID") or "").rpartition("//")[2]
                if identity and any(c.id == identity for c in worker.record.containers):
                    self.probes.adopt(identity, started=bool(entry.get("started")), ready=bool(entry.get("ready")))

    def _probe_changed(self, uid: str) -> None:
        worker = self.workers.get(uid)
        if worker is not None:
            worker.wake()

    def _content_changed(self, uid: str) -> None:
        worker = self.workers.get(uid)
        if worker is not None:
            worker.wake(refresh_volumes=True)

    def _unhealthy(self, target: Target, kind: str, output: str) -> None:
        from peavine.kubelet.pods.killing import field_path

        message = f"{kind.capitalize()} probe failed: {output}"
        path = field_path(target.pod, target.container["name"])
        self.recorder.event(target.pod, "Warning", "Unhealthy", message, field_path=path)

    # ---- housekeeping
    async def _housekeeping(self) -> None:
        from peavine.kubelet.housekeeping import Housekeeping

        await Housekeeping(self).run()


def _has_run(worker: PodWorker) -> bool:
    """Whether a pod that this kubelet has not looked at yet was running when it started: it holds what it held."""
    status = worker.pod.get("status") or {}
    return bool(status.get("startTime")) and status.get("phase") not in ("Succeeded", "Failed")


def _slim_service(service: Object) -> Object:
    meta, spec = service["metadata"], service.get("spec") or {}
    kept = {k: spec[k] for k in ("clusterIP", "type", "ports") if k in spec}
    return {
        "metadata": {k: meta[k] for k in ("name", "namespace", "uid", "resourceVersion") if k in meta},
        "spec": kept,
    }


def _slim_node(node: Object) -> Object:
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    return {
        "metadata": {k: meta[k] for k in ("name", "uid", "resourceVersion", "labels") if k in meta},
        "spec": {k: spec[k] for k in ("taints", "unschedulable", "podCIDR") if k in spec},
        "conditions": {c["type"]: c["status"] for c in status.get("conditions") or []},
        "extended": extended(status.get("capacity") or {}),
    }
