"""Who manages which field: `metadata.managedFields` kept through updates, and server-side apply.

Follows apimachinery's `util/managedfields`. `track_update` records what a write other than apply changed; `apply`
merges a configuration, or raises 409 where another manager owns what it changes. Both return a new object with
`managedFields` set; neither changes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from peavine.machinery.apply.entries import (
    Entries,
    Manager,
    capped,
    decode_entries,
    encode_entries,
    is_reset,
    with_time,
)
from peavine.machinery.apply.fieldset import (
    FieldSet,
    difference,
    from_paths,
    intersection,
    paths,
    recursive_difference,
    union,
)
from peavine.machinery.apply.merge import describe, merge, shape_errors
from peavine.machinery.apply.plan import plan_of
from peavine.machinery.apply.typed import compare, field_set, reconciled, remove, with_named_fields
from peavine.machinery.errors import ApiError, bad_request
from peavine.machinery.names import GVK
from peavine.machinery.schema import Type

BEFORE_FIRST_APPLY = "before-first-apply"
manager_name_bytes_max = 128

# Metadata that the server sets; nobody manages it.
_UNMANAGED_META = tuple(
    "f:" + name
    for name in (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    )
)


@dataclass(frozen=True)
class Tracking:
    """What tracking needs to know of a resource; one instance a kind and subresource, kept.

    `reset_fields` are paths that this endpoint's strategy resets and so nobody can manage through it: `("status",)` for
    a kind with a status subresource, `("spec",)` for the status endpoint. `convert(obj, api_version)` gives the object
    in another version of its group, None when there is no such version; without it, entries of other versions are read
    as if they were of this one. `schema_may_change` is for custom resources.
    """

    gvk: GVK
    type: Type | None
    subresource: str = ""
    reset_fields: tuple[tuple[str, ...], ...] = ()
    convert: Callable[[dict[str, Any], str], dict[str, Any] | None] | None = None
    type_at: Callable[[str], Type | None] | None = None
    schema_may_change: bool = False
    _reset: FieldSet = field(init=False, repr=False, compare=False)
    _empty: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reset", from_paths(self.reset_fields))
        object.__setattr__(self, "_empty", zero(self.type) if self.type is not None else {})


def track_update(
    tracking: Tracking, live: dict[str, Any] | None, new: dict[str, Any], manager: str, now: str
) -> dict[str, Any]:
    """`new` with `managedFields` that say what `manager` changed from `live` (None: a create).

    `new` is the whole object as it will be stored, defaulted; its own `managedFields` count as upstream counts them:
    `[]` and `[{}]` forget everything, absent or unreadable ones mean those of `live`. An object that has none and is
    not new is not tracked. `now` is RFC 3339, to the second.
    """
    live_object = live if live is not None else tracking._empty
    entries = _entries_of(tracking, live_object, new)
    new = _without_entries(new)
    if not entries and live is not None and _has_uid(live):
        return new
    # Upstream tracks a create from an object that already carries managedFields, too.
    _update(tracking, entries, _without_entries(live_object), new, manager or "unknown", now)
    return _with_entries(new, capped(entries))


def apply(
    tracking: Tracking, live: dict[str, Any] | None, config: dict[str, Any], manager: str, force: bool, now: str
) -> dict[str, Any]:
    """`live` (None: a create) with `config` applied by `manager`, before defaulting and admission.

    What the manager applied last time and no longer states is removed, unless somebody else owns it. When nothing
    changes, the result is equal to `live`, times in `managedFields` included. Raises ApiError: 409 with a
    FieldManagerConflict cause a field, 400 for a wrong type, `managedFields` in `config`, or a shape that the type
    cannot hold.
    """
    if not isinstance(config, dict):
        raise bad_request("error decoding YAML: the document is no object")
    gvk = _gvk(config)
    if gvk != tracking.gvk:
        raise bad_request(f"invalid object type: {gvk.group}/{gvk.version}, Kind={gvk.kind}")
    if _meta(config).get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    errors = shape_errors(config, tracking.type)
    if errors:
        # A 500 in upstream, in the same words; but it is the client's mistake.
        raise bad_request(f"failed to create typed patch object ({_shown(config)}): {describe(errors)}")
    live_object = live if live is not None else tracking._empty
    entries = _live_entries(live_object)
    bare = _without_entries(live_object)
    if not entries and live is not None:
        _update(tracking, entries, tracking._empty, bare, BEFORE_FIRST_APPLY, now)
        entries = capped(entries)
    me = Manager(manager, "Apply", "", tracking.subresource)
    try:
        result, changed_entries = _apply(tracking, entries, bare, config, me, force, now)
    except Conflicts as conflicts:
        if manager != "kubectl":
            raise conflicts.error() from None
        # An object that kubectl applied on the client's side: its last configuration may be taken over.
        rest = _beyond_last_applied(tracking, bare, conflicts)
        if rest is None:
            raise conflicts.error() from None
        if rest.found:
            raise rest.error() from None
        result, changed_entries = _apply(tracking, entries, bare, config, me, True, now)
    if manager == "kubectl":
        from peavine.machinery.apply.migration import sync_last_applied

        result = sync_last_applied(result, config)
    return _with_entries(result, changed_entries)


def manager_name(field_manager: str, user_agent: str) -> str:
    """The manager of a request: its `fieldManager`, else what stands before `/` in the User-Agent."""
    if field_manager:
        return field_manager
    name = ""
    for letter in user_agent.split("/")[0]:
        if letter.isprintable():
            if len((name + letter).encode()) > manager_name_bytes_max:
                break
            name += letter
    return name


def keep_times(live: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new`, or `live` itself where they differ only in the times of `managedFields`: such a write changes nothing.

    For the last moment before storing, after admission.
    """
    old_meta, new_meta = live.get("metadata") or {}, new.get("metadata") or {}
    old_entries, new_entries = old_meta.get("managedFields"), new_meta.get("managedFields")
    if not old_entries or not new_entries or len(old_entries) != len(new_entries):
        return new
    if [with_time(e, "") for e in old_entries] != [with_time(e, "") for e in new_entries]:
        return new
    kept = {**new_meta, "managedFields": old_entries}
    if "resourceVersion" in old_meta:
        kept["resourceVersion"] = old_meta["resourceVersion"]
    return live if {**new, "metadata": kept} == live else new


# ---- updates


def _update(
    tracking: Tracking, entries: Entries, live: dict[str, Any], new: dict[str, Any], manager: str, now: str
) -> None:
    """Change `entries` by a write of `new` over `live`."""
    _reconcile(tracking, entries)
    changed, removed = _compared(tracking, live, new)
    _take_from_others(tracking, entries, None, live, new, changed, removed)
    # What the others lost, and what nobody had, is this manager's.
    mine = _managed_part(changed)
    if mine:
        me = Manager(manager, "Update", tracking.gvk.api_version, tracking.subresource)
        previous = entries.get(me)
        own = union(mine, previous.fields) if previous else mine
        entries.put(me, tracking.gvk.api_version, own, now)


def _compared(tracking: Tracking, live: dict[str, Any], new: dict[str, Any]) -> tuple[FieldSet, FieldSet]:
    changed, removed = compare(live, new, tracking.type)
    if tracking._reset:
        return recursive_difference(changed, tracking._reset), recursive_difference(removed, tracking._reset)
    return changed, removed


def _compared_at(tracking: Tracking, version: str, live: dict[str, Any], new: dict[str, Any]) -> Any:
    """The comparison in another version of the group; None when the version is gone."""
    if tracking.convert is None or tracking.type_at is None:
        return _compared(tracking, live, new)
    old, after = _converted(tracking, live, version), _converted(tracking, new, version)
    if old is None or after is None:
        return None
    changed, removed = compare(old, after, tracking.type_at(version))
    return recursive_difference(changed, tracking._reset), recursive_difference(removed, tracking._reset)


def _converted(tracking: Tracking, obj: dict[str, Any], version: str) -> dict[str, Any] | None:
    if version == tracking.gvk.api_version or tracking.convert is None:
        return obj
    return tracking.convert({"apiVersion": tracking.gvk.api_version, "kind": tracking.gvk.kind, **obj}, version)


def _take_from_others(
    tracking: Tracking,
    entries: Entries,
    me: Manager | None,
    live: dict[str, Any],
    new: dict[str, Any],
    changed: FieldSet,
    removed: FieldSet,
) -> None:
    """Take changed and removed paths from every manager but `me`."""
    at_version: dict[str, Any] = {tracking.gvk.api_version: (changed, removed)}
    for manager, entry in list(entries.items()):
        if manager == me:
            continue
        found = _at(tracking, at_version, entry.version, live, new)
        if found is None:
            entries.drop(manager)
            continue
        rest = difference(difference(entry.fields, found[0]), found[1])
        if rest != entry.fields:
            entries.put(manager, entry.version, rest, entry.time)


def _at(tracking: Tracking, known: dict[str, Any], version: str, live: dict[str, Any], new: dict[str, Any]) -> Any:
    if version not in known:
        known[version] = _compared_at(tracking, version, live, new)
    return known[version]


def _reconcile(tracking: Tracking, entries: Entries) -> None:
    if not tracking.schema_may_change:
        return
    for manager, entry in list(entries.items()):
        type = tracking.type
        if entry.version != tracking.gvk.api_version and tracking.type_at is not None:
            type = tracking.type_at(entry.version)
        if type is not None:
            fields = reconciled(entry.fields, plan_of(type))
            if fields != entry.fields:
                entries.put(manager, entry.version, fields, entry.time)


def _managed_part(fields: FieldSet) -> FieldSet:
    """Without what the server sets, and without the paths of the object's frame."""
    meta = fields.get("f:metadata")
    if meta is None and "f:apiVersion" not in fields and "f:kind" not in fields:
        return fields
    result = {element: node for element, node in fields.items() if element not in ("f:apiVersion", "f:kind")}
    if meta is not None:
        kept = {element: node for element, node in meta.items() if element != "."}
        for element in _UNMANAGED_META:
            node = kept.get(element)
            if node is not None:
                below = {inner: deep for inner, deep in node.items() if inner != "."}
                if below:
                    kept[element] = below
                else:
                    del kept[element]
        if kept:
            result["f:metadata"] = kept
        else:
            del result["f:metadata"]
    return result


# ---- applies


class Conflicts(Exception):
    """Paths that an apply would change and other managers own."""

    def __init__(self, found: list[tuple[Manager, FieldSet]]) -> None:
        super().__init__("conflicts")
        self.found = found

    def error(self) -> ApiError:
        each = [(manager, path) for manager, fields in self.found for path in paths(fields)]
        causes = [
            {"reason": "FieldManagerConflict", "message": f"conflict with {manager.shown()}", "field": path}
            for manager, path in each
        ]
        if len(each) == 1:
            manager, path = each[0]
            message = f"Apply failed with 1 conflict: conflict with {manager.shown()}: {path}"
        else:
            lines = []
            for manager, fields in self.found:
                lines.append(f"conflicts with {manager.shown()}:")
                lines += [f"- {path}" for path in paths(fields)]
            message = f"Apply failed with {len(each)} conflicts: " + "\n".join(lines)
        return ApiError(409, "Conflict", message, details={"causes": causes})


def _apply(
    tracking: Tracking,
    before: Entries,
    live: dict[str, Any],
    config: dict[str, Any],
    me: Manager,
    force: bool,
    now: str,
) -> tuple[dict[str, Any], Entries]:
    entries = before.copy()
    version = tracking.gvk.api_version
    _reconcile(tracking, entries)
    stated = field_set(config, tracking.type)
    if tracking._reset:
        stated = recursive_difference(stated, tracking._reset)
    merged = merge(live, config, tracking.type)
    last = entries.get(me)
    entries.put(me, version, stated, last.time if last else "")
    if last is not None and difference(last.fields, stated):
        merged = _pruned(tracking, entries, merged, last.version, last.fields)
    changed, removed = _compared(tracking, live, merged)

    at_version: dict[str, Any] = {version: (changed, removed)}
    conflicts = []
    for manager, entry in sorted(entries.items()):
        if manager != me:
            found = _at(tracking, at_version, entry.version, live, merged)
            contested = intersection(entry.fields, found[0]) if found else {}
            if contested:
                conflicts.append((manager, contested))
    if conflicts and not force:
        raise Conflicts(conflicts)
    _take_from_others(tracking, entries, me, live, merged, changed, removed)
    time = now if last is None or merged != live else last.time
    mine = _managed_part(stated)
    if last is None or (last.fields, last.time, last.version) != (mine, time, version):
        entries.put(me, version, mine, time)
    else:
        entries.restore(me, last)
    return merged, entries


def _pruned(
    tracking: Tracking, entries: Entries, merged: dict[str, Any], version: str, last: FieldSet
) -> dict[str, Any]:
    """`merged` without what the manager owned last time and nobody owns now."""
    type = tracking.type
    at_last = _converted(tracking, merged, version)
    if at_last is None:
        return merged
    if version != tracking.gvk.api_version and tracking.type_at is not None:
        type = tracking.type_at(version)
    plan = plan_of(type)
    named_last = with_named_fields(last, plan)
    pruned = remove(at_last, named_last, type)
    pruned = _add_back_owned(tracking, entries, at_last, pruned, version, type)
    # Items that went with their parent although this manager never owned them come back.
    everything = with_named_fields(field_set(at_last, type), plan)
    kept = with_named_fields(field_set(pruned, type), plan)
    pruned = remove(at_last, intersection(difference(everything, kept), named_last), type)
    if version == tracking.gvk.api_version or tracking.convert is None:
        return pruned
    return tracking.convert(_framed(pruned, at_last), tracking.gvk.api_version) or pruned


def _framed(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """`part` with the top-level objects that pruning took back as empty ones: conversions look into them."""
    return {**{name: {} for name, value in whole.items() if isinstance(value, dict)}, **part}


def _add_back_owned(
    tracking: Tracking,
    entries: Entries,
    merged: dict[str, Any],
    pruned: dict[str, Any],
    version: str,
    type: Type | None,
) -> dict[str, Any]:
    owned: dict[str, FieldSet] = {}
    for _, entry in entries.items():
        owned[entry.version] = union(owned.get(entry.version, {}), entry.fields)
    for other in sorted(owned, key=lambda v: v != version):
        if other != version and tracking.convert is not None and tracking.type_at is not None:
            whole, part = tracking.convert(merged, other), tracking.convert(_framed(pruned, merged), other)
            if whole is None or part is None:
                continue
            there = tracking.type_at(other)
            restored = _restored(whole, part, owned[other], there)
            pruned = tracking.convert(_framed(restored, merged), version) or pruned
        else:
            pruned = _restored(merged, pruned, owned[other], type)
    return pruned


def _restored(merged: dict[str, Any], pruned: dict[str, Any], owned: FieldSet, type: Type | None) -> dict[str, Any]:
    plan = plan_of(type)
    everything = with_named_fields(field_set(merged, type), plan)
    kept = with_named_fields(field_set(pruned, type), plan)
    gone = difference(everything, union(kept, with_named_fields(owned, plan)))
    return remove(merged, gone, type)


def _beyond_last_applied(tracking: Tracking, live: dict[str, Any], conflicts: Conflicts) -> Conflicts | None:
    """The conflicts that the last client-side applied configuration does not explain; None when it cannot help."""
    from peavine.machinery.apply.migration import last_applied_fields

    allowed = last_applied_fields(live, tracking.gvk.api_version, tracking.type)
    if allowed is None:
        return None
    rest = [(manager, difference(fields, allowed)) for manager, fields in conflicts.found]
    return Conflicts([(manager, fields) for manager, fields in rest if fields])


# ---- objects and their entries


def _entries_of(tracking: Tracking, live: dict[str, Any], new: dict[str, Any]) -> Entries:
    """The entries that an update starts from."""
    if tracking.subresource:
        return _live_entries(live)
    given = _meta(new).get("managedFields")
    if is_reset(given):
        return Entries()
    if given:
        try:
            found = decode_entries(given)
        except ValueError:
            return _live_entries(live)
        if found:
            return found
    return _live_entries(live)


def _live_entries(live: dict[str, Any]) -> Entries:
    try:
        return decode_entries(_meta(live).get("managedFields") or ())
    except ValueError:
        return Entries()


def _without_entries(obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}


def _with_entries(obj: dict[str, Any], entries: Entries) -> dict[str, Any]:
    encoded = encode_entries(entries)
    if not encoded:
        return _without_entries(obj)
    return {**obj, "metadata": {**_meta(obj), "managedFields": encoded}}


def _has_uid(obj: dict[str, Any]) -> bool:
    return bool(_meta(obj).get("uid"))


def _meta(obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj.get("metadata")
    return meta if isinstance(meta, dict) else {}


def _gvk(obj: dict[str, Any]) -> GVK:
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    return GVK(group, version, str(obj.get("kind") or ""))


def _shown(obj: dict[str, Any]) -> str:
    meta = _meta(obj)
    gvk = _gvk(obj)
    return f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {gvk.group}/{gvk.version}, Kind={gvk.kind}"


_ZEROS: dict[str, Any] = {"string": "", "bytes": None, "integer": 0, "number": 0, "boolean": False, "quantity": "0"}


def zero(type: Type, _within: Iterable[str] = ()) -> dict[str, Any]:
    """What Go writes for an object of the type that nobody has filled: its structs, and what is written when empty."""
    result: dict[str, Any] = {}
    for name, member in type.fields.items():
        below = member.type
        if below.kind == "object" and not member.pointer:
            if below.name not in _within:
                result[name] = zero(below, (*_within, below.name))
        elif not member.omitempty or (below.kind == "any" and below.name and not member.pointer):
            result[name] = None if member.pointer else _ZEROS.get(below.kind)
    return result
