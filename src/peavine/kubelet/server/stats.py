"""`/stats/summary`: what the node, its pods and their containers use now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peavine.kubelet.server.http import HttpError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

Object = dict[str, Any]


async def summary(kubelet: Kubelet, *, only_cpu_memory: bool = False) -> Object:
    raise HttpError(501, "not implemented yet")
