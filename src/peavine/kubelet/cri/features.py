"""What a runtime can do beyond the basics. What it cannot is refused by name: a security setting that is silently
dropped is worse than a pod that does not start."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass
class Features:
    """`handlers`: runtime handler -> its features, as CRI's Status tells (nothing before containerd 2.0)."""

    handlers: dict[str, Message] = field(default_factory=dict)
    supplemental_groups_policy: bool = False
    image_volumes: bool = False
    # Whether it resolves the names of CDI devices itself.
    cdi: bool = False
    # Whether it obeys a container's own stop signal.
    stop_signals: bool = False

    def handler_can(self, handler: str, feature: str) -> bool:
        return bool(self.handlers.get(handler, {}).get(feature))


def read_features(status: Message, version: Message) -> Features:
    """From the answers of Status and Version."""
    handlers = {h.get("name", ""): h.get("features") or {} for h in status.get("runtime_handlers") or []}
    strict = bool((status.get("features") or {}).get("supplemental_groups_policy"))
    name, numbers = version.get("runtime_name", ""), re.findall(r"\d+", version.get("runtime_version", ""))
    release = tuple(int(n) for n in numbers[:2])
    # CRI has no word for it: containerd mounts images since 2.1, CRI-O since 1.31.
    images = (name == "containerd" and release >= (2, 1)) or (name == "cri-o" and release >= (1, 31))
    modern = (name == "containerd" and release >= (2, 0)) or name == "cri-o"
    # Stop signals came with CRI 1.33.
    signals = (name == "containerd" and release >= (2, 1)) or (name == "cri-o" and release >= (1, 33))
    return Features(handlers, strict, images or name == "simulated", modern, signals)


def node_handlers(features: Features) -> list[Message]:
    """The Node's status.runtimeHandlers."""
    names = {"recursive_read_only_mounts": "recursiveReadOnlyMounts", "user_namespaces": "userNamespaces"}
    return [
        {"name": name, **({"features": {k: bool(found.get(f)) for f, k in names.items()}} if found else {})}
        for name, found in (features.handlers or {"": {}}).items()
    ]
