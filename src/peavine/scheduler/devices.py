"""Dynamic resource allocation: which devices of which pools a claim gets on a node. Pure: objects in, results out.

Follows the structured parameters of resource.k8s.io/v1: device classes and requests select devices by CEL, a request
wants a number of them or all, or the first of several alternatives that can be had; constraints tie devices together.
What is published and what is taken is in `inventory.py`.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any, NamedTuple

from peavine.api.core.taint import NO_EXECUTE, NO_SCHEDULE, tolerated
from peavine.machinery.meta import new_uid, now
from peavine.machinery.quantity import parse_quantity
from peavine.scheduler.inventory import NOTHING, Capacities, Device, Hold, Inventory
from peavine.scheduler.template import Object

DEVICES_PER_CLAIM_MAX = 32
STEPS_MAX = 10_000  # of the search on one node


class Variant(NamedTuple):
    """One way to satisfy a request."""

    request: str  # with the alternative's name after a slash, where there are several
    selectors: tuple[str, ...]
    number: int  # of devices; 0: all that match
    admin: bool
    tolerations: tuple[Object, ...]
    device_class: str
    capacity: Capacities  # what the device must have, or give a share of


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
    share: str = ""  # of a device that many claims may have a part of
    consumed: Capacities = NOTHING


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
        {k: parse_quantity(v) for k, v in ((request.get("capacity") or {}).get("requests") or {}).items()},
    )


def allocate(inventory: Inventory, needs: list[Need], near: list[Device]) -> list[list[Given]] | None:
    """Devices for each claim, out of those `near` a node; None where it cannot be done."""
    return _Search(inventory, needs, near).solve(0, [])


class _Search:
    """Depth first: one device after another for one request after another, each taken back where it leads nowhere."""

    def __init__(self, inventory: Inventory, needs: list[Need], near: list[Device]) -> None:
        self._inventory, self._usage, self._updating = inventory, inventory.usage, inventory.updating
        self._needs, self._near = needs, near
        self._asked = [(n, request) for n, need in enumerate(needs) for request in need.requests]
        self._steps = 0

    def solve(self, at: int, given: list[tuple[int, Given]]) -> list[list[Given]] | None:
        if at == len(self._asked):
            return [[one for n, one in given if n == claim] for claim in range(len(self._needs))]
        for variant in self._asked[at][1]:
            candidates = [device for device in self._near if matches(self._inventory, device, variant)]
            if variant.number:
                found = self._pick(at, variant, candidates, variant.number, 0, given)
            elif not candidates or self._updating:
                found = None
            else:
                found = self._pick(at, variant, candidates, len(candidates), 0, given, every=True)
            if found is not None:
                return found
        return None

    def _pick(
        self,
        at: int,
        variant: Variant,
        candidates: list[Device],
        left: int,
        start: int,
        given: list[tuple[int, Given]],
        every: bool = False,
    ) -> list[list[Given]] | None:
        """`left` more devices out of the candidates from `start` on, then what else is asked for."""
        if not left:
            return self.solve(at + 1, given)
        claim = self._asked[at][0]
        mine = [one for n, one in given if n == claim]
        if len(mine) >= DEVICES_PER_CLAIM_MAX:
            return None
        for n in range(start, start + 1 if every else len(candidates)):
            self._steps += 1
            if self._steps > STEPS_MAX:
                return None
            device = candidates[n]
            consumed = NOTHING if variant.admin else self._usage.can_take(device, variant.capacity)
            if consumed is None:
                continue
            share = new_uid() if device.shared and not variant.admin else ""
            one = Given(variant, device, share, consumed)
            if not _constrained(self._needs[claim], [*mine, one]):
                continue
            following = n if share and not every else n + 1  # a shared device may serve a request more than once
            if variant.admin:
                found = self._pick(at, variant, candidates, left - 1, following, [*given, (claim, one)], every)
            else:
                hold = Hold(device.id, share)
                self._usage.change(device, hold, consumed, 1)
                try:
                    found = self._pick(at, variant, candidates, left - 1, following, [*given, (claim, one)], every)
                finally:
                    self._usage.change(device, hold, consumed, -1)
            if found is not None:
                return found
        return None


def matches(inventory: Inventory, device: Device, variant: Variant) -> bool:
    """Whether the device is what the variant asks for, taken or not."""
    selected = inventory.selected
    for text in variant.selectors:
        key = (device.id, text)
        if key not in selected:
            selected[key] = _selects(text, device)
        if not selected[key]:
            return False
    taints = [t for t in device.taints if t.get("effect") in (NO_SCHEDULE, NO_EXECUTE)]
    return all(tolerated(taint, variant.tolerations) for taint in taints)


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


# Selectors


@lru_cache(maxsize=1024)
def _program(text: str) -> Any:
    from peavine.machinery.cel import CompileError
    from peavine.machinery.cel.devices import environment

    try:
        return environment().compile(text, "bool")
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
        "allowMultipleAllocations": device.shared,
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
        for field in ("bindingConditions", "bindingFailureConditions"):
            if one.device.object.get(field):
                result[field] = one.device.object[field]
        if one.share:
            result["shareID"] = one.share
            result["consumedCapacity"] = {name: str(amount) for name, amount in one.consumed.items()}
        results.append(result)
    config = []
    for variant in {one.variant.request: one.variant for one in given}.values():
        for entry in classes[variant.device_class]["spec"].get("config") or ():
            config.append({"source": "FromClass", "requests": [variant.request], **entry})
    for entry in (need.claim["spec"].get("devices") or {}).get("config") or ():
        config.append({"source": "FromClaim", **entry})
    devices: Object = {"results": results}
    if config:
        devices["config"] = config
    answer: Object = {"devices": devices}
    if any("bindingConditions" in result for result in results):
        answer["allocationTimestamp"] = now()
    selector = _node_selector(given, node)
    if selector:
        answer["nodeSelector"] = selector
    return answer


def _node_selector(given: list[Given], node: str) -> Object | None:
    """Where the allocation can be used: on the one node, where the devices can be reached, or anywhere (None)."""
    if any(one.device.node or one.device.object.get("bindsToNode") for one in given):
        fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
        return {"nodeSelectorTerms": [{"matchFields": fields}]}
    terms = [one.device.selector["nodeSelectorTerms"][0] for one in given if one.device.selector]
    if not terms:
        return None
    expressions: list[Object] = []
    for term in terms:
        expressions += [e for e in term.get("matchExpressions") or () if e not in expressions]
    return {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
