"""The devices that drivers publish, and how much of them is taken. Pure: objects in, results out.

A device belongs to one claim, or (`allowMultipleAllocations`) to many that share its capacity; devices that are parts
of one piece of hardware (`consumesCounters`) exclude each other where its counters are used up. Follows
resource.k8s.io/v1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from peavine.machinery.quantity import Quantity, parse_quantity
from peavine.scheduler.template import Object


class DeviceId(NamedTuple):
    driver: str
    pool: str
    device: str


class Hold(NamedTuple):
    """What a claim holds: a device, or (`share` is not empty) a share of it."""

    device: DeviceId
    share: str


Capacities = Mapping[str, Quantity]
NOTHING: Capacities = {}


class Device(NamedTuple):
    id: DeviceId
    object: Object
    node: str  # the one node it is on, or ""
    selector: Object | None  # nodes it can be reached from; None with no node: all
    taints: tuple[Object, ...]  # its own, and those of DeviceTaintRules

    @property
    def shared(self) -> bool:
        return bool(self.object.get("allowMultipleAllocations"))

    @property
    def counters(self) -> list[tuple[tuple[str, str, str, str], int]]:
        """(driver, pool, set, counter) and how much the device needs of it."""
        return [
            ((self.id.driver, self.id.pool, part["counterSet"], name), _nanos(counter.get("value")))
            for part in self.object.get("consumesCounters") or ()
            for name, counter in (part.get("counters") or {}).items()
        ]


def _nanos(value: object) -> int:
    return parse_quantity(str(value or "0")).nanos


def holds_of(claim: Object) -> Iterator[tuple[Hold, Capacities]]:
    """What an allocated claim holds for itself, and of shared devices how much."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or ():
        if not result.get("adminAccess"):
            consumed = {name: parse_quantity(text) for name, text in (result.get("consumedCapacity") or {}).items()}
            device = DeviceId(result["driver"], result["pool"], result["device"])
            yield Hold(device, result.get("shareID") or ""), consumed


class Usage:
    """What of the devices is taken; changed and changed back while a claim's devices are looked for."""

    def __init__(self, totals: Mapping[tuple[str, str, str, str], int]) -> None:
        self.totals = totals  # of the shared counters
        self.taken: set[DeviceId] = set()
        self.shares: Counter[DeviceId] = Counter()
        self.consumed: dict[DeviceId, Counter[str]] = defaultdict(Counter)  # nanos of each capacity
        self.counted: Counter[tuple[str, str, str, str]] = Counter()

    def can_take(self, device: Device, wanted: Capacities) -> Capacities | None:
        """What of the device's capacity would be used by who asks for `wanted`; None where it cannot be had."""
        if device.shared:
            consumed = consumption(device, wanted)
            if consumed is None or device.id in self.taken:
                return None
            used = self.consumed.get(device.id)
            for name, amount in consumed.items() if used else ():
                if used is not None and used[name] + amount.nanos > _nanos(_capacity(device, name)["value"]):
                    return None
            if self.shares[device.id]:
                return consumed  # its counters are taken already
        else:
            if device.id in self.taken or not _has(device, wanted):
                return None
            consumed = NOTHING
        for counter, needed in device.counters:
            if self.counted[counter] + needed > self.totals.get(counter, 0):
                return None
        return consumed

    def change(self, device: Device | None, hold: Hold, consumed: Capacities, sign: int) -> None:
        """Take (1) or give back (-1). `device` is None for one that is no longer published."""
        if hold.share:
            used = self.consumed[hold.device]
            for name, amount in consumed.items():
                used[name] += sign * amount.nanos
            before = self.shares[hold.device]
            self.shares[hold.device] += sign
            if bool(before) == bool(self.shares[hold.device]):
                return
        elif sign > 0:
            self.taken.add(hold.device)
        else:
            self.taken.discard(hold.device)
        for counter, needed in device.counters if device is not None else ():
            self.counted[counter] += sign * needed


def _capacity(device: Device, name: str) -> Object:
    capacities = device.object.get("capacity") or {}
    found: Object | None = capacities.get(name)
    domain, _, short = name.rpartition("/")
    if found is None and domain == device.id.driver:
        found = capacities.get(short)
    return found or {}


def _has(device: Device, wanted: Capacities) -> bool:
    """Whether the whole device has at least what is asked for."""
    return all(_nanos(_capacity(device, name).get("value")) >= amount.nanos for name, amount in wanted.items())


def consumption(device: Device, wanted: Capacities) -> Capacities | None:
    """What a share of a device uses of each capacity: what is asked for, rounded as the driver's policy says, or its
    default, or all; None where the device cannot give that."""
    if not _has(device, wanted):
        return None
    by_name = {name.rpartition("/")[2] if name not in (device.object.get("capacity") or {}) else name: amount
               for name, amount in wanted.items()}  # fmt: skip
    used: dict[str, Quantity] = {}
    for name, capacity in (device.object.get("capacity") or {}).items():
        value, policy = parse_quantity(capacity["value"]), capacity.get("requestPolicy") or {}
        asked = by_name.get(name)
        if asked is None:
            used[name] = parse_quantity(policy["default"]) if policy.get("default") is not None else value
            continue
        rounded = _rounded(asked, policy)
        if rounded is None or rounded.nanos > value.nanos:
            return None
        used[name] = rounded
    return used


def _rounded(asked: Quantity, policy: Object) -> Quantity | None:
    """The least amount that the policy allows and that is enough."""
    if values := policy.get("validValues"):
        return min((v for v in map(parse_quantity, values) if v.nanos >= asked.nanos), default=None)
    span = policy.get("validRange")
    if not span:
        return asked
    least, step = _nanos(span.get("min")), _nanos(span.get("step"))
    nanos = max(asked.nanos, least)
    if step:
        nanos = least + -(-(nanos - least) // step) * step
    if span.get("max") is not None and nanos > _nanos(span["max"]):
        return None
    return Quantity(nanos, asked.format)


class Inventory:
    def __init__(
        self,
        slices: Iterable[Object],
        claims: Iterable[Object],
        promised: Mapping[Hold, Capacities],
        rules: Iterable[Object] = (),
    ) -> None:
        """`promised` is what claims will hold that are being written."""
        self.on_node: dict[str, list[Device]] = defaultdict(list)
        self.anywhere: list[Device] = []
        parts, self.updating = _current(slices)  # whether a pool is being published anew
        taints = [(rule["spec"].get("deviceSelector") or {}, rule["spec"]["taint"]) for rule in rules]
        devices: dict[DeviceId, Device] = {}
        totals: dict[tuple[str, str, str, str], int] = {}
        for part in parts:
            spec = part["spec"]
            for shared in spec.get("sharedCounters") or ():
                for name, counter in (shared.get("counters") or {}).items():
                    totals[spec["driver"], spec["pool"]["name"], shared["name"], name] = _nanos(counter.get("value"))
            for device in _devices(spec, taints):
                devices[device.id] = device
                if device.node:
                    self.on_node[device.node].append(device)
                else:
                    self.anywhere.append(device)
        self.usage = Usage(totals)
        self.selected: dict[tuple[DeviceId, str], bool] = {}  # which selectors choose which devices
        held = dict(promised)
        for claim in claims:
            held.update(holds_of(claim))
        for hold, consumed in held.items():
            self.usage.change(devices.get(hold.device), hold, consumed, 1)


def _current(slices: Iterable[Object]) -> tuple[list[Object], bool]:
    """Of each pool that is whole the slices of its newest generation; and whether there are others."""
    newest: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for part in slices:
        pool = part["spec"]["pool"]
        known = newest[part["spec"]["driver"], pool["name"]]
        generation = pool.get("generation") or 0
        if known and (known[0]["spec"]["pool"].get("generation") or 0) < generation:
            known.clear()
        if not known or (known[0]["spec"]["pool"].get("generation") or 0) == generation:
            known.append(part)
    whole: list[Object] = []
    updating = False
    for parts in newest.values():
        if len(parts) < (parts[0]["spec"]["pool"].get("resourceSliceCount") or 1):
            updating = True
        else:
            whole += parts
    return whole, updating


def _devices(spec: Object, taints: list[tuple[Object, Object]]) -> Iterator[Device]:
    for device in spec.get("devices") or ():
        where = device if spec.get("perDeviceNodeSelection") else spec
        name = DeviceId(spec["driver"], spec["pool"]["name"], device["name"])
        more = [taint for selector, taint in taints if _selected(selector, name)]
        yield Device(
            name,
            device,
            where.get("nodeName") or "",
            where.get("nodeSelector"),
            (*(device.get("taints") or ()), *more),
        )


def _selected(selector: Object, name: DeviceId) -> bool:
    return all(selector.get(field) in (None, "", value) for field, value in name._asdict().items())
