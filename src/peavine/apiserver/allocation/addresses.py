"""Cluster IPs: each is an IPAddress object, so whoever creates it first has it, whichever server asked."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Sequence
from typing import Any

from peavine.apiserver.lister import Lister, Writer
from peavine.machinery.errors import ApiError

GROUP = "networking.k8s.io"
FAMILY_LABEL, MANAGED_LABEL = "ipaddress.kubernetes.io/ip-family", "ipaddress.kubernetes.io/managed-by"
MANAGER = "ipallocator.k8s.io"
RANDOM_TRIES = 16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Taken(Exception):
    """The address or port belongs to somebody else."""


class OutOfRange(Exception):
    """The address is in no service range, or is one that a range keeps."""


class Full(Exception):
    """Every address of the range is taken."""


class Addresses:
    """The service ranges of one server, and of the ServiceCIDR objects that were added."""

    def __init__(self, lister: Lister, writer: Writer, ranges: Sequence[str]) -> None:
        self.lister, self.writer = lister, writer
        self.own: list[Network] = [ipaddress.ip_network(text) for text in ranges]
        self._random = random.Random()

    @property
    def families(self) -> list[str]:
        """The families of the configured ranges; the first is the default of Services."""
        return list(dict.fromkeys(f"IPv{network.version}" for network in self.own))

    def ranges(self, family: str) -> list[Network]:
        found = [network for network in self.own if f"IPv{network.version}" == family]
        for cidr in self.lister.list(GROUP, "servicecidrs"):
            if cidr["metadata"].get("deletionTimestamp"):
                continue
            for text in (cidr.get("spec") or {}).get("cidrs") or ():
                network = ipaddress.ip_network(text)
                if f"IPv{network.version}" == family and network not in found:
                    found.append(network)
        return found

    async def take(self, address: str, parent: dict[str, str], *, dry_run: bool = False) -> None:
        """This very address. Raises Taken, OutOfRange."""
        ip = ipaddress.ip_address(address)
        network = next((n for n in self.ranges(f"IPv{ip.version}") if ip in n), None)
        if network is None or not 0 < int(ip) - int(network[0]) <= _last(network):
            raise OutOfRange(address)
        name = str(ip)
        if self.lister.get(GROUP, "ipaddresses", None, name) is not None:
            raise Taken(name)
        if not dry_run:
            await self._create(name, parent)

    async def next(self, family: str, parent: dict[str, str], *, dry_run: bool = False) -> str:
        """Some free address: from the upper part of a range, then from the part kept for those who choose.

        Raises Full.
        """
        for network in self.ranges(family):
            for name in self._candidates(network):
                if self.lister.get(GROUP, "ipaddresses", None, name) is not None:
                    continue
                if dry_run:
                    return name
                try:
                    await self._create(name, parent)
                except Taken:
                    continue
                return name
        raise Full(family)

    async def release(self, address: str, parent: dict[str, str]) -> None:
        """Give back an address, unless it has meanwhile become somebody else's."""
        found = self.lister.get(GROUP, "ipaddresses", None, address)
        if found is None or found["spec"].get("parentRef") != parent:
            return
        preconditions = {"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            await self.writer.delete(GROUP, "v1", "ipaddresses", None, address, {"preconditions": preconditions})
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    async def _create(self, name: str, parent: dict[str, str]) -> None:
        family = "IPv6" if ":" in name else "IPv4"
        metadata = {"name": name, "labels": {FAMILY_LABEL: family, MANAGED_LABEL: MANAGER}}
        obj: dict[str, Any] = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "IPAddress",
            "metadata": metadata,
            "spec": {"parentRef": dict(parent)},
        }
        try:
            await self.writer.create(GROUP, "v1", "ipaddresses", None, obj)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                raise Taken(name) from None
            raise

    def _candidates(self, network: Network) -> Iterator[str]:
        """A few by chance from the upper band, then all in order, the lower band last."""
        last, kept = _last(network), reserved_band(network)
        for _ in range(RANDOM_TRIES if last > kept else 0):
            yield str(network[self._random.randint(kept + 1, last)])
        for offset in range(kept + 1, last + 1):
            yield str(network[offset])
        for offset in range(1, min(kept, last) + 1):
            yield str(network[offset])


def _last(network: Network) -> int:
    """The offset of the last usable address: in IPv4 the broadcast address is not one. At most 2**20 are used."""
    size = min(network.num_addresses, 1 << 20)
    return size - 1 if network.version == 6 or size < network.num_addresses else size - 2


def reserved_band(network: Network) -> int:
    """How many of the lowest addresses are given out only on demand, so that who chooses one finds it free."""
    size = min(network.num_addresses, 1 << 20)
    return 0 if size < 16 else min(max(16, size // 16), 256)
