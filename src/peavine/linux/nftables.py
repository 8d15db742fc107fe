"""nftables: rules as text through `nft`, set and map elements as netlink messages.

Rules and chains change rarely and are worth reading, so `run` takes nft's own language. Elements change all the time,
thousands at once, so `Transaction` writes them straight to the kernel: no process, no listing of what is there, one
atomic step. A transaction that the kernel refuses leaves everything as it was.

A key or datum is the kernel's bytes: each part of a concatenation padded to four (`address`, `number8`, `number16`,
`number32`, joined with +).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable

import orjson

from peavine.linux import netlink, programs
from peavine.linux.netlink import Netlink, NetlinkError, attribute, attributes, nested, text

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}

_SUBSYSTEM = 10 << 8
_GET_CHAIN = _SUBSYSTEM | 4
_GET_SET = _SUBSYSTEM | 10
_NEW_SET_ELEMENT = _SUBSYSTEM | 12
_GET_SET_ELEMENT = _SUBSYSTEM | 13
_DELETE_SET_ELEMENT = _SUBSYSTEM | 14
_DELETE_TABLE = _SUBSYSTEM | 2
_DELETE_CHAIN = _SUBSYSTEM | 5
# Of deletions: refuse where there is still something inside. nft itself has no word for it.
_ONLY_EMPTY = 0x100
_BATCH_BEGIN = 0x10
_BATCH_END = 0x11

_GOTO = -4
_JUMP = -3

# The elements of one message are one attribute, whose length has 16 bits.
element_bytes_max = 60_000
# A batch is one datagram; a full sync of a large cluster is sent in several.
transaction_bytes_max = 16 << 20

_FLAGS = {_NEW_SET_ELEMENT: netlink.CREATE, _DELETE_TABLE: _ONLY_EMPTY, _DELETE_CHAIN: _ONLY_EMPTY}

_NFGEN = struct.Struct("=BBH")
_BE32 = struct.Struct(">i")


def run(commands: str) -> None:
    """Execute nft commands as one transaction. Raises ProgramError with nft's words."""
    programs.run(["nft", "-f", "-"], commands)


def listing(*what: str, json: bool = False) -> str:
    """`nft list …`; empty when the thing does not exist."""
    return programs.run(["nft", *(["-j"] if json else []), "list", *what], check=False)


def address(value: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)


def number8(value: int) -> bytes:
    return struct.pack("=B3x", value)


def number16(value: int) -> bytes:
    """Network order, as ports are."""
    return struct.pack(">H2x", value)


def number32(value: int) -> bytes:
    """Host order, as numgen writes it."""
    return struct.pack("=I", value)


def goto(chain: str) -> bytes:
    """The datum of a verdict map: `goto chain`. Encoded with its attribute, unlike plain data."""
    return _VERDICT_MARK + nested(2, attribute(1, _BE32.pack(_GOTO)), text(2, chain))


def jump(chain: str) -> bytes:
    return _VERDICT_MARK + nested(2, attribute(1, _BE32.pack(_JUMP)), text(2, chain))


def verdict(code: int) -> bytes:
    """0: drop, 1: accept, -5: return."""
    return _VERDICT_MARK + nested(2, attribute(1, _BE32.pack(code)))


# Marks data that already is a verdict attribute; a plain datum is at most 64 bytes and never starts like this.
_VERDICT_MARK = b"\xffverdict"


def _element(key: bytes, data: bytes, key_end: bytes = b"") -> bytes:
    parts = [nested(1, attribute(1, key))]
    if key_end:
        parts.append(nested(10, attribute(1, key_end)))
    if data.startswith(_VERDICT_MARK):
        parts.append(nested(2, data[len(_VERDICT_MARK) :]))
    elif data:
        parts.append(nested(2, attribute(1, data)))
    return nested(1, *parts)


class Transaction:
    """Changes of elements of one table, sent together. Order: as added; put removals of a key before its new value.

    `key_end` is the last key of an interval in a concatenated (pipapo) set.
    """

    def __init__(self, family: str, table: str) -> None:
        self.family, self.table = family, table
        self._runs: list[tuple[int, str, list[bytes]]] = []
        self.size = 0

    def add(self, set_name: str, key: bytes, data: bytes = b"", key_end: bytes = b"") -> None:
        self._put(_NEW_SET_ELEMENT, set_name, _element(key, data, key_end))

    def remove(self, set_name: str, key: bytes, key_end: bytes = b"") -> None:
        self._put(_DELETE_SET_ELEMENT, set_name, _element(key, b"", key_end))

    def _put(self, kind: int, set_name: str, element: bytes) -> None:
        self.size += 1
        runs = self._runs
        if runs and runs[-1][0] == kind and runs[-1][1] == set_name:
            runs[-1][2].append(element)
        else:
            runs.append((kind, set_name, [element]))

    def commit(self, link: Netlink) -> None:
        """Raises NetlinkError when the kernel refuses; then nothing of this transaction is in force
        (of one above `transaction_bytes_max`, which is sent in several, the parts before it are)."""
        family = FAMILIES[self.family]
        head = _NFGEN.pack(family, 0, 0) + text(1, self.table)
        messages: list[tuple[int, bytes]] = []
        for kind, name, elements in self._runs:
            prefix = head + text(2, name)
            chunk: list[bytes] = []
            used = 0
            for element in elements:
                if used + len(element) > element_bytes_max:
                    messages.append((kind, prefix + nested(3, *chunk)))
                    chunk, used = [], 0
                chunk.append(element)
                used += len(element)
            messages.append((kind, prefix + nested(3, *chunk)))
        start = 0
        while start < len(messages):
            used, end = 0, start
            while end < len(messages) and used < transaction_bytes_max:
                used += len(messages[end][1])
                end += 1
            _commit(link, messages[start:end])
            start = end


def _commit(link: Netlink, messages: list[tuple[int, bytes]]) -> None:
    begin = _NFGEN.pack(0, 0, socket.htons(10))
    first = link.next_sequence()
    parts = [netlink.message(_BATCH_BEGIN, netlink.REQUEST, first, begin)]
    number = first
    for i, (kind, payload) in enumerate(messages):
        number = link.next_sequence()
        flags = netlink.REQUEST | _FLAGS.get(kind, 0)
        if i == len(messages) - 1:
            flags |= netlink.ACK
        parts.append(netlink.message(kind, flags, number, payload))
    parts.append(netlink.message(_BATCH_END, netlink.REQUEST, link.next_sequence(), begin))
    link.transact(b"".join(parts), first, number + 1)


def chain_exists(link: Netlink, family: str, table: str, chain: str) -> bool:
    payload = _NFGEN.pack(FAMILIES[family], 0, 0) + text(1, table) + text(3, chain)
    try:
        link.request(_GET_CHAIN, 0, payload)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def chains(link: Netlink, family: str, table: str) -> set[str]:
    """The names of all chains of a table; empty when there is no table."""
    found = set()
    for _, payload in link.request(_GET_CHAIN, netlink.DUMP, _NFGEN.pack(FAMILIES[family], 0, 0)):
        values = dict(attributes(payload, 4))
        if values.get(1, b"")[:-1].decode() == table:
            found.add(values[3][:-1].decode())
    return found


def sets(link: Netlink, family: str, table: str) -> set[str]:
    """The names of all named sets and maps of a table."""
    found = set()
    for _, payload in link.request(_GET_SET, netlink.DUMP, _NFGEN.pack(FAMILIES[family], 0, 0) + text(1, table)):
        name = dict(attributes(payload, 4)).get(2, b"")[:-1].decode()
        # Anonymous sets are parts of their rules.
        if name and not name.startswith("__"):
            found.add(name)
    return found


def elements(link: Netlink, family: str, table: str, set_name: str) -> dict[bytes, bytes]:
    """What a set or map holds, key to datum (empty for sets), in the form that `Transaction.add` takes.

    Intervals of concatenated sets come with their end appended to the key.
    """
    payload = _NFGEN.pack(FAMILIES[family], 0, 0) + text(1, table) + text(2, set_name)
    found: dict[bytes, bytes] = {}
    for _, answer in link.request(_GET_SET_ELEMENT, netlink.DUMP, payload):
        for kind, value in attributes(answer, 4):
            if kind == 3:
                _collect(value, found)
    return found


def _collect(listed: bytes, found: dict[bytes, bytes]) -> None:
    for _, element in attributes(listed):
        key = key_end = data = b""
        for kind, value in attributes(element):
            if kind == 1:
                key = _value(value)
            elif kind == 10:
                key_end = _value(value)
            elif kind == 2:
                data = _datum(value)
        found[key + key_end] = data


def _value(wrapped: bytes) -> bytes:
    for kind, value in attributes(wrapped):
        if kind == 1:
            return value
    return b""


def _datum(wrapped: bytes) -> bytes:
    for kind, value in attributes(wrapped):
        if kind == 1:
            return value
        if kind == 2:
            parts = dict(attributes(value))
            (code,) = _BE32.unpack(parts[1])
            name = parts.get(2, b"\0")[:-1].decode()
            return {_GOTO: goto, _JUMP: jump}[code](name) if code in (_GOTO, _JUMP) else verdict(code)
    return b""


def remove_tables(names: Iterable[tuple[str, str]]) -> None:
    """Remove these (family, name) tables; one that is not there is no error."""
    # `add` before `delete` makes deleting an absent table succeed in the same transaction.
    run("".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family, name in names))


def remove_empty_table(family: str, table: str) -> bool:
    """Remove a table whose chains have no rules and let everything pass; True if it was one. Whoever fills it meanwhile
    keeps it: the kernel refuses then.
    """
    listed = orjson.loads(listing("table", family, table, json=True) or b"{}").get("nftables", [])
    things = [(kind, what) for entry in listed for kind, what in entry.items() if kind != "metainfo"]
    if not things or any(kind not in ("table", "chain") or what.get("policy") == "drop" for kind, what in things):
        return False
    head = _NFGEN.pack(FAMILIES[family], 0, 0) + text(1, table)
    messages = [(_DELETE_CHAIN, head + text(3, what["name"])) for kind, what in things if kind == "chain"]
    with Netlink(netlink.NETFILTER) as link:
        try:
            _commit(link, [*messages, (_DELETE_TABLE, head)])
        except NetlinkError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT):
                raise
            return False
    return True
