"""Links, addresses, routes, neighbours: through `ip`, because they change rarely and its words are readable.

Routes of ours carry their own protocol number, so that they can be told from everybody else's.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import orjson

from peavine.linux import programs

# The origin of our routes (/etc/iproute2/rt_protos has nothing at this number).
ROUTE_PROTOCOL = 80


@dataclass(frozen=True, slots=True)
class Route:
    destination: str
    gateway: str
    device: str = ""
    onlink: bool = False

    def words(self) -> str:
        device = f" dev {self.device}" if self.device else ""
        onlink = " onlink" if self.onlink else ""
        return f"{self.destination} via {self.gateway}{device}{onlink} proto {ROUTE_PROTOCOL}"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent address-to-MAC entry of a device."""

    address: str
    mac: str


def _json(*arguments: str, check: bool = True) -> list[dict[str, Any]]:
    out = programs.run(["ip", "-j", *arguments], check=check)
    return [entry for entry in orjson.loads(out) if entry] if out.strip() else []


def batch(commands: list[str]) -> None:
    """Several `ip` commands in one process. Stops at the first that fails and raises ProgramError."""
    if commands:
        programs.run(["ip", "-batch", "-"], "\n".join(commands) + "\n")


def link(name: str) -> dict[str, Any] | None:
    """What `ip -d link` says of a device (ifname, mtu, address, linkinfo …); None when there is none."""
    found = _json("-d", "link", "show", "dev", name, check=False)
    return found[0] if found else None


def bridges() -> set[str]:
    return {entry["ifname"] for entry in _json("link", "show", "type", "bridge", check=False)}


def remove_link(name: str) -> None:
    try:
        if link(name) is not None:
            programs.run(["ip", "link", "delete", name])
    except programs.ProgramError:
        # The other end of a pair may have gone meanwhile, with its namespace.
        if link(name) is not None:
            raise


def addresses(device: str = "") -> list[tuple[str, str, int]]:
    """(device, address, prefix length) of every address of this host, or of one device."""
    found = []
    for entry in _json("address", "show", *(["dev", device] if device else []), check=False):
        for info in entry.get("addr_info", ()):
            if info.get("local") and info.get("scope") != "link":
                found.append((entry["ifname"], info["local"], info["prefixlen"]))
    return found


def default_source(ipv6: bool = False) -> tuple[str, str]:
    """(address, device) with which this host reaches the world; empty strings when it cannot."""
    target = "2001:4860:4860::8888" if ipv6 else "8.8.8.8"
    found = _json("route", "get", target, check=False)
    if not found:
        return "", ""
    return found[0].get("prefsrc", ""), found[0].get("dev", "")


def routes() -> set[Route]:
    """Our own routes, of both families."""
    found = set()
    for family in ("-4", "-6"):
        for entry in _json(family, "route", "show", "proto", str(ROUTE_PROTOCOL), check=False):
            if entry.get("gateway"):
                destination = entry["dst"]
                if "/" not in destination:
                    destination += "/128" if ":" in destination else "/32"
                onlink = "onlink" in entry.get("flags", ())
                found.add(Route(destination, entry["gateway"], entry.get("dev", ""), onlink))
    return found


def replace_route(route: Route) -> None:
    """Raises ProgramError, for example when the gateway is on no network of this host."""
    programs.run(["ip", "route", "replace", *route.words().split()])


def remove_route(route: Route) -> None:
    words = route.destination, "via", route.gateway, "proto", str(ROUTE_PROTOCOL)
    programs.run(["ip", "route", "delete", *words], check=False)


def neighbours(device: str) -> set[Neighbour]:
    """The permanent neighbour entries of a device."""
    found = set()
    for entry in _json("neigh", "show", "dev", device, "nud", "permanent", check=False):
        if entry.get("lladdr"):
            found.add(Neighbour(entry["dst"], entry["lladdr"]))
    return found


def forwarding(device: str) -> dict[str, str]:
    """The forwarding entries of a VXLAN device: MAC to the address of the host behind which it is."""
    out = programs.run(["bridge", "-j", "fdb", "show", "dev", device], check=False)
    found = {}
    for entry in orjson.loads(out) if out.strip() else []:
        if entry.get("dst") and entry.get("mac", "") != "00:00:00:00:00:00":
            found[entry["mac"]] = entry["dst"]
    return found


def set_sysctl(path: str, value: str) -> bool:
    """Write `/proc/sys/PATH` unless it already says so. False when this kernel does not have it."""
    file = f"/proc/sys/{path}"
    try:
        with open(file) as f:
            if f.read().strip() == value:
                return True
        with open(file, "w") as f:
            f.write(value)
    except FileNotFoundError:
        return False
    return True


def gateway_of(subnet: str) -> str:
    """The first usable address of a subnet with its prefix length: `172.7.1.0/24` gives `172.7.1.1/24`."""
    network = ipaddress.ip_network(subnet)
    return f"{network.network_address + 1}/{network.prefixlen}"
