"""The few protobuf messages of etcd's v3 API that a store needs: bytes to tuples and back, no I/O.

Field numbers follow etcd's published `rpc.proto` and `kv.proto`. Unknown fields are skipped, zero values are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from peavine.store.interface import Event, KeyValue, prefix_end

_MASK = (1 << 64) - 1


def _varint(n: int) -> bytes:
    n &= _MASK
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _int(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(n) if n else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value if value else b""


def _message(field: int, value: bytes) -> bytes:
    """Like `_bytes`, but an empty message is still there."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(number, value of an integer field, content of a length-delimited one). Raises ValueError for broken input."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at)
        wire_type = tag & 7
        if wire_type == 0:
            n, at = _read_varint(data, at)
            yield tag >> 3, n - (1 << 64) if n >> 63 else n, b""
        elif wire_type == 2:
            n, at = _read_varint(data, at)
            if at + n > end:
                raise ValueError("protobuf message is cut short")
            yield tag >> 3, 0, data[at : at + n]
            at += n
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"protobuf wire type {wire_type} is not used here")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("protobuf integer is cut short or too long")
        byte = data[at]
        at += 1
        n |= (byte & 0x7F) << shift
        if byte < 0x80:
            return n, at
        shift += 7


def _span(first: str, prefix: str) -> bytes:
    """`key` and `range_end` (fields 1 and 2 of several requests) for the keys with `prefix` from `first` on."""
    return _bytes(1, first.encode() or b"\0") + _bytes(2, prefix_end(prefix).encode() or b"\0")


# Requests


def range_request(key: str, revision: int = 0) -> bytes:
    return _bytes(1, key.encode()) + _int(4, revision)


def prefix_request(prefix: str, start: str, limit: int, revision: int, count_only: bool = False) -> bytes:
    return _span(max(prefix, start), prefix) + _int(3, limit) + _int(4, revision) + _int(9, count_only)


def put_txn(key: str, value: bytes, expect: int | None, lease: int) -> bytes:
    """Put, then read the key's numbers; where `expect` does not hold, read the key instead."""
    name = key.encode()
    put = _message(2, _bytes(1, name) + _bytes(2, value) + _int(3, lease))
    numbers = _message(1, _bytes(1, name) + _int(8, 1))
    return _txn(name, expect, (put, numbers))


def delete_txn(key: str, expect: int | None) -> bytes:
    name = key.encode()
    return _txn(name, expect, (_message(3, _bytes(1, name) + _int(3, 1)),))


def _txn(name: bytes, expect: int | None, success: Iterable[bytes]) -> bytes:
    # Compare: target MOD (2), result EQUAL (0); the revision 0 means that the key is absent.
    compare = b"" if expect is None else _message(1, _int(2, 2) + _bytes(3, name) + _varint(6 << 3) + _varint(expect))
    return compare + b"".join(_message(2, op) for op in success) + _message(3, _message(1, _bytes(1, name)))


def compaction_request(revision: int) -> bytes:
    return _int(1, revision)


def watch_create(prefix: str, start_revision: int) -> bytes:
    """Progress notifications and previous values on."""
    return _message(1, _span(prefix, prefix) + _int(3, start_revision) + _int(4, 1) + _int(6, 1))


def lease_grant(ttl_seconds: int) -> bytes:
    return _int(1, ttl_seconds)


def lease_id(lease: int) -> bytes:
    """LeaseRevokeRequest and LeaseKeepAliveRequest."""
    return _int(1, lease)


# Responses


class RangeResponse(NamedTuple):
    revision: int
    items: list[KeyValue]
    more: bool
    total: int  # keys of the span, whatever the limit


class TxnResponse(NamedTuple):
    revision: int
    succeeded: bool
    found: list[KeyValue]  # of the transaction's range
    deleted: list[KeyValue]  # of its deletion, as they were before


class WatchResponse(NamedTuple):
    revision: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    events: list[Event]


def _key_value(data: bytes) -> KeyValue:
    key, value, create, mod, version, lease = "", b"", 0, 0, 0, 0
    for number, n, content in _fields(data):
        if number == 1:
            key = content.decode()
        elif number == 2:
            create = n
        elif number == 3:
            mod = n
        elif number == 4:
            version = n
        elif number == 5:
            value = content
        elif number == 6:
            lease = n
    return KeyValue(key, value, create, mod, version, lease)


def header_revision(data: bytes) -> int:
    """The revision in field 1 (ResponseHeader) of any response."""
    for number, _, content in _fields(data):
        if number == 1:
            return next((n for inner, n, _ in _fields(content) if inner == 3), 0)
    return 0


def range_response(data: bytes) -> RangeResponse:
    items, more, count = [], False, 0
    for number, n, content in _fields(data):
        if number == 2:
            items.append(_key_value(content))
        elif number == 3:
            more = bool(n)
        elif number == 4:
            count = n
    return RangeResponse(header_revision(data), items, more, count)


def txn_response(data: bytes) -> TxnResponse:
    succeeded, found, deleted = False, [], []
    for number, n, content in _fields(data):
        if number == 2:
            succeeded = bool(n)
        elif number == 3:
            for kind, _, inner in _fields(content):
                if kind == 1:
                    found += range_response(inner).items
                elif kind == 3:
                    deleted += [_key_value(kv) for field, _, kv in _fields(inner) if field == 3]
    return TxnResponse(header_revision(data), succeeded, found, deleted)


def watch_response(data: bytes) -> WatchResponse:
    created = canceled = False
    compact_revision, reason, events = 0, "", []
    for number, n, content in _fields(data):
        if number == 3:
            created = bool(n)
        elif number == 4:
            canceled = bool(n)
        elif number == 5:
            compact_revision = n
        elif number == 6:
            reason = content.decode(errors="replace")
        elif number == 11:
            events.append(_event(content))
    return WatchResponse(header_revision(data), created, canceled, compact_revision, reason, events)


def _event(data: bytes) -> Event:
    deleted, kv, prev = False, None, None
    for number, n, content in _fields(data):
        if number == 1:
            deleted = bool(n)
        elif number == 2:
            kv = _key_value(content)
        elif number == 3:
            prev = _key_value(content)
    if kv is None:
        raise ValueError("an event of a watch has no key")
    return Event("DELETE" if deleted else "PUT", kv, prev)


def lease_response(data: bytes) -> tuple[int, int]:
    """(lease, seconds) of a LeaseGrantResponse or LeaseKeepAliveResponse."""
    lease = ttl = 0
    for number, n, _ in _fields(data):
        if number == 2:
            lease = n
        elif number == 3:
            ttl = n
    return lease, ttl
