"""Pods reach the world with the node's address: one nftables table of our own."""

from __future__ import annotations

from collections.abc import Sequence

from peavine.linux import nftables

TABLE = "peavine-network"


def ruleset(subnets: Sequence[str], cluster_cidrs: Sequence[str]) -> str:
    """Whole table as one transaction: what leaves `subnets` for outside `cluster_cidrs` is masqueraded."""
    lines = [
        f"add table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"add table inet {TABLE}",
        f"add chain inet {TABLE} postrouting {{ type nat hook postrouting priority 100; }}",
    ]
    for family, multicast, is_family in (("ip", "224.0.0.0/4", False), ("ip6", "ff00::/8", True)):
        own = [s for s in subnets if (":" in s) == is_family]
        if own:
            inside = [c for c in cluster_cidrs if (":" in c) == is_family] or own
            lines.append(
                f"add rule inet {TABLE} postrouting {family} saddr {{ {', '.join(own)} }} "
                f"{family} daddr != {{ {', '.join([*inside, multicast])} }} masquerade fully-random"
            )
    return "\n".join(lines) + "\n"


def install(subnets: Sequence[str], cluster_cidrs: Sequence[str]) -> None:
    nftables.run(ruleset(subnets, cluster_cidrs))


def remove() -> None:
    nftables.remove_tables([("inet", TABLE)])
