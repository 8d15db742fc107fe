"""Node ports: each is a key in the store with its owner, so two servers never give out one twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Protocol

import orjson

from peavine.apiserver.allocation.addresses import Full, OutOfRange, Taken
from peavine.store.interface import Conflict, Store

PREFIX = "/registry/ranges/servicenodeports/"
RANDOM_TRIES = 32


class Ledger(Protocol):
    """Who has which number. `claim` answers whether the number is now `owner`'s."""

    async def claim(self, number: int, owner: str) -> bool: ...

    async def drop(self, number: int, owner: str) -> None: ...

    async def all(self) -> dict[int, str]: ...


class StoreLedger:
    def __init__(self, store: Store, prefix: str = PREFIX) -> None:
        self.store, self.prefix = store, prefix

    async def claim(self, number: int, owner: str) -> bool:
        try:
            await self.store.put(f"{self.prefix}{number}", orjson.dumps({"owner": owner}), expect=0)
        except Conflict as conflict:
            return conflict.current is not None and orjson.loads(conflict.current.value)["owner"] == owner
        return True

    async def drop(self, number: int, owner: str) -> None:
        held, _ = await self.store.get(f"{self.prefix}{number}")
        if held is None or orjson.loads(held.value)["owner"] != owner:
            return
        try:
            await self.store.delete(f"{self.prefix}{number}", expect=held.mod_revision)
        except Conflict:
            return  # somebody else's by now

    async def all(self) -> dict[int, str]:
        page = await self.store.range(self.prefix)
        return {int(kv.key[len(self.prefix) :]): orjson.loads(kv.value)["owner"] for kv in page.items}


class MemoryLedger:
    """For tests, and for servers whose Services nobody else writes."""

    def __init__(self) -> None:
        self.owners: dict[int, str] = {}

    async def claim(self, number: int, owner: str) -> bool:
        return self.owners.setdefault(number, owner) == owner

    async def drop(self, number: int, owner: str) -> None:
        if self.owners.get(number) == owner:
            del self.owners[number]

    async def all(self) -> dict[int, str]:
        return dict(self.owners)


class Ports:
    def __init__(self, ledger: Ledger, first: int = 30000, last: int = 32767) -> None:
        self.ledger, self.first, self.last = ledger, first, last
        self._random = random.Random()

    async def take(self, port: int, owner: str, *, dry_run: bool = False) -> None:
        """This very port. Raises Taken, OutOfRange. A port that is the owner's already is taken again silently."""
        if not self.first <= port <= self.last:
            raise OutOfRange(str(port))
        if dry_run:
            if (await self.ledger.all()).get(port, owner) != owner:
                raise Taken(str(port))
        elif not await self.ledger.claim(port, owner):
            raise Taken(str(port))

    async def next(self, owner: str, avoid: set[int], *, dry_run: bool = False) -> int:
        """Some free port that is not in `avoid`. Raises Full."""
        taken = await self.ledger.all()
        for port in self._candidates():
            if port in taken or port in avoid:
                continue
            if dry_run or await self.ledger.claim(port, owner):
                return port
        raise Full("node ports")

    async def release(self, port: int, owner: str) -> None:
        await self.ledger.drop(port, owner)

    def _candidates(self) -> Iterator[int]:
        kept = self.first + reserved_band(self.last - self.first + 1)
        for _ in range(RANDOM_TRIES):
            yield self._random.randint(min(kept, self.last), self.last)
        yield from range(kept, self.last + 1)
        yield from range(self.first, min(kept, self.last + 1))


def reserved_band(size: int) -> int:
    """How many of the lowest ports are given out only on demand."""
    return 0 if size < 16 else min(max(16, size // 32), 128)
