"""Telling the neighbours where an address is now: gratuitous ARP (RFC 5227), unsolicited neighbour advertisements
(RFC 4861).
"""

from __future__ import annotations

import fcntl
import socket
import struct

_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000


def announce(address: str, device: str) -> None:
    """Say on `device` that `address` is here. Raises OSError, for example when the device is down."""
    mac = _mac(device)
    if ":" in address:
        _advertise(address, device, mac)
    else:
        _arp(address, device, mac)


def _mac(device: str) -> bytes:
    # Not from /sys, which shows the namespace that it was mounted in.
    siocgifhwaddr = 0x8927
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        answer = fcntl.ioctl(s, siocgifhwaddr, struct.pack("16s24x", device.encode()))
    return answer[18:24]


def arp_frame(address: str, mac: bytes) -> bytes:
    """An ARP announcement: a broadcast request for the sender's own address. Pure."""
    ip = socket.inet_aton(address)
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + b"\0" * 6 + ip
    return _BROADCAST + mac + struct.pack(">H", _ARP) + body


def _arp(address: str, device: str, mac: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as s:
        s.bind((device, 0))
        s.send(arp_frame(address, mac))


def _advertise(address: str, device: str, mac: bytes) -> None:
    body = struct.pack(">BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE)
    body += socket.inet_pton(socket.AF_INET6, address) + b"\x02\x01" + mac
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        s.sendto(body, ("ff02::1", 0, 0, socket.if_nametoindex(device)))
