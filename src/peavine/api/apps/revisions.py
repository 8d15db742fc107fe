"""Revisions of a Deployment: the short hash that names its replica sets, and their revision numbers."""

from __future__ import annotations

import json
from typing import Any

SAFE = "bcdfghjklmnpqrstvwxz2456789"  # no vowels and no 0, 1, 3: no words, no look-alikes


REVISION = "deployment.kubernetes.io/revision"
HASH_LABEL = "pod-template-hash"


def pod_template_hash(template: dict[str, Any], collision_count: int | None = None) -> str:
    """A stable hash of a pod template: FNV-1a (32 bits) over its canonical JSON, and over the collision count.

    Upstream hashes Go's dump of the same struct: its values differ from ours, their form and use do not.
    """
    text = json.dumps(_without_empty(template), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    value = fnv32a(text)
    if collision_count is not None:
        value = fnv32a(collision_count.to_bytes(8, "little"), value)
    return safe_encode(str(value))


def deployment_revision(obj: dict[str, Any]) -> int:
    """The revision of a Deployment or ReplicaSet; 0 where it has none, or a broken one."""
    text = ((obj.get("metadata") or {}).get("annotations") or {}).get(REVISION) or "0"
    try:
        return int(text)
    except ValueError:
        return 0


def equal_ignore_hash(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two pod templates are the same but for the pod-template-hash label."""
    return _without_hash(a) == _without_hash(b)


def _without_hash(template: dict[str, Any]) -> Any:
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH_LABEL}
    return _without_empty({**template, "metadata": meta})


def fnv32a(data: bytes, value: int = 0x811C9DC5) -> int:
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def safe_encode(text: str) -> str:
    """Each character as one of the safe letters: apimachinery's SafeEncodeString."""
    return "".join(SAFE[ord(c) % len(SAFE)] for c in text)


def _without_empty(value: Any) -> Any:
    """Drop what decoding may or may not keep (null, {}, []), so that equal templates hash equally."""
    if isinstance(value, dict):
        kept = {k: _without_empty(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in (None, {}, [])}
    if isinstance(value, list):
        return [_without_empty(v) for v in value]
    return value
