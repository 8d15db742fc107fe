"""Leave for pod traffic where another program (Docker, ufw) has set iptables' FORWARD policy to DROP.

Rules of nftables tables cannot overrule that; only a rule in front of the policy can. Nothing is touched on hosts
that forward.
"""

from __future__ import annotations

from collections.abc import Sequence

from peavine.linux import iptables, programs

CHAIN = "PEAVINE-FORWARD"


def ensure(cidrs: Sequence[str]) -> bool:
    """Let traffic from and to `cidrs` through; False where there is nothing to do. Safe to repeat."""
    done = False
    for ipv6 in (False, True):
        own = [c for c in cidrs if (":" in c) == ipv6]
        if not own or not iptables.available(ipv6):
            continue
        listed = programs.run([iptables.program(ipv6), "-w", "5", "-S", "FORWARD"], check=False)
        commands = addition(listed, own)
        if commands:
            iptables.restore(ipv6, commands)
            done = True
    return done


def addition(listed: str, cidrs: Sequence[str]) -> str:
    """The iptables-restore input for what `iptables -S FORWARD` listed; empty if nothing is needed. Pure."""
    rules = listed.splitlines()
    jump = f"-A FORWARD -j {CHAIN}"
    if "-P FORWARD DROP" not in rules or (jump in rules and rules.index(jump) == 1):
        return ""
    lines = ["*filter", f":{CHAIN} - [0:0]"]
    lines += [f"-A {CHAIN} {side} {cidr} -j ACCEPT" for cidr in cidrs for side in ("-s", "-d")]
    if jump in rules:
        lines.append("-D FORWARD -j " + CHAIN)
    lines += [f"-I FORWARD -j {CHAIN}", "COMMIT", ""]
    return "\n".join(lines)


def remove() -> None:
    for ipv6 in (False, True):
        iptables.remove_chains(ipv6, ("filter",), lambda chain: chain == CHAIN)
