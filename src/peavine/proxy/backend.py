"""What every backend of the proxy is, and what it is told once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from peavine.proxy.model import Change, ServicePort

# The bit of the packet mark that says "masquerade on the way out", upstream's default (--iptables-masquerade-bit 14).
MASQUERADE_MARK = 0x4000


@dataclass(frozen=True, slots=True)
class Settings:
    """The same for all modes."""

    cluster_cidrs: tuple[str, ...] = ()
    """Where pods live; other sources are masqueraded on their way to a cluster IP. Empty: nobody is."""
    node_port_addresses: tuple[str, ...] = ()
    """CIDRs of the local addresses that serve node ports. Empty: all local addresses but loopback."""
    masquerade_all: bool = False
    masquerade_mark: int = MASQUERADE_MARK
    ipvs_scheduler: str = "rr"
    ipvs_timeouts: tuple[int, int, int] = (0, 0, 0)
    """Seconds for TCP, TCP after a FIN, UDP; 0: as the kernel has it."""
    families: tuple[bool, ...] = (False, True)
    """Address families to serve: False is IPv4, True is IPv6."""

    def of_family(self, cidrs: tuple[str, ...], ipv6: bool) -> tuple[str, ...]:
        return tuple(c for c in cidrs if (":" in c) == ipv6)


class Backend(Protocol):
    """Renders service ports into the kernel of the network namespace that it is made and called in.

    Every method is synchronous and returns when the kernel has the rules.
    """

    name: str

    def start(self, desired: Iterable[ServicePort]) -> None:
        """Make the kernel hold exactly `desired`, whatever an earlier process left. Traffic to what did not change
        goes on.
        """

    def apply(self, changes: list[Change]) -> None:
        """Bring changes into force, all at once where the kernel can. Raises OSError if it refuses; then `start`
        again.
        """

    def intact(self) -> bool:
        """Whether the rules are still there; a cheap look, for the case that another program flushed them. What waited
        for connections to end may be tidied up.
        """

    def close(self) -> None:
        """Release what the process holds; the rules stay (a restarted proxy finds them), except where they live in
        the process.
        """


class BackendUnavailable(Exception):
    """The kernel or the machine lacks what a mode needs; the message names it."""
