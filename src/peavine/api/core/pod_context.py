"""What the rules of a container need to know of its pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
Volumes = Mapping[str, Object]  # by name


class Pod:
    """What the rules of a container need to know of its pod."""

    __slots__ = ("claims", "grace", "host_users", "os", "restart_policy", "volumes")

    def __init__(self, spec: Object, volumes: Volumes) -> None:
        self.volumes = volumes
        self.claims = {claim.get("name") or "": claim for claim in spec.get("resourceClaims") or []}
        self.grace = spec.get("terminationGracePeriodSeconds") or 0
        self.restart_policy = spec.get("restartPolicy") or ""
        self.os = (spec.get("os") or {}).get("name") or ""
        self.host_users = spec.get("hostUsers")
