"""`metrics.k8s.io` for clusters without kubelets: the same paths and objects, as custom resources with set figures."""

from __future__ import annotations

from peavine.client import Client
from peavine.machinery.errors import ApiError

GROUP = "metrics.k8s.io"
KINDS = {"nodes": ("NodeMetrics", "Cluster"), "pods": ("PodMetrics", "Namespaced")}


async def serve_metrics(client: Client) -> None:
    for plural, (kind, scope) in KINDS.items():
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        meta = {
            "name": f"{plural}.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        }
        version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        await client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions").create(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": meta,
                "spec": {
                    "group": GROUP,
                    "scope": scope,
                    "names": {"plural": plural, "kind": kind},
                    "versions": [version],
                },
            }
        )


async def use(client: Client, plural: str, name: str, namespace: str = "", **usage: str) -> None:
    """Say that a node or a pod with one container uses `cpu` and `memory`."""
    kind = KINDS[plural][0]
    content = {"usage": usage} if plural == "nodes" else {"containers": [{"name": "c", "usage": usage}]}
    body = {"apiVersion": f"{GROUP}/v1beta1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
    for _ in range(200):
        try:
            await client.resource(f"{GROUP}/v1beta1", plural).create({**body, **content})
            return
        except ApiError as error:
            # The definition is established a moment after it was made.
            if error.code != 404:
                raise
        await _established(client, plural)


async def _established(client: Client, plural: str) -> None:
    definitions = client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
    listed = await definitions.list()
    version = listed["metadata"]["resourceVersion"]
    for item in listed["items"]:
        if item["metadata"]["name"].startswith(f"{plural}.") and _served(item):
            return
    async for _, item in definitions.watch(resource_version=version):
        if item["metadata"]["name"].startswith(f"{plural}.") and _served(item):
            return


def _served(definition: dict) -> bool:
    conditions = definition.get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
