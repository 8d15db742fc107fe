"""A table of nftables that one program owns: a fixed skeleton, chains made on demand, sets and maps full of elements.

The table outlives the program. A restarted program finds it, compares, and sends what differs; packets meet rules all
the while. A table of another skeleton (another release) is replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from peavine.linux import nftables
from peavine.linux.netlink import NETFILTER, Netlink
from peavine.linux.nftables import Transaction

Element = tuple[str, bytes]
"""Name of the set or map, key."""


def digest(*parts: str) -> str:
    """Sixteen characters for names that say what a chain holds."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class ManagedTable:
    """`skeleton` is nft commands without the making of the table; `sets` are the names of all its sets and maps.

    `intervals` names those whose keys are a first and a last key joined, with the length of each.
    """

    def __init__(
        self, family: str, name: str, skeleton: str, sets: Iterable[str], intervals: Mapping[str, int] | None = None
    ) -> None:
        self.family, self.name = family, name
        self.chains: set[str] = set()
        self._sets = tuple(sets)
        self._intervals = dict(intervals or {})
        # An empty chain whose name says of which skeleton the table is.
        self._revision = "revision-" + digest(skeleton)
        self._skeleton = skeleton
        self._link = Netlink(NETFILTER)

    @property
    def where(self) -> str:
        return f"{self.family} {self.name}"

    def close(self) -> None:
        self._link.close()

    def intact(self) -> bool:
        return nftables.chain_exists(self._link, self.family, self.name, self._revision)

    def open(self) -> bool:
        """Make the table unless it is there; True if it had to be made."""
        made = not self.intact()
        if made:
            nftables.run(
                f"add table {self.where}\ndelete table {self.where}\nadd table {self.where}\n{self._skeleton}"
                f"add chain {self.where} {self._revision}\n"
            )
        self.chains = nftables.chains(self._link, self.family, self.name)
        return made

    def elements(self, more_sets: Iterable[str] = ()) -> dict[Element, bytes]:
        """What the kernel holds."""
        return {
            (name, key): data
            for name in (*self._sets, *more_sets)
            for key, data in nftables.elements(self._link, self.family, self.name, name).items()
        }

    def set_names(self) -> set[str]:
        """The sets and maps that the kernel holds beyond the fixed ones."""
        return nftables.sets(self._link, self.family, self.name) - set(self._sets)

    def make(self, chains: Mapping[str, str]) -> None:
        """Make those chains (name to nft commands, in order) that are not there."""
        missing = {name: text for name, text in chains.items() if name not in self.chains}
        if missing:
            nftables.run("".join(missing.values()))
            self.chains.update(missing)

    def change(self, before: Mapping[Element, bytes], after: Mapping[Element, bytes]) -> int:
        """Replace elements `before` by `after` in one transaction; how many were sent. Raises NetlinkError."""
        transaction = Transaction(self.family, self.name)
        removed = [e for e, data in before.items() if after.get(e) != data]
        added = [e for e, data in after.items() if before.get(e) != data]
        for name, key in sorted(removed, key=lambda e: e[0]):
            length = self._intervals.get(name)
            if length:
                transaction.remove(name, key[:length], key[length:])
            else:
                transaction.remove(name, key)
        for name, key in sorted(added, key=lambda e: e[0]):
            length = self._intervals.get(name)
            if length:
                transaction.add(name, key[:length], b"", key[length:])
            else:
                transaction.add(name, key, after[name, key])
        if transaction.size:
            transaction.commit(self._link)
        return transaction.size

    def remove(self, chains: Iterable[str], sets: Iterable[str] = ()) -> None:
        """Remove chains, and sets that only they used."""
        gone = sorted(chains)
        commands = [f"flush chain {self.where} {name}\n" for name in gone]
        commands += [f"delete chain {self.where} {name}\n" for name in gone]
        commands += [f"delete set {self.where} {name}\n" for name in sorted(sets)]
        if commands:
            nftables.run("".join(commands))
        self.chains.difference_update(gone)
