"""What the portmap plugin leaves in iptables: removed when the pod network is."""

from __future__ import annotations

import re

from peavine.linux import programs
from peavine.network.cni import NAME

_TOP = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ")


def remove() -> None:
    """Remove our network's mappings, and the plugin's own chains once no mapping of anybody is left."""
    for program in ("iptables", "ip6tables"):
        if programs.available(f"{program}-save"):
            commands = removal(programs.run([f"{program}-save", "-t", "nat"], check=False))
            if commands:
                programs.run([f"{program}-restore", "--noflush"], commands)


def removal(saved: str) -> str:
    """The iptables-restore input that undoes the plugin's rules in `saved`; empty when there are none. Pure."""
    rules = [line for line in saved.splitlines() if line.startswith("-A ")]
    chains = set(re.findall(r"^:(CNI-(?:DN|HOSTPORT)-\S+)", saved, re.M))
    ours = {m[1] for rule in rules if f'name: \\"{NAME}\\"' in rule and (m := re.search(r"-j (CNI-DN-\S+)", rule))}
    # A mapping's chain that nobody jumps to is what a crash leaves.
    ours |= {c for c in chains if c.startswith("CNI-DN-") and not any(f"-j {c}" in rule for rule in rules)}
    others = [
        rule
        for rule in rules
        if rule.startswith("-A CNI-HOSTPORT-DNAT") and not any(rule.endswith(f"-j {c}") for c in ours)
    ]
    gone = ours | (set() if others else chains & set(_TOP))
    if not gone:
        return ""
    lines = ["*nat"]
    lines += [
        "-D " + rule.removeprefix("-A ")
        for rule in rules
        if (m := re.search(r"-j (\S+)", rule)) and m[1] in gone and rule.split()[1] not in gone
    ]
    lines += [f"-F {chain}" for chain in sorted(gone)]
    lines += [f"-X {chain}" for chain in sorted(gone)]
    return "\n".join([*lines, "COMMIT", ""])
