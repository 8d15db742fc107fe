"""Extended resources (`example.com/gpu: 2`) that devices serve: on nodes without a device plugin for the resource, a
claim that the scheduler makes itself stands for the pod's request. Pure. Follows KEP-5004.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from peavine.machinery.quantity import parse_quantity
from peavine.scheduler.template import CLASS_PREFIX, Object, Pod, Template

ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
IN_MEMORY = "<extended-resources>"  # the name of a claim that is not made yet


def class_of(resource: str, classes: Mapping[str, Object]) -> str:
    """The device class that serves an extended resource, or "". Of several that name it the newest, then the first."""
    if resource.startswith(CLASS_PREFIX):
        name = resource.removeprefix(CLASS_PREFIX)
        return name if name in classes else ""
    named = [c for c in classes.values() if c["spec"].get("extendedResourceName") == resource]
    named.sort(key=lambda c: c["metadata"]["name"])
    named.sort(key=lambda c: str(c["metadata"].get("creationTimestamp") or ""), reverse=True)
    return str(named[0]["metadata"]["name"]) if named else ""


class Wanted(NamedTuple):
    """Requests of the special claim, and which container's resource each of them serves."""

    requests: list[Object]
    mappings: list[dict[str, str]]


def wanted_of(template: Template, resources: Iterable[str], classes: Mapping[str, Object]) -> Wanted:
    """What these resources of a pod come to. Containers that run one after the other use the same devices."""
    requests: list[Object] = []
    mappings: list[dict[str, str]] = []
    containers = template.containers
    for resource in sorted(resources):
        device_class = class_of(resource, classes)
        lasting: list[Object | None] = [None] * len(containers)
        brief: list[Object] = []
        of_brief: list[dict[str, str]] = []
        for n, container in enumerate(containers):
            if not container.brief:
                lasting[n], found = _request(n, container, resource, device_class, [])
                mappings += found
        for n, container in enumerate(containers):
            if container.brief:
                request, found = _request(n, container, resource, device_class, lasting[n:])
                brief += [request] if request else []
                of_brief += found
        if brief:
            largest = max(brief, key=lambda r: r["exactly"]["count"])
            names = {r["name"] for r in brief}
            for mapping in of_brief:
                if mapping["requestName"] in names:
                    mapping["requestName"] = largest["name"]
            requests.append(largest)
        requests += [r for r in lasting if r is not None]
        mappings += of_brief
    requests.sort(key=lambda r: r["name"])
    return Wanted(requests, mappings)


def _request(
    number: int, container: Any, resource: str, device_class: str, reusable: list[Object | None]
) -> tuple[Object | None, list[dict[str, str]]]:
    count = parse_quantity(str(container.requests.get(resource, "0"))).value()
    if not count:
        return None, []

    def mapping(request: str) -> dict[str, str]:
        return {"containerName": container.name, "resourceName": resource, "requestName": request}

    mappings, there = [], 0
    for other in reusable:
        if other is not None:
            there += other["exactly"]["count"]
            mappings.append(mapping(other["name"]))
            if there >= count:
                return None, mappings
    name = f"container-{number}-request-{sorted(container.requests).index(resource)}"
    exactly = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count - there}
    return {"name": name, "exactly": exactly}, [*mappings, mapping(name)]


def special_claim(namespace: str, wanted: Wanted) -> Object:
    """The claim as it is until it belongs to a pod."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"namespace": namespace, "name": IN_MEMORY, "annotations": {ANNOTATION: "true"}},
        "spec": {"devices": {"requests": wanted.requests}},
    }


def owned(claim: Object, pod: Pod) -> Object:
    """The special claim as it is created for a pod."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid, "controller": True}
    meta = {k: v for k, v in claim["metadata"].items() if k != "name"}
    return {
        **claim,
        "metadata": {**meta, "generateName": f"{pod.name}-extended-resources-", "ownerReferences": [owner]},
    }


def is_special_of(claim: Object, pod: Pod) -> bool:
    """Whether a claim was made for the pod's extended resources (by a try that came to nothing)."""
    meta = claim["metadata"]
    return (meta.get("annotations") or {}).get(ANNOTATION) == "true" and any(
        owner.get("uid") == pod.uid and owner.get("controller") for owner in meta.get("ownerReferences") or ()
    )
