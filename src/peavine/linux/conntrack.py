"""Connection tracking: look at the kernel's flows of one protocol and forget some of them.

A UDP flow stays bound to the endpoint that its first packet met, long after that endpoint is gone; whoever
changes NAT rules must remove such flows. TCP ends by itself.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from peavine.linux import netlink
from peavine.linux.netlink import Netlink, NetlinkError, attributes, nested

_GET = (1 << 8) | 1
_DELETE = (1 << 8) | 2
_NFGEN = struct.Struct("=BBH")
_PORT = struct.Struct(">H")

TCP, UDP, SCTP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, 132


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked flow: what the client addressed, and who answers it."""

    family: int
    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    answered_by: str
    answered_by_port: int
    original: bytes
    """The original tuple as the kernel wrote it: the flow's handle."""


def flows(link: Netlink, ipv6: bool, protocol: int) -> Iterator[Flow]:
    """Every flow of a family and protocol."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    for _, payload in link.request(_GET, netlink.DUMP, _NFGEN.pack(family, 0, 0)):
        original = reply = b""
        for kind, value in attributes(payload, 4):
            if kind == 1:
                original = value
            elif kind == 2:
                reply = value
                break
        to = _tuple(original)
        if to is None or to[4] != protocol:
            continue
        back = _tuple(reply)
        if back is not None:
            yield Flow(family, protocol, to[0], to[2], to[1], to[3], back[0], back[2], original)


def delete(link: Netlink, flow: Flow) -> None:
    """Forget a flow; one that has ended meanwhile is no error."""
    try:
        link.request(_DELETE, 0, _NFGEN.pack(flow.family, 0, 0) + nested(1, flow.original))
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _tuple(data: bytes) -> tuple[str, str, int, int, int] | None:
    """(source, destination, source port, destination port, protocol) of a tuple attribute."""
    source = destination = ""
    protocol = from_port = to_port = 0
    for kind, value in attributes(data):
        if kind == 1:
            for part, address in attributes(value):
                text = socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
                if part in (1, 3):
                    source = text
                elif part in (2, 4):
                    destination = text
        elif kind == 2:
            for part, number in attributes(value):
                if part == 1:
                    protocol = number[0]
                elif part == 2:
                    (from_port,) = _PORT.unpack(number)
                elif part == 3:
                    (to_port,) = _PORT.unpack(number)
    return (source, destination, from_port, to_port, protocol) if source else None
