"""The DNS server: UDP and TCP on one address.

Nearly every packet is a question whose answer lies ready: it is found by the question's own bytes and sent with no
more than a few slices (`_drain`). Everything else takes the long way: parse, look in the zone, or forward.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope, scope
from peavine.dns.cache import stripped
from peavine.dns.forward import LOOP_PROBE, Forwarder, NoAnswer
from peavine.dns.zone import Prepared, Zone
from peavine.wire import dns
from peavine.wire.dns import Malformed, Query

log = logging.getLogger(__name__)

# Packets answered before other work of the loop gets its turn.
batch_max = 64
tcp_connections_max = 200
tcp_idle_seconds = 10.0
aliases_max = 8
forwards_max = 1000
# Answers to names that do not exist, kept until an object changes: pods' search paths ask for many.
negatives_max = 4096

_HEAD = (b"\x84\x80\0\x01", b"\x85\x80\0\x01")
"""Flags (response, authoritative, recursion available; with and without recursion desired) and one question."""
_PLAIN = b"\0\x01\0\0\0\0\0\0"


class Server:
    """`start`, then `run` until cancelled. Before `ready` is set, questions for the zone get SERVFAIL."""

    def __init__(self, zone: Zone, forwarder: Forwarder, *, clock: Clock = REAL) -> None:
        self.zone = zone
        self.forwarder = forwarder
        self.ready = False
        self.counts = {"udp": 0, "tcp": 0, "forwarded": 0, "malformed": 0, "dropped": 0}
        self.rcodes: dict[int, int] = {}
        self._clock = clock
        self._sock: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._tasks: Scope | None = None
        self._forwards = 0
        self._connections = 0
        self._negatives: OrderedDict[bytes, Prepared] = OrderedDict()
        self._probes: set[bytes] = set()

    def start(self, host: str, port: int) -> int:
        """Bind UDP and TCP; returns the port. Raises OSError when the address cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for _ in range(10):
            udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                udp.bind((host, port))
                # Bursts of a whole node's pods wait here while the loop does other things.
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                tcp.bind((host, udp.getsockname()[1]))
                tcp.listen(128)
            except OSError:
                udp.close()
                tcp.close()
                if port:
                    raise
                continue
            self._sock, self._tcp = udp, tcp
            return int(udp.getsockname()[1])
        raise OSError(f"no port that is free for UDP and TCP on {host}")

    def changed(self) -> None:
        """An object changed: what was absent may exist."""
        self._negatives.clear()

    def was_asked(self, name: bytes) -> bool:
        return name in self._probes

    async def run(self) -> None:
        assert self._sock is not None and self._tcp is not None
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve_tcp, sock=self._tcp)
        try:
            async with scope() as self._tasks:
                loop.add_reader(self._sock, self._drain)
                await loop.create_future()
        finally:
            loop.remove_reader(self._sock)
            server.close()
            self._sock.close()

    # the short way
    def _drain(self) -> None:
        sock = self._sock
        assert sock is not None
        receive, send, answers = sock.recvfrom, sock.sendto, self.zone.answers
        served = negative = 0
        try:
            for _ in range(batch_max):
                data, peer = receive(4096)
                end = data.find(0, 12) + 5
                # A plain question: a query, opcode 0, one question and nothing else.
                if end == len(data) and data[4:12] == _PLAIN and not data[2] & 0xF8 and self.ready:
                    question = data[12:]
                    found = answers.get(question)
                    if found is None:
                        question = question.lower()
                        found = answers.get(question) or self._negatives.get(question)
                    if found is not None:
                        if type(found) is list:
                            # Each asker gets the next order of the records.
                            found.append(found.pop(0))
                            counts, body, _, rcode = found[0]
                        else:
                            counts, body, _, rcode = found  # type: ignore[assignment]
                        if end + len(body) <= 512:
                            head = _HEAD[data[2] & 1]
                            served += 1
                            if rcode:
                                head = head[:1] + bytes((0x80 | rcode,)) + head[2:]
                                negative += 1
                            send(data[:2] + head + counts + data[12:] + body, peer)
                            continue
                self._slow_udp(data, peer)
        except BlockingIOError:
            pass
        except OSError as error:
            # An ICMP error of an earlier answer, or a full buffer: the asker asks again.
            self.counts["dropped"] += 1
            log.debug("udp: %s", error)
        if served:
            # The only negative answers of the short way are names that do not exist.
            self.rcodes[dns.NOERROR] = self.rcodes.get(dns.NOERROR, 0) + served - negative
            self.rcodes[dns.NXDOMAIN] = self.rcodes.get(dns.NXDOMAIN, 0) + negative
        self.counts["udp"] += served

    # the long way
    def _slow_udp(self, data: bytes, peer: tuple[Any, ...]) -> None:
        self.counts["udp"] += 1
        sock = self._sock
        assert sock is not None

        def reply(answer: bytes) -> None:
            try:
                sock.sendto(answer, peer)
            except OSError as error:
                self.counts["dropped"] += 1
                log.debug("udp: %s", error)

        self._handle(data, reply, udp=True)

    def _handle(self, data: bytes, reply: Callable[[bytes], None], *, udp: bool) -> None:
        """Answer one message, at once or from a task. A message that is no query at all gets no answer."""
        try:
            query = dns.parse_query(data)
        except Malformed:
            self.counts["malformed"] += 1
            if len(data) >= 12 and not data[2] & 0x80:
                self._count(dns.FORMERR)
                reply(
                    dns.header(
                        int.from_bytes(data[:2], "big"),
                        dns.FORMERR,
                        recursion_desired=bool(data[2] & 1),
                        opcode=(data[2] >> 3) & 15,
                        counts=(0, 0, 0, 0),
                    )
                )
            return
        limit = query.payload_max if udp else 65535
        error = _unsupported(query)
        if error:
            reply(self._error(query, error))
            return
        name = query.name.lower()
        if self.zone.holds(name) or (query.type == dns.PTR and name + query.question[-4:].lower() in self.zone.answers):
            if not self.ready:
                reply(self._error(query, dns.SERVFAIL))
                return
            if name in self.zone.cnames and query.type != dns.CNAME:
                self._later(self._alias(query, limit), query, reply)
                return
            found = self.zone.lookup(name, query.type)
            if not found.counts[1] and len(found.body) < 200:
                self._remember(query.question.lower(), found)
            reply(self._assemble(query, found, limit))
            return
        if LOOP_PROBE in name:
            self._probes.add(name)
            reply(self._error(query, dns.NXDOMAIN))
            return
        cached = self.forwarder.cache.get(query.question.lower())
        if cached is not None:
            entry, body = cached
            reply(self._message(query, entry.rcode, entry.counts, body, limit, authoritative=False))
            return
        if not query.recursion_desired:
            reply(self._error(query, dns.REFUSED))
            return
        self.counts["forwarded"] += 1
        self._later(self._forward(query, limit), query, reply)

    def _remember(self, question: bytes, found: Prepared) -> None:
        self._negatives[question] = found
        if len(self._negatives) > negatives_max:
            self._negatives.popitem(last=False)

    def _later(self, work: object, query: Query, reply: Callable[[bytes], None]) -> None:
        if self._forwards >= forwards_max or self._tasks is None:
            work.close()  # type: ignore[attr-defined]
            reply(self._error(query, dns.SERVFAIL))
            return
        self._forwards += 1
        self._tasks.start(self._finish(work, query, reply), name="dns forward")

    async def _finish(self, work: object, query: Query, reply: Callable[[bytes], None]) -> None:
        try:
            reply(await work)  # type: ignore[misc]
        except (NoAnswer, Malformed) as error:
            log.debug("%s: %s", dns.text_of(query.name), error)
            reply(self._error(query, dns.SERVFAIL))
        finally:
            self._forwards -= 1

    async def _forward(self, query: Query, limit: int) -> bytes:
        data = await self.forwarder.ask(query.name.lower(), query.type)
        answer = dns.parse_answer(data)
        body, _, counts = stripped(data, answer)
        return self._message(query, answer.rcode, counts, body, limit, authoritative=False)

    async def _alias(self, query: Query, limit: int) -> bytes:
        """An ExternalName: the alias itself, and what it stands for as far as it can be found."""
        records = []
        name, owner = query.name.lower(), dns.QUESTION_NAME
        rcode = dns.NOERROR
        for _ in range(aliases_max):
            target = self.zone.cnames.get(name)
            if target is None:
                break
            records.append(dns.record(owner, dns.CNAME, self.zone.ttl, target))
            name, owner = target.lower(), target
        if self.zone.holds(name):
            found = self.zone.lookup(name, query.type)
            if found.counts[1]:
                # Our answers point to the question's name; here their owner is the alias' target.
                count = int.from_bytes(found.counts[:2], "big")
                records += [owner + record[2:] for record in _split(found.body, count)]
        elif query.type not in (dns.ANY,):
            try:
                answer = dns.parse_answer(await self.forwarder.ask(name, query.type))
                rcode = answer.rcode if answer.rcode != dns.NXDOMAIN else dns.NXDOMAIN
                for record in answer.records:
                    if record.section == 1 and record.type in (query.type, dns.CNAME):
                        rdata = record.rdata
                        if record.type == dns.CNAME:
                            rdata = _uncompressed(answer, record)
                        records.append(dns.record(record.owner, record.type, record.ttl, rdata))
            except NoAnswer as error:
                log.debug("%s: %s", dns.text_of(name), error)
                rcode = dns.SERVFAIL
        return self._message(query, rcode, (len(records), 0, 0), b"".join(records), limit, authoritative=True)

    def _assemble(self, query: Query, found: Prepared, limit: int) -> bytes:
        counts = tuple(int.from_bytes(found.counts[i : i + 2], "big") for i in (0, 2, 4))
        return self._message(query, found.rcode, counts, found.body, limit, authoritative=True)  # type: ignore[arg-type]

    def _message(
        self, query: Query, rcode: int, counts: tuple[int, int, int], body: bytes, limit: int, *, authoritative: bool
    ) -> bytes:
        opt = dns.opt() if query.edns else b""
        truncated = 12 + len(query.question) + len(body) + len(opt) > limit
        if truncated:
            # Empty and marked: askers come again over TCP whatever is in it.
            counts, body = (0, 0, 0), b""
        self._count(rcode)
        head = dns.header(
            query.identity,
            rcode,
            authoritative=authoritative,
            truncated=truncated,
            recursion_desired=query.recursion_desired,
            counts=(1, counts[0], counts[1], counts[2] + bool(opt)),
        )
        return head + query.question + body + opt

    def _error(self, query: Query, rcode: int) -> bytes:
        self._count(rcode)
        opt = dns.opt(extended_rcode=rcode >> 4) if query.edns else b""
        head = dns.header(
            query.identity,
            rcode,
            recursion_desired=query.recursion_desired,
            opcode=query.opcode,
            counts=(1, 0, 0, bool(opt)),
        )
        return head + query.question + opt

    def _count(self, rcode: int) -> None:
        self.rcodes[rcode] = self.rcodes.get(rcode, 0) + 1

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= tcp_connections_max:
            writer.close()
            return
        self._connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                while True:
                    async with asyncio.timeout(tcp_idle_seconds):
                        size = int.from_bytes(await reader.readexactly(2), "big")
                        data = await reader.readexactly(size)
                    self.counts["tcp"] += 1
                    self._handle(data, lambda answer: _write_tcp(writer, answer), udp=False)
                    async with asyncio.timeout(tcp_idle_seconds):
                        await writer.drain()
        finally:
            self._connections -= 1
            writer.close()


def _write_tcp(writer: asyncio.StreamWriter, answer: bytes) -> None:
    if not writer.is_closing():
        writer.write(len(answer).to_bytes(2, "big") + answer)


def _unsupported(query: Query) -> int:
    if query.opcode != 0:
        return dns.NOTIMP
    if query.edns_version != 0:
        return dns.BADVERS
    if query.klass != dns.CLASS_IN or query.type in (dns.AXFR, dns.IXFR):
        return dns.REFUSED
    return dns.NOERROR


def _split(body: bytes, count: int) -> list[bytes]:
    """The first `count` records of a prepared body, each of which starts with a pointer."""
    found = []
    at = 0
    for _ in range(count):
        end = at + 12 + int.from_bytes(body[at + 10 : at + 12], "big")
        found.append(body[at:end])
        at = end
    return found


def _uncompressed(answer: dns.Answer, record: dns.Record) -> bytes:
    return dns.read_name(answer.data, record.rdata_at)
