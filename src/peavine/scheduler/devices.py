"""Dynamic resource allocation: which devices of which pools a claim gets on a node. Pure: objects in, results out.

Follows the structured parameters of resource.k8s.io/v1: device classes and requests select devices by CEL, a request
wants a number of them or all, or the first of several alternatives that can be had; constraints tie devices together.
Not known here: consumable capacity and partitionable devices; devices that need them are never given out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from peavine.api.core.taint import NO_EXECUTE, NO_SCHEDULE, tolerated
from peavine.scheduler.template import Object

DEVICES_PER_CLAIM_MAX = 32
STEPS_MAX = 10_000  # of the search on one node


class DeviceId(NamedTuple):
    driver: str
    pool: str
    device: str


class Device(NamedTuple):
    id: DeviceId
    object: Object
    node: str  # the one node it is on, or ""
    selector: Object | None  # nodes it can be reached from; None with no node: all


class Variant(NamedTuple):
    """One way to satisfy a request."""

    request: str  # with the alternative's name after a slash, where there are several
    selectors: tuple[str, ...]
    number: int  # of devices; 0: all that match
    admin: bool
    tolerations: tuple[Object, ...]
    device_class: str


class Need(NamedTuple):
    """A claim that is to be allocated."""

    claim: Object
    requests: tuple[tuple[Variant, ...], ...]  # for each request its alternatives, best first
    constraints: tuple[Object, ...]


class NoSuchClass(Exception):
    """A request names a device class that does not exist."""


class Given(NamedTuple):
    variant: Variant
    device: Device


def need_of(claim: Object, classes: dict[str, Object]) -> Need:
    """Raises NoSuchClass."""
    devices = claim["spec"].get("devices") or {}
    requests = []
    for request in devices.get("requests") or ():
        name = request["name"]
        if request.get("firstAvailable"):
            requests.append(tuple(_variant(f"{name}/{r['name']}", r, classes) for r in request["firstAvailable"]))
        else:
            requests.append((_variant(name, request.get("exactly") or {}, classes),))
    return Need(claim, tuple(requests), tuple(devices.get("constraints") or ()))


def _variant(name: str, request: Object, classes: dict[str, Object]) -> Variant:
    class_name = request.get("deviceClassName") or ""
    if class_name not in classes:
        raise NoSuchClass(f"request {name}: device class {class_name} does not exist")
    selectors = [*(classes[class_name]["spec"].get("selectors") or ()), *(request.get("selectors") or ())]
    return Variant(
        name,
        tuple((s.get("cel") or {}).get("expression", "true") for s in selectors),
        0 if request.get("allocationMode") == "All" else request.get("count") or 1,
        bool(request.get("adminAccess")),
        tuple(request.get("tolerations") or ()),
        class_name,
    )


class Inventory:
    """The devices that drivers publish, and which of them are taken."""

    def __init__(self, slices: Iterable[Object], claims: Iterable[Object], promised: Iterable[DeviceId]) -> None:
        self.taken: set[DeviceId] = set(promised)
        for claim in claims:
            self.taken.update(devices_of(claim))
        self.on_node: dict[str, list[Device]] = defaultdict(list)
        self.anywhere: list[Device] = []
        for part in _current(slices):
            for device in _devices(part["spec"]):
                if device.node:
                    self.on_node[device.node].append(device)
                else:
                    self.anywhere.append(device)
        self._matching: dict[tuple[DeviceId, Variant], bool] = {}

    def matches(self, device: Device, variant: Variant) -> bool:
        """Whether the device is what the variant asks for, taken or not."""
        key = (device.id, variant._replace(tolerations=()))
        if key not in self._matching:
            self._matching[key] = all(_selects(text, device) for text in variant.selectors)
        taints = [t for t in device.object.get("taints") or () if t.get("effect") in (NO_SCHEDULE, NO_EXECUTE)]
        return self._matching[key] and all(tolerated(taint, variant.tolerations) for taint in taints)

    def allocate(self, needs: list[Need], near: list[Device]) -> list[list[Given]] | None:
        """Devices for each claim, out of those `near` a node; None where it cannot be done."""
        asked = [(n, request) for n, need in enumerate(needs) for request in need.requests]
        steps = 0

        def search(at: int, given: list[tuple[int, Given]], used: set[DeviceId]) -> list[tuple[int, Given]] | None:
            nonlocal steps
            if at == len(asked):
                return given
            claim, alternatives = asked[at]
            for variant in alternatives:
                free = [d for d in near if self._is_free(d, variant, used) and self.matches(d, variant)]
                if not variant.number:
                    every = [d for d in near if self.matches(d, variant)]
                    choices: Iterator[tuple[Device, ...]] = iter(
                        [tuple(free)] if every and len(free) == len(every) else []
                    )
                else:
                    choices = _choices(free, variant.number, needs[claim], variant, [g for c, g in given if c == claim])
                for devices in choices:
                    steps += 1
                    if steps > STEPS_MAX:
                        return None
                    more = [(claim, Given(variant, device)) for device in devices]
                    together = [g for c, g in given + more if c == claim]
                    if len(together) > DEVICES_PER_CLAIM_MAX or not _constrained(needs[claim], together):
                        continue
                    taken = set() if variant.admin else {device.id for device in devices}
                    found = search(at + 1, given + more, used | taken)
                    if found is not None:
                        return found
            return None

        found = search(0, [], set())
        if found is None:
            return None
        return [[given for n, given in found if n == claim] for claim in range(len(needs))]

    def _is_free(self, device: Device, variant: Variant, used: set[DeviceId]) -> bool:
        return variant.admin or (device.id not in self.taken and device.id not in used)


def _choices(
    free: list[Device], count: int, need: Need, variant: Variant, given: list[Given]
) -> Iterator[tuple[Device, ...]]:
    """Ways to take `count` devices, one device at a time, giving up early where a constraint is broken."""

    def extend(chosen: list[Device], start: int) -> Iterator[tuple[Device, ...]]:
        if len(chosen) == count:
            yield tuple(chosen)
            return
        for n in range(start, len(free) - (count - len(chosen)) + 1):
            chosen.append(free[n])
            if _constrained(need, given + [Given(variant, device) for device in chosen]):
                yield from extend(chosen, n + 1)
            chosen.pop()

    return extend([], 0)


def _constrained(need: Need, given: list[Given]) -> bool:
    for constraint in need.constraints:
        names = constraint.get("requests")
        among = [
            g.device
            for g in given
            if not names or g.variant.request in names or g.variant.request.split("/")[0] in names
        ]
        if wanted := constraint.get("matchAttribute"):
            values = [_attribute(device, wanted) for device in among]
            if None in values or len(set(values)) > 1:
                return False
        elif wanted := constraint.get("distinctAttribute"):
            values = [_attribute(device, wanted) for device in among]
            if None in values or len(set(values)) < len(values):
                return False
    return True


def _attribute(device: Device, name: str) -> Any:
    """The value of a (fully qualified) attribute, with its type; None where there is none."""
    attributes = device.object.get("attributes") or {}
    value = attributes.get(name)
    domain, _, short = name.rpartition("/")
    if value is None and domain == device.id.driver:
        value = attributes.get(short)
    return next(iter(value.items())) if value else None


def devices_of(claim: Object) -> Iterator[DeviceId]:
    """What an allocated claim holds for itself."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or ():
        if not result.get("adminAccess"):
            yield DeviceId(result["driver"], result["pool"], result["device"])


def _current(slices: Iterable[Object]) -> Iterator[Object]:
    """Of each pool the slices of its newest generation."""
    newest: dict[tuple[str, str], int] = {}
    every = list(slices)
    for part in every:
        pool = part["spec"]["pool"]
        key = (part["spec"]["driver"], pool["name"])
        newest[key] = max(newest.get(key, 0), pool.get("generation") or 0)
    for part in every:
        pool = part["spec"]["pool"]
        if (pool.get("generation") or 0) == newest[(part["spec"]["driver"], pool["name"])]:
            yield part


def _devices(spec: Object) -> Iterator[Device]:
    for device in spec.get("devices") or ():
        if device.get("consumesCounters") or device.get("allowMultipleAllocations"):
            continue
        where = device if spec.get("perDeviceNodeSelection") else spec
        yield Device(
            DeviceId(spec["driver"], spec["pool"]["name"], device["name"]),
            device,
            where.get("nodeName") or "",
            where.get("nodeSelector"),
        )


# Selectors


@lru_cache(maxsize=1024)
def _program(text: str) -> Any:
    from peavine.machinery.cel import CompileError, Environment, map_of, object_of
    from peavine.machinery.cel.types import BOOL, DYN, STRING

    fields = {
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, DYN)),
        "capacity": map_of(STRING, map_of(STRING, DYN)),
        "allowMultipleAllocations": BOOL,
    }
    try:
        return Environment({"device": object_of(fields)}).compile(text, "bool")
    except CompileError:
        return None


def _selects(text: str, device: Device) -> bool:
    """Whether a CEL selector chooses the device; one that does not compile, or fails, does not."""
    from peavine.machinery.cel import CelError, CostExceeded

    program = _program(text)
    if program is None:
        return False
    try:
        value, _ = program.evaluate({"device": _as_variable(device)})
    except (CelError, CostExceeded):
        return False
    return value is True


def _as_variable(device: Device) -> Object:
    from peavine.machinery.cel.kubernetes import _quantity, _semver

    attributes: dict[str, dict[str, Any]] = defaultdict(dict)
    capacity: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in (device.object.get("attributes") or {}).items():
        domain, _, short = name.rpartition("/")
        kind, content = next(iter(value.items()))
        attributes[domain or device.id.driver][short] = _semver(content) if kind == "version" else content
    for name, value in (device.object.get("capacity") or {}).items():
        domain, _, short = name.rpartition("/")
        capacity[domain or device.id.driver][short] = _quantity(str(value.get("value", "0")))
    return {
        "driver": device.id.driver,
        "attributes": dict(attributes),
        "capacity": dict(capacity),
        "allowMultipleAllocations": False,
    }


# The answer


def allocation(need: Need, given: list[Given], node: str, classes: dict[str, Object]) -> Object:
    """`status.allocation` of a claim."""
    results = []
    for one in given:
        result: Object = {
            "request": one.variant.request,
            "driver": one.device.id.driver,
            "pool": one.device.id.pool,
            "device": one.device.id.device,
        }
        if one.variant.admin:
            result["adminAccess"] = True
        if one.variant.tolerations:
            result["tolerations"] = list(one.variant.tolerations)
        results.append(result)
    config = []
    for variant in dict.fromkeys(one.variant._replace(tolerations=()) for one in given):
        for entry in classes[variant.device_class]["spec"].get("config") or ():
            config.append({"source": "FromClass", "requests": [variant.request], **entry})
    for entry in (need.claim["spec"].get("devices") or {}).get("config") or ():
        config.append({"source": "FromClaim", **entry})
    devices: Object = {"results": results}
    if config:
        devices["config"] = config
    answer: Object = {"devices": devices}
    selector = _node_selector(given, node)
    if selector:
        answer["nodeSelector"] = selector
    return answer


def _node_selector(given: list[Given], node: str) -> Object | None:
    """Where the allocation can be used: on the one node, where the devices can be reached, or anywhere (None)."""
    if any(one.device.node for one in given):
        fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
        return {"nodeSelectorTerms": [{"matchFields": fields}]}
    terms = [one.device.selector["nodeSelectorTerms"][0] for one in given if one.device.selector]
    if not terms:
        return None
    expressions: list[Object] = []
    for term in terms:
        expressions += [e for e in term.get("matchExpressions") or () if e not in expressions]
    return {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
