"""DNS messages (RFC 1035, EDNS(0) of RFC 6891): bytes to questions, records to bytes. Sans I/O.

Names are handled in wire form (length-prefixed labels ending in a zero byte), because that is what questions carry
and what answers need; `name` and `text_of` translate. Every function that reads untrusted bytes raises Malformed and
nothing else.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

A, NS, CNAME, SOA, PTR, HINFO, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 13, 16, 28, 33, 41, 255
IXFR, AXFR = 251, 252
CLASS_IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
BADVERS = 16

RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}

# Without EDNS a UDP answer has at most 512 bytes; with it we promise what fits every network (DNS flag day 2020).
plain_bytes_max = 512
edns_bytes_max = 1232
name_bytes_max = 255
label_bytes_max = 63

_RR = struct.Struct(">HHIH")
_TWO = struct.Struct(">HH")


class Malformed(Exception):
    """These bytes are not a DNS message."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question as it was asked. `name` is in wire form with the case of the asker."""

    identity: int
    name: bytes
    type: int
    klass: int
    opcode: int
    recursion_desired: bool
    edns: bool
    edns_version: int
    payload_max: int
    """The largest UDP answer that the asker takes."""

    @property
    def question(self) -> bytes:
        return self.name + _TWO.pack(self.type, self.klass)


def name(text: str) -> bytes:
    """Wire form of a name; the final dot may be missing. Raises ValueError if it cannot be a name."""
    if text in ("", "."):
        return b"\0"
    parts = []
    for label in text.rstrip(".").split("."):
        raw = label.encode("utf-8")
        if not 0 < len(raw) <= label_bytes_max:
            raise ValueError(f"{text!r} is not a domain name")
        parts.append(bytes((len(raw),)) + raw)
    wire = b"".join(parts) + b"\0"
    if len(wire) > name_bytes_max:
        raise ValueError(f"{text!r} is too long for a domain name")
    return wire


def labels(wire: bytes) -> list[bytes]:
    """The labels of an uncompressed name."""
    found = []
    at = 0
    while wire[at]:
        found.append(wire[at + 1 : at + 1 + wire[at]])
        at += 1 + wire[at]
    return found


def text_of(wire: bytes) -> str:
    """For people: dots between labels, one at the end."""
    return ".".join(label.decode("utf-8", "backslashreplace") for label in labels(wire)) + "."


def reverse_name(address: str) -> bytes:
    """`10.0.0.1` gives the wire form of `1.0.0.10.in-addr.arpa`."""
    return name(ipaddress.ip_address(address).reverse_pointer)


def address_rdata(address: str) -> tuple[int, bytes]:
    """(A or AAAA, record data)"""
    packed = ipaddress.ip_address(address).packed
    return (A if len(packed) == 4 else AAAA), packed


def record(owner: bytes, type: int, ttl: int, rdata: bytes) -> bytes:
    return owner + _RR.pack(type, CLASS_IN, ttl, len(rdata)) + rdata


# Owner of a record that has the name of the question: a pointer to it.
QUESTION_NAME = b"\xc0\x0c"


def srv_rdata(weight: int, port: int, target: bytes) -> bytes:
    return struct.pack(">HHH", 0, weight, port) + target


def soa_rdata(primary: bytes, mailbox: bytes, serial: int, negative_ttl: int) -> bytes:
    return primary + mailbox + struct.pack(">IIIII", serial, 7200, 1800, 86400, negative_ttl)


def txt_rdata(text: str) -> bytes:
    raw = text.encode()[:255]
    return bytes((len(raw),)) + raw


def opt(payload_max: int = edns_bytes_max, extended_rcode: int = 0, do: bool = False) -> bytes:
    return b"\0" + _RR.pack(OPT, payload_max, (extended_rcode << 24) | (0x8000 if do else 0), 0)


def header(
    identity: int,
    rcode: int,
    *,
    authoritative: bool = False,
    truncated: bool = False,
    recursion_desired: bool = False,
    opcode: int = 0,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
) -> bytes:
    flags = (
        0x8080
        | (opcode << 11)
        | (0x0400 if authoritative else 0)
        | (0x0200 if truncated else 0)
        | (0x0100 if recursion_desired else 0)
        | (rcode & 15)
    )
    return struct.pack(">HHHHHH", identity, flags, *counts)


def query(identity: int, wire_name: bytes, type: int, *, edns: bool = True) -> bytes:
    """A recursive query, as a forwarder sends it."""
    head = struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 1 if edns else 0)
    return head + wire_name + _TWO.pack(type, CLASS_IN) + (opt() if edns else b"")


def parse_query(data: bytes) -> Query:
    """Raises Malformed, also for answers and for anything but exactly one question."""
    if len(data) < 12:
        raise Malformed("shorter than a header")
    identity, flags, questions, answers, authorities, additionals = struct.unpack_from(">HHHHHH", data)
    if flags & 0x8000:
        raise Malformed("an answer, not a query")
    if questions != 1:
        raise Malformed(f"{questions} questions")
    end = 12
    while True:
        if end >= len(data):
            raise Malformed("the name does not end")
        size = data[end]
        end += 1
        if size == 0:
            break
        if size > label_bytes_max:
            raise Malformed("a compressed name in a question")
        end += size
    if end - 12 > name_bytes_max:
        raise Malformed("the name is too long")
    if end + 4 > len(data):
        raise Malformed("the question ends early")
    type, klass = _TWO.unpack_from(data, end)
    edns, version, payload = False, 0, plain_bytes_max
    at = end + 4
    for number in range(answers + authorities + additionals):
        owner_end = skip_name(data, at)
        if owner_end + 10 > len(data):
            raise Malformed("a record ends early")
        kind, value, ttl, size = _RR.unpack_from(data, owner_end)
        if owner_end + 10 + size > len(data):
            raise Malformed("a record ends early")
        if kind == OPT:
            if edns or number < answers + authorities or owner_end - at != 1:
                raise Malformed("a misplaced OPT record")
            edns, version = True, (ttl >> 16) & 0xFF
            payload = min(max(value, plain_bytes_max), edns_bytes_max)
        at = owner_end + 10 + size
    return Query(identity, data[12:end], type, klass, (flags >> 11) & 15, bool(flags & 0x0100), edns, version, payload)


def skip_name(data: bytes, at: int) -> int:
    """Where a name that starts at `at` ends; pointers are not followed."""
    while True:
        if at >= len(data):
            raise Malformed("the name does not end")
        size = data[at]
        if size == 0:
            return at + 1
        if size >= 0xC0:
            if at + 2 > len(data):
                raise Malformed("half a pointer")
            return at + 2
        if size > label_bytes_max:
            raise Malformed("an unknown kind of label")
        at += 1 + size


def read_name(data: bytes, at: int) -> bytes:
    """The uncompressed name at `at`, pointers followed (only backwards, so it ends)."""
    parts: list[bytes] = []
    total = 0
    limit = at
    while True:
        if at >= len(data):
            raise Malformed("the name does not end")
        size = data[at]
        if size == 0:
            return b"".join(parts) + b"\0"
        if size >= 0xC0:
            if at + 2 > len(data):
                raise Malformed("half a pointer")
            target = ((size & 0x3F) << 8) | data[at + 1]
            if target >= limit:
                raise Malformed("a pointer that does not point back")
            at = limit = target
            continue
        if size > label_bytes_max or at + 1 + size > len(data):
            raise Malformed("an unknown kind of label")
        total += 1 + size
        if total >= name_bytes_max:
            raise Malformed("the name is too long")
        parts.append(data[at : at + 1 + size])
        at += 1 + size


@dataclass(frozen=True, slots=True)
class Record:
    owner: bytes
    type: int
    ttl: int
    rdata: bytes
    ttl_at: int
    """Where in the message the TTL stands."""
    rdata_at: int
    section: int
    """1 answer, 2 authority, 3 additional"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that somebody sent."""

    identity: int
    rcode: int
    truncated: bool
    question: bytes
    """Name in lower case, type and class."""
    question_end: int
    counts: tuple[int, int, int]
    records: tuple[Record, ...]
    data: bytes
    """The whole message."""


def parse_answer(data: bytes) -> Answer:
    if len(data) < 12:
        raise Malformed("shorter than a header")
    identity, flags, questions, *counts = struct.unpack_from(">HHHHHH", data)
    if not flags & 0x8000 or questions != 1:
        raise Malformed("not an answer to one question")
    asked = read_name(data, 12)
    at = skip_name(data, 12)
    if at + 4 > len(data):
        raise Malformed("the question ends early")
    question = asked.lower() + data[at : at + 4]
    question_end = at = at + 4
    records = []
    for section, count in enumerate(counts, 1):
        for _ in range(count):
            start = at
            at = skip_name(data, at)
            if at + 10 > len(data):
                raise Malformed("a record ends early")
            kind, _, ttl, size = _RR.unpack_from(data, at)
            if at + 10 + size > len(data):
                raise Malformed("a record ends early")
            owner = read_name(data, start)
            records.append(Record(owner, kind, ttl, data[at + 10 : at + 10 + size], at + 4, at + 10, section))
            at += 10 + size
    return Answer(
        identity,
        flags & 15,
        bool(flags & 0x0200),
        question,
        question_end,
        (counts[0], counts[1], counts[2]),
        tuple(records),
        data,
    )
