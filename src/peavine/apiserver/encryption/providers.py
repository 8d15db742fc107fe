"""Encryption providers with keys of their own, in upstream's stored forms, so that either reads the other's data.

A value is stored as PREFIX + key name + ":" + ciphertext. `context` is the key in the store: aesgcm binds the value to
its place by it. aescbc and secretbox do not, as upstream.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

IDENTITY_ERROR = "identity transformer tried to read encrypted data"
ENCRYPTED = b"k8s:enc:"


class DecryptionError(Exception):
    """The value was written with a key that is not configured, or is damaged."""


class Provider(Protocol):
    """`prefix` tells its values from others'."""

    prefix: bytes

    async def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """The stored form, prefix included."""
        ...

    async def decrypt(self, stored: bytes, context: bytes) -> tuple[bytes, bool]:
        """The plain value, and whether it should be written anew (an old key). Raises DecryptionError."""
        ...


class Identity:
    """No encryption. Never hands out what is encrypted: that would reach clients as garbage."""

    prefix = b""

    async def encrypt(self, plain: bytes, context: bytes) -> bytes:
        return plain

    async def decrypt(self, stored: bytes, context: bytes) -> tuple[bytes, bool]:
        if stored.startswith(ENCRYPTED):
            raise DecryptionError(IDENTITY_ERROR)
        return stored, False


class _Keyed:
    """Several named keys: the first encrypts, all decrypt."""

    kind = ""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        self.keys = list(keys)
        self.prefix = f"k8s:enc:{self.kind}:v1:".encode()

    async def encrypt(self, plain: bytes, context: bytes) -> bytes:
        name, key = self.keys[0]
        return self.prefix + name.encode() + b":" + self._seal(key, plain, context)

    async def decrypt(self, stored: bytes, context: bytes) -> tuple[bytes, bool]:
        rest = stored[len(self.prefix) :]
        for position, (name, key) in enumerate(self.keys):
            marked = name.encode() + b":"
            if rest.startswith(marked):
                try:
                    return self._open(key, rest[len(marked) :], context), position > 0
                except DecryptionError:
                    raise
                except Exception as error:
                    raise DecryptionError(f"{self.kind}: cannot decrypt with key {name}: {error}") from error
        raise DecryptionError(f"no matching key was found for the provided {self.kind} transformer")

    def _seal(self, key: bytes, plain: bytes, context: bytes) -> bytes:
        raise NotImplementedError

    def _open(self, key: bytes, sealed: bytes, context: bytes) -> bytes:
        raise NotImplementedError


class AesGcm(_Keyed):
    """Random nonces: a key is to be changed every 200,000 writes."""

    kind = "aesgcm"

    def _seal(self, key: bytes, plain: bytes, context: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        return nonce + AESGCM(key).encrypt(nonce, plain, context)

    def _open(self, key: bytes, sealed: bytes, context: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(key).decrypt(sealed[:12], sealed[12:], context)
        except InvalidTag:
            raise DecryptionError("aesgcm: message authentication failed") from None


class AesCbc(_Keyed):
    kind = "aescbc"

    def _seal(self, key: bytes, plain: bytes, context: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        padding = 16 - len(plain) % 16
        vector = os.urandom(16)
        cipher = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
        return vector + cipher.update(plain + bytes([padding]) * padding) + cipher.finalize()

    def _open(self, key: bytes, sealed: bytes, context: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        if len(sealed) < 32 or len(sealed) % 16:
            raise DecryptionError("aescbc: the stored data is not a multiple of the block size")
        cipher = Cipher(algorithms.AES(key), modes.CBC(sealed[:16])).decryptor()
        padded = cipher.update(sealed[16:]) + cipher.finalize()
        padding = padded[-1]
        if not 1 <= padding <= 16 or padded[-padding:] != bytes([padding]) * padding:
            raise DecryptionError("aescbc: invalid padding on input")
        return padded[:-padding]


class Secretbox(_Keyed):
    kind = "secretbox"

    def _seal(self, key: bytes, plain: bytes, context: bytes) -> bytes:
        from peavine.apiserver.encryption.secretbox import seal

        nonce = os.urandom(24)
        return nonce + seal(key, nonce, plain)

    def _open(self, key: bytes, sealed: bytes, context: bytes) -> bytes:
        from peavine.apiserver.encryption.secretbox import Forged, unseal

        try:
            return unseal(key, sealed[:24], sealed[24:])
        except Forged:
            raise DecryptionError("secretbox: output array was not large enough for encryption") from None
