"""Addresses for load balancers: pools given by flag, and who has which. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

Key = tuple[str, str]
IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class PoolError(ValueError):
    """The pools cannot be read, or have nothing to give; the text says why."""


@dataclass(slots=True)
class Pools:
    """First and last address of each range. Falsy when there is none."""

    ranges: list[tuple[IP, IP]] = field(default_factory=list)
    held: dict[str, Key] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @classmethod
    def parse(cls, text: str) -> Pools:
        """`10.4.7.200-10.4.7.220,10.5.0.0/28,fd00::/120`. Of a CIDR all addresses are given, first and last too."""
        ranges: list[tuple[IP, IP]] = []
        for part in (p.strip() for p in text.split(",") if p.strip()):
            try:
                if "-" in part:
                    first, last = (ipaddress.ip_address(p.strip()) for p in part.split("-", 1))
                else:
                    network = ipaddress.ip_network(part)
                    first, last = network.network_address, network.broadcast_address
            except ValueError as error:
                raise PoolError(f"pool {part!r}: {error}") from error
            if first.version != last.version or int(first) > int(last):
                raise PoolError(f"pool {part!r}: it ends before it begins")
            ranges.append((first, last))
        return cls(ranges)

    def contains(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(f.version == ip.version and int(f) <= int(ip) <= int(last) for f, last in self.ranges)

    def take(self, key: Key, ipv6: bool, wanted: str = "") -> str:
        """An address for a Service: the wanted one or the first free one. Raises PoolError."""
        if wanted:
            if not self.contains(wanted):
                raise PoolError(f"address {wanted} is in no pool")
            if self.held.get(wanted, key) != key:
                raise PoolError(f"address {wanted} belongs to Service {'/'.join(self.held[wanted])}")
            self.held[wanted] = key
            return wanted
        for address in self._all(ipv6):
            if address not in self.held:
                self.held[address] = key
                return address
        raise PoolError(f"no free IPv{6 if ipv6 else 4} address in the pools")

    def hold(self, key: Key, address: str) -> bool:
        """Remember an address that a Service has already; False if it is another's, or in no pool."""
        if not self.contains(address) or self.held.get(address, key) != key:
            return False
        self.held[address] = key
        return True

    def release(self, key: Key) -> None:
        for address in [a for a, owner in self.held.items() if owner == key]:
            del self.held[address]

    def of(self, key: Key) -> list[str]:
        return [a for a, owner in self.held.items() if owner == key]

    def _all(self, ipv6: bool) -> Iterator[str]:
        for first, last in self.ranges:
            if (first.version == 6) == ipv6:
                for number in range(int(first), int(last) + 1):
                    yield str(type(first)(number))
