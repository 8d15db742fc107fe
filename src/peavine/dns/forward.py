"""Questions that are not ours: to the resolvers of the host (or of a stub domain), with a cache in front."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peavine.base.clock import REAL, Clock
from peavine.dns.cache import Cache
from peavine.wire import dns
from peavine.wire.dns import Malformed

log = logging.getLogger(__name__)

try_seconds = 2.0
tries_max = 3
# A resolver that did not answer is asked last for this long.
unwell_seconds = 5.0
questions_max = 1000
loop_seconds = 2.0
# The labels that mark a question which looks for loops.
LOOP_PROBE = b"\x0aloop-probe\x07peavine"


class NoAnswer(Exception):
    """No resolver answered (or there is none, or too many questions are open)."""


@dataclass(slots=True)
class Resolver:
    address: str
    port: int = 53
    unwell_until: float = 0.0
    asked: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(slots=True)
class _Wait:
    answer: asyncio.Future[bytes]
    waiting: int = 0


def host_resolvers(path: Path = Path("/etc/resolv.conf"), but: Sequence[str] = ()) -> list[Resolver]:
    """The name servers of a resolv.conf, without the addresses in `but` (ours: they would ask us again)."""
    found = []
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        log.warning("no resolvers of the host: %s", error)
        return []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and words[1] not in but:
            found.append(Resolver(words[1].split("%")[0]))
    return found


@dataclass
class Forwarder:
    """Asks resolvers over UDP, over TCP when an answer was truncated. Equal questions at one time are asked once.

    `stubs` maps names in wire form to the resolvers of everything at and below them.
    """

    resolvers: list[Resolver]
    stubs: dict[bytes, list[Resolver]] = field(default_factory=dict)
    clock: Clock = REAL

    def __post_init__(self) -> None:
        self.cache = Cache(self.clock)
        self._open: dict[bytes, _Wait] = {}

    def resolvers_for(self, name: bytes) -> list[Resolver]:
        """The stub domain with the longest match, else the host's. `name` in lower case."""
        rest = name
        while self.stubs and rest != b"\0":
            if rest in self.stubs:
                return self.stubs[rest]
            rest = rest[1 + rest[0] :]
        return self.resolvers

    async def ask(self, name: bytes, kind: int, *, klass: int = dns.CLASS_IN) -> bytes:
        """The whole message of a resolver. Raises NoAnswer. `name` in lower case."""
        question = name + kind.to_bytes(2, "big") + klass.to_bytes(2, "big")
        wait = self._open.get(question)
        if wait is None:
            if len(self._open) >= questions_max:
                raise NoAnswer("too many open questions")
            wait = self._open[question] = _Wait(asyncio.get_running_loop().create_future())
            try:
                data = await self._ask(name, kind, question)
            except BaseException as error:
                if not wait.answer.done():
                    wait.answer.set_exception(error if isinstance(error, NoAnswer) else NoAnswer(repr(error)))
                    # Nobody else may be waiting; then nobody looks at it.
                    wait.answer.exception()
                raise
            else:
                wait.answer.set_result(data)
                return data
            finally:
                del self._open[question]
        return await asyncio.shield(wait.answer)

    async def _ask(self, name: bytes, kind: int, question: bytes) -> bytes:
        resolvers = self.resolvers_for(name)
        if not resolvers:
            raise NoAnswer("no resolvers")
        now = self.clock.monotonic()
        order = sorted(resolvers, key=lambda r: r.unwell_until > now)
        reason: Exception = NoAnswer("no resolvers")
        best: bytes | None = None
        for number in range(max(len(order), tries_max) if len(order) < tries_max else len(order)):
            resolver = order[number % len(order)]
            resolver.asked += 1
            try:
                async with asyncio.timeout(try_seconds):
                    data, answer = await self._exchange(resolver, name, kind)
            except (OSError, TimeoutError, Malformed) as error:
                resolver.failed += 1
                resolver.unwell_until = self.clock.monotonic() + unwell_seconds
                reason = error
                continue
            if answer.rcode in (dns.SERVFAIL, dns.REFUSED) and number + 1 < len(order):
                best = data
                continue
            self.cache.put(question, data, answer)
            return data
        if best is not None:
            return best
        raise NoAnswer(f"{', '.join(map(str, resolvers))}: {reason!r}")

    async def _exchange(self, resolver: Resolver, name: bytes, kind: int) -> tuple[bytes, dns.Answer]:
        loop = asyncio.get_running_loop()
        identity = secrets.randbits(16)
        query = dns.query(identity, name, kind)
        question = name + kind.to_bytes(2, "big") + dns.CLASS_IN.to_bytes(2, "big")
        family = socket.AF_INET6 if ":" in resolver.address else socket.AF_INET
        # A socket per question: its random port and the random number make forged answers unlikely.
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
            s.connect((resolver.address, resolver.port))
            s.send(query)
            while True:
                data = await loop.sock_recv(s, 65535)
                try:
                    answer = dns.parse_answer(data)
                except Malformed:
                    continue
                if answer.identity == identity and answer.question == question:
                    break
        if not answer.truncated:
            return data, answer
        reader, writer = await asyncio.open_connection(resolver.address, resolver.port)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the resolver hung up") from error
        finally:
            writer.close()
        answer = dns.parse_answer(data)
        if answer.identity != identity or answer.question != question:
            raise Malformed("an answer to something else")
        return data, answer


async def remove_loops(forwarder: Forwarder, seen: Callable[[bytes], bool], clock: Clock = REAL) -> list[Resolver]:
    """Ask each resolver, also those of stub domains, a name that nobody knows; one through which the question comes
    back to us is dropped.

    `seen(name)` says whether the server was asked that name. Returns what was dropped.
    """
    dropped = []
    for domain, resolvers in ((b"\0", forwarder.resolvers), *forwarder.stubs.items()):
        for resolver in list(resolvers):
            probe = dns.name(secrets.token_hex(8))[:-1] + LOOP_PROBE + domain
            try:
                async with asyncio.timeout(loop_seconds):
                    await forwarder._exchange(resolver, probe, dns.HINFO)
            except (OSError, TimeoutError, Malformed) as error:
                log.debug("loop probe of %s: %r", resolver, error)
            if seen(probe):
                log.error("resolver %s asks us: it would go round for ever, not used", resolver)
                resolvers.remove(resolver)
                dropped.append(resolver)
    return dropped
