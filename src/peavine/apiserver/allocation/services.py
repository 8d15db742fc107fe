"""What a Service is given: IP families, cluster IPs, node ports. The last step of mutating admission.

What a write took is given back when the write fails (`undo`); what a Service no longer has, when the change is seen;
what a crash left over, or was written past admission, by `run`, which compares all Services with all allocations.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from peavine.api.core import service as rules
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.allocation.addresses import GROUP, Addresses, Full, OutOfRange, Taken
from peavine.apiserver.allocation.ports import Ports
from peavine.base.clock import REAL, Clock, wait_until
from peavine.machinery import errors
from peavine.machinery.errors import ApiError, FieldError

log = logging.getLogger(__name__)

REPAIR_SECONDS = 180.0
_NOTE = "ServiceAllocator"


@dataclass
class _Taken:
    owner: str
    parent: dict[str, str]
    addresses: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)


class ServiceAllocator(Plugin):
    """A plugin for `build_chain(last=[...])`, and `run()` for the server's scope."""

    name = "peavine.ServiceAllocator"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "services"),))

    def __init__(self, addresses: Addresses, ports: Ports, clock: Clock = REAL) -> None:
        self.addresses, self.ports, self.clock = addresses, ports, clock
        self.lister = addresses.lister
        self._gone: list[_Taken] = []  # no longer used by a Service, to be given back
        self._woken = asyncio.Event()
        self._unrecorded = False
        self._releasing = asyncio.Lock()
        self._suspects: set[tuple[str, str]] = set()  # without an owner at the last repair
        self.lister.on_change("", "services", self._service_changed)

    # --- admission -----------------------------------------------------------------------------
    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        await self._give_back()  # a Service that takes the place of one just deleted may want its ports
        if req.notes.get("reinvoking"):
            await self.undo(req)  # what a webhook changed since may need something else
        new, old = req.obj, req.old
        if old is not None:
            rules.prepare_update(new, old)
        elif new["spec"].get("clusterIP") and not new["spec"].get("clusterIPs"):
            new["spec"]["clusterIPs"] = [new["spec"]["clusterIP"]]
        metadata = new["metadata"]
        taken = _Taken(metadata.get("uid", ""), parent_of(req.namespace, metadata.get("name", "")))
        req.notes[_NOTE] = taken
        try:
            await self._families(req)
            await self._addresses(req, taken)
            await self._ports(req, taken)
        except BaseException:
            await self.undo(req)
            raise

    async def undo(self, req: AdmissionRequest) -> None:
        taken: _Taken | None = req.notes.pop(_NOTE, None)
        if taken is not None and not req.dry_run:
            await self._release(taken)

    async def _families(self, req: AdmissionRequest) -> None:
        assert req.obj is not None
        spec = req.obj["spec"]
        if not rules.needs_cluster_ip(req.obj):
            return
        default = self.addresses.families
        wanted = list(spec.get("ipFamilies") or ())
        given = [address for address in spec.get("clusterIPs") or () if address != "None"]
        if rules.is_headless(req.obj) and not spec.get("selector"):
            # Whatever serves it is unknown: such a Service may name families that the cluster has not.
            spec["ipFamilies"] = wanted or default[:1]
            spec.setdefault("ipFamilyPolicy", "RequireDualStack")
            if spec["ipFamilyPolicy"] != "SingleStack" and len(spec["ipFamilies"]) == 1:
                spec["ipFamilies"] = [*spec["ipFamilies"], _other(spec["ipFamilies"][0])]
            return
        problems: list[FieldError] = []
        for position, family in enumerate(wanted):
            if family in ("IPv4", "IPv6") and family not in default:
                detail = "not configured on this cluster"
                problems.append(errors.invalid_value(f"spec.ipFamilies[{position}]", family, detail))
        policy = spec.get("ipFamilyPolicy")
        if policy is None and (len(wanted) == 2 or len(given) == 2):
            detail = "must be 'RequireDualStack' or 'PreferDualStack' when more than one family or address is specified"
            problems.append(errors.invalid_value("spec.ipFamilyPolicy", policy, detail))
        if policy == "RequireDualStack" and len(default) < 2:
            detail = "this cluster is not configured for dual-stack services"
            problems.append(errors.invalid_value("spec.ipFamilyPolicy", policy, detail))
        if problems:
            raise self._invalid(req, problems)
        spec["ipFamilyPolicy"] = policy or "SingleStack"
        inferred = ["IPv6" if ":" in address else "IPv4" for address in given]
        families = wanted or inferred or default[:1]
        if spec["ipFamilyPolicy"] != "SingleStack" and len(families) == 1 and len(default) == 2:
            families = [families[0], _other(families[0])]
        spec["ipFamilies"] = families

    async def _addresses(self, req: AdmissionRequest, taken: _Taken) -> None:
        assert req.obj is not None
        spec = req.obj["spec"]
        if not rules.needs_cluster_ip(req.obj) or rules.is_headless(req.obj):
            return
        kept = set((req.old or {}).get("spec", {}).get("clusterIPs") or ())
        given = list(spec.get("clusterIPs") or ())
        final: list[str] = []
        for position, family in enumerate(spec.get("ipFamilies") or ()):
            address = given[position] if position < len(given) else ""
            if address and address in kept:
                final.append(address)
                continue
            try:
                if address:
                    await self.addresses.take(address, taken.parent, dry_run=req.dry_run)
                else:
                    address = await self.addresses.next(family, taken.parent, dry_run=req.dry_run)
            except Taken:
                raise self._no_address(req, given, address, "provided IP is already allocated") from None
            except OutOfRange:
                ranges = ",".join(str(network) for network in self.addresses.ranges(family))
                why = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges}"
                raise self._no_address(req, given, address, why) from None
            except Full:
                raise errors.internal("failed to allocate a serviceIP: range is full") from None
            except ValueError:
                final = given  # no address at all: the object's validation says so
                break
            taken.addresses.append(address)
            final.append(address)
        if final:
            spec["clusterIPs"] = final
            spec["clusterIP"] = final[0]

    async def _ports(self, req: AdmissionRequest, taken: _Taken) -> None:
        assert req.obj is not None
        spec = req.obj["spec"]
        before = (req.old or {}).get("spec") or {}
        kept = {port.get("nodePort") for port in before.get("ports") or ()} - {None, 0}
        kept |= {before["healthCheckNodePort"]} if before.get("healthCheckNodePort") else set()
        if rules.needs_node_port(req.obj):
            seen: dict[int, set[str]] = {}  # one number serves several protocols of one Service
            ports = spec.get("ports") or []
            for position, port in enumerate(ports):
                number = port.get("nodePort")
                if number and number not in kept and number not in seen:
                    await self._take_port(req, taken, number, f"spec.ports[{position}].nodePort")
                if number:
                    seen.setdefault(number, set()).add(port.get("protocol", "TCP"))
            for port in ports:
                if not port.get("nodePort"):
                    port["nodePort"] = self._shared(ports, port) or await self._next_port(req, taken, set(seen))
                    seen.setdefault(port["nodePort"], set()).add(port.get("protocol", "TCP"))
        if rules.needs_health_check_port(req.obj):
            number = spec.get("healthCheckNodePort")
            if number and number not in kept:
                await self._take_port(req, taken, number, "spec.healthCheckNodePort")
            elif not number:
                avoid = {port.get("nodePort") for port in spec.get("ports") or ()} - {None}
                spec["healthCheckNodePort"] = await self._next_port(req, taken, avoid)

    @staticmethod
    def _shared(ports: list[dict[str, Any]], port: dict[str, Any]) -> int | None:
        """The node port of the same port under another protocol (DNS over TCP and UDP, say)."""
        for other in ports:
            same = other.get("port") == port.get("port") and other.get("protocol") != port.get("protocol")
            if same and other.get("nodePort"):
                return int(other["nodePort"])
        return None

    async def _take_port(self, req: AdmissionRequest, taken: _Taken, number: int, field: str) -> None:
        try:
            await self.ports.take(number, taken.owner, dry_run=req.dry_run)
        except Taken:
            problem = errors.invalid_value(field, number, "provided port is already allocated")
            raise self._invalid(req, [problem]) from None
        except OutOfRange:
            valid = f"{self.ports.first}-{self.ports.last}"
            detail = f"provided port is not in the valid range. The range of valid ports is {valid}"
            raise self._invalid(req, [errors.invalid_value(field, number, detail)]) from None
        taken.ports.append(number)

    async def _next_port(self, req: AdmissionRequest, taken: _Taken, avoid: set[int]) -> int:
        try:
            number = await self.ports.next(taken.owner, avoid, dry_run=req.dry_run)
        except Full:
            raise errors.internal("failed to allocate a nodePort: range is full") from None
        taken.ports.append(number)
        return number

    def _no_address(self, req: AdmissionRequest, given: list[str], address: str, why: str) -> ApiError:
        detail = f"failed to allocate IP {address}: {why}"
        return self._invalid(req, [errors.invalid_value("spec.clusterIPs", given, detail)])

    @staticmethod
    def _invalid(req: AdmissionRequest, problems: list[FieldError]) -> ApiError:
        return errors.invalid("Service", req.object_name, problems)

    # --- giving back ---------------------------------------------------------------------------
    def _service_changed(self, event: str, service: dict[str, Any], old: dict[str, Any] | None) -> None:
        if event != "DELETED":
            held = holdings(service).addresses
            if any(self.lister.get(GROUP, "ipaddresses", None, address) is None for address in held):
                self._unrecorded = True  # written past admission
                self._woken.set()
        before = old if event == "MODIFIED" else service if event == "DELETED" else None
        if before is None:
            return
        lost = holdings(before)
        if event == "MODIFIED":
            now = holdings(service)
            lost.addresses = [address for address in lost.addresses if address not in now.addresses]
            lost.ports = [port for port in lost.ports if port not in now.ports]
        if lost.addresses or lost.ports:
            self._gone.append(lost)
            self._woken.set()

    async def run(self) -> None:
        """Give back what Services lose, as it happens; compare everything now and then. Ends by cancellation."""
        next_repair = self.clock.monotonic()
        while True:
            try:
                if self._unrecorded or self.clock.monotonic() >= next_repair:
                    self._unrecorded = False
                    await self.repair()
                    next_repair = self.clock.monotonic() + REPAIR_SECONDS
                await self._give_back()
            except ApiError as error:
                log.warning("allocations of Services are not up to date (tried again soon): %s", error)
                await self.clock.sleep(1.0)
                continue
            self._woken.clear()
            await wait_until(self._woken.wait(), max(0.0, next_repair - self.clock.monotonic()), self.clock)

    async def _give_back(self) -> None:
        while self._gone or self._releasing.locked():
            async with self._releasing:
                while self._gone:
                    await self._release(self._gone[0])
                    del self._gone[0]

    async def repair(self) -> None:
        """Take what Services have and is not written down; give back what nobody has, seen twice so."""
        held: dict[str, dict[str, str]] = {}
        owners: dict[int, str] = {}
        for service in self.lister.list("", "services"):
            taken = holdings(service)
            for address in taken.addresses:
                held[address] = taken.parent
                if self.lister.get(GROUP, "ipaddresses", None, address) is None:
                    try:
                        await self.addresses.take(address, taken.parent)
                    except (Taken, OutOfRange):
                        log.warning("cluster IP %s of Service %s cannot be reserved", address, taken.parent)
            owners.update(dict.fromkeys(taken.ports, taken.owner))
        suspects: set[tuple[str, str]] = set()
        for obj in self.lister.list(GROUP, "ipaddresses"):
            name, parent = obj["metadata"]["name"], obj["spec"].get("parentRef") or {}
            if parent.get("resource") == "services" and held.get(name) != parent:
                if (name, obj["metadata"]["uid"]) in self._suspects:
                    await self.addresses.release(name, parent)
                suspects.add((name, obj["metadata"]["uid"]))
        recorded = await self.ports.ledger.all()
        for port, owner in owners.items():
            if port not in recorded:
                await self.ports.ledger.claim(port, owner)
        for port, owner in recorded.items():
            if owners.get(port) != owner:
                if (str(port), owner) in self._suspects:
                    await self.ports.release(port, owner)
                suspects.add((str(port), owner))
        self._suspects = suspects

    async def _release(self, taken: _Taken) -> None:
        for address in taken.addresses:
            await self.addresses.release(address, taken.parent)
        for port in taken.ports:
            await self.ports.release(port, taken.owner)
        taken.addresses, taken.ports = [], []


def parent_of(namespace: str, name: str) -> dict[str, str]:
    return {"resource": "services", "namespace": namespace, "name": name}


def holdings(service: dict[str, Any]) -> _Taken:
    """The addresses and node ports that a stored Service has."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    taken = _Taken(metadata.get("uid", ""), parent_of(metadata.get("namespace", ""), metadata["name"]))
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    if spec.get("type") != "ExternalName":
        taken.addresses = [address for address in addresses if address not in ("", "None")]
    ports = [port.get("nodePort") for port in spec.get("ports") or ()] + [spec.get("healthCheckNodePort")]
    taken.ports = sorted({port for port in ports if port})
    return taken


def _other(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"
