"""A small resolver for tests: asks a server, returns names and values as text."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

from peavine.wire import dns


@dataclass
class Got:
    rcode: int
    truncated: bool
    values: list[str]
    additional: list[str]
    authority: list[int]
    records: tuple[dns.Record, ...]


def value(answer: dns.Answer, record: dns.Record) -> str:
    if record.type in (dns.A, dns.AAAA):
        return str(ipaddress.ip_address(record.rdata))
    if record.type in (dns.CNAME, dns.PTR, dns.NS):
        return dns.text_of(dns.read_name(answer.data, record.rdata_at))
    if record.type == dns.SRV:
        _, weight, port = (int.from_bytes(record.rdata[i : i + 2], "big") for i in (0, 2, 4))
        return f"{weight} {port} {dns.text_of(dns.read_name(answer.data, record.rdata_at + 6))}"
    if record.type == dns.TXT:
        return record.rdata[1:].decode()
    return record.rdata.hex()


def read(data: bytes) -> Got:
    answer = dns.parse_answer(data)
    records = [r for r in answer.records if r.type != dns.OPT]
    return Got(
        answer.rcode,
        answer.truncated,
        [value(answer, r) for r in records if r.section == 1],
        [value(answer, r) for r in records if r.section == 3],
        [r.type for r in records if r.section == 2],
        answer.records,
    )


async def send(port: int, data: bytes, *, seconds: float = 2.0) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
        s.connect(("127.0.0.1", port))
        s.send(data)
        async with asyncio.timeout(seconds):
            return await loop.sock_recv(s, 65535)


async def ask(port: int, name: str, kind: int = dns.A, *, edns: bool = False) -> Got:
    return read(await send(port, dns.query(4242, dns.name(name), kind, edns=edns)))


async def ask_tcp(port: int, name: str, kind: int = dns.A) -> Got:
    query = dns.query(4242, dns.name(name), kind, edns=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(len(query).to_bytes(2, "big") + query)
    data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    writer.close()
    return read(data)
