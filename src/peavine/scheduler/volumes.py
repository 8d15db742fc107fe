"""Binding a pod's waiting claims before the pod itself: tell the API server which volume or node they get, then wait
until the volume controller and the provisioner have done their part."""

from __future__ import annotations

import asyncio
from typing import Any

from peavine.scheduler import metrics
from peavine.scheduler.context import Context
from peavine.scheduler.plugins.volume_binding import Decision
from peavine.scheduler.storage import BOUND_BY_CONTROLLER, SELECTED_NODE, is_bound
from peavine.scheduler.template import Object

BIND_SECONDS_MAX = 600.0


class VolumesNotBound(Exception):
    """A claim was not bound in time, or its provisioning failed: the pod has to be placed anew."""


def promise(context: Context, decision: Decision) -> None:
    """Keep the volumes for these claims from now on."""
    for claim, volume in decision.give:
        meta = claim["metadata"]
        context.storage.promised[volume["metadata"]["name"]] = (meta.get("namespace", ""), meta["name"])
    context.bump("storage")


async def bind(context: Context, client: Any, decision: Decision, node: str, seconds: float = BIND_SECONDS_MAX) -> None:
    """Raises VolumesNotBound, and what the client raises.

    The promise of a volume ends when the volume is seen claimed (intake), or here if that failed."""
    try:
        await _bind(context, client, decision, node, seconds)
    except BaseException:
        metrics.VOLUME_ERRORS.labels("bind").inc()
        for _, volume in decision.give:
            context.storage.promised.pop(volume["metadata"]["name"], None)
        context.bump("storage")
        raise


async def _bind(context: Context, client: Any, decision: Decision, node: str, seconds: float) -> None:
    volumes, claims = client.resource("v1", "persistentvolumes"), client.resource("v1", "persistentvolumeclaims")
    for claim, volume in decision.give:
        await volumes.patch(volume["metadata"]["name"], _claimed(claim, volume), type="merge")
    for claim in decision.provision:
        meta = claim["metadata"]
        if (meta.get("annotations") or {}).get(SELECTED_NODE) != node:
            patch = {"metadata": {"annotations": {SELECTED_NODE: node}, "resourceVersion": meta.get("resourceVersion")}}
            await claims.patch(meta["name"], patch, meta.get("namespace"), type="merge")
    wanted = [claim for claim, _ in decision.give] + decision.provision
    try:
        async with asyncio.timeout(seconds):
            while not _all_bound(context, wanted, decision.provision, node):
                await context.storage.changed()
    except TimeoutError as error:
        raise VolumesNotBound("binding volumes: context deadline exceeded") from error


def _claimed(claim: Object, volume: Object) -> Object:
    meta = claim["metadata"]
    reference = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": meta.get("namespace"),
        "name": meta["name"],
        "uid": meta.get("uid"),
        "resourceVersion": meta.get("resourceVersion"),
    }
    return {
        "metadata": {
            "annotations": {BOUND_BY_CONTROLLER: "yes"},
            "resourceVersion": volume["metadata"].get("resourceVersion"),
        },
        "spec": {"claimRef": reference},
    }


def _all_bound(context: Context, wanted: list[Object], provisioned: list[Object], node: str) -> bool:
    done = True
    selected_before = {claim["metadata"].get("uid") for claim in provisioned}
    for claim in wanted:
        meta = claim["metadata"]
        now = context.storage.claim(meta.get("namespace", ""), meta["name"])
        if now is None or now["metadata"].get("uid") != meta.get("uid"):
            raise VolumesNotBound(f'binding volumes: persistentvolumeclaim "{meta["name"]}" not found')
        if is_bound(now):
            continue
        done = False
        seen = int(now["metadata"].get("resourceVersion") or 0) > int(meta.get("resourceVersion") or 0)
        if seen and meta.get("uid") in selected_before:
            selected = (now["metadata"].get("annotations") or {}).get(SELECTED_NODE)
            if selected is None:
                raise VolumesNotBound(f'provisioning failed for PVC "{meta["name"]}"')
            if selected != node:
                raise VolumesNotBound(f'selectedNode annotation value "{selected}" not set to scheduled node "{node}"')
    return done
