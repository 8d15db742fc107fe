"""ServiceAccount: a pod runs as an account that exists, with its token mounted and its pull secrets."""

from __future__ import annotations

import asyncio
from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authorization.node import MIRROR_ANNOTATION, pod_references
from peavine.base.clock import wait_until
from peavine.machinery.meta import random_suffix

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ENFORCE_ANNOTATION = "kubernetes.io/enforce-mountable-secrets"
DEFAULT_WAIT_SECONDS = 2.0  # for the controller to make a new namespace's default account


class ServiceAccount(Plugin):
    name = "ServiceAccount"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "pods"),))

    def __init__(self, context: PluginContext) -> None:
        self.lister, self.clock = context.lister, context.clock
        self._awaited: dict[str, list[asyncio.Event]] = {}  # namespace -> who waits for its default account
        self.lister.on_change("", "serviceaccounts", self._account_changed)

    async def admit(self, req: AdmissionRequest) -> None:
        if req.operation != CREATE or req.subresource:
            return
        assert req.obj is not None
        pod = req.obj
        spec = pod["spec"]
        if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            return  # its rules are in validate; nothing is added to what a node shows of itself
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(req, name)
        if _automount(account, spec):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]

    async def validate(self, req: AdmissionRequest) -> None:
        assert req.obj is not None
        pod = req.obj
        if req.operation == UPDATE and req.subresource != "ephemeralcontainers":
            return
        if req.operation == CREATE and req.subresource:
            return
        spec = pod["spec"]
        if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            _check_mirror(req, pod)
            return
        name = spec.get("serviceAccountName")
        if not name:
            why = f"no service account specified for pod {req.namespace}/{pod['metadata'].get('name', '')}"
            raise forbidden(req, why)
        account = await self._account(req, name)
        if (account["metadata"].get("annotations") or {}).get(ENFORCE_ANNOTATION) == "true":
            _check_secrets(req, pod, account)

    async def _account(self, req: AdmissionRequest, name: str) -> dict[str, Any]:
        account = self.lister.get("", "serviceaccounts", req.namespace, name)
        if account is None and name == "default":
            event = asyncio.Event()
            waiting = self._awaited.setdefault(req.namespace, [])
            waiting.append(event)
            try:
                await wait_until(event.wait(), DEFAULT_WAIT_SECONDS, self.clock)
            finally:
                waiting.remove(event)
                if not waiting:
                    self._awaited.pop(req.namespace, None)
            account = self.lister.get("", "serviceaccounts", req.namespace, name)
        if account is None:
            why = f'error looking up service account {req.namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden(req, why)
        return account

    def _account_changed(self, event: str, account: dict[str, Any], old: dict[str, Any] | None) -> None:
        if event == "ADDED" and account["metadata"]["name"] == "default":
            for waiting in self._awaited.get(account["metadata"].get("namespace", ""), ()):
                waiting.set()


def _automount(account: dict[str, Any], spec: dict[str, Any]) -> bool:
    for holder in (spec, account):
        if holder.get("automountServiceAccountToken") is not None:
            return bool(holder["automountServiceAccountToken"])
    return True


def _mount_token(spec: dict[str, Any]) -> None:
    """Mount the projected token where no other mount has its place; one volume for all containers."""
    volumes = spec.get("volumes") or []
    name = next((v["name"] for v in volumes if v["name"].startswith("kube-api-access-") and "projected" in v), "")
    exists = bool(name)
    name = name or "kube-api-access-" + random_suffix()
    needed = False
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        mounts = container.get("volumeMounts") or []
        if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
            continue
        container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
        needed = True
    if needed and not exists:
        spec["volumes"] = [*volumes, {"name": name, "projected": token_projection()}]


def token_projection() -> dict[str, Any]:
    """The volume source by which a pod finds its API server: token, CA and namespace."""
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }


def _check_mirror(req: AdmissionRequest, pod: dict[str, Any]) -> None:
    if pod["spec"].get("serviceAccountName"):
        raise forbidden(req, "a mirror pod may not reference service accounts")
    if any(resource == "secrets" for resource, _, _ in pod_references(pod)):
        raise forbidden(req, "a mirror pod may not reference secrets")
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                raise forbidden(req, "a mirror pod may not use ServiceAccountToken volume projections")


def _check_secrets(req: AdmissionRequest, pod: dict[str, Any], account: dict[str, Any]) -> None:
    """Every way to name a secret, in all kinds of containers, is held to what the account lists."""
    mountable = {secret.get("name") for secret in account.get("secrets") or ()}
    pullable = {secret.get("name") for secret in account.get("imagePullSecrets") or ()}
    name, spec = account["metadata"]["name"], pod["spec"]
    for volume in spec.get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName")
        if secret and secret not in mountable:
            why = f'volume with secret.secretName="{secret}" is not allowed because service account {name} does not '
            raise forbidden(req, why + "reference that secret")
    for kind, word in (("initContainers", "init container"), ("containers", "container"),
                       ("ephemeralContainers", "ephemeral container")):  # fmt: skip
        for container in spec.get(kind) or ():
            for variable in container.get("env") or ():
                secret = ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
                if secret and secret not in mountable:
                    why = (
                        f"{word} {container['name']} with envVar {variable['name']} referencing secret.secretName="
                        f'"{secret}" is not allowed because service account {name} does not reference that secret'
                    )
                    raise forbidden(req, why)
            for source in container.get("envFrom") or ():
                secret = (source.get("secretRef") or {}).get("name")
                if secret and secret not in mountable:
                    why = (
                        f'{word} {container["name"]} with envFrom referencing secret.secretName="{secret}" is not '
                        f"allowed because service account {name} does not reference that secret"
                    )
                    raise forbidden(req, why)
    for secret in spec.get("imagePullSecrets") or ():
        if secret.get("name") not in pullable:
            why = (
                f'imagePullSecrets[0].name="{secret.get("name")}" is not allowed because service account {name} does '
                "not reference that imagePullSecret"
            )
            raise forbidden(req, why)
