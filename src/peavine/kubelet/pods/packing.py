"""Pods at rest as compressed bytes: a process of a hundred thousand simulated pods keeps them so.

Pods of one cluster resemble one another, so the first pod that is packed serves all later ones as zlib's dictionary:
a pod of 3 KB (20 KB as Python objects) takes some 500 bytes, and 40 µs to be read again.
"""

from __future__ import annotations

import zlib
from typing import Any

import orjson

Object = dict[str, Any]
LEVEL = 6
# zlib looks back this far.
DICTIONARY_BYTES_MAX = 32_000

_dictionary: bytes = b""


class Packed:
    """One pod. Reads like its dict for those who look at a field now and then (the informer)."""

    __slots__ = ("_data",)

    def __init__(self, pod: Object) -> None:
        global _dictionary
        text = orjson.dumps(pod)
        if not _dictionary:
            # Kept for good: what is packed with it can only be read with it.
            _dictionary = text[-DICTIONARY_BYTES_MAX:]
        packer = zlib.compressobj(LEVEL, zdict=_dictionary)
        self._data = packer.compress(text) + packer.flush()

    def __len__(self) -> int:
        """Bytes that it takes."""
        return len(self._data)

    def __getitem__(self, field: str) -> Any:
        return self.unpack()[field]

    def unpack(self) -> Object:
        """The pod, a new dict at every call."""
        return orjson.loads(zlib.decompressobj(zdict=_dictionary).decompress(self._data))  # type: ignore[no-any-return]


def pack(pod: Object) -> Any:
    """An informer's transform."""
    pod["metadata"].pop("managedFields", None)
    return Packed(pod)


def unpacked(pod: Any) -> Object:
    """A pod as a dict, whether it was packed or not."""
    return pod.unpack() if isinstance(pod, Packed) else pod
