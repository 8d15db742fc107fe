"""iptables: rules as text through iptables-restore and iptables-save, of both families.

`restore` is one transaction a table. Chains named in it with `:NAME` are emptied first, all others stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from peavine.linux import nftables, programs

_LOCK_SECONDS = "5"


def program(ipv6: bool) -> str:
    return "ip6tables" if ipv6 else "iptables"


def available(ipv6: bool) -> bool:
    return programs.available(f"{program(ipv6)}-restore")


def restore(ipv6: bool, commands: str) -> None:
    """Raises ProgramError with the program's words; the table that failed is as it was."""
    programs.run([f"{program(ipv6)}-restore", "-w", _LOCK_SECONDS, "--noflush"], commands)


def save(ipv6: bool, table: str) -> str:
    return programs.run([f"{program(ipv6)}-save", "-t", table], check=False)


def chains(saved: str) -> set[str]:
    """The chains of an iptables-save output."""
    return set(re.findall(r"^:(\S+)", saved, re.M))


def has_chain(ipv6: bool, table: str, chain: str) -> bool:
    out = programs.run([program(ipv6), "-w", _LOCK_SECONDS, "-t", table, "-S", chain], check=False)
    return out.startswith(f"-N {chain}")


def remove_chains(ipv6: bool, tables: tuple[str, ...], ours: Callable[[str], bool]) -> None:
    """Remove every chain that is ours, and every rule elsewhere that jumps to one."""
    if not programs.available(f"{program(ipv6)}-save"):
        return
    for table in tables:
        commands = removal(save(ipv6, table), table, ours)
        if commands:
            restore(ipv6, commands)


def remove_empty_tables() -> None:
    """iptables on nftables makes tables as soon as they are used; those that say nothing any more are removed."""
    if programs.available("nft"):
        for family in ("ip", "ip6"):
            for table in ("nat", "filter", "mangle"):
                nftables.remove_empty_table(family, table)


def removal(saved: str, table: str, ours: Callable[[str], bool]) -> str:
    """The restore input that does so; empty when there is nothing. Pure."""
    gone = sorted(chain for chain in chains(saved) if ours(chain))
    if not gone:
        return ""
    lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in gone)]
    for rule in saved.splitlines():
        found = re.search(r" -[jg] (\S+)", rule)
        if rule.startswith("-A ") and found and ours(found[1]) and not ours(rule.split()[1]):
            lines.append("-D " + rule.removeprefix("-A "))
    lines += [f"-X {chain}" for chain in gone]
    return "\n".join([*lines, "COMMIT", ""])
