"""Netlink sockets: messages to the kernel and back, in bytes.

Written here and not taken from a library because of memory: each node runs three processes that need a dozen
message types, and the general library costs 11 MB in each. Requests are synchronous: the kernel
answers a netlink request before `send` returns, so nothing here ever waits.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

ROUTE = 0
NETFILTER = 12

REQUEST = 0x1
ACK = 0x4
DUMP = 0x300
CREATE = 0x400
REPLACE = 0x100
EXCL = 0x200
APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_EXTENDED_ACK = 11
_SOL_NETLINK = 270

# A transaction of a full sync is sent as one datagram; the socket's buffer must hold it.
send_buffer_bytes = 64 << 20
receive_bytes_max = 1 << 20


class NetlinkError(OSError):
    """The kernel refused a message; `errno` says why, the text is the kernel's own where it gave one."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute: header, value, padding to four bytes."""
    size = len(value) + 4
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def nested(kind: int, *values: bytes) -> bytes:
    return attribute(kind | NLA_NESTED, b"".join(values))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The (type, value) pairs of a run of attributes; a malformed rest ends the run."""
    end = len(data)
    while start + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, start)
        if size < 4 or start + size > end:
            return
        yield kind & NLA_TYPE_MASK, bytes(data[start + 4 : start + size])
        start += (size + 3) & ~3


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    size = 16 + len(payload)
    return _HEADER.pack(size, kind, flags, sequence, 0) + payload + b"\0" * (-size % 4)


class Netlink:
    """One socket of one protocol, in the network namespace that the thread was in when it was opened."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        so_sndbufforce = 32
        so_rcvbufforce = 33
        for option in (so_sndbufforce, so_rcvbufforce):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, send_buffer_bytes)
            except PermissionError:
                fallback = socket.SO_SNDBUF if option == so_sndbufforce else socket.SO_RCVBUF
                self._socket.setsockopt(socket.SOL_SOCKET, fallback, send_buffer_bytes)
        self._socket.setsockopt(_SOL_NETLINK, _EXTENDED_ACK, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        return self._sequence

    def request(self, kind: int, flags: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Send one message and return the (type, payload) of every answer. Raises NetlinkError on refusal."""
        sequence = self.next_sequence()
        self._drain()
        dump = flags & DUMP == DUMP
        self._socket.send(message(kind, flags | REQUEST | (0 if dump else ACK), sequence, payload))
        return self._answers(sequence)

    def transact(self, messages: bytes, first: int, last: int) -> None:
        """Send a batch (its messages numbered `first` to `last`, the last with ACK); raise the first error."""
        self._drain()
        self._socket.send(messages)
        answered = False
        while True:
            try:
                data = self._socket.recv(receive_bytes_max, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for kind, number, payload in _messages(data):
                if kind == NLMSG_ERROR and first <= number <= last:
                    _raise_for(payload)
                    answered = True
        if not answered:
            raise NetlinkError(errno.EPROTO, "the kernel did not acknowledge the transaction")

    def _answers(self, sequence: int) -> list[tuple[int, bytes]]:
        answers: list[tuple[int, bytes]] = []
        while True:
            data = self._socket.recv(receive_bytes_max)
            for kind, number, payload in _messages(data):
                if number != sequence:
                    continue
                if kind == NLMSG_DONE:
                    return answers
                if kind == NLMSG_ERROR:
                    _raise_for(payload)
                    return answers
                answers.append((kind, payload))

    def _drain(self) -> None:
        """Throw away late answers of an earlier request that failed half-way."""
        while True:
            try:
                self._socket.recv(receive_bytes_max, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    start = 0
    while start + 16 <= len(data):
        size, kind, _flags, number, _port = _HEADER.unpack_from(data, start)
        if size < 16:
            return
        yield kind, number, data[start + 16 : start + size]
        start += (size + 3) & ~3


def _raise_for(payload: bytes) -> None:
    (code,) = _ERROR.unpack_from(payload)
    if code == 0:
        return
    reason = os.strerror(-code)
    # struct nlmsgerr, then (extended acknowledgement, request capped or not) attributes with the kernel's words.
    inner = _HEADER.unpack_from(payload, 4)[0] if len(payload) >= 20 else 16
    for start in {4 + ((inner + 3) & ~3), 20}:
        for kind, value in attributes(payload, start):
            if kind == 1 and value.endswith(b"\0") and len(value) > 2:
                reason = value[:-1].decode(errors="replace")
    raise NetlinkError(-code, reason)
