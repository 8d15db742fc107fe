"""The cluster's CA certificate as ConfigMap `kube-root-ca.crt` in every namespace, for pods to trust the API server."""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.serviceaccount import create_unless_terminating

CONFIG_MAP = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCAPublisher(Controller):
    name = "root-ca-certificate-publisher-controller"
    account = "root-ca-cert-publisher"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.root_ca: str = context.options.get("root_ca", "")
        self.namespaces = self.watch("v1", "namespaces")
        self.config_maps = self.watch(
            "v1", "configmaps", keys=_namespace_of, field_selector=f"metadata.name={CONFIG_MAP}"
        )

    async def reconcile(self, key: Key) -> float | None:
        namespace = self.namespaces.get(*key)
        if not self.root_ca or namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return None
        published = self.config_maps.get(key[1], CONFIG_MAP)
        data = {"ca.crt": self.root_ca}
        if published is None:
            meta = {"name": CONFIG_MAP, "annotations": {"kubernetes.io/description": DESCRIPTION}}
            config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            await create_unless_terminating(self, "configmaps", config_map, key[1])
        elif published.get("data") != data:
            await self.client.resource("v1", "configmaps").update({**published, "data": data})
        return None


def _namespace_of(config_map: Object) -> list[Key]:
    return [("", config_map["metadata"]["namespace"])]
