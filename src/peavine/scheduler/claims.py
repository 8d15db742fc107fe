"""Writing a pod's resource claims before the pod is bound: what they were given, and that the pod uses them."""

from __future__ import annotations

from typing import Any

from peavine.scheduler.context import Context
from peavine.scheduler.devices import devices_of
from peavine.scheduler.plugins.dynamic_resources import Allocations
from peavine.scheduler.template import Object, Pod

FINALIZER = "resource.kubernetes.io/delete-protection"


def promise(context: Context, allocations: Allocations) -> None:
    """Keep the devices for this pod until the claims say so themselves."""
    context.promised_devices.update(allocations.devices)
    context.bump("devices")


async def bind(context: Context, client: Any, allocations: Allocations, pod: Pod) -> None:
    """Raises what the client raises: a conflict where somebody changed a claim meanwhile.

    The promise of a claim's devices ends when the claim is seen allocated (intake), or here if it is not written."""
    claims = client.resource("resource.k8s.io/v1", "resourceclaims")
    user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
    left = set(allocations.devices)
    try:
        for claim, allocation in allocations.allocate:
            status = {"allocation": allocation, "reservedFor": [user]}
            await _write(claims, claim["metadata"], await _guarded(claims, claim["metadata"]), status)
            left.difference_update(devices_of({"status": status}))
        for claim in allocations.reserve:
            users = (claim.get("status") or {}).get("reservedFor") or []
            if not any(u.get("uid") == pod.uid for u in users):
                meta = claim["metadata"]
                await _write(claims, meta, meta.get("resourceVersion"), {"reservedFor": [*users, user]})
    finally:
        if left:
            context.promised_devices.difference_update(left)
            context.bump("devices")


async def _guarded(claims: Any, meta: Object) -> str | None:
    """The claim's resourceVersion, after giving it the finalizer that keeps an allocated claim from vanishing."""
    finalizers, version = meta.get("finalizers") or [], meta.get("resourceVersion")
    if FINALIZER in finalizers:
        return version
    patch = {"metadata": {"finalizers": [*finalizers, FINALIZER], "resourceVersion": version}}
    written = await claims.patch(meta["name"], patch, meta.get("namespace"), type="merge")
    return str(written["metadata"]["resourceVersion"])


async def _write(claims: Any, meta: Object, version: str | None, status: Object) -> None:
    patch = {"metadata": {"resourceVersion": version}, "status": status}
    await claims.patch(meta["name"], patch, meta.get("namespace"), type="merge", subresource="status")
