"""What the server serves: every resource, from aggregated discovery (two requests)."""

from __future__ import annotations

from typing import NamedTuple

from peavine.client.bodies import loads
from peavine.client.rest import Client
from peavine.machinery.names import GVR

_ACCEPT = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


class ServedResource(NamedTuple):
    """One resource in one version. Subresources are named in `subresources`."""

    gvr: GVR
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    singular: str
    subresources: tuple[str, ...]


async def served_resources(client: Client, *, preferred_only: bool = True) -> list[ServedResource]:
    """Everything served, in the server's order of preference.

    With `preferred_only`, a resource is listed once, in the first version that has it. A group whose aggregated server
    is down is missing. Raises ApiError, Unreachable.
    """
    found: list[ServedResource] = []
    seen: set[tuple[str, str]] = set()
    for root in ("/api", "/apis"):
        answer = await client.raw("GET", root, headers={"Accept": _ACCEPT})
        for group in loads(await answer.read()).get("items") or ():
            name = group["metadata"].get("name", "")
            for version in group.get("versions") or ():
                if version.get("freshness") == "Stale" and not version.get("resources"):
                    continue
                for resource in version.get("resources") or ():
                    if preferred_only and (name, resource["resource"]) in seen:
                        continue
                    seen.add((name, resource["resource"]))
                    found.append(_served(name, version["version"], resource))
    return found


def _served(group: str, version: str, resource: dict) -> ServedResource:
    return ServedResource(
        GVR(group, version, resource["resource"]),
        (resource.get("responseKind") or {}).get("kind", ""),
        resource.get("scope") == "Namespaced",
        frozenset(resource.get("verbs") or ()),
        tuple(resource.get("shortNames") or ()),
        tuple(resource.get("categories") or ()),
        resource.get("singularResource", ""),
        tuple(sub["subresource"] for sub in resource.get("subresources") or ()),
    )
