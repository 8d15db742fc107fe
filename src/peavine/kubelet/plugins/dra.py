"""Dynamic resource allocation, the node's side: drivers register, claims of a pod are prepared before its containers
start, and unprepared after the last pod that uses them has ended.

What is prepared is written down (upstream's `dra_manager_state`) before a driver is asked, so that a restarted kubelet
neither forgets nor repeats. Drivers speak `v1` or `v1beta1` of the DRAPlugin service, which differ in name only.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.client.transport import Unreachable
from peavine.kubelet.pods.environment import ConfigError
from peavine.kubelet.rpc import Channel, Codec, RpcError
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]

CODEC = """
Claim: namespace=1:string uid=2:string name=3:string
NodePrepareResourcesRequest: claims=1:Claim*
NodePrepareResourcesResponse: claims=1:map<string,NodePrepareResourceResponse>
NodePrepareResourceResponse: devices=1:Device* error=2:string
Device: request_names=1:string* pool_name=2:string device_name=3:string cdi_device_ids=4:string*
NodeUnprepareResourcesRequest: claims=1:Claim*
NodeUnprepareResourcesResponse: claims=1:map<string,NodeUnprepareResourceResponse>
NodeUnprepareResourceResponse: error=1:string
"""
SERVICES = {
    "v1.DRAPlugin": "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/",
    "v1beta1.DRAPlugin": "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/",
}
CALL_SECONDS = 45.0
# A driver that is only updated comes back before its ResourceSlices are removed.
WIPE_SECONDS = 30.0


class DynamicError(ConfigError):
    """Claims of a pod cannot be made ready now; it is tried again."""


class _Driver:
    def __init__(self, endpoint: str, service: str) -> None:
        self.channel, self.service = Channel(endpoint, Codec(CODEC)), service

    async def call(self, method: str, claims: Iterable[Object]) -> Object:
        """uid -> answer. Raises RpcError."""
        request = {"claims": [{k: claim[k] for k in ("namespace", "uid", "name")} for claim in claims]}
        answer = await self.channel.call(
            self.service + method, f"{method}Request", f"{method}Response", request, CALL_SECONDS
        )
        return answer.get("claims") or {}


def claim_names(pod: Object) -> dict[str, str]:
    """The pod's name for a claim -> the ResourceClaim. Raises DynamicError for one that is not made yet."""
    made = {s["name"]: s for s in (pod.get("status") or {}).get("resourceClaimStatuses") or []}
    found = {}
    for claim in (pod.get("spec") or {}).get("resourceClaims") or []:
        name = claim["name"]
        if claim.get("resourceClaimName"):
            found[name] = claim["resourceClaimName"]
        elif name not in made:
            raise DynamicError(f"pod claim {name}: resource claim not created yet")
        elif made[name].get("resourceClaimName"):
            found[name] = made[name]["resourceClaimName"]
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    if extended.get("resourceClaimName"):
        # No name of a pod's claim has a slash.
        found["extended/resources"] = extended["resourceClaimName"]
    return found


def _requests(pod: Object, container: Object) -> list[tuple[str, str]]:
    """(the pod's name for a claim, request or empty for all) that a container uses."""
    found = [(c["name"], c.get("request") or "") for c in (container.get("resources") or {}).get("claims") or []]
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    found += [
        ("extended/resources", mapping["requestName"])
        for mapping in extended.get("requestMappings") or []
        if mapping.get("containerName") == container["name"]
    ]
    return found


class DynamicResources:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._drivers: dict[str, _Driver] = {}
        self._file: Path = kubelet.options.root_dir / "dra_manager_state"
        # claim uid -> {namespace, name, uid, pods: [...], drivers: {name: None | [devices]}}
        self._claims: dict[str, Object] = {}
        self._lock = asyncio.Lock()
        try:
            self._claims = json.loads(self._file.read_text())
        except (OSError, ValueError):
            self._claims = {}

    # ---- drivers
    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        service = next((path for version, path in SERVICES.items() if version in versions), None)
        if service is None:
            raise ValueError(f"DRA driver {name}: none of {list(versions)} is one of {list(SERVICES)}")
        old = self._drivers.get(name)
        self._drivers[name] = _Driver(endpoint, service)
        if old is not None:
            await old.channel.close()
        for worker in list(self._kubelet.workers.values()):
            if (worker.pod.get("spec") or {}).get("resourceClaims"):
                worker.wake()

    def unregister(self, name: str) -> None:
        self._drivers.pop(name, None)
        self._kubelet.scope.start(self._wipe(name), name=f"slices of {name}")

    async def _wipe(self, name: str) -> None:
        """What a driver that does not come back has offered is offered no longer."""
        await self._kubelet.clock.sleep(WIPE_SECONDS)
        if name in self._drivers:
            return
        slices = self._kubelet.client.resource("resource.k8s.io/v1", "resourceslices")
        node = self._kubelet.options.node_name
        try:
            found = await slices.list(field_selector=f"spec.driver={name},spec.nodeName={node}")
            for item in found.get("items") or []:
                await slices.delete(item["metadata"]["name"])
        except (ApiError, Unreachable) as error:
            log.info("ResourceSlices of driver %s: %s", name, error)

    def _driver(self, name: str) -> _Driver:
        driver = self._drivers.get(name)
        if driver is None:
            raise DynamicError(f"DRA driver {name} is not registered")
        return driver

    # ---- claims
    async def prepare(self, worker: PodWorker) -> None:
        """Return when every claim of the pod is ready on this node. Raises DynamicError; may be repeated."""
        names = claim_names(worker.pod)
        if not names:
            return
        async with self._lock:
            found = [await self._note(worker, name) for name in names.values()]
            todo: dict[str, list[Object]] = {}
            for claim in found:
                for driver, devices in claim["drivers"].items():
                    if devices is None:
                        todo.setdefault(driver, []).append(claim)
            for driver, claims in todo.items():
                await self._prepare(driver, claims)

    async def _note(self, worker: PodWorker, name: str) -> Object:
        """Our record of a claim of the pod, which the pod may use."""
        pod, uid = worker.pod, worker.uid
        namespace = pod["metadata"]["namespace"]
        try:
            claim = await self._kubelet.client.resource("resource.k8s.io/v1", "resourceclaims").get(name, namespace)
        except (ApiError, Unreachable) as error:
            raise DynamicError(f"failed to fetch ResourceClaim {name} referenced by pod: {error}") from error
        status, claim_uid = claim.get("status") or {}, claim["metadata"]["uid"]
        if not any(user.get("uid") == uid for user in status.get("reservedFor") or []):
            raise DynamicError(
                f"pod {pod['metadata']['name']}({uid}) is not allowed to use ResourceClaim {name}({claim_uid})"
            )
        results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or []
        record = self._claims.setdefault(
            claim_uid,
            {
                "namespace": namespace,
                "name": name,
                "uid": claim_uid,
                "pods": [],
                "drivers": {result["driver"]: None for result in results},
            },
        )
        if uid not in record["pods"]:
            record["pods"].append(uid)
        self._save()
        return record

    async def _prepare(self, name: str, claims: list[Object]) -> None:
        try:
            answers = await self._driver(name).call("NodePrepareResources", claims)
        except RpcError as error:
            raise DynamicError(f"NodePrepareResources: {error}") from error
        problems = []
        for claim in claims:
            answer = answers.get(claim["uid"])
            if answer is None:
                problems.append(f"NodePrepareResources skipped claim {claim['name']}")
            elif answer.get("error"):
                problems.append(f"NodePrepareResources failed for claim {claim['name']}: {answer['error']}")
            else:
                claim["drivers"][name] = answer.get("devices", [])
        self._save()
        if problems:
            raise DynamicError("; ".join(problems))

    def _devices(self, pod: Object, container: Object) -> Iterator[tuple[Object, str, Object]]:
        """(claim, driver, device) of what a container of a prepared pod gets."""
        names = claim_names(pod)
        by_name = {(c["namespace"], c["name"]): c for c in self._claims.values()}
        for claim_name, request in _requests(pod, container):
            claim = by_name.get((pod["metadata"]["namespace"], names.get(claim_name, "")))
            for driver, devices in (claim or {}).get("drivers", {}).items():
                for device in devices or []:
                    # A subrequest answers for the request that it is part of.
                    asked = {name.partition("/")[0] for name in device.get("request_names", [])}
                    if claim is not None and (not request or not asked or request in asked):
                        yield claim, driver, device

    def cdi_devices(self, pod: Object, container: Object) -> list[str]:
        """CDI names of what a container of a prepared pod gets, each once."""
        found = [name for *_, device in self._devices(pod, container) for name in device.get("cdi_device_ids", [])]
        return list(dict.fromkeys(found))

    def described(self, pod: Object, container: Object) -> list[Object]:
        """DynamicResources of the pod resources API."""
        try:
            found = list(self._devices(pod, container))
        except DynamicError:
            return []
        by_claim: dict[str, Object] = {}
        for claim, driver, device in found:
            entry = by_claim.setdefault(
                claim["uid"],
                {"claim_name": claim["name"], "claim_namespace": claim["namespace"], "claim_resources": []},
            )
            entry["claim_resources"].append(
                {
                    "cdi_devices": [{"name": name} for name in device.get("cdi_device_ids", [])],
                    "driver_name": driver,
                    "pool_name": device.get("pool_name", ""),
                    "device_name": device.get("device_name", ""),
                }
            )
        return list(by_claim.values())

    async def unprepare(self, uid: str) -> None:
        """The pod has ended: what nobody else here uses is given back. Raises DynamicError; may be repeated."""
        if not any(uid in claim["pods"] for claim in self._claims.values()):
            # Most pods: they need not wait for a driver that answers somebody else.
            return
        async with self._lock:
            for claim in [c for c in self._claims.values() if uid in c["pods"]]:
                if claim["pods"] == [uid]:
                    await self._unprepare(claim)
                    del self._claims[claim["uid"]]
                else:
                    claim["pods"].remove(uid)
                self._save()

    async def _unprepare(self, claim: Object) -> None:
        for name in claim["drivers"]:
            try:
                answers = await self._driver(name).call("NodeUnprepareResources", [claim])
            except RpcError as error:
                raise DynamicError(f"NodeUnprepareResources: {error}") from error
            answer = answers.get(claim["uid"])
            if answer is None or answer.get("error"):
                problem = (answer or {}).get("error") or "the driver skipped it"
                raise DynamicError(f"NodeUnprepareResources failed for claim {claim['name']}: {problem}")

    async def keep_only(self, uids: set[str]) -> None:
        """Give back what pods had that are gone without a word (while no kubelet ran)."""
        gone = {uid for claim in self._claims.values() for uid in claim["pods"]} - uids
        for uid in gone:
            try:
                await self.unprepare(uid)
            except DynamicError as error:
                log.info("claims of pod %s: %s", uid, error)

    def _save(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(self._claims))
        draft.replace(self._file)
