"""Answers of other name servers, kept for as long as they allow (and not longer than we do)."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from peavine.base.clock import Clock
from peavine.wire import dns

answers_max = 10_000
# As CoreDNS' usual configuration: long enough to take the load, short enough to notice a move.
seconds_max = 30
negative_seconds_max = 30


class Entry(NamedTuple):
    """An answer without its header and question: what follows, and where in it the TTLs stand."""

    rcode: int
    counts: tuple[int, int, int]
    body: bytes
    name_bytes: int
    """Length of the question's name that compression pointers in `body` were made for."""
    ttls: tuple[tuple[int, int], ...]
    """(offset in `body`, TTL as received)"""
    stored: float
    expires: float


class Cache:
    """Least recently used out first. Keys are questions in lower case."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: bytes) -> tuple[Entry, bytes] | None:
        """The entry and its body with the TTLs counted down."""
        entry = self._entries.get(question)
        now = self._clock.monotonic()
        if entry is None or entry.expires <= now:
            if entry is not None:
                del self._entries[question]
            self.misses += 1
            return None
        self._entries.move_to_end(question)
        self.hits += 1
        age = int(now - entry.stored)
        if not age:
            return entry, entry.body
        body = bytearray(entry.body)
        for offset, ttl in entry.ttls:
            body[offset : offset + 4] = max(0, ttl - age).to_bytes(4, "big")
        return entry, bytes(body)

    def put(self, question: bytes, data: bytes, answer: dns.Answer) -> None:
        """Keep a received message if it is of a kind that may be kept (RFC 2308)."""
        entry = self.entry(data, answer)
        if entry is None or entry.expires <= entry.stored:
            return
        self._entries[question] = entry
        self._entries.move_to_end(question)
        if len(self._entries) > answers_max:
            self._entries.popitem(last=False)

    def entry(self, data: bytes, answer: dns.Answer) -> Entry | None:
        if answer.truncated or answer.rcode not in (dns.NOERROR, dns.NXDOMAIN):
            return None
        records = [r for r in answer.records if r.type != dns.OPT]
        if answer.rcode == dns.NOERROR and answer.counts[0]:
            seconds = min([seconds_max, *(r.ttl for r in records if r.section == 1)])
        else:
            soa = next((r for r in records if r.type == dns.SOA and r.section == 2), None)
            if soa is None or len(soa.rdata) < 20:
                return None
            minimum = int.from_bytes(soa.rdata[-4:], "big")
            seconds = min(negative_seconds_max, soa.ttl, minimum)
        now = self._clock.monotonic()
        body, ttls, counts = stripped(data, answer)
        return Entry(answer.rcode, counts, body, answer.question_end - 16, ttls, now, now + seconds)


def stripped(data: bytes, answer: dns.Answer) -> tuple[bytes, tuple[tuple[int, int], ...], tuple[int, int, int]]:
    """The records of a message without OPT (which speaks of one hop only), their TTL places, the three counts.

    OPT is always the last in practice; where it is not, what follows it is left out too, so that no pointer moves.
    """
    end = len(data)
    counts = list(answer.counts)
    kept = []
    for position, record in enumerate(answer.records):
        if record.type == dns.OPT:
            end = record.ttl_at - 5
            counts[2] -= len(answer.records) - position
            break
        kept.append(record)
    start = answer.question_end
    ttls = tuple((r.ttl_at - start, r.ttl) for r in kept)
    return data[start:end], ttls, (counts[0], counts[1], max(0, counts[2]))
