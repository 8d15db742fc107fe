"""The kubelet's metrics: its own, and on `/metrics/probes`, `/metrics/resource`, `/metrics/cadvisor` those of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet


async def render(kubelet: Kubelet, kind: str) -> tuple[bytes, str]:
    """(text, content type) of one of the four endpoints. Raises HttpError 404."""
    from peavine.base.metrics import CONTENT_TYPE, exposition
    from peavine.kubelet.server.http import HttpError

    if kind == "":
        return exposition(), CONTENT_TYPE
    if kind == "probes":
        lines = ["# TYPE prober_probe_total counter"]
        for (type_, namespace, pod, uid, container, result), count in sorted(kubelet.probes.counts.items()):
            labels = f'container="{container}",namespace="{namespace}",pod="{pod}",pod_uid="{uid}"'
            lines.append(f'prober_probe_total{{{labels},probe_type="{type_}",result="{result}"}} {count}')
        return ("\n".join(lines) + "\n").encode(), CONTENT_TYPE
    raise HttpError(404, "404 page not found")
