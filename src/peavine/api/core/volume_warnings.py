"""Warnings about the volumes of a pod spec: kinds that are gone, and files that would stand in each other's way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peavine.api.fields import quantity

Object = dict[str, Any]

DEPRECATED_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}


def volume_warnings(volumes: list[Object], field: str) -> list[str]:
    found: list[str] = []
    for i, volume in enumerate(volumes):
        for kind in volume:
            if kind in DEPRECATED_VOLUMES and volume[kind] is not None:
                shown = "storageOS" if kind == "storageos" else kind
                found.append(f"{field}[{i}].{shown}: {DEPRECATED_VOLUMES[kind]}")
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template is not None:
            found += claim_warnings(template.get("spec") or {}, f"{field}[{i}].ephemeral.volumeClaimTemplate.spec")
    for volume in volumes:
        found += _overlaps(volume)
    return found


def claim_warnings(spec: Object, field: str) -> list[str]:
    """A claim for a part of a byte."""
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None or not quantity(storage).nanos % 10**9:
        return []
    return [f'{field}.resources.requests[storage]: fractional byte value "{storage}" is invalid, must be an integer']


def _overlaps(volume: Object) -> list[str]:
    """Files of one volume of which one is the other, or is to be a directory for it."""
    name = volume.get("name") or ""
    found: list[str] = []
    for part, shown in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        source = volume.get(part) or {}
        if source.get("items"):
            found += _overlapping(_paths(source), f'volume "{name}" ({_named(shown, source)}): overlapping paths')
    before: set[str] = set()
    paths: list[str] = []
    for source in (volume.get("projected") or {}).get("sources") or []:
        if not any(value is not None for value in source.values()):
            found.append(f'volume "{name}" (Projected) has no sources provided')
            continue
        shown, fresh = _projected(source)
        if shown:
            paths, words = fresh, f'volume "{name}" (Projected {shown}): overlapping paths'
        if not paths:
            continue
        found += _overlapping(paths, words)
        found += _overlapping(sorted([*set(paths), *before]), words)
        before |= set(paths)
    return found


def _projected(source: Object) -> tuple[str, list[str]]:
    """What a source of a projected volume is called, and the files that it makes."""
    for part, shown in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        if (source.get(part) or {}).get("items"):
            return _named(shown, source[part]), _paths(source[part])
    token, bundle = source.get("serviceAccountToken"), source.get("clusterTrustBundle")
    if token is not None:
        return "ServiceAccountToken", [token.get("path") or ""]
    if bundle is not None:
        own = bundle.get("name") if bundle.get("name") is not None else bundle.get("signerName")
        return f'ClusterTrustBundle "{own or ""}"', [bundle.get("path") or ""]
    return "", []


def _named(shown: str, source: Object) -> str:
    if shown == "DownwardAPI":
        return shown
    return f'{shown} "{source.get("secretName") or source.get("name") or ""}"'


def _paths(source: Object) -> list[str]:
    return [item.get("path") or "" for item in source["items"]]


def _overlapping(paths: Iterable[str], words: str) -> list[str]:
    found: list[str] = []
    seen: list[str] = []
    for path in paths:
        path = path.rstrip("/")
        other = next((s for s in seen if s and path and ((s + "/").startswith(path) or (path + "/").startswith(s))), "")
        if other:
            found.append(f'{words}: "{path}" with "{other}"')
        if path not in seen:
            seen.append(path)
    return found
