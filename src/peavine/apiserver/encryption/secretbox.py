"""NaCl's secretbox (XSalsa20-Poly1305): the cipher here, as the library has only the authenticator.

Salsa20 by D. J. Bernstein, "The Salsa20 family of stream ciphers"; checked against NaCl's own test vector.
"""

from __future__ import annotations

import struct

NUMPY_FROM_BYTES = 4096  # above, all blocks are made at once as arrays

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
# Quarter rounds of a double round: columns, then rows.
_ROUNDS = (
    (0, 4, 8, 12),
    (5, 9, 13, 1),
    (10, 14, 2, 6),
    (15, 3, 7, 11),
    (0, 1, 2, 3),
    (5, 6, 7, 4),
    (10, 11, 8, 9),
    (15, 12, 13, 14),
)


class Forged(Exception):
    """The box was not sealed with this key, or has been changed."""


def seal(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    """The box: a 16-byte tag and the ciphertext. `key` has 32 bytes, `nonce` 24, never used twice with a key."""
    stream = _stream(key, nonce, 32 + len(plain))
    sealed = _xor(plain, stream[32:])
    return _tag(stream[:32], sealed) + sealed


def unseal(key: bytes, nonce: bytes, box: bytes) -> bytes:
    """The plain text. Raises Forged."""
    import hmac

    if len(nonce) != 24 or len(box) < 16:
        raise Forged
    tag, sealed = box[:16], box[16:]
    stream = _stream(key, nonce, 32 + len(sealed))
    if not hmac.compare_digest(tag, _tag(stream[:32], sealed)):
        raise Forged
    return _xor(sealed, stream[32:])


def _tag(key: bytes, sealed: bytes) -> bytes:
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    return Poly1305.generate_tag(key, sealed)


def _xor(one: bytes, two: bytes) -> bytes:
    size = len(one)
    return (int.from_bytes(one, "little") ^ int.from_bytes(two[:size], "little")).to_bytes(size, "little")


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    """XSalsa20's key stream: a sub-key from the first 16 bytes of the nonce, then Salsa20 with the last 8."""
    sub_key = _hsalsa20(key, nonce[:16])
    blocks = -(-size // 64)
    if size > NUMPY_FROM_BYTES:
        return _salsa20_arrays(sub_key, nonce[16:], blocks)[:size]
    return b"".join(_salsa20(sub_key, nonce[16:], number) for number in range(blocks))[:size]


def _state(key: bytes, middle: bytes) -> list[int]:
    k, m = struct.unpack("<8I", key), struct.unpack("<4I", middle)
    s = _SIGMA
    return [s[0], k[0], k[1], k[2], k[3], s[1], m[0], m[1], m[2], m[3], s[2], k[4], k[5], k[6], k[7], s[3]]


def _twenty_rounds(state: list[int]) -> list[int]:
    """Ten double rounds, written out: each index looked up would cost as much as the arithmetic."""
    x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15 = state
    m = _MASK
    for _ in range(10):
        t = (x0 + x12) & m
        x4 ^= (t << 7 | t >> 25) & m
        t = (x4 + x0) & m
        x8 ^= (t << 9 | t >> 23) & m
        t = (x8 + x4) & m
        x12 ^= (t << 13 | t >> 19) & m
        t = (x12 + x8) & m
        x0 ^= (t << 18 | t >> 14) & m
        t = (x5 + x1) & m
        x9 ^= (t << 7 | t >> 25) & m
        t = (x9 + x5) & m
        x13 ^= (t << 9 | t >> 23) & m
        t = (x13 + x9) & m
        x1 ^= (t << 13 | t >> 19) & m
        t = (x1 + x13) & m
        x5 ^= (t << 18 | t >> 14) & m
        t = (x10 + x6) & m
        x14 ^= (t << 7 | t >> 25) & m
        t = (x14 + x10) & m
        x2 ^= (t << 9 | t >> 23) & m
        t = (x2 + x14) & m
        x6 ^= (t << 13 | t >> 19) & m
        t = (x6 + x2) & m
        x10 ^= (t << 18 | t >> 14) & m
        t = (x15 + x11) & m
        x3 ^= (t << 7 | t >> 25) & m
        t = (x3 + x15) & m
        x7 ^= (t << 9 | t >> 23) & m
        t = (x7 + x3) & m
        x11 ^= (t << 13 | t >> 19) & m
        t = (x11 + x7) & m
        x15 ^= (t << 18 | t >> 14) & m
        t = (x0 + x3) & m
        x1 ^= (t << 7 | t >> 25) & m
        t = (x1 + x0) & m
        x2 ^= (t << 9 | t >> 23) & m
        t = (x2 + x1) & m
        x3 ^= (t << 13 | t >> 19) & m
        t = (x3 + x2) & m
        x0 ^= (t << 18 | t >> 14) & m
        t = (x5 + x4) & m
        x6 ^= (t << 7 | t >> 25) & m
        t = (x6 + x5) & m
        x7 ^= (t << 9 | t >> 23) & m
        t = (x7 + x6) & m
        x4 ^= (t << 13 | t >> 19) & m
        t = (x4 + x7) & m
        x5 ^= (t << 18 | t >> 14) & m
        t = (x10 + x9) & m
        x11 ^= (t << 7 | t >> 25) & m
        t = (x11 + x10) & m
        x8 ^= (t << 9 | t >> 23) & m
        t = (x8 + x11) & m
        x9 ^= (t << 13 | t >> 19) & m
        t = (x9 + x8) & m
        x10 ^= (t << 18 | t >> 14) & m
        t = (x15 + x14) & m
        x12 ^= (t << 7 | t >> 25) & m
        t = (x12 + x15) & m
        x13 ^= (t << 9 | t >> 23) & m
        t = (x13 + x12) & m
        x14 ^= (t << 13 | t >> 19) & m
        t = (x14 + x13) & m
        x15 ^= (t << 18 | t >> 14) & m
    return [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15]


def _hsalsa20(key: bytes, nonce: bytes) -> bytes:
    x = _twenty_rounds(_state(key, nonce))
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def _salsa20(key: bytes, nonce: bytes, number: int) -> bytes:
    state = _state(key, nonce + struct.pack("<Q", number))
    mixed = _twenty_rounds(state)
    return struct.pack("<16I", *((one + two) & _MASK for one, two in zip(state, mixed)))


def _salsa20_arrays(key: bytes, nonce: bytes, blocks: int) -> bytes:
    """The same, with one array element a block."""
    import numpy

    counters = numpy.arange(blocks, dtype=numpy.uint64)
    first = _state(key, nonce + bytes(8))
    state = [numpy.full(blocks, word, dtype=numpy.uint32) for word in first]
    state[8] = (counters & numpy.uint64(_MASK)).astype(numpy.uint32)
    state[9] = (counters >> numpy.uint64(32)).astype(numpy.uint32)
    x = [word.copy() for word in state]

    def turned(words: numpy.ndarray, left: int) -> numpy.ndarray:
        return (words << numpy.uint32(left)) | (words >> numpy.uint32(32 - left))

    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            x[b] ^= turned(x[a] + x[d], 7)
            x[c] ^= turned(x[b] + x[a], 9)
            x[d] ^= turned(x[c] + x[b], 13)
            x[a] ^= turned(x[d] + x[c], 18)
    return numpy.stack([one + two for one, two in zip(state, x)], axis=1).astype("<u4").tobytes()
