"""Which volume suits a claim: class, modes, size, selector, node. The smallest that does is taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peavine.api.core.nodeselector import matches as node_matches
from peavine.api.core.persistentvolumeclaim import storage_class
from peavine.machinery.quantity import Quantity, parse_quantity
from peavine.machinery.selectors import SelectorError, selector_of

Object = dict[str, Any]

SELECTED_NODE = "volume.kubernetes.io/selected-node"


def best_match(claim: Object, volumes: Iterable[Object], node: Object | None = None) -> Object | None:
    """The volume to bind to `claim`, or None. One that already names the claim comes before all others."""
    best: Object | None = None
    for volume in volumes:
        if not suits(volume, claim, node):
            continue
        if is_bound_to(volume, claim):
            return volume
        if volume["spec"].get("claimRef") is not None:
            continue
        if best is None or _size(volume) < _size(best):
            best = volume
    return best


def suits(volume: Object, claim: Object, node: Object | None = None) -> bool:
    spec, wanted = volume["spec"], claim["spec"]
    if volume["metadata"].get("deletionTimestamp"):
        return False
    reference = spec.get("claimRef")
    if reference is not None and not is_bound_to(volume, claim):
        return False
    if (spec.get("volumeMode") or "Filesystem") != (wanted.get("volumeMode") or "Filesystem"):
        return False
    if (spec.get("volumeAttributesClassName") or "") != (wanted.get("volumeAttributesClassName") or ""):
        return False
    if _size(volume) < requested(claim):
        return False
    if storage_class(volume) != storage_class(claim):
        return False
    if not set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
        return False
    affinity = (spec.get("nodeAffinity") or {}).get("required")
    if node is not None and affinity is not None and not node_matches(affinity, node):
        return False
    if reference is None and (volume.get("status") or {}).get("phase") not in ("Available", "Pending", None):
        return False
    return _selected(volume, wanted.get("selector"))


def _selected(volume: Object, selector: Object | None) -> bool:
    if selector is None:
        return True
    try:
        return selector_of(selector).matches(volume["metadata"].get("labels") or {})
    except SelectorError:
        return False


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef is this claim: by uid, or by name where the user set no uid."""
    reference = volume["spec"].get("claimRef")
    if reference is None:
        return False
    meta = claim["metadata"]
    if (reference.get("namespace"), reference.get("name")) != (meta["namespace"], meta["name"]):
        return False
    return not reference.get("uid") or reference["uid"] == meta["uid"]


def requested(claim: Object) -> Quantity:
    return parse_quantity(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage") or "0")


def _size(volume: Object) -> Quantity:
    return parse_quantity((volume["spec"].get("capacity") or {}).get("storage") or "0")
