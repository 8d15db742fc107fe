"""KMS v2: keys kept by a plugin behind a Unix socket. Values are sealed with keys derived from a seed that it wraps.

Follows `v2.KeyManagementService` and upstream's EncryptedObject: AES-GCM with a key of its own for each value (HKDF
over the seed and 32 random bytes), bound to the value's place in the store. The plugin is asked once a seed, not once a
value.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass, field
from typing import Any

from peavine.apiserver.encryption.providers import DecryptionError
from peavine.base.clock import REAL, Clock
from peavine.wire import protobuf

log = logging.getLogger(__name__)

SERVICE = "/v2.KeyManagementService/"
SEED_KIND = 1  # HKDF_SHA256_XNONCE_AES_GCM_SEED
INFO_BYTES, NONCE_BYTES = 32, 12
STATUS_SECONDS = 60.0
SEEDS_REMEMBERED_MAX = 1000
SEED_USE_SECONDS_MAX = 3 * 24 * 3600.0


class KmsError(Exception):
    """The plugin did not answer, or not what was asked."""


@dataclass
class Wrapped:
    """A seed as the plugin wrapped it."""

    key_id: str
    ciphertext: bytes
    annotations: dict[str, bytes] = field(default_factory=dict)


class Plugin:
    """The gRPC client. `endpoint` is `unix:///path/to.sock`."""

    def __init__(self, endpoint: str, timeout_seconds: float = 3.0) -> None:
        self.endpoint, self.timeout_seconds = endpoint, timeout_seconds
        self._channel: Any = None

    async def status(self) -> tuple[str, str]:
        """The plugin's health ("ok") and the id of the key it wraps with now."""
        found = _strings(await self._call("Status", b""))
        return found.get(2, ""), found.get(3, "")

    async def encrypt(self, plain: bytes, uid: str) -> Wrapped:
        request = _bytes(1, plain) + _bytes(2, uid.encode())
        answer = await self._call("Encrypt", request)
        wrapped = Wrapped("", b"")
        for number, _, start, end in protobuf.fields(answer):
            if number == 1:
                wrapped.ciphertext = answer[start:end]
            elif number == 2:
                wrapped.key_id = answer[start:end].decode()
            elif number == 3:
                key, value = _entry(answer[start:end])
                wrapped.annotations[key] = value
        if not wrapped.ciphertext or not wrapped.key_id:
            raise KmsError("the KMS plugin answered without ciphertext or key id")
        return wrapped

    async def decrypt(self, wrapped: Wrapped, uid: str) -> bytes:
        request = _bytes(1, wrapped.ciphertext) + _bytes(2, uid.encode()) + _bytes(3, wrapped.key_id.encode())
        for key, value in wrapped.annotations.items():
            request += _bytes(4, _bytes(1, key.encode()) + _bytes(2, value))
        answer = await self._call("Decrypt", request)
        for number, _, start, end in protobuf.fields(answer):
            if number == 1:
                return answer[start:end]
        raise KmsError("the KMS plugin answered without plaintext")

    async def _call(self, method: str, request: bytes) -> bytes:
        import grpc

        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.endpoint)
        call = self._channel.unary_unary(SERVICE + method)
        try:
            return await call(request, timeout=self.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise KmsError(f"KMS plugin {self.endpoint}: {method}: {error.code().name}: {error.details()}") from error

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class KmsProvider:
    """One `kms` entry of the configuration."""

    def __init__(self, name: str, plugin: Plugin, clock: Clock = REAL) -> None:
        self.name, self.plugin, self.clock = name, plugin, clock
        self.prefix = f"k8s:enc:kms:v2:{name}:".encode()
        self._current: tuple[bytes, Wrapped, float] | None = None  # seed, as wrapped, when made
        self._key_id = ""
        self._asked = float("-inf")
        self._seeds: dict[bytes, bytes] = {}

    async def encrypt(self, plain: bytes, context: bytes) -> bytes:
        seed, wrapped = await self._seed()
        sealed = seal(seed, plain, context)
        message = _bytes(1, sealed) + _bytes(2, wrapped.key_id.encode()) + _bytes(3, wrapped.ciphertext)
        for key, value in wrapped.annotations.items():
            message += _bytes(4, _bytes(1, key.encode()) + _bytes(2, value))
        message += protobuf.tag(5, protobuf.VARINT) + protobuf.varint(SEED_KIND)
        return self.prefix + message

    async def decrypt(self, stored: bytes, context: bytes) -> tuple[bytes, bool]:
        sealed, wrapped, kind = b"", Wrapped("", b""), 0
        data = stored[len(self.prefix) :]
        try:
            for number, _, start, end in protobuf.fields(data):
                if number == 1:
                    sealed = data[start:end]
                elif number == 2:
                    wrapped.key_id = data[start:end].decode()
                elif number == 3:
                    wrapped.ciphertext = data[start:end]
                elif number == 4:
                    key, value = _entry(data[start:end])
                    wrapped.annotations[key] = value
                elif number == 5:
                    kind = start
        except ValueError as error:
            raise DecryptionError(f"kms {self.name}: {error}") from error
        if kind != SEED_KIND:
            raise DecryptionError(f"kms {self.name}: unknown kind of data key {kind}")
        seed = await self._unwrapped(wrapped)
        return unseal(seed, sealed, context), bool(self._key_id) and wrapped.key_id != self._key_id

    async def refresh(self) -> None:
        """Ask which key the plugin uses now: after a rotation new values get a new seed. Raises KmsError."""
        health, self._key_id = await self.plugin.status()
        self._asked = self.clock.monotonic()
        if health != "ok":
            raise KmsError(f"kms {self.name}: plugin is not healthy: {health}")
        if self._current is not None and self._current[1].key_id != self._key_id:
            self._current = None

    async def _seed(self) -> tuple[bytes, Wrapped]:
        now = self.clock.monotonic()
        if now - self._asked > STATUS_SECONDS:
            try:
                await self.refresh()
            except KmsError as error:
                if self._current is None or now - self._current[2] > SEED_USE_SECONDS_MAX:
                    raise
                log.warning("%s; the current data key stays in use", error)
        if self._current is None:
            seed = os.urandom(32)
            wrapped = await self.plugin.encrypt(seed, os.urandom(16).hex())
            self._current = (seed, wrapped, now)
            self._key_id = wrapped.key_id
            self._seeds[_digest(wrapped)] = seed
        return self._current[0], self._current[1]

    async def _unwrapped(self, wrapped: Wrapped) -> bytes:
        digest = _digest(wrapped)
        seed = self._seeds.get(digest)
        if seed is None:
            try:
                seed = await self.plugin.decrypt(wrapped, os.urandom(16).hex())
            except KmsError as error:
                raise DecryptionError(str(error)) from error
            if len(self._seeds) >= SEEDS_REMEMBERED_MAX:
                self._seeds.clear()
            self._seeds[digest] = seed
        return seed


def seal(seed: bytes, plain: bytes, context: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    info, nonce = os.urandom(INFO_BYTES), os.urandom(NONCE_BYTES)
    return info + nonce + AESGCM(_derived(seed, info)).encrypt(nonce, plain, context)


def unseal(seed: bytes, sealed: bytes, context: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    info, nonce = sealed[:INFO_BYTES], sealed[INFO_BYTES : INFO_BYTES + NONCE_BYTES]
    try:
        return AESGCM(_derived(seed, info)).decrypt(nonce, sealed[INFO_BYTES + NONCE_BYTES :], context)
    except (InvalidTag, ValueError):
        raise DecryptionError("kms: message authentication failed") from None


def _derived(seed: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    return HKDFExpand(SHA256(), 32, info).derive(seed)


def _digest(wrapped: Wrapped) -> bytes:
    parts = hashlib.sha256(wrapped.ciphertext + b"\0" + wrapped.key_id.encode())
    for key, value in sorted(wrapped.annotations.items()):
        parts.update(b"\0" + key.encode() + b"\0" + value)
    return parts.digest()


def _bytes(number: int, body: bytes) -> bytes:
    return protobuf.delimited(protobuf.tag(number, protobuf.BYTES), body)


def _entry(data: bytes) -> tuple[str, bytes]:
    key, value = "", b""
    for number, _, start, end in protobuf.fields(data):
        if number == 1:
            key = data[start:end].decode()
        elif number == 2:
            value = data[start:end]
    return key, value


def _strings(data: bytes) -> dict[int, str]:
    return {number: data[start:end].decode() for number, kind, start, end in protobuf.fields(data) if kind == 2}
