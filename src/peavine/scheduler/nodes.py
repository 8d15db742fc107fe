"""The nodes as arrays: one row a node, one column a resource, label or other property.

A row belongs to one node until it goes; rows are then used again. `capacity` rows exist, those in `present` are nodes.
Everything that is asked of labels goes through a `LabelColumn`, made on first use: small integers instead of strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from peavine.machinery.quantity import QuantityError, parse_quantity
from peavine.scheduler.template import CPU, EPHEMERAL, MEMORY, PODS, Object

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Rows = Any  # an index of rows: slice(None) for all, or an array of row numbers

ALL = slice(None)
_FIRST_ROWS = 64
FIXED_RESOURCES = (CPU, MEMORY, EPHEMERAL, PODS)


class LabelColumn:
    """The values of one label (or field) over all nodes: `ids[row]` is the value's number, -1 where there is none."""

    __slots__ = ("_numbers", "ids", "values")

    def __init__(self, capacity: int) -> None:
        self.ids: Ids = np.full(capacity, -1, np.int32)
        self.values: list[str] = []
        self._numbers: dict[str, int] = {}

    def set(self, row: int, value: str | None) -> None:
        self.ids[row] = -1 if value is None else self.number(value)

    def number(self, value: str) -> int:
        """The value's number; a new one where it was not seen."""
        n = self._numbers.get(value)
        if n is None:
            n = self._numbers[value] = len(self.values)
            self.values.append(value)
        return n

    def known(self, value: str) -> int:
        """The value's number, or -2 (which no row has)."""
        return self._numbers.get(value, -2)

    def grow(self, capacity: int) -> None:
        more = np.full(capacity, -1, np.int32)
        more[: len(self.ids)] = self.ids
        self.ids = more


class NodeTable:
    """`set` and `remove` keep it current. `static_version` rises with any change but that of what pods use;
    `touched(row)` is for the rest (see Cluster)."""

    def __init__(self) -> None:
        self.capacity = _FIRST_ROWS
        self.row_of: dict[str, int] = {}
        self.names: list[str] = [""] * self.capacity
        self.objects: list[Object | None] = [None] * self.capacity
        self._free = list(range(self.capacity - 1, -1, -1))
        self.present: Mask = np.zeros(self.capacity, np.bool_)
        self.unschedulable: Mask = np.zeros(self.capacity, np.bool_)
        self.resource_ids: dict[str, int] = {name: n for n, name in enumerate(FIXED_RESOURCES)}
        self.allocatable: Ints = np.zeros((len(FIXED_RESOURCES), self.capacity), np.int64)
        self.used: Ints = np.zeros((len(FIXED_RESOURCES), self.capacity), np.int64)
        self.nonzero: Ints = np.zeros((2, self.capacity), np.int64)
        # Nodes with equal taints share a number; tables over taint sets are short.
        self.taint_set: Ids = np.zeros(self.capacity, np.int32)
        self.taint_sets: list[tuple[Object, ...]] = [()]
        self._taint_numbers: dict[str, int] = {"[]": 0}
        self.labels: dict[str, LabelColumn] = {}
        self.images: dict[str, dict[int, int]] = {}  # image name -> row -> size in bytes
        self.ports: dict[tuple[str, int], dict[int, dict[str, int]]] = {}  # (protocol, port) -> row -> address -> pods
        self.static_version = 0
        self.order_version = 0

    def __len__(self) -> int:
        return len(self.row_of)

    # Nodes

    def set(self, node: Object) -> tuple[int, bool]:
        """Add or update a node; its row, and whether anything that scheduling reads has changed."""
        name = node["metadata"]["name"]
        row = self.row_of.get(name)
        old = None
        if row is None:
            row = self._new_row(name)
        else:
            old = self.objects[row]
        self.objects[row] = node
        if old is not None and _same(old, node):
            return row, False
        self.static_version += 1
        spec, status = node.get("spec") or {}, node.get("status") or {}
        labels = node["metadata"].get("labels") or {}
        self.unschedulable[row] = bool(spec.get("unschedulable"))
        self._set_taints(row, spec.get("taints") or [])
        self.allocatable[:, row] = 0
        for resource, text in (status.get("allocatable") or {}).items():
            try:
                quantity = parse_quantity(text)
            except QuantityError:
                continue
            amount = quantity.milli() if resource == CPU else quantity.value()
            # Named first: a resource not seen before makes the array grow, that is, another one.
            line = self.resource(resource)
            self.allocatable[line, row] = amount
        for key, column in self.labels.items():
            column.set(row, labels.get(key))
        self._set_images(row, status.get("images") or [])
        return row, True

    def remove(self, name: str) -> int | None:
        """Forget a node; its row. Taking its pods off the row first is the caller's part."""
        row = self.row_of.pop(name, None)
        if row is None:
            return None
        self.static_version += 1
        self.present[row] = False
        self.objects[row] = None
        self.names[row] = ""
        self.allocatable[:, row] = self.used[:, row] = 0
        self.nonzero[:, row] = 0
        self.unschedulable[row] = False
        self.taint_set[row] = 0
        for column in self.labels.values():
            column.set(row, None)
        self._set_images(row, [])
        self._free.append(row)
        return row

    def _new_row(self, name: str) -> int:
        if not self._free:
            self._grow()
        row = self._free.pop()
        self.row_of[name] = row
        self.names[row] = name
        self.present[row] = True
        return row

    def _grow(self) -> None:
        old, self.capacity = self.capacity, self.capacity * 2
        self._free = list(range(self.capacity - 1, old - 1, -1))
        self.names += [""] * old
        self.objects += [None] * old
        for name in ("present", "unschedulable", "taint_set"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros(old, array.dtype)]))
        for name in ("allocatable", "used", "nonzero"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros((len(array), old), array.dtype)], axis=1))
        for column in self.labels.values():
            column.grow(self.capacity)

    # Resources

    def resource(self, name: str) -> int:
        """The number of a resource; its arrays grow by a line the first time it is named."""
        n = self.resource_ids.get(name)
        if n is None:
            n = self.resource_ids[name] = len(self.resource_ids)
            line = np.zeros((1, self.capacity), np.int64)
            self.allocatable = np.concatenate([self.allocatable, line])
            self.used = np.concatenate([self.used, line])
        return n

    # Labels and taints

    def column(self, key: str) -> LabelColumn:
        """The column of a label."""
        column = self.labels.get(key)
        if column is None:
            column = self.labels[key] = LabelColumn(self.capacity)
            for row in self.row_of.values():
                node = self.objects[row]
                assert node is not None
                column.set(row, (node["metadata"].get("labels") or {}).get(key))
        return column

    def _set_taints(self, row: int, taints: list[Object]) -> None:
        key = repr([(t.get("key"), t.get("value"), t.get("effect")) for t in taints])
        number = self._taint_numbers.get(key)
        if number is None:
            number = self._taint_numbers[key] = len(self.taint_sets)
            self.taint_sets.append(tuple(taints))
        self.taint_set[row] = number

    # Images

    def _set_images(self, row: int, images: list[Object]) -> None:
        wanted = {name: image.get("sizeBytes") or 0 for image in images for name in image.get("names") or ()}
        for name in [n for n, rows in self.images.items() if row in rows and n not in wanted]:
            del self.images[name][row]
            if not self.images[name]:
                del self.images[name]
        for name, size in wanted.items():
            self.images.setdefault(name, {})[row] = size

    # Ports

    def take_ports(self, row: int, ports: Iterable[tuple[str, str, int]], sign: int) -> None:
        for address, protocol, port in ports:
            rows = self.ports.setdefault((protocol, port), {})
            addresses = rows.setdefault(row, {})
            addresses[address] = addresses.get(address, 0) + sign
            if addresses[address] <= 0:
                del addresses[address]
            if not addresses:
                del rows[row]
            if not rows:
                del self.ports[(protocol, port)]

    def ports_taken(self, wanted: Iterable[tuple[str, str, int]]) -> list[int]:
        """Rows where at least one of the wanted (address, protocol, port) is taken; 0.0.0.0 is every address."""
        found = set()
        for address, protocol, port in wanted:
            for row, addresses in self.ports.get((protocol, port), {}).items():
                if address == "0.0.0.0" or address in addresses or "0.0.0.0" in addresses:
                    found.add(row)
        return list(found)


def _same(old: Object, new: Object) -> bool:
    """Whether two states of a node are one to the scheduler: heartbeats are not worth a new evaluation."""
    a, b = old.get("spec") or {}, new.get("spec") or {}
    if a.get("unschedulable") != b.get("unschedulable") or (a.get("taints") or []) != (b.get("taints") or []):
        return False
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        return False
    c, d = old.get("status") or {}, new.get("status") or {}
    if c.get("declaredFeatures") != d.get("declaredFeatures"):
        return False
    return c.get("allocatable") == d.get("allocatable") and (c.get("images") or []) == (d.get("images") or [])
