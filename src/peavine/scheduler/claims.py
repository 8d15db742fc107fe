"""Writing a pod's resource claims before the pod is bound: what they were given, and that the pod uses them; then
waiting until their devices are attached, where drivers say that this takes time (binding conditions)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.scheduler import metrics
from peavine.scheduler.context import Context
from peavine.scheduler.extended_resources import is_special_of, owned
from peavine.scheduler.inventory import holds_of
from peavine.scheduler.plugins.dynamic_resources import Allocations
from peavine.scheduler.template import Object, Pod

log = logging.getLogger(__name__)

FINALIZER = "resource.kubernetes.io/delete-protection"
BINDING_SECONDS = 600.0


class DevicesNotBound(Exception):
    """The devices were not attached in time, or could not be: the claims are free again, the pod has to be placed
    anew."""


def promise(context: Context, allocations: Allocations) -> None:
    """Keep the devices for this pod until the claims say so themselves."""
    context.promised_devices.update(allocations.holds)
    context.bump("devices")


async def bind(
    context: Context, client: Any, allocations: Allocations, pod: Pod, seconds: float = BINDING_SECONDS
) -> None:
    """Raises DevicesNotBound, and what the client raises: a conflict where somebody changed a claim meanwhile.

    The promise of a claim's devices ends when the claim is seen allocated (intake), or here if it is not written."""
    claims = client.resource("resource.k8s.io/v1", "resourceclaims")
    user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
    left = set(allocations.holds)
    written: list[Object] = []
    made: Object | None = None
    try:
        for claim, allocation in allocations.allocate:
            status = {"allocation": allocation, "reservedFor": [user]}
            meta = claim["metadata"]
            written.append(await _write(claims, meta, await _guarded(claims, meta), status))
            left.difference_update(hold for hold, _ in holds_of({"status": status}))
        if allocations.special is not None:
            claim, allocation, mappings = allocations.special
            try:
                made = await claims.create(owned(claim, pod), pod.namespace)
            except BaseException:
                metrics.CLAIMS_CREATED.labels("failure").inc()
                raise
            metrics.CLAIMS_CREATED.labels("success").inc()
            status = {"allocation": allocation, "reservedFor": [user]}
            meta = made["metadata"]
            written.append(await _write(claims, meta, await _guarded(claims, meta), status))
            left.difference_update(hold for hold, _ in holds_of({"status": status}))
            served = {"resourceClaimName": meta["name"], "requestMappings": mappings}
            await client.resource("v1", "pods").patch(
                pod.name,
                {"status": {"extendedResourceClaimStatus": served}},
                pod.namespace,
                type="strategic",
                subresource="status",
            )
        for claim in allocations.reserve:
            users = (claim.get("status") or {}).get("reservedFor") or []
            if not any(u.get("uid") == pod.uid for u in users):
                meta = claim["metadata"]
                written.append(await _write(claims, meta, meta.get("resourceVersion"), {"reservedFor": [*users, user]}))
        await _attached(context, claims, [*written, *allocations.reserve], seconds)
    except BaseException:
        if made is not None:
            await discard(client, made)
        raise
    finally:
        for hold in left:
            context.promised_devices.pop(hold, None)
        if left:
            context.bump("devices")


async def _guarded(claims: Any, meta: Object) -> str | None:
    """The claim's resourceVersion, after giving it the finalizer that keeps an allocated claim from vanishing."""
    finalizers, version = meta.get("finalizers") or [], meta.get("resourceVersion")
    if FINALIZER in finalizers:
        return version
    patch = {"metadata": {"finalizers": [*finalizers, FINALIZER], "resourceVersion": version}}
    written = await claims.patch(meta["name"], patch, meta.get("namespace"), type="merge")
    return str(written["metadata"]["resourceVersion"])


async def _write(claims: Any, meta: Object, version: str | None, status: Object) -> Object:
    patch = {"metadata": {"resourceVersion": version}, "status": status}
    written: Object = await claims.patch(meta["name"], patch, meta.get("namespace"), type="merge", subresource="status")
    return written


# Binding conditions


async def _attached(context: Context, claims: Any, involved: list[Object], seconds: float) -> None:
    """Wait until every device that has binding conditions meets them all. Raises DevicesNotBound."""
    waiting = [claim["metadata"] for claim in involved if _conditions(claim)]
    if not waiting:
        return
    lister = context.lister("resourceclaims")
    try:
        async with asyncio.timeout(seconds):
            while True:
                seen = [lister.get(meta.get("namespace"), meta["name"]) for meta in waiting]
                states = [_state(claim, since) for claim, since in zip(seen, waiting, strict=True)]
                if False in states:
                    raise DevicesNotBound("a device reports that it cannot be bound")
                if all(states):
                    return
                await context.storage.changed()
    except (DevicesNotBound, TimeoutError) as error:
        for meta in waiting:
            await deallocate(claims, meta)
        why = str(error) or "device binding timeout"
        raise DevicesNotBound(f"claims of devices: {why}") from error


def _conditions(claim: Object) -> bool:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return any(r.get("bindingConditions") for r in (allocation.get("devices") or {}).get("results") or ())


def _state(claim: Object | None, since: Object) -> bool | None:
    """Whether all devices of a claim are bound; False where one has failed, None while one is under way, or while what
    we see is older than what we wrote (`since`)."""
    if claim is None or _version(claim["metadata"]) < _version(since):
        return None
    status = claim.get("status") or {}
    done: bool | None = True
    for result in ((status.get("allocation") or {}).get("devices") or {}).get("results") or ():
        device: Object = next((d for d in status.get("devices") or () if _same(d, result)), {})
        met = {c["type"] for c in device.get("conditions") or () if c.get("status") == "True"}
        if met & set(result.get("bindingFailureConditions") or ()):
            return False
        if not set(result.get("bindingConditions") or ()) <= met:
            done = None
    return done


def _version(meta: Object) -> int:
    return int(meta.get("resourceVersion") or 0)


def _same(device: Object, result: Object) -> bool:
    return all(device.get(field) == result.get(field) for field in ("driver", "pool", "device", "shareID"))


# Taking back


async def deallocate(claims: Any, meta: Object) -> bool:
    """Free the devices of a claim that nobody uses; False where that could not be written."""
    patch = {"status": {"allocation": None, "reservedFor": None, "devices": None}}
    try:
        await claims.patch(meta["name"], patch, meta.get("namespace"), type="merge", subresource="status")
    except (ApiError, Unreachable, ConnectionError, TimeoutError) as error:
        log.warning("resourceclaim %s/%s is not deallocated: %s", meta.get("namespace"), meta["name"], error)
        return False
    return True


async def free(claims: Any, claim: Object) -> None:
    """`deallocate` for who does not ask whether it went well."""
    await deallocate(claims, claim["metadata"])


def left_over(context: Context, pod: Pod) -> Object | None:
    """The claim that an earlier try has made for the pod's extended resources."""
    if not context.served_by_devices(pod.template):
        return None
    claims = context.lister("resourceclaims").list(pod.namespace)
    return next((claim for claim in claims if is_special_of(claim, pod)), None)


async def discard(client: Any, claim: Object) -> None:
    """Delete a claim that was made for extended resources."""
    claims = client.resource("resource.k8s.io/v1", "resourceclaims")
    meta = claim["metadata"]
    try:
        await deallocate(claims, meta)
        await claims.patch(meta["name"], {"metadata": {"finalizers": None}}, meta.get("namespace"), type="merge")
        await claims.delete(meta["name"], meta.get("namespace"))
    except (ApiError, Unreachable, ConnectionError, TimeoutError) as error:
        if not isinstance(error, ApiError) or error.code != 404:
            log.warning("resourceclaim %s/%s is not deleted: %s", meta.get("namespace"), meta["name"], error)
