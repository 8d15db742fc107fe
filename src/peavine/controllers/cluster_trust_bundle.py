"""Publishes the CA of the API server's own certificate as a ClusterTrustBundle, for pods to project.

Upstream: pkg/controller/certificates/clustertrustbundlepublisher.
"""

from __future__ import annotations

import hashlib

from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

API = "certificates.k8s.io/v1"
SIGNER = "kubernetes.io/kube-apiserver-serving"
PREFIX = SIGNER.replace("/", ":") + ":"


class TrustBundlePublisher(Controller):
    name = "kube-apiserver-serving-clustertrustbundle-publisher-controller"
    account = "kube-apiserver-serving-clustertrustbundle-publisher"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.bundles = self.watch(API, "clustertrustbundles", field_selector=f"spec.signerName={SIGNER}")
        self.resource = self.client.resource(API, "clustertrustbundles")
        root = context.options.get("root_ca") or ""
        self.authority = root.decode() if isinstance(root, bytes) else str(root)
        self.bundle_name = PREFIX + hashlib.sha256(self.authority.encode()).hexdigest()[:16]

    async def start(self) -> None:
        self.queue.add(("", self.bundle_name))

    async def reconcile(self, key: Key) -> float | None:
        """One bundle is right; every other one of this signer is a former one."""
        if not self.authority:
            return None
        found = {bundle["metadata"]["name"]: bundle for bundle in self.bundles.list()}
        if self.bundle_name not in found:
            spec = {"signerName": SIGNER, "trustBundle": self.authority}
            body: Object = {"apiVersion": API, "kind": "ClusterTrustBundle", "metadata": {"name": self.bundle_name}}
            try:
                await self.resource.create({**body, "spec": spec})
            except ApiError as error:
                if error.code != 409:
                    raise
        for name in found:
            if name != self.bundle_name:
                await self.resource.delete(name)
        return None
