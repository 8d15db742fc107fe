"""configMap, secret, downwardAPI, projected: files made from objects of the API."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from peavine.kubelet.pods import downward
from peavine.kubelet.pods.environment import ConfigError, ObjectMissing
from peavine.kubelet.volumes import payload
from peavine.kubelet.volumes.payload import File
from peavine.kubelet.volumes.podcertificates import Issued, PodCertificates
from peavine.kubelet.volumes.source import Ready, VolumeHost
from peavine.linux import mounts
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
MODE_DEFAULT = 0o644
TOKEN_SECONDS_DEFAULT = 3600
TOKEN_SECONDS_MIN = 600
# A token is renewed after four fifths of its life, and never older than a day.
TOKEN_AGE_MAX = 24 * 3600.0


def fs_group(pod: Object) -> int | None:
    return ((pod.get("spec") or {}).get("securityContext") or {}).get("fsGroup")


def _binary(obj: Object) -> dict[str, bytes]:
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    entries = {key: value.encode("utf-8", "surrogateescape") for key, value in (obj.get("data") or {}).items()}
    return entries | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


async def _object_files(
    host: VolumeHost, kind: str, namespace: str, name: str, spec: Object, default_mode: int
) -> dict[str, File]:
    """The files of a ConfigMap or Secret: all entries, or those that `items` names."""
    try:
        obj = await host.lookup(kind, namespace, name)
    except ObjectMissing:
        if spec.get("optional"):
            return {}
        raise
    data = _binary(obj)
    items = spec.get("items")
    if not items:
        return {key: File(value, default_mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item["key"] not in data:
            if spec.get("optional"):
                continue
            raise ConfigError(f"references non-existent {kind.lower()} key: {item['key']}")
        files[item["path"]] = File(data[item["key"]], item.get("mode", default_mode))
    return files


def _downward_files(host: VolumeHost, pod: Object, items: list[Object], default_mode: int) -> dict[str, File]:
    facts = host.facts(pod)
    files = {}
    for item in items or []:
        if item.get("fieldRef"):
            text = downward.field(pod, item["fieldRef"]["fieldPath"], facts)
        else:
            text = downward.resource(pod, {}, item["resourceFieldRef"], facts)
        files[item["path"]] = File(text.encode("utf-8", "surrogateescape"), item.get("mode", default_mode))
    return files


def _write(where: Path, files: dict[str, File], pod: Object, *, memory: bool) -> None:
    where.mkdir(parents=True, exist_ok=True)
    if memory and not mounts.is_mounted(where):
        # What is secret never reaches a disk.
        mounts.mount("tmpfs", where, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=0755")
    payload.write(where, files, fs_group(pod))


class _Objects:
    memory = False

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        if self.memory and mounts.is_mounted(where):
            mounts.unmount(where)


class ConfigMap(_Objects):
    plugin = "kubernetes.io/configmap"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["configMap"]
        namespace, mode = pod["metadata"]["namespace"], spec.get("defaultMode", MODE_DEFAULT)
        files = await _object_files(host, "ConfigMap", namespace, spec.get("name", ""), spec, mode)
        _write(where, files, pod, memory=False)
        return Ready(where, readonly=True)


class Secret(_Objects):
    plugin, memory = "kubernetes.io/secret", True

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["secret"]
        namespace, mode = pod["metadata"]["namespace"], spec.get("defaultMode", MODE_DEFAULT)
        files = await _object_files(host, "Secret", namespace, spec.get("secretName", ""), spec, mode)
        _write(where, files, pod, memory=True)
        return Ready(where, readonly=True)


class DownwardApi(_Objects):
    plugin = "kubernetes.io/downward-api"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["downwardAPI"]
        files = _downward_files(host, pod, spec.get("items") or [], spec.get("defaultMode", MODE_DEFAULT))
        _write(where, files, pod, memory=False)
        return Ready(where, readonly=True)


class Projected(_Objects):
    """Several sources in one directory; with a token among them it lives in memory."""

    plugin, memory = "kubernetes.io/projected", True

    def __init__(self) -> None:
        # (directory, path) -> (token, when it was made, when it ends)
        self._tokens: dict[tuple[str, str], tuple[str, float, float]] = {}
        self._certificates = PodCertificates()

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["projected"]
        namespace, mode = pod["metadata"]["namespace"], spec.get("defaultMode", MODE_DEFAULT)
        files: dict[str, File] = {}
        for number, source in enumerate(spec.get("sources") or []):
            if part := source.get("configMap"):
                files |= await _object_files(host, "ConfigMap", namespace, part.get("name", ""), part, mode)
            elif part := source.get("secret"):
                files |= await _object_files(host, "Secret", namespace, part.get("name", ""), part, mode)
            elif part := source.get("downwardAPI"):
                files |= _downward_files(host, pod, part.get("items") or [], mode)
            elif part := source.get("serviceAccountToken"):
                files[part["path"]] = await self._token(host, pod, part, where, mode)
            elif part := source.get("podCertificate"):
                issued = await self._certificates.get(host, pod, part, (str(where), number))
                files |= _certificate_files(pod, part, issued, mode)
            elif part := source.get("clusterTrustBundle"):
                files[part["path"]] = File(await _trust_bundle(host, part), mode)
        _write(where, files, pod, memory=True)
        return Ready(where, readonly=True)

    async def _token(self, host: VolumeHost, pod: Object, part: Object, where: Path, mode: int) -> File:
        seconds = max(TOKEN_SECONDS_MIN, part.get("expirationSeconds") or TOKEN_SECONDS_DEFAULT)
        key, now = (str(where), part["path"]), host.clock.time()
        kept = self._tokens.get(key)
        if kept is None or _is_old(kept[1], kept[2], now):
            account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
            namespace = pod["metadata"]["namespace"]
            try:
                token, expires = await host.token(namespace, account, pod, part.get("audience") or "", seconds)
            except Exception:
                # Until it has really ended, the old one is better than none.
                if kept is None or kept[2] <= now:
                    raise
                token, now, expires = kept
            kept = self._tokens[key] = (token, now, expires)
        return _private(pod, kept[0].encode(), mode)

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        for key in [key for key in self._tokens if key[0] == str(where)]:
            del self._tokens[key]
        self._certificates.forget(str(where))
        await super().tear_down(host, where)


def _private(pod: Object, content: bytes, mode: int) -> File:
    """Readable for the one user that all containers run as; else for everyone in the pod."""
    context = (pod.get("spec") or {}).get("securityContext") or {}
    users = {
        (c.get("securityContext") or {}).get("runAsUser", context.get("runAsUser"))
        for c in (pod.get("spec") or {}).get("containers") or []
    }
    user = users.pop() if len(users) == 1 else None
    return File(content, 0o600 if fs_group(pod) is not None or user is not None else mode, user)


def _certificate_files(pod: Object, part: Object, issued: Issued, mode: int) -> dict[str, File]:
    contents = {
        "credentialBundlePath": issued.key + issued.chain,
        "keyPath": issued.key,
        "certificateChainPath": issued.chain,
    }
    return {part[field]: _private(pod, content, mode) for field, content in contents.items() if part.get(field)}


def _is_old(made: float, expires: float, now: float) -> bool:
    return now >= expires - 0.2 * (expires - made) or now - made > TOKEN_AGE_MAX


async def _trust_bundle(host: VolumeHost, part: Object) -> bytes:
    """The PEM of one bundle by name, or of all of a signer's, each certificate once."""
    assert host.get is not None and host.list is not None
    if part.get("name"):
        try:
            bundles = [await host.get("certificates.k8s.io/v1", "clustertrustbundles", None, part["name"])]
        except ApiError as error:
            if error.code != 404:
                raise
            bundles = []
    else:
        from peavine.machinery.selectors import selector_of

        selector = selector_of(part.get("labelSelector") or {})
        bundles = [
            bundle
            for bundle in await host.list("certificates.k8s.io/v1", "clustertrustbundles")
            if (bundle.get("spec") or {}).get("signerName") == part.get("signerName")
            and selector.matches((bundle.get("metadata") or {}).get("labels") or {})
        ]
    if not bundles and not part.get("optional"):
        wanted = f"named {part['name']!r}" if part.get("name") else f"for signer {part.get('signerName')!r}"
        raise ConfigError(f"no trust bundles {wanted}")
    blocks: dict[str, str] = {}
    for bundle in bundles:
        for block in (bundle["spec"].get("trustBundle") or "").split("-----END CERTIFICATE-----")[:-1]:
            text = block.strip() + "\n-----END CERTIFICATE-----\n"
            blocks[hashlib.sha256(text.encode()).hexdigest()] = text
    return "".join(blocks[key] for key in sorted(blocks)).encode()
