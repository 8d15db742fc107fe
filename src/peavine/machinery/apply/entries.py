"""The entries of `metadata.managedFields`: reading, ordering, capping and writing them."""

from __future__ import annotations

import json
import re
from collections.abc import ItemsView, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from peavine.machinery.apply.fieldset import FieldSet, decode, sorted_set, union

ANCIENT_CHANGES = "ancient-changes"
update_managers_max = 10


class Manager(NamedTuple):
    """What tells one entry from another. `version` is empty for an apply: it is one entry in whatever version."""

    name: str
    operation: str
    version: str
    subresource: str

    def shown(self) -> str:
        """As messages name it: `"kubectl-edit" using apps/v1`."""
        text = json.dumps(self.name, ensure_ascii=False)
        if self.subresource:
            text += f" with subresource {json.dumps(self.subresource, ensure_ascii=False)}"
        return f"{text} using {self.version}" if self.operation == "Update" else text


class Entry(NamedTuple):
    version: str
    fields: FieldSet
    time: str
    source: dict[str, Any] | None  # the encoded entry this was read from, while unchanged


class Entries:
    """Field sets by manager. Sets and entries are never changed in place, so copies are cheap."""

    __slots__ = ("_by_manager",)

    def __init__(self, by_manager: dict[Manager, Entry] | None = None) -> None:
        self._by_manager = by_manager if by_manager is not None else {}

    def __len__(self) -> int:
        return len(self._by_manager)

    def __getitem__(self, manager: Manager) -> Entry:
        return self._by_manager[manager]

    def get(self, manager: Manager) -> Entry | None:
        return self._by_manager.get(manager)

    def items(self) -> ItemsView[Manager, Entry]:
        return self._by_manager.items()

    def copy(self) -> Entries:
        return Entries(dict(self._by_manager))

    def put(self, manager: Manager, version: str, fields: FieldSet, time: str) -> None:
        """Set an entry; an empty set removes it."""
        if fields:
            self._by_manager[manager] = Entry(version, fields, time, None)
        else:
            self._by_manager.pop(manager, None)

    def restore(self, manager: Manager, entry: Entry) -> None:
        """Put back an entry as it was read."""
        self._by_manager[manager] = entry

    def drop(self, manager: Manager) -> None:
        self._by_manager.pop(manager, None)


def is_reset(given: Any) -> bool:
    """`[]` and `[{}]`: the client wants all entries forgotten."""
    return given is not None and (given == [] or (isinstance(given, list) and len(given) == 1 and not given[0]))


def decode_entries(given: Iterable[dict[str, Any]]) -> Entries:
    """Raises ValueError for an entry that upstream would not read."""
    found: dict[Manager, Entry] = {}
    for entry in given:
        operation, version = entry.get("operation"), entry.get("apiVersion") or ""
        if operation not in ("Apply", "Update"):
            raise ValueError("operation must be `Apply` or `Update`")
        if not version:
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"invalid fieldsType {entry.get('fieldsType')!r} in managed fields entry")
        fields = entry.get("fieldsV1")
        if not entry.get("time") and operation == "Update" and not isinstance(fields, dict):
            fields = {}
        manager = Manager(
            entry.get("manager") or "",
            operation,
            "" if operation == "Apply" else version,
            entry.get("subresource") or "",
        )
        found[manager] = Entry(version, decode(fields or {}), entry.get("time") or "", entry)
    return Entries(found)


def encode_entries(entries: Entries) -> list[dict[str, Any]]:
    """The entries as they are stored, in upstream's order: operation, time, manager, version, subresource."""
    ordered = sorted(entries.items(), key=_order) if len(entries) > 1 else entries.items()
    return [_encode(manager, entry) for manager, entry in ordered if entry.fields]


def _encode(manager: Manager, entry: Entry) -> dict[str, Any]:
    if entry.source is not None:
        return entry.source
    encoded: dict[str, Any] = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": entry.version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": sorted_set(entry.fields),
    }
    if not entry.time:
        del encoded["time"]
    if manager.subresource:
        encoded["subresource"] = manager.subresource
    return encoded


def with_time(entry: dict[str, Any], time: str) -> dict[str, Any]:
    return {**entry, "time": time}


def _order(pair: tuple[Manager, Entry]) -> Any:
    manager, entry = pair
    return (manager.operation, _seconds(entry.time), manager.name, _version_order(entry.version), manager.subresource)


def _seconds(time: str) -> float:
    if not time:
        return -62135596800.0
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0


_VERSION = re.compile(r"^v(\d+)(?:(alpha|beta)(\d+))?$")


def _version_order(version: str) -> Any:
    """As Kubernetes orders versions, lowest first; a group makes it no version, and those go by name, first."""
    match = _VERSION.match(version)
    if not match:
        return (0, tuple(-ord(letter) for letter in version))
    return (1, {"alpha": 0, "beta": 1, None: 2}[match[2]], int(match[1]), int(match[3] or 0))


def capped(entries: Entries) -> Entries:
    """With at most `update_managers_max` entries of updates: the oldest are merged into `ancient-changes`."""
    updaters = [(manager, entry) for manager, entry in entries.items() if manager.operation == "Update"]
    surplus = len(updaters) - update_managers_max
    if surplus <= 0:
        return entries
    result = entries.copy()
    updaters.sort(key=lambda pair: (_seconds(pair[1].time), pair[0]))
    first: dict[str, Manager] = {}
    for manager, entry in updaters:
        if surplus <= 0:
            break
        bucket = Manager(ANCIENT_CHANGES, "Update", entry.version, "")
        if entry.version not in first:
            first[entry.version] = manager
            continue
        older = result.get(bucket)
        if older is None:
            older = result[first[entry.version]]
            result.drop(first[entry.version])
        if manager != bucket:
            result.drop(manager)
        result.put(bucket, entry.version, union(entry.fields, older.fields), entry.time)
        surplus -= 1
    return result
