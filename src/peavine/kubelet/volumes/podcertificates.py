"""`podCertificate` sources of projected volumes: a key that never leaves the node, and a certificate for it that a
signer issues in the pod's name (PodCertificateRequest, certificates.k8s.io/v1)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from peavine.api.core.podstate import unix_time
from peavine.kubelet.volumes.source import VolumeError, VolumeHost
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
API, PLURAL = "certificates.k8s.io/v1", "podcertificaterequests"
SECONDS_DEFAULT = 86_400
# How long one look waits for the signer before the pod is told; the next look goes on with the same request.
WAIT_SECONDS, WAIT_SECONDS_MAX = 0.2, 10.0


@dataclass
class Issued:
    key: bytes
    chain: bytes
    refresh_at: float
    ends_at: float


@dataclass
class _Pending:
    key: bytes
    name: str


def _new_key(kind: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "ED25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    curves: dict[str, ec.EllipticCurve] = {
        "ECDSAP256": ec.SECP256R1(),
        "ECDSAP384": ec.SECP384R1(),
        "ECDSAP521": ec.SECP521R1(),
    }
    if kind not in curves:
        raise VolumeError(f'unknown key type "{kind}"')
    return ec.generate_private_key(curves[kind])


def _request(key: Any) -> tuple[bytes, bytes]:
    """(the key as PEM, a PKCS#10 request that says nothing but its public key, as DER)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    stub = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    return pem, stub.public_bytes(serialization.Encoding.DER)


class PodCertificates:
    """What pods of this node have been issued, by (volume's directory, number of the source)."""

    def __init__(self) -> None:
        self._issued: dict[tuple[str, int], Issued] = {}
        self._pending: dict[tuple[str, int], _Pending] = {}

    async def get(self, host: VolumeHost, pod: Object, part: Object, key: tuple[str, int]) -> Issued:
        """The certificate, a new one when it is time. Raises VolumeError while there is none."""
        now, had = host.clock.time(), self._issued.get(key)
        if had is not None and now < had.refresh_at:
            return had
        try:
            if key not in self._pending:
                self._pending[key] = await self._ask(host, pod, part)
            self._issued[key] = await self._wait(host, pod, self._pending[key])
        except (VolumeError, ApiError) as error:
            # Until it has really ended, the old one is better than none.
            if had is not None and now < had.ends_at:
                return had
            raise VolumeError(str(error)) from error
        del self._pending[key]
        return self._issued[key]

    async def _ask(self, host: VolumeHost, pod: Object, part: Object) -> _Pending:
        assert host.get is not None and host.create is not None
        meta = pod["metadata"]
        account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
        owner = await host.get("v1", "serviceaccounts", meta["namespace"], account)
        node = await host.get("v1", "nodes", None, host.node_name)
        pem, stub = _request(_new_key(part.get("keyType", "")))
        spec: Object = {
            "signerName": part["signerName"],
            "podName": meta["name"],
            "podUID": meta["uid"],
            "serviceAccountName": account,
            "serviceAccountUID": owner["metadata"]["uid"],
            "nodeName": host.node_name,
            "nodeUID": node["metadata"]["uid"],
            "maxExpirationSeconds": part.get("maxExpirationSeconds") or SECONDS_DEFAULT,
            "stubPKCS10Request": base64.b64encode(stub).decode(),
        }
        if part.get("userAnnotations"):
            spec["unverifiedUserAnnotations"] = part["userAnnotations"]
        body = {
            "apiVersion": API,
            "kind": "PodCertificateRequest",
            "metadata": {"generateName": f"req-{meta['name'][:50]}-", "namespace": meta["namespace"]},
            "spec": spec,
        }
        made = await host.create(API, PLURAL, meta["namespace"], body)
        return _Pending(pem, made["metadata"]["name"])

    async def _wait(self, host: VolumeHost, pod: Object, pending: _Pending) -> Issued:
        assert host.get is not None
        waited = 0.0
        while True:
            found = await host.get(API, PLURAL, pod["metadata"]["namespace"], pending.name)
            status = found.get("status") or {}
            for condition in status.get("conditions") or []:
                if condition.get("type") in ("Denied", "Failed"):
                    said = f"{condition.get('reason', '')}: {condition.get('message', '')}"
                    raise VolumeError(f"pod certificate request {pending.name} was {condition['type'].lower()}: {said}")
            if status.get("certificateChain"):
                ends = unix_time(status.get("notAfter")) or host.clock.time()
                refresh = unix_time(status.get("beginRefreshAt")) or ends
                return Issued(pending.key, status["certificateChain"].encode(), refresh, ends)
            if waited >= WAIT_SECONDS_MAX:
                raise VolumeError(f"pod certificate request {pending.name} is not issued yet")
            await host.clock.sleep(WAIT_SECONDS)
            waited += WAIT_SECONDS

    def forget(self, directory: str) -> None:
        for kept in (self._issued, self._pending):
            for key in [key for key in kept if key[0] == directory]:
                del kept[key]
